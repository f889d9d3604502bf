//! Truthful Prometheus metrics for any Rust service that serves or proxies large language models: one tower layer.
//!
//! An answer of a language model is a stream that says `200 OK` in its head and fails, if it fails, much later. Metrics that
//! are taken when the head is ready miss what matters: when the first token came, whether the stream was cut, who hung
//! up, how many tokens it took. This crate watches the bodies as they pass, without changing, delaying or buffering a
//! byte, and records each request once, when its body has ended or nobody waits for it any more.
//!
//! # In an axum server
#![cfg_attr(feature = "prometheus", doc = "```no_run")]
#![cfg_attr(not(feature = "prometheus"), doc = "```ignore")]
//! use axum::{Router, routing::post};
//! use llm_metrics::{LlmMetrics, prometheus::Exporter};
//!
//! # async fn chat() {}
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let exporter = Exporter::builder().install()?; // feature `prometheus`
//!     let metrics = LlmMetrics::builder().exporter(&exporter).build()?;
//!     let app = Router::new()
//!         .route("/v1/chat/completions", post(chat))
//!         .layer(metrics.layer())
//!         .route_service("/metrics", exporter.service());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//!     Ok(axum::serve(listener, app).await?)
//! }
//! ```
//!
//! # Around a client, in a gateway
//! ```
//! # use std::convert::Infallible;
//! # use http::{Request, Response};
//! # use http_body_util::Full;
//! use llm_metrics::{LlmMetrics, layer::RequestBody};
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # async fn example<B>(send_upstream: impl Service<Request<RequestBody<Full<bytes::Bytes>>>, Response = Response<B>>)
//! # where B: http_body::Body {
//! let metrics = LlmMetrics::new();
//! let client = ServiceBuilder::new().layer(metrics.layer().proxy()).service(send_upstream);
//! # let _ = client;
//! # }
//! ```
//!
//! # What is measured
//! The catalogue is in [`catalog`] and, as a page, in `docs/METRICS.md`. The terms are these:
//!
//! - A request's clock starts when it reaches the layer, before its body is read.
//! - The *first token* is the first event that bears text, reasoning included: not the head, not a role, not a keep-alive.
//! - The *first answer token* is the first text that is no reasoning, or the first tool call. What stands in
//!   `<think>` … `</think>` is reasoning.
//! - A request has one [`Outcome`]: a failure inside a stream that began with 200 is an error, a stream that ends
//!   without saying so is truncated, and a client that leaves after the last event got all it wanted.
//! - Absent is not zero: what was not measured is not reported.
//!
//! # Lately, and well enough
//! What happened in the last minute is in the gauges `llm_recent_…`, as quantiles and as the exact maximum, so that a spike between two
//! scrapes is seen; [`LlmMetrics::recent_models`] and [`LlmMetrics::recent_requests`] tell the same to the process itself. The
//! exporter that metrics are built with (`Builder::exporter`) computes them for each scrape; with an exporter of your own, call
//! [`LlmMetrics::refresh`] before one.
//!
//! An [`Objective`] counts the requests that kept all its limits, and those that did not: what no query can tell from separate
//! histograms.
//!
//! # More truth from the engine
//! The layer puts an [`InferenceHandle`] into each request's extensions, through which a handler can report what the wire
//! does not show. Engines without HTTP use [`LlmMetrics::start`]; gauges of an engine are [`LlmMetrics::engine`].
//!
//! # What it costs
//! No allocation and some tens of nanoseconds for a streamed chunk; `benches/README.md` in the repository has the figures
//! and how they were measured. The number of series is bounded whatever callers send: see [`LabelPolicy`].
//!
//! # Features
//! - `prometheus`: the exporter, set up so that the known mistakes cannot happen. Without it, any recorder of the
//!   [`metrics`] facade does; bind the buckets of [`catalog::all`] by full name.
//! - `tracing`: one span a request, with OpenTelemetry's GenAI attributes; see the module `spans`.
//!
//! # Foreign types in this API
//! Of `http` (`Parts`), `http-body`, `tower-layer`, `tower-service` and `metrics` (`Recorder`); with the feature
//! `prometheus` also of `metrics-exporter-prometheus` (`PrometheusBuilder`), `http-body-util` (`Full`)
//! and `tokio` (`TcpListener`), with the feature `tracing` of `tracing` (`Span`).

#![forbid(unsafe_code)]
#![deny(unreachable_pub)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod catalog;
mod inference;
pub mod layer;
#[cfg(feature = "prometheus")]
#[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
pub mod prometheus;
mod recent;
mod record;
#[cfg(feature = "tracing")]
#[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
pub mod spans;
mod vocabulary;
mod wire;

pub use inference::{Inference, InferenceHandle};
pub use layer::LlmMetricsLayer;
pub use recent::{RecentLatency, RecentRequest};
pub use record::{
    BuildError, Builder, EngineGauges, InvalidObjective, LabelPolicy, LlmMetrics, LoadedModel, MAX_NAME_BYTES,
    ModelInfo, Objective, RecentModel,
};
pub use vocabulary::{Endpoint, ErrorType, FinishReason, Operation, Outcome, Thinking, Usage};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use wire::fuzzing;
