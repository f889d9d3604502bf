use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{ClassifyError, LlmMetricsLayer, RequestBody, ResponseBody, ResponseFuture, ServerErrors};
use crate::observe::ObservedRequest;

/// A service whose requests are measured; see [`LlmMetricsLayer`].
#[derive(Clone, Debug)]
pub struct LlmMetricsService<S, C = ServerErrors> {
    pub(super) inner: S,
    pub(super) layer: LlmMetricsLayer<C>,
}

/// A service whose requests are measured and left unchanged; see [`LlmMetricsLayer::without_request_body`].
#[derive(Clone, Debug)]
pub struct ResponseOnlyService<S, C = ServerErrors> {
    pub(super) inner: S,
    pub(super) layer: LlmMetricsLayer<C>,
}

impl<S, C> LlmMetricsService<S, C> {
    /// A reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// A mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C> ResponseOnlyService<S, C> {
    /// A reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// A mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, B, B2> Service<Request<B>> for LlmMetricsService<S, C>
where
    S: Service<Request<RequestBody<B>>, Response = Response<B2>>,
    C: ClassifyError<S::Error> + Clone,
    B: http_body::Body,
    B2: http_body::Body,
{
    type Response = Response<ResponseBody<B2>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !self.layer.observer.observes_method(request.method()) {
            return ResponseFuture::passing(self.inner.call(request.map(RequestBody::passing)));
        }
        let (request, observed) = self.layer.observe(request);
        let request = request.map(|body| RequestBody::read_by(body, observed.body_reader()));
        let future = {
            let _inside = observed.enter();
            self.inner.call(request)
        };
        ResponseFuture::observed(future, observed, self.layer.classify.clone())
    }
}

impl<S, C, B, B2> Service<Request<B>> for ResponseOnlyService<S, C>
where
    S: Service<Request<B>, Response = Response<B2>>,
    C: ClassifyError<S::Error> + Clone,
    B2: http_body::Body,
{
    type Response = Response<ResponseBody<B2>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !self.layer.observer.observes_method(request.method()) {
            return ResponseFuture::passing(self.inner.call(request));
        }
        let (request, observed) = self.layer.observe(request);
        let future = {
            let _inside = observed.enter();
            self.inner.call(request)
        };
        ResponseFuture::observed(future, observed, self.layer.classify.clone())
    }
}

impl<C> LlmMetricsLayer<C> {
    /// Puts the handle into the request's extensions, for the code that processes the request.
    fn observe<B>(&self, request: Request<B>) -> (Request<B>, ObservedRequest) {
        let (mut head, body) = request.into_parts();
        let observed = self.observer.request(&head);
        if let Some(handle) = observed.handle() {
            head.extensions.insert(handle);
        }
        (Request::from_parts(head, body), observed)
    }
}
