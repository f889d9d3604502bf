//! One span a request, with the names of OpenTelemetry's conventions for generative AI.
//!
//! The span opens when the request reaches the layer, or [`LlmMetrics::start`](crate::LlmMetrics::start), and closes when the answer's
//! body has ended or nobody waits for it any more: its length is `llm_request_duration_seconds`, not the time to the head. A
//! request that is no LLM call has none. No prompt and no completion is ever in it.
//!
//! It is a span of [`tracing`], for whatever subscriber there is; with `tracing-opentelemetry` it becomes one of OpenTelemetry.
//! With none, a request has one atomic load to pay for this feature, a chunk a comparison, and its state 8 bytes. With one that
//! takes the span, its state is 48 bytes larger, beside what the subscriber keeps.
//!
//! # What it says
//! | field | |
//! | --- | --- |
//! | `otel.name` | `{operation} {model}`, the model as the label of the same name has it, so that callers cannot make names up; the operation alone until the model is known |
//! | `otel.kind` | `server`; `client` where the layer was told that it stands at a [proxy or client](crate::LlmMetricsLayer::proxy); `internal` for requests by hand |
//! | `otel.status_code` | `error`, or absent: for what failed, and at a client also for what was rejected |
//! | `gen_ai.operation.name` | `chat`, `text_completion`, … |
//! | `gen_ai.provider.name` | for the embedder to record: only they know it |
//! | `gen_ai.request.model` | as the request has it, if it could be a label's value (128 bytes, no control characters, no backslash), else `other` |
//! | `gen_ai.request.stream`, `gen_ai.request.max_tokens` | |
//! | `gen_ai.response.model` | as the answer has it, under the same rule |
//! | `gen_ai.response.finish_reasons` | each reason once, as JSON: `["stop"]`. `tracing` has no lists |
//! | `gen_ai.response.time_to_first_chunk` | seconds to the first event of a stream that bears a token, as in `llm_time_to_first_token_seconds`: a role or a keep-alive is none |
//! | `gen_ai.usage.input_tokens`, `gen_ai.usage.cache_read.input_tokens` | the second is a part of the first |
//! | `gen_ai.usage.output_tokens`, `gen_ai.usage.reasoning.output_tokens` | likewise; absent where they would be an estimate |
//! | `error.type` | an [`ErrorType`](crate::ErrorType) |
//! | `llm.outcome` | an [`Outcome`](crate::Outcome); the conventions have no word for a client that left |
//!
//! What is not known is absent. The names are those of [the conventions for generative AI][conventions], whose state is
//! *Development*: they move, and these move with them.
//!
//! # Whose child it is
//! It is a child of the span, or of the OpenTelemetry context, that is current when the layer is called, and the inner service, its
//! future and its body run inside it. So the usual middleware continues a caller's W3C `traceparent`, from *outside* this layer, and
//! passes it on from *inside*:
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
//! /// Outside the layer: whoever called is the parent.
//! async fn continue_trace(request: Request, next: Next) -> Response {
//!     let caller = global::get_text_map_propagator(|known| known.extract(&HeaderExtractor(request.headers())));
//!     next.run(request).with_context(caller).await
//! }
//!
//! /// Inside the layer, in a gateway: the request's span is the parent of what the server behind does.
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
//! `tower_http`'s `TraceLayer` does as well, outside this layer, with `set_parent` in its `make_span_with`: the request then has two
//! spans, HTTP's and this one.
//!
//! # Pitfalls
//! - `tracing-opentelemetry` 0.34 does not rename a span that has started, and with its defaults one starts as soon as it is entered,
//!   before the request's body has told the model. With `.with_context_activation(false)` on its layer it starts when somebody asks
//!   for its context, or at its end. Else its name is the operation alone; `gen_ai.request.model` is there in any case.
//! - With `.with_tracked_inactivity(false)` a chunk costs less, and the span lacks `busy_ns` and `idle_ns`, which say nothing here.
//! - A subscriber gets what the handler logs inside the span as events of it. Filter by [`TARGET`] where that must not leave.
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
