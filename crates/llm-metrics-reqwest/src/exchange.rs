//! Converts requests and responses between reqwest's types and those of `http`, which the layer uses.

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

/// The request for the layer, and the request to send.
pub(crate) struct Exchange {
    pub(crate) shown: http::Request<Body>,
    pub(crate) request: Unsent,
}

pub(crate) struct Unsent {
    request: Request,
    /// The body was passed to the layer, and is not yet part of the request.
    is_stream: bool,
}

impl Exchange {
    /// Returns the request if it is not measured: the layer only knows `POST`s, and URLs that `http` can represent.
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

/// Passes a body in memory to the layer.
fn read(body: RequestBody<Body>) {
    let mut body = pin!(body);
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(_))) = body.as_mut().poll_frame(&mut cx) {}
}

/// The inner service of the layer: sends one request with a function, which gets the handle of the observed request.
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
    /// Waits for a response, and converts it for the layer.
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

/// The URL of a response is not part of its conversion; its builder puts it into the extensions.
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
