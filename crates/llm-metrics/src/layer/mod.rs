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
//! responses: a timeout layer *outside* it drops the request, which looks the same as a client that disconnected. If requests
//! are dropped at the same age again and again, the feature `tracing` logs that once.
//!
//! A limit that makes callers wait in [`poll_ready`](tower_service::Service::poll_ready), as tower's `ConcurrencyLimit` and `RateLimit` do, makes
//! them wait before *any* layer has seen the request, so that wait is not measured. Put `.load_shed()` or `.buffer(…)` between this layer and the
//! limit: they return an error, or wait inside the call. axum's own `.layer(…)` does not need that, because a router waits inside the call.
//!
//! In axum, add it after the routes that it should measure; routes added later are not measured. The order differs: the *last* `.layer(…)` of a
//! router is the outermost, while in a `ServiceBuilder` the *first* is. These two are equivalent:
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
//! Requests other than a `POST` to a known endpoint are not measured: they have no clock and no state. Compressed bodies and bodies of an unknown
//! type are not inspected: the outcome of such a request only depends on the status, and on whether the body ended without an error. They are counted in
//! `llm_metrics_bodies_skipped_total`.
//!
//! A successful `POST` to an unknown path may look like a call of a model: its path ends like one of an LLM API, or the response is an event stream.
//! Such requests are counted in `llm_metrics_requests_passed_total`: check that counter if `/metrics` stays empty.
//!
//! # Server and client layers in one process
//! A gateway that passes on a request with its extensions, as `request.map(…)` does, passes on its [`InferenceHandle`](crate::InferenceHandle), too:
//! a second layer of the same [`LlmMetrics`] ignores a request that is already measured, so that it is counted once, on the
//! server side. A request that is built from scratch has no handle, and is counted on both sides: copy the handle into its extensions, or give each side its own
//! `LlmMetrics`, with a different [prefix](crate::catalog::Naming) or [constant label](crate::Builder::constant_label).
//!
//! # Unavailable servers
//! A client that cannot connect fails before it has read the request body, and an overloaded server may reject a request without reading it. The body
//! is then inspected when it is dropped: the layer searches the part in memory, at most a megabyte, for the model's name. The label policy also
//! learns names from failures that are not the caller's (5xx, timeouts, errors of the service), so that errors are counted by model from the first
//! one on. There is always room for [declared models](crate::Builder::models).
//!
//! A server that accepts a request and then sends nothing is only noticed by the client, which gives up: the request is `cancelled`,
//! and the gap is in `llm_stream_max_gap_seconds` and `llm_stream_stalls_total`. Alert on those, too.
//!
//! # Panics in callbacks
//! Your functions run inside requests: that of [`classify_error`](LlmMetricsLayer::classify_error), of
//! [`endpoint_fn`](LlmMetricsLayer::endpoint_fn), of [`LabelPolicy::map`](crate::LabelPolicy::map), of
//! [`Builder::request_label`](crate::Builder::request_label) and of [`Builder::on_finding`](crate::Builder::on_finding), and the recorder.
//! A panic in one of them is caught. The request continues and is counted: the error counts like a 5xx, the label is `other`, and only the values
//! that the recorder was to record are missing. The panic hook reports it like any other. With `panic = "abort"`, the process ends, as with any
//! panic.
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
pub use classify::{ClassifyError, ServerErrors};
pub use converted::{ConvertedLayer, ConvertedService};
pub use future::ResponseFuture;
pub use request_body::RequestBody;
pub use response_body::ResponseBody;
pub use service::{LlmMetricsService, ResponseOnlyService};

use crate::{observe::Observer, record::LlmMetrics, vocabulary::Endpoint};

impl LlmMetrics {
    /// A layer that measures the requests of a service, or of a client.
    pub fn layer(&self) -> LlmMetricsLayer {
        LlmMetricsLayer { observer: self.observer(), classify: ServerErrors }
    }
}

/// Measures the requests of the inner service; see the [module's documentation](self).
///
/// It knows `POST`s to
///
#[doc = include_str!("paths.md")]
///
/// At llama.cpp's paths, OpenAI's formats are read, too. A slash at the end and repeated slashes are ignored. For your own paths, see
/// [`path`](Self::path) and [`endpoint_fn`](Self::endpoint_fn).
///
/// # In a nested router
/// A nested router sees paths without the prefix, so a layer inside it may mistake one endpoint for another: put the layer around the outer router.
/// axum keeps the whole path in its extension `OriginalUri`, which the layer uses with the feature `axum`.
///
/// The inner service receives requests whose body is a [`RequestBody`]. If it only accepts its own body type, see
/// [`request_body`](Self::request_body).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct LlmMetricsLayer<C = ServerErrors> {
    observer: Observer,
    classify: C,
}

impl<C> LlmMetricsLayer<C> {
    /// Measures Ollama's own API, too: `/api/chat`, `/api/generate`, `/api/embed` and `/api/embeddings`. Off by default, because many web
    /// applications have their own `/api/chat`.
    ///
    /// ```
    /// let layer = llm_metrics::LlmMetrics::new().layer().ollama();
    /// # let _ = layer;
    /// ```
    pub fn ollama(mut self) -> Self {
        self.observer = self.observer.ollama();
        self
    }

    /// Measures `POST`s to another path, as requests to the endpoint whose format they have. A segment in braces matches any segment. If two paths
    /// match, the first one counts. Both take precedence over the paths that the layer knows.
    ///
    /// [`Endpoint::Other`] means that the path is not measured.
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

    /// Chooses the endpoint, and with it the format, of a `POST` by a function of the request's head, for paths that no [`path`](Self::path) matches.
    /// If it returns `None` or panics, the paths that the layer knows apply. With [`Endpoint::Other`], the request is not measured.
    ///
    /// The label `endpoint` is the template of that endpoint, whatever the path, so callers cannot create series.
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

    /// Declares that the service is a proxy or a client: a 5xx is then a failure of the upstream server, and counts as `upstream_error` instead of
    /// `internal`.
    ///
    /// A response about credentials (401, 407, or 402 for an account without credit) is then about *your* credentials: the request counts as an error
    /// of type `unauthorized`, while a server counts it as `rejected`. If callers bring their own keys, set the error with
    /// [`InferenceHandle::error`](crate::InferenceHandle::error), which takes precedence. 403 and 429 are about the request, and stay `rejected`.
    pub fn proxy(mut self) -> Self {
        self.observer = self.observer.proxy();
        self
    }

    /// Classifies errors of the inner service. Without it, or if `classify` panics, an error counts like a 5xx, and the feature `tracing` logs the first one
    /// that is not [known](ClassifyError::knows). For the errors of tower's own layers there is `TowerErrors`, with the feature `tower`.
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

    /// Converts the [`RequestBody`], which reads the body as it passes, to the body type that the inner service accepts. Needed if the compiler
    /// reports that the service is not a `Service<Request<RequestBody<…>>>`.
    ///
    /// | service | `convert` |
    /// | --- | --- |
    /// | axum's `from_fn` middleware and handlers | `axum::body::Body::new` |
    /// | a service with a boxed body | `http_body_util::BoxBody::new` |
    /// | a service that sends with reqwest | `reqwest::Body::wrap`; reqwest's own client has a layer in the crate `llm-metrics-reqwest` |
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

    /// Leaves requests unchanged, including the body type. The request body is then not read: the model is that of the response, or of the
    /// [`InferenceHandle`](crate::InferenceHandle). If the body type can be converted, prefer [`request_body`](Self::request_body).
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

/// The layer that leaves requests unchanged; see [`LlmMetricsLayer::without_request_body`].
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct ResponseOnlyLayer<C = ServerErrors>(LlmMetricsLayer<C>);

impl<S, C: Clone> Layer<S> for ResponseOnlyLayer<C> {
    type Service = ResponseOnlyService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        ResponseOnlyService { inner, layer: self.0.clone() }
    }
}
