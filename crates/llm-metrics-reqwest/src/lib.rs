//! Metrics for programs that call large language models through [`reqwest`]: the layer of [`llm_metrics`] in reqwest's types.
//!
//! # reqwest
//! A [`reqwest::Client`] is a tower service: wrap it in a [`ReqwestLayer`]. Build a request with the client, and send it with
//! [`execute`](ReqwestService::execute).
//!
//! ```
//! use llm_metrics::{LabelPolicy, LlmMetrics};
//! use llm_metrics_reqwest::ReqwestLayer;
//! use tower_layer::Layer;
//!
//! # async fn ask() -> Result<(), Box<dyn std::error::Error>> {
//! // The label `upstream` is the host that a request goes to; at most 20 of them.
//! let metrics = LlmMetrics::builder().upstream_label(LabelPolicy::first_accepted(20)).build()?;
//! let http = reqwest::Client::new();
//! let client = ReqwestLayer::new(metrics.layer()).layer(http.clone());
//!
//! let question = http.post("https://api.openai.com/v1/responses").body("{\"model\": \"gpt-5\", \"input\": \"Hello?\"}").build()?;
//! let answer = client.execute(question).await?; // a `reqwest::Response`
//! println!("{}", answer.text().await?); // the request is recorded when its body has ended or was dropped
//! # Ok(())
//! # }
//! ```
//!
//! # reqwest-middleware
//! With the feature `middleware`, a [`ReqwestLayer`] is a middleware. If it is outside a middleware that retries, it counts each call once. If it is
//! inside that middleware, it counts each attempt.
//! [`Builder::request_label`](llm_metrics::Builder::request_label) sees the extensions of the request, and an inner middleware finds the request's
//! [`InferenceHandle`] in them.
//!
//! ```
//! # #[cfg(feature = "middleware")] {
//! use llm_metrics::LlmMetrics;
//! use llm_metrics_reqwest::ReqwestLayer;
//!
//! let metrics = LlmMetrics::new();
//! let client = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
//!     .with(ReqwestLayer::new(metrics.layer()))
//!     .build();
//! # let _ = client;
//! # }
//! ```
//!
//! # What is measured
//! Requests to the [endpoints that the layer knows](llm_metrics::layer::LlmMetricsLayer); all others pass unchanged. The response is observed while the program reads it: a stream
//! that breaks is truncated, one that is dropped before its end is cancelled. Failures are classified as those of an upstream server, see
//! [`proxy`](llm_metrics::layer::LlmMetricsLayer::proxy) and [`ReqwestErrors`]; spans are client spans.
//!
//! A request body in memory is inspected before it is sent, so that its model is known even if there is no response, and is sent unchanged: redirects and
//! retries can repeat it. A streamed body is inspected as it passes.
//!
//! # External types in the public API
//! Types of `reqwest` 0.13, `http` 1, `tower-layer` 0.3 and `tower-service` 0.3, and with the feature `middleware` of `reqwest-middleware` 0.5.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod errors;
mod exchange;
#[cfg(feature = "middleware")]
mod middleware;
mod service;

pub use errors::ReqwestErrors;
pub use service::{ReqwestService, ResponseFuture};

#[cfg(doc)]
use llm_metrics::InferenceHandle;
use llm_metrics::layer::LlmMetricsLayer;

/// Measures the requests of a reqwest client; see the [crate's documentation](crate).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put around a client"]
pub struct ReqwestLayer {
    layer: LlmMetricsLayer<ReqwestErrors>,
}

impl ReqwestLayer {
    /// Measures like `layer`, with its paths, as a [client](LlmMetricsLayer::proxy) whose errors are classified by [`ReqwestErrors`].
    pub fn new(layer: LlmMetricsLayer) -> Self {
        Self { layer: layer.proxy().classify_error(ReqwestErrors) }
    }
}
