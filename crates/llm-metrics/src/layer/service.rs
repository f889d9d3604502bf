use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{
    ClassifyError, LlmMetricsLayer, RequestBody, ResponseBody, ResponseFuture, ServerError,
    observation::{Observation, is_encoded},
};
use crate::{
    vocabulary::SkipReason,
    wire::{self, Route},
};

/// A service whose requests are measured; see [`LlmMetricsLayer`].
#[derive(Clone, Debug)]
pub struct LlmMetricsService<S, C = ServerError> {
    pub(super) inner: S,
    pub(super) layer: LlmMetricsLayer<C>,
}

/// A service whose requests are measured and not touched; see [`LlmMetricsLayer::without_request_body`].
#[derive(Clone, Debug)]
pub struct ResponseOnlyService<S, C = ServerError> {
    pub(super) inner: S,
    pub(super) layer: LlmMetricsLayer<C>,
}

impl<S, C, B, B2> Service<Request<B>> for LlmMetricsService<S, C>
where
    S: Service<Request<RequestBody<B>>, Response = Response<B2>>,
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
        let Some(route) = wire::route(request.method(), request.uri().path()) else {
            return ResponseFuture::passing(self.inner.call(request.map(RequestBody::passing)));
        };
        let (request, observation) = self.layer.observe(route, request);
        let request = if is_encoded(request.headers()) {
            observation.skipped(SkipReason::Compressed);
            request.map(RequestBody::passing)
        } else {
            request.map(|body| RequestBody::read_by(body, route, observation.shared()))
        };
        let future = {
            let _inside = observation.enter();
            self.inner.call(request)
        };
        ResponseFuture::observed(future, observation, self.layer.classify.clone())
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
        let Some(route) = wire::route(request.method(), request.uri().path()) else {
            return ResponseFuture::passing(self.inner.call(request));
        };
        let (request, observation) = self.layer.observe(route, request);
        let future = {
            let _inside = observation.enter();
            self.inner.call(request)
        };
        ResponseFuture::observed(future, observation, self.layer.classify.clone())
    }
}

impl<C> LlmMetricsLayer<C> {
    /// Starts the clock, reads the embedder's labels, and hands the handle to whoever handles the request.
    fn observe<B>(&self, route: &'static Route, request: Request<B>) -> (Request<B>, Box<Observation>) {
        let metrics = &self.metrics;
        let (mut request, labels) = if metrics.0.reads_labels() {
            let (parts, body) = request.into_parts();
            let labels = metrics.0.read_labels(&parts);
            (Request::from_parts(parts, body), Some(labels))
        } else {
            (request, None)
        };
        let observation = Observation::start(metrics, route, labels, self.proxy);
        request.extensions_mut().insert(observation.handle());
        (request, observation)
    }
}
