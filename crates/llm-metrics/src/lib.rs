//! Truthful Prometheus metrics for any Rust service that serves or proxies large language models: one tower layer.
//!
//! A language model's response is a stream whose head says `200 OK` long before the response succeeds or fails. Metrics that are recorded
//! when the head is ready miss the time to first token, whether the stream was cut, whether the client disconnected, and how many
//! tokens were generated. This crate observes request and response bodies as they pass, without changing, delaying or buffering
//! a byte, and records each request once: when its body has ended or was dropped.
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
//! # Around the client of a gateway
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
//! Every metric is listed in [`catalog`] and in `docs/METRICS.md`. These are the definitions:
//!
//! - The duration of a request starts when it reaches the layer, before its body is read.
//! - The *first token* is the first event that carries text, including reasoning. The response head, an event with only a role, or a keep-alive is
//!   not a token.
//! - The *first answer token* is the first text that is not reasoning, or the first tool call. Text inside
//!   `<think>` … `</think>` at the beginning of an answer is reasoning.
//! - A request has exactly one [`Outcome`]. A failure inside a stream with status 200 is an error. A stream that ends without its terminal event is
//!   an error, too (truncated). A client that disconnects after the last event is a success.
//! - Absent is not zero: a value that was not measured is not recorded.
//!
//! # Recent latency
//! The gauges `llm_recent_…` have quantiles and the exact maximum of the last minute, so that a spike between two
//! scrapes is visible. [`LlmMetrics::recent_models`] and [`LlmMetrics::recent_requests`] return the same values to your code. With
//! `Builder::exporter`, the exporter refreshes these gauges before each scrape; with any other exporter, call
//! [`LlmMetrics::refresh`] before a scrape.
//!
//! # Service level objectives
//! An [`Objective`] limits several latencies of the same request. Each request counts as met if it meets all limits, otherwise as missed. Separate
//! histograms cannot show how many requests met all limits.
//!
//! # Reporting measurements of the engine
//! The layer puts an [`InferenceHandle`] into the extensions of each request, through which a handler reports what the response
//! body does not contain. An engine without HTTP uses [`LlmMetrics::start`]. Metrics of the engine itself are recorded with [`LlmMetrics::engine`].
//!
//! # Cost
//! A streamed chunk costs about 0.1 µs with the exporter, and no allocation. `benches/README.md` in the repository has the measurements
//! and how they were made. The number of series is bounded, whatever callers send: see [`LabelPolicy`].
//!
//! # Features
//! - `prometheus`: an exporter with the right buckets for every histogram, upkeep, and a service for `/metrics`. Without it, any recorder of the
//!   [`metrics`] facade can be used; set the buckets of [`catalog::all`] on your recorder, by the full name of each histogram.
//! - `tracing`: one span per request, with OpenTelemetry's GenAI attributes; see the module `spans`.
//! - `json-schema`: `QualityChecks::json_schema`, which validates structured output against the JSON schema of its request.
//! - `axum`: [`InferenceHandle`] is an extractor that never fails, and inside nested routers the full path is known (`OriginalUri`).
//! - `test-util`: the module `testing`, for the tests of a service: reads recorded values by row and labels.
//! - `tower`: `layer::TowerErrors`, which classifies the errors of tower's timeout and load-shed layers.
//!
//! # External types in the public API
//! Types of `http` (`Parts`), `http-body`, `tower-layer`, `tower-service` and `metrics` (`Recorder`, its handles, `Label`, `SharedString`); with the feature
//! `prometheus` also of `metrics-exporter-prometheus` (`PrometheusBuilder`, `PrometheusHandle`), `http-body-util` (`Full`)
//! and `tokio` (`TcpListener`), with `tracing` of tracing (`Span`), with `axum` of axum (`FromRequestParts`), with `tower` of tower (`BoxError`).
//! `allowed_external_types` in the manifest is the whole list, which CI checks.

#![forbid(unsafe_code)]
#![deny(unreachable_pub)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod catalog;
mod catch;
mod inference;
pub mod layer;
pub mod observe;
#[cfg(feature = "prometheus")]
#[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
pub mod prometheus;
mod quality;
mod recent;
mod record;
#[cfg(feature = "tracing")]
#[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
pub mod spans;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod testing;
mod vocabulary;
mod wire;

pub use inference::{Inference, InferenceBuilder, InferenceHandle};
pub use layer::LlmMetricsLayer;
pub use quality::QualityChecks;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use quality::fuzzing as quality_fuzzing;
pub use recent::{RecentLatency, RecentRequest};
pub use record::{
    BuildError, Builder, EngineMetrics, InvalidObjective, InvalidPage, LabelPolicy, LlmMetrics, LoadedModel, ModelInfo,
    Objective, QualityFinding, RecentModel,
};
pub use vocabulary::{
    Endpoint, ErrorType, FinishReason, InvalidWord, MAX_NAME_BYTES, Operation, Outcome, Thinking, Usage,
};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use wire::fuzzing;
