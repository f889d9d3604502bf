//! The tower layer.
//!
//! An answer of a language model is a stream that says success in its head and fails, if it fails, much later. Whoever
//! takes the time when the head is ready, or counts by status, measures something else. This layer watches both bodies as
//! they flow by: it reads what the request asks for and what the answer says, changes and delays nothing, and records
//! the request when its body has ended or nobody waits for it any more.
//!
//! # Where it goes
//! ```text
//! Trace → Compression → LlmMetrics → Timeout, ConcurrencyLimit → handler
//! ```
//! Inside compression, since it does not decode bodies. Outside time-outs and limits, so that it sees the responses with
//! which those reject: a time-out layer *outside* it drops the request, which cannot be told from a client that left.
//!
//! A limit that makes callers wait in [`poll_ready`](tower_service::Service::poll_ready), as tower's `ConcurrencyLimit` and
//! `RateLimit` do, makes them wait before *any* layer around it has seen the request: that queue is in no metric. Put
//! `.load_shed()` or `.buffer(…)` between, which turn it into an answer or into waiting in the call. axum's own `.layer(…)`
//! needs no such thing: a router waits in the call.
//!
//! In axum, add it with a `.layer(…)` of its own, after the routes it is to measure: middleware made by `from_fn` takes no other
//! body than axum's, so that it cannot stand directly inside this layer in one `ServiceBuilder`.
//!
//! # Example
//! ```
//! use axum::{Router, routing::post};
//! use llm_metrics::LlmMetrics;
//!
//! # async fn chat() {}
//! let metrics = LlmMetrics::new();
//! let app: Router = Router::new().route("/v1/chat/completions", post(chat)).layer(metrics.layer());
//! ```
//!
//! # What passes untouched
//! Everything that is no `POST` to an endpoint that it knows: such a request gets no clock and no state. Bodies that are
//! compressed or of an unknown type pass unread; they are judged by their status and clean end, and counted in
//! `llm_metrics_bodies_skipped_total`.

mod classify;
mod future;
mod observation;
mod request_body;
mod response_body;
mod service;

use tower_layer::Layer;

pub use classify::{ClassifyError, ServerError};
pub use future::ResponseFuture;
pub use request_body::RequestBody;
pub use response_body::ResponseBody;
pub use service::{LlmMetricsService, ResponseOnlyService};

use crate::record::LlmMetrics;

impl LlmMetrics {
    /// A layer that measures the requests of a service, or of a client.
    pub fn layer(&self) -> LlmMetricsLayer {
        LlmMetricsLayer { metrics: self.clone(), proxy: false, classify: ServerError }
    }
}

/// Measures the requests of the service that it is put around; see the [module's documentation](self).
///
/// It is for `POST`s whose path ends in `/v1/chat/completions` or `/v1/completions`, the same without `/v1` as the whole path
/// (as in a nested router), and Azure OpenAI's `/openai/deployments/…/chat/completions`.
///
/// The service gets its requests with a [`RequestBody`] around the body. Where it takes no other type of body, see
/// [`without_request_body`](Self::without_request_body).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct LlmMetricsLayer<C = ServerError> {
    metrics: LlmMetrics,
    proxy: bool,
    classify: C,
}

impl<C> LlmMetricsLayer<C> {
    /// Says that the service is a proxy, or a client: what fails with 5xx is then the server behind it, and counts as
    /// `upstream_error` instead of `internal`.
    pub fn proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    /// Tells what an error of the inner service is. Without, it counts like a 5xx.
    ///
    /// ```
    /// use llm_metrics::{ErrorType, LlmMetrics};
    /// use tower::{BoxError, timeout::error::Elapsed};
    ///
    /// let layer = LlmMetrics::new().layer().classify_error(|error: &BoxError| {
    ///     if error.is::<Elapsed>() { ErrorType::Timeout } else { ErrorType::Internal }
    /// });
    /// # let _ = layer;
    /// ```
    pub fn classify_error<F>(self, classify: F) -> LlmMetricsLayer<F> {
        LlmMetricsLayer { metrics: self.metrics, proxy: self.proxy, classify }
    }

    /// Leaves the request as it is, type and all, for services that take no other. What the request asks for is not read:
    /// the model is the one that the answer names, or the [`InferenceHandle`](crate::InferenceHandle).
    pub fn without_request_body(self) -> ResponseOnlyLayer<C> {
        ResponseOnlyLayer(self)
    }
}

impl<S, C: Clone> Layer<S> for LlmMetricsLayer<C> {
    type Service = LlmMetricsService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        LlmMetricsService { inner, layer: self.clone() }
    }
}

/// The layer that does not touch the request; see [`LlmMetricsLayer::without_request_body`].
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct ResponseOnlyLayer<C = ServerError>(LlmMetricsLayer<C>);

impl<S, C: Clone> Layer<S> for ResponseOnlyLayer<C> {
    type Service = ResponseOnlyService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        ResponseOnlyService { inner, layer: self.0.clone() }
    }
}
