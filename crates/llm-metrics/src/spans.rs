//! One span per request, with the attributes of OpenTelemetry's GenAI conventions.
//!
//! The span opens when the request reaches the layer, or with [`LlmMetrics::start`](crate::LlmMetrics::start), and closes when the response
//! body has ended or was dropped: its duration is that of `llm_request_duration_seconds`, not the time to the response head. Requests that are not
//! measured have no span. It never contains a prompt or a completion.
//!
//! It is a [`tracing`] span for any subscriber; with `tracing-opentelemetry` it becomes an OpenTelemetry span.
//! Without a subscriber, the feature costs one atomic load per request, one comparison per chunk, and 8 bytes of state. With a subscriber
//! that is interested in the span, the state of a request is 48 bytes larger, plus the subscriber's own data.
//!
//! # Fields
//! | field | |
//! | --- | --- |
//! | `otel.name` | `{operation} {model}`, with the value of the label `model`, so that callers cannot invent names; only the operation until the model is known |
//! | `otel.kind` | `server`; `client` if the layer is that of a [proxy or client](crate::LlmMetricsLayer::proxy); for requests that are measured without the layer, `internal` unless the builder says `server` or `client` |
//! | `otel.status_code` | `error` for failed requests, and on clients for rejected ones; otherwise absent |
//! | `gen_ai.operation.name` | `chat`, `text_completion`, … |
//! | `gen_ai.provider.name` | recorded by the embedder, because only the embedder knows it |
//! | `gen_ai.request.model` | as in the request, if it is a valid label value (128 bytes, no control characters, no backslash), otherwise `other` |
//! | `gen_ai.request.stream`, `gen_ai.request.max_tokens` | |
//! | `gen_ai.response.model` | as in the response, under the same rule |
//! | `gen_ai.response.finish_reasons` | each reason once, as JSON: `["stop"]`. `tracing` has no lists |
//! | `gen_ai.response.time_to_first_chunk` | seconds to the first event of a stream with a token, as in `llm_time_to_first_token_seconds` |
//! | `gen_ai.usage.input_tokens`, `gen_ai.usage.cache_read.input_tokens` | the second is a subset of the first |
//! | `gen_ai.usage.output_tokens`, `gen_ai.usage.reasoning.output_tokens` | likewise; absent if only an estimate is known |
//! | `server.address`, `server.port` | host and port of the request's URL, on clients |
//! | `error.type` | an [`ErrorType`](crate::ErrorType) |
//! | `llm.outcome` | an [`Outcome`](crate::Outcome); the conventions have no value for a client that disconnected |
//!
//! Unknown values are absent. The names are those of [the GenAI conventions][conventions], whose status is
//! *Development*: when they change, these will change, too.
//!
//! # Parent and context propagation
//! The span is a child of the span, or of the OpenTelemetry context, that is current when the layer is called, and the inner service, its
//! future and its body run inside it. So the usual middleware continues a caller's W3C `traceparent` *outside* this layer, and
//! propagates it *inside*:
//!
//! ```
//! use axum::{Router, body::Body, extract::Request, middleware::{self, Next}, response::Response, routing::post};
//! use llm_metrics::LlmMetrics;
//! use opentelemetry::{global, trace::{FutureExt, TracerProvider}};
//! use opentelemetry_http::{HeaderExtractor, HeaderInjector};
//! use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
//! use tower::ServiceExt;
//! use tracing_opentelemetry::OpenTelemetrySpanExt;
//! use tracing_subscriber::prelude::*;
//!
//! /// Outside the layer: the caller's span is the parent.
//! async fn continue_trace(request: Request, next: Next) -> Response {
//!     let caller = global::get_text_map_propagator(|known| known.extract(&HeaderExtractor(request.headers())));
//!     next.run(request).with_context(caller).await
//! }
//!
//! /// Inside the layer, in a gateway: the request's span is the parent of the upstream's span.
//! async fn forward(mut request: Request) -> Response {
//!     let context = tracing::Span::current().context();
//!     global::get_text_map_propagator(|known| known.inject_context(&context, &mut HeaderInjector(request.headers_mut())));
//!     // … send it upstream; here, what would be sent comes back …
//!     let sent = request.headers()["traceparent"].clone();
//!     Response::builder().header("sent-traceparent", sent).body(Body::empty()).unwrap()
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! global::set_text_map_propagator(TraceContextPropagator::new());
//! let provider = SdkTracerProvider::builder().build(); // with a batch exporter, in a server
//! let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("my-gateway"));
//! tracing_subscriber::registry().with(spans).init();
//!
//! let app = Router::new()
//!     .route("/v1/chat/completions", post(forward))
//!     .layer(LlmMetrics::new().layer().proxy())
//!     .layer(middleware::from_fn(continue_trace)); // added last, so outermost
//!
//! let request = Request::post("/v1/chat/completions")
//!     .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
//!     .body(Body::empty()).unwrap();
//! let response = app.oneshot(request).await.unwrap();
//! let sent = response.headers()["sent-traceparent"].to_str().unwrap();
//! assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "the caller's trace goes on");
//! assert!(!sent.contains("00f067aa0ba902b7"), "and its next parent is the gateway's span");
//! # }
//! ```
//! `tower_http`'s `TraceLayer` can be used as well, outside this layer, with `set_parent` in its `make_span_with`: the request then has two
//! spans, HTTP's and this one.
//!
//! # Pitfalls
//! - `tracing-opentelemetry` 0.34 does not rename a span that has started, and with its defaults one starts as soon as it is entered,
//!   before the model is known from the request body. With `.with_context_activation(false)` on its layer it starts when its context
//!   is requested, or at its end. Otherwise the span's name is only the operation; `gen_ai.request.model` is present in any case.
//! - With `.with_tracked_inactivity(false)` a chunk costs less, and the span lacks `busy_ns` and `idle_ns`, which are meaningless here.
//! - Log messages of the handler inside the span are events of the span. Filter by [`TARGET`] if they must not be exported.
//! - A task that keeps the span, or a child of it, keeps it open.
//!
//! [conventions]: https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md

/// The target of these spans, for filters.
///
/// ```
/// use tracing_subscriber::{filter::{LevelFilter, Targets}, prelude::*};
///
/// let only_these = Targets::new().with_target(llm_metrics::spans::TARGET, LevelFilter::INFO);
/// let spans = tracing_opentelemetry::layer::<tracing_subscriber::Registry>().with_filter(only_these);
/// # let _ = spans;
/// ```
pub const TARGET: &str = "llm_metrics::spans";

/// The target of the events that report the findings of the output checks (see `docs/quality.md` in the repository). There is one event per
/// [`QualityFinding`](crate::QualityFinding), inside the request's span, at `INFO`, with `request_id`, `model`, `metric` and `kind`.
pub const FINDINGS: &str = "llm_metrics::quality";

/// The target of warnings about likely mistakes in the setup: requests that should have been measured, compressed bodies, streams without usage,
/// requests without a model, errors that are not classified, requests that are dropped at the same age again and again. An
/// [`LlmMetrics`](crate::LlmMetrics) logs each of them once, with what to do about it. One is at `INFO`, because it may be no mistake: `/metrics` was
/// read ten times, and no `POST` has reached a layer.
pub const HINTS: &str = "llm_metrics::hints";
