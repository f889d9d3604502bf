//! The tower layer.
//!
//! The head of a language model's response says `200 OK` long before the response succeeds or fails, so durations until the head
//! and counts by status miss most of it. This layer observes the request and response bodies as
//! they pass, without changing or delaying them, and records
//! the request when the response body has ended or was dropped.
//!
//! # Position in the stack
//! ```text
//! Trace → Compression → LlmMetrics → Timeout, ConcurrencyLimit → handler
//! ```
//! Inside compression, since it does not decode bodies. Outside timeouts and limits, so that it sees their
//! responses: a timeout layer *outside* it drops the request, which looks the same as a client that disconnected.
//!
//! A limit that makes callers wait in [`poll_ready`](tower_service::Service::poll_ready), as tower's `ConcurrencyLimit` and
//! `RateLimit` do, makes them wait before *any* layer has seen the request: that wait is not measured. Put
//! `.load_shed()` or `.buffer(…)` in between, which return an error or wait inside the call. axum's own `.layer(…)`
//! does not need that: a router waits inside the call.
//!
//! In axum, add it after the routes that it shall measure; routes added later are not measured. Mind the order: the *last* `.layer(…)` of a router
//! is the outermost, while in a `ServiceBuilder` the *first* is. These two are equivalent:
//!
//! ```
//! # use axum::{Router, routing::post};
//! # use llm_metrics::LlmMetrics;
//! # use tower::{ServiceBuilder, limit::ConcurrencyLimitLayer};
//! # async fn chat() {}
//! # let metrics = LlmMetrics::new();
//! let chain: Router = Router::new()
//!     .route("/v1/chat/completions", post(chat))
//!     .layer(ConcurrencyLimitLayer::new(64))
//!     .layer(metrics.layer()); // the outermost
//!
//! let builder: Router = Router::new().route("/v1/chat/completions", post(chat)).layer(
//!     ServiceBuilder::new()
//!         .layer(metrics.layer().request_body(axum::body::Body::new)) // the outermost
//!         .layer(ConcurrencyLimitLayer::new(64)),
//! );
//! ```
//!
//! [`request_body`](LlmMetricsLayer::request_body) is needed if the next inner service only accepts axum's body type, as middleware made by
//! `from_fn` does.
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
//! # Requests that are not measured
//! Requests other than a `POST` to a known endpoint: they have no clock and no state. Compressed bodies and bodies of an unknown type
//! are not inspected; their requests are judged by status and a clean end, and counted in
//! `llm_metrics_bodies_skipped_total`.
//!
//! A successful `POST` to an unknown path that looks like a call of a model, because its path ends like one of an LLM API or the response is an event stream, is counted in
//! `llm_metrics_requests_passed_total`: check that counter if `/metrics` stays empty.
//!
//! # Server and client layers in one process
//! A gateway that passes on a request with its extensions, as `request.map(…)` does, passes on its [`InferenceHandle`](crate::InferenceHandle), too:
//! a second layer of the same [`LlmMetrics`] ignores a request that is already measured, so that it is counted once, on the
//! server side. A request that is built from scratch has no handle, and is counted on both sides: copy the handle into its extensions, or give each side its own
//! `LlmMetrics`, with a different [prefix](crate::catalog::Naming) or [constant label](crate::Builder::constant_label).
//!
//! # Unavailable servers
//! A client that cannot connect fails before it has read the request body, and an overloaded server may reject a request without reading it. The body is then
//! inspected when it is dropped: the part in memory, at most a megabyte, is searched for the model's name. The label policy also learns names from failures that are not the caller's
//! (5xx, timeouts, errors of the service), so that errors are counted by model from
//! the first one on. [Declared models](crate::Builder::models) always have a place.
//!
//! A server that accepts a request and then sends nothing is only noticed by the client, which gives up: the request is `cancelled`,
//! and the gap is in `llm_stream_max_gap_seconds` and `llm_stream_stalls_total`. Alert on those, too.
//!
//! # Panics in callbacks
//! Your functions run inside requests: that of [`classify_error`](LlmMetricsLayer::classify_error), of
//! [`LabelPolicy::map`](crate::LabelPolicy::map) and of [`Builder::request_label`](crate::Builder::request_label), and the recorder.
//! A panic in one of them is caught, and the request passes and is counted all the same: the error counts like a 5xx, the
//! label is `other`, and of the metrics that is missing which the recorder did not take. The panic hook reports it as any other.
//! Built with `panic = "abort"`, the process ends, as with any panic.
//!
//! A panic in the service or in a body is passed on, and counts as an internal error.

mod classify;
mod converted;
mod future;
mod request_body;
mod response_body;
mod service;

use std::sync::Arc;

use http::request::Parts;
use tower_layer::Layer;

#[cfg(feature = "tower")]
pub use classify::TowerErrors;
pub use classify::{ClassifyError, ServerError};
pub use converted::{ConvertedLayer, ConvertedService};
pub use future::ResponseFuture;
pub use request_body::RequestBody;
pub use response_body::ResponseBody;
pub use service::{LlmMetricsService, ResponseOnlyService};

use crate::{observe::Observer, record::LlmMetrics, vocabulary::Endpoint};

impl LlmMetrics {
    /// A layer that measures the requests of a service, or of a client.
    pub fn layer(&self) -> LlmMetricsLayer {
        LlmMetricsLayer { observer: self.observer(), classify: ServerError }
    }
}

/// Measures the requests of the service that it is put around; see the [module's documentation](self).
///
/// It knows `POST`s to
///
#[doc = include_str!("paths.md")]
///
/// At llama.cpp's paths OpenAI's formats are read, too. A slash at the end, or a second one anywhere, makes no difference. Paths of your own: [`path`](Self::path) and
/// [`endpoint_fn`](Self::endpoint_fn).
///
/// # In a nested router
/// A router that is nested sees its paths without the prefix, so that a layer inside it may take one endpoint for another: put the layer
/// around the outer router. axum keeps the whole path in its extension `OriginalUri`; with the feature `axum`, the layer looks there
/// first.
///
/// The service gets its requests with a [`RequestBody`] around the body. Where it takes no other type of body than its own, see
/// [`request_body`](Self::request_body).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct LlmMetricsLayer<C = ServerError> {
    observer: Observer,
    classify: C,
}

impl<C> LlmMetricsLayer<C> {
    /// Measures Ollama's own API, too: `/api/chat`, `/api/generate`, `/api/embed` and `/api/embeddings`. It has to be asked for,
    /// since many a web application has an `/api/chat` of its own.
    ///
    /// ```
    /// let layer = llm_metrics::LlmMetrics::new().layer().ollama();
    /// # let _ = layer;
    /// ```
    pub fn ollama(mut self) -> Self {
        self.observer = self.observer.ollama();
        self
    }

    /// Measures `POST`s to a path of your own, as requests to the endpoint whose format they speak. A segment in braces stands for
    /// any. Of two that fit, the first counts, and either wins over what the path would be known as.
    ///
    /// [`Endpoint::Other`] says that a path is not to be measured, whatever it looks like.
    ///
    /// ```
    /// use llm_metrics::{Endpoint, LlmMetrics};
    ///
    /// let layer = LlmMetrics::new()
    ///     .layer()
    ///     .path("/tenants/{tenant}/ask", Endpoint::ChatCompletions)
    ///     .path("/internal/v1/messages", Endpoint::Other);
    /// # let _ = layer;
    /// ```
    pub fn path(mut self, path: impl Into<Arc<str>>, endpoint: Endpoint) -> Self {
        self.observer = self.observer.path(path, endpoint);
        self
    }

    /// Lets a function of a request's head tell whose format a `POST` speaks, where no [`path`](Self::path) of yours does. `None` leaves it to
    /// what the path is known as, and [`Endpoint::Other`] says that it is not to be measured. Where it panics, it has said `None`.
    ///
    /// The label `endpoint` is the endpoint's template, whatever the path: what callers send makes no series.
    ///
    /// ```
    /// use llm_metrics::{Endpoint, LlmMetrics};
    ///
    /// let layer = LlmMetrics::new().layer().endpoint_fn(|head| {
    ///     let asks = head.uri.path().starts_with("/agents/") && head.headers.contains_key("x-model");
    ///     asks.then_some(Endpoint::ChatCompletions)
    /// });
    /// # let _ = layer;
    /// ```
    pub fn endpoint_fn(mut self, endpoint: impl Fn(&Parts) -> Option<Endpoint> + Send + Sync + 'static) -> Self {
        self.observer = self.observer.endpoint_fn(endpoint);
        self
    }

    /// Says that the service is a proxy, or a client: what fails with 5xx is then the server behind it, and counts as
    /// `upstream_error` instead of `internal`.
    ///
    /// What that server says about credentials (401, 407, and 402 for an account without credit) is then about *yours*: the request counts
    /// as an error of type `unauthorized`, where at a server it is `rejected`. Where callers bring keys of their own, say whose fault
    /// it was with [`InferenceHandle::error`](crate::InferenceHandle::error), which wins. 403 and 429 are about what was asked for, and
    /// stay `rejected`.
    pub fn proxy(mut self) -> Self {
        self.observer = self.observer.proxy();
        self
    }

    /// Tells what an error of the inner service is. Without, or where `classify` panics, it counts like a 5xx. For the errors of tower's own
    /// layers there is `TowerErrors`, with the feature `tower`.
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
        LlmMetricsLayer { observer: self.observer, classify }
    }

    /// Hands the service a type of body that it takes, where it does not take any: `convert` makes it of the [`RequestBody`] that is read as it
    /// passes. Without it, the compiler says that the service is not a `Service<Request<RequestBody<…>>>`.
    ///
    /// | service | `convert` |
    /// | --- | --- |
    /// | axum's `from_fn` middleware and handlers | `axum::body::Body::new` |
    /// | one with a body in a box | `http_body_util::BoxBody::new` |
    /// | one that sends with reqwest | `reqwest::Body::wrap`; reqwest's own client has a layer in the crate `llm-metrics-reqwest` |
    ///
    /// ```
    /// use axum::{Router, body::Body, extract::Request, middleware::{self, Next}, response::Response, routing::post};
    /// use llm_metrics::LlmMetrics;
    /// use tower::ServiceBuilder;
    ///
    /// # async fn chat() {}
    /// async fn auth(request: Request, next: Next) -> Response {
    ///     next.run(request).await
    /// }
    ///
    /// let metrics = LlmMetrics::new();
    /// let app: Router = Router::new().route("/v1/chat/completions", post(chat)).layer(
    ///     ServiceBuilder::new().layer(metrics.layer().request_body(Body::new)).layer(middleware::from_fn(auth)),
    /// );
    /// ```
    pub fn request_body<B, B2>(self, convert: fn(RequestBody<B>) -> B2) -> ConvertedLayer<B, B2, C> {
        ConvertedLayer { layer: self, convert }
    }

    /// Leaves the request as it is, type and all, for services that take no other. What the request asks for is not read:
    /// the model is the one that the answer names, or the [`InferenceHandle`](crate::InferenceHandle). Where the body can be converted,
    /// [`request_body`](Self::request_body) is better.
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
