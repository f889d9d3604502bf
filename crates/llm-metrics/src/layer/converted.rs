//! For services that only accept their own body type.

use std::{
    fmt,
    task::{Context, Poll},
};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::{LlmMetricsLayer, LlmMetricsService, RequestBody, ServerErrors};

/// A layer around a service that needs its own body type; see [`LlmMetricsLayer::request_body`].
#[must_use = "a layer does nothing until it is put around a service"]
pub struct ConvertedLayer<B, B2, C = ServerErrors> {
    pub(super) layer: LlmMetricsLayer<C>,
    pub(super) convert: fn(RequestBody<B>) -> B2,
}

impl<S, B, B2, C: Clone> Layer<S> for ConvertedLayer<B, B2, C> {
    type Service = LlmMetricsService<ConvertedService<S, B, B2>, C>;

    fn layer(&self, inner: S) -> Self::Service {
        self.layer.layer(ConvertedService { inner, convert: self.convert })
    }
}

/// Converts request bodies to the type that a service accepts; see [`LlmMetricsLayer::request_body`].
pub struct ConvertedService<S, B, B2> {
    inner: S,
    convert: fn(RequestBody<B>) -> B2,
}

impl<S, B, B2> ConvertedService<S, B, B2> {
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

impl<S, B, B2> Service<Request<RequestBody<B>>> for ConvertedService<S, B, B2>
where
    S: Service<Request<B2>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody<B>>) -> Self::Future {
        self.inner.call(request.map(self.convert))
    }
}

impl<B, B2, C: Clone> Clone for ConvertedLayer<B, B2, C> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), convert: self.convert }
    }
}

impl<S: Clone, B, B2> Clone for ConvertedService<S, B, B2> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), convert: self.convert }
    }
}

impl<B, B2, C: fmt::Debug> fmt::Debug for ConvertedLayer<B, B2, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConvertedLayer").field(&self.layer).finish()
    }
}

impl<S: fmt::Debug, B, B2> fmt::Debug for ConvertedService<S, B, B2> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConvertedService").field(&self.inner).finish()
    }
}
