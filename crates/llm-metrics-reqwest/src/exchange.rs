//! A request and its answer, in the types of `http` for the layer and in reqwest's for everybody else.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Extensions, Method, Uri};
use http_body::Body as _;
use llm_metrics::{
    InferenceHandle,
    layer::{RequestBody, ResponseBody},
};
use pin_project_lite::pin_project;
use reqwest::{Body, Request, Response, ResponseBuilderExt};
use tower_service::Service;

/// What the layer is shown of a request, and what is sent.
pub(crate) struct Exchange {
    pub(crate) shown: http::Request<Body>,
    pub(crate) request: Unsent,
}

pub(crate) struct Unsent {
    request: Request,
    /// The body is the one that the layer was shown, and not yet part of the request.
    is_stream: bool,
}

impl Exchange {
    /// Hands the request back where there is nothing to measure: the layer knows `POST`s alone, and addresses that `http` can write.
    pub(crate) fn of(mut request: Request, extensions: Extensions) -> Result<Self, Box<Request>> {
        if request.method() != Method::POST {
            return Err(Box::new(request));
        }
        let Ok(uri) = Uri::try_from(request.url().as_str()) else { return Err(Box::new(request)) };
        let mut is_stream = false;
        let body = match request.body_mut().take() {
            None => Body::default(),
            Some(body) => match into_bytes(body) {
                Ok(bytes) => {
                    *request.body_mut() = Some(Body::from(bytes.clone()));
                    Body::from(bytes)
                }
                Err(stream) => {
                    is_stream = true;
                    stream
                }
            },
        };
        let mut shown = http::Request::new(body);
        *shown.method_mut() = Method::POST;
        *shown.uri_mut() = uri;
        *shown.version_mut() = request.version();
        *shown.headers_mut() = request.headers().clone();
        *shown.extensions_mut() = extensions;
        Ok(Self { shown, request: Unsent { request, is_stream } })
    }
}

impl Unsent {
    fn with(self, body: RequestBody<Body>) -> Request {
        let mut request = self.request;
        if self.is_stream {
            *request.body_mut() = Some(Body::wrap(body));
        } else {
            read(body);
        }
        request
    }
}

/// The bytes of a body that is in memory, without a copy.
fn into_bytes(mut body: Body) -> Result<Bytes, Body> {
    if body.as_bytes().is_none() {
        return Err(body);
    }
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(&mut body).poll_frame(&mut cx) {
        Poll::Ready(Some(Ok(frame))) => Ok(frame.into_data().unwrap_or_default()),
        _ => Ok(Bytes::new()),
    }
}

/// Has the layer read a body that is in memory.
fn read(body: RequestBody<Body>) {
    let mut body = pin!(body);
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(_))) = body.as_mut().poll_frame(&mut cx) {}
}

/// What the layer is put around: sends one request by a function, which gets the handle of what is measured.
pub(crate) struct Sender<F>(Option<(Unsent, F)>);

impl<F> Sender<F> {
    pub(crate) fn new(request: Unsent, send: F) -> Self {
        Self(Some((request, send)))
    }
}

impl<F, Fut, E> Service<http::Request<RequestBody<Body>>> for Sender<F>
where
    F: FnOnce(Request, Option<InferenceHandle>) -> Fut,
    Fut: Future<Output = Result<Response, E>>,
{
    type Response = http::Response<Body>;
    type Error = E;
    type Future = Sent<Fut>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, shown: http::Request<RequestBody<Body>>) -> Self::Future {
        let (unsent, send) = self.0.take().expect("a sender is made for one request");
        let (mut parts, body) = shown.into_parts();
        let request = unsent.with(body);
        Sent { inner: send(request, parts.extensions.remove()) }
    }
}

pin_project! {
    /// Waits for an answer, and gives it to the layer in its type.
    #[derive(Debug)]
    pub struct Sent<F> {
        #[pin]
        inner: F,
    }
}

impl<F, E> Future for Sent<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = Result<http::Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.project().inner.poll(cx)).map(to_http))
    }
}

/// The address of an answer is no part of its conversion, but of what its builder puts into the extensions.
fn to_http(response: Response) -> http::Response<Body> {
    let address = http::Response::builder().url(response.url().clone()).body(());
    let mut response = http::Response::<Body>::from(response);
    if let Ok(address) = address {
        response.extensions_mut().extend(address.into_parts().0.extensions);
    }
    response
}

pub(crate) fn from_http(response: http::Response<ResponseBody<Body>>) -> Response {
    response.map(Body::wrap).into()
}
