//! Spans of requests, sent to an OpenTelemetry collector.
//!
//! A separate thread exports them in batches. If the collector is slow or gone, the queue fills up and further spans are dropped: no request waits
//! for it.

use std::env::var;

use axum::{extract::Request, middleware::Next, response::Response};
use opentelemetry::{
    propagation::TextMapPropagator,
    trace::{FutureExt, TracerProvider},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::SdkTracerProvider,
};
use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    registry::LookupSpan,
};

/// The exporter of spans. Dropping it sends the rest, for at most five seconds.
pub(crate) struct Spans(SdkTracerProvider);

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpansError {
    #[error("--otlp-endpoint {0}: this is not an http or https URL like http://localhost:4318")]
    Endpoint(String),
    #[error("the spans' exporter could not be set up")]
    Exporter(#[from] ExporterBuildError),
}

impl Spans {
    /// Starts the exporter if there is an endpoint: the given one, or that of OpenTelemetry's environment variables, which also contain the other
    /// settings.
    pub(crate) fn start(endpoint: Option<&str>) -> Result<Option<Self>, SpansError> {
        let exporter = SpanExporter::builder().with_http();
        let exporter = match endpoint {
            Some(endpoint) => exporter.with_endpoint(traces_url(endpoint)?),
            None if is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") || is_set("OTEL_EXPORTER_OTLP_ENDPOINT") => exporter,
            None => return Ok(None),
        };
        let provider = SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(exporter.build()?);
        Ok(Some(Self(provider.build())))
    }

    /// Converts the spans of llm-metrics to OpenTelemetry's. Only these, because logs of mistral.rs may contain text.
    pub(crate) fn layer<S>(&self) -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("llm-metrics"))
            // A span starts when it is activated, and after that its name cannot change.
            .with_context_activation(false)
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(llm_metrics::spans::TARGET, LevelFilter::INFO))
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!("the last spans could not be sent: {error}");
        }
    }
}

/// Makes the span in the request's W3C `traceparent` the parent of the request's span.
pub(crate) async fn continue_trace(request: Request, next: Next) -> Response {
    let caller = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
    next.run(request).with_context(caller).await
}

fn traces_url(endpoint: &str) -> Result<String, SpansError> {
    let base = endpoint.trim_end_matches('/');
    let url: Option<axum::http::Uri> = base.parse().ok();
    match url.filter(|url| matches!(url.scheme_str(), Some("http" | "https"))) {
        Some(_) => Ok(format!("{base}/v1/traces")),
        None => Err(SpansError::Endpoint(endpoint.to_owned())),
    }
}

/// The service name: this server, unless the environment sets another.
fn resource() -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name("qwen-server")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => resource.with_service_name(name).build(),
        _ => resource.build(),
    }
}

fn is_set(variable: &str) -> bool {
    var(variable).is_ok_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm_metrics::{FinishReason, LlmMetrics, Operation};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::SpanData;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::prelude::*;

    #[test]
    fn the_endpoint_is_the_collectors_address_without_the_path() {
        for given in ["http://localhost:4318", "http://localhost:4318/"] {
            assert_eq!(traces_url(given).unwrap(), "http://localhost:4318/v1/traces");
        }
        assert_eq!(traces_url("https://otlp.example.org/team").unwrap(), "https://otlp.example.org/team/v1/traces");
        for wrong in ["", "localhost:4318", "grpc://localhost:4317", "4318", "http://"] {
            assert!(matches!(traces_url(wrong), Err(SpansError::Endpoint(_))), "{wrong}");
        }
    }

    /// An exporter that keeps what it gets.
    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl opentelemetry_sdk::trace::SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    #[test]
    fn nothing_but_the_spans_of_llm_metrics_is_exported() {
        let kept = Kept::default();
        let spans = Spans(SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(spans.layer()), || {
            let metrics = LlmMetrics::builder().models(["m"]).build().unwrap();
            let inference = metrics.start(Operation::Chat, "m");
            inference.span().in_scope(|| {
                tracing::info!("what the user said");
                tracing::info_span!("what the model answered").in_scope(|| ());
            });
            inference.finish(FinishReason::Stop);
        });
        let kept = kept.0.lock().unwrap();
        let names: Vec<_> = kept.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["chat m"]);
        assert_eq!(kept[0].events.len(), 0);
    }
}
