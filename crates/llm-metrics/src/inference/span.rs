//! One span per request, for any subscriber of `tracing`.

use std::time::Duration;

use http::Uri;
use tracing::{Span, field::Empty, span::Entered};

use super::{EndedSpan, Role, verdict::Verdict};
use crate::{
    catalog::labels,
    record::{LabelPolicy, QualityFinding},
    vocabulary::{FinishReason, Operation, Outcome},
};

/// A request's span, from its arrival to its end. As small as a pointer, because the state of a request has a size limit.
#[derive(Default)]
pub(crate) struct RequestSpan(Option<Box<Span>>);

impl RequestSpan {
    /// Opens the span, as a child of the current one.
    pub(crate) fn open(operation: Operation, role: Role) -> Self {
        // Fields that are not declared here can never be recorded.
        let span = tracing::info_span!(
            target: crate::spans::TARGET,
            "llm_request",
            otel.name = operation.as_str(),
            otel.kind = kind_of(role),
            otel.status_code = Empty,
            gen_ai.operation.name = operation.as_str(),
            gen_ai.provider.name = Empty,
            gen_ai.request.model = Empty,
            gen_ai.request.stream = Empty,
            gen_ai.request.max_tokens = Empty,
            gen_ai.response.model = Empty,
            gen_ai.response.finish_reasons = Empty,
            gen_ai.response.time_to_first_chunk = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.cache_read.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            gen_ai.usage.reasoning.output_tokens = Empty,
            server.address = Empty,
            server.port = Empty,
            error.type = Empty,
            llm.outcome = Empty,
        );
        Self((!span.is_disabled()).then(|| Box::new(span)))
    }

    /// Sets the address of the server that a client calls.
    pub(crate) fn server(&self, address: &Uri) {
        let (Some(span), Some(host)) = (&self.0, address.host()) else { return };
        let port = address.port_u16().or_else(|| match address.scheme_str()? {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        });
        span.record("server.address", fit(host.trim_matches(['[', ']']))).record("server.port", port.map(i64::from));
    }

    /// Makes it the current span until the guard drops.
    #[inline]
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        self.0.as_deref().map(Span::enter)
    }

    /// Another handle for it.
    pub(crate) fn get(&self) -> Span {
        self.0.as_deref().cloned().unwrap_or_else(Span::none)
    }

    /// Sets the name that OpenTelemetry requires, when the model is known. [`tracing-opentelemetry`] only accepts it before the span's context was
    /// requested.
    ///
    /// [`tracing-opentelemetry`]: https://docs.rs/tracing-opentelemetry
    pub(super) fn name(&self, operation: Operation, model: &str) {
        if let Some(span) = &self.0 {
            span.record("otel.name", format!("{} {model}", operation.as_str()));
        }
    }

    pub(super) fn answering_model(&self, name: &str) {
        if let Some(span) = &self.0 {
            span.record("gen_ai.response.model", fit(name));
        }
    }

    /// An event in the span, even if the span itself is disabled.
    pub(super) fn finding(&self, found: &QualityFinding<'_>) {
        let _inside = self.enter();
        tracing::info!(
            target: crate::spans::FINDINGS,
            request_id = found.request_id,
            model = found.model,
            metric = found.metric,
            kind = found.kind,
            "output quality"
        );
    }

    pub(super) fn first_chunk(&self, after: Duration) {
        if let Some(span) = &self.0 {
            span.record("gen_ai.response.time_to_first_chunk", after.as_secs_f64());
        }
    }

    pub(super) fn end(self, operation: Operation, ended: &EndedSpan<'_>, reasons: impl Iterator<Item = FinishReason>) {
        let Some(span) = &self.0 else { return };
        // Subscribers use the time when a span was last exited as its end, and a request may end long after its last frame.
        let _inside = span.enter();
        if ended.label != labels::UNKNOWN {
            self.name(operation, ended.label);
        }
        let count = |tokens: Option<u64>| tokens.and_then(|tokens| i64::try_from(tokens).ok());
        let Verdict { outcome, error, .. } = ended.verdict;
        span.record("gen_ai.request.model", ended.requested.map(fit))
            .record("gen_ai.request.stream", ended.stream)
            .record("gen_ai.request.max_tokens", count(ended.max_tokens))
            .record("gen_ai.response.finish_reasons", list(reasons))
            .record("gen_ai.usage.input_tokens", count(ended.usage.input))
            .record("gen_ai.usage.cache_read.input_tokens", count(ended.usage.cached_input))
            .record("gen_ai.usage.output_tokens", count(ended.usage.output))
            .record("gen_ai.usage.reasoning.output_tokens", count(ended.usage.reasoning))
            .record("error.type", error.map(|error| error.as_str()))
            .record("llm.outcome", outcome.as_str());
        // A rejected request is not an error of the server, but it is an error of the client that sent it.
        if outcome == Outcome::Error || (ended.role.is_client() && outcome == Outcome::Rejected) {
            span.record("otel.status_code", "error");
        }
    }
}

/// The span kind, as OpenTelemetry defines it.
const fn kind_of(role: Role) -> &'static str {
    match role {
        Role::Server => "server",
        Role::Client => "client",
        Role::Local => "internal",
    }
}

/// A name that a caller chose, under the rules for label values.
fn fit(name: &str) -> &str {
    if LabelPolicy::is_label_value(name) { name } else { labels::OTHER }
}

/// A list as JSON, because `tracing` has no list fields.
fn list(reasons: impl Iterator<Item = FinishReason>) -> Option<String> {
    let list = reasons.map(|reason| format!("\"{}\"", reason.as_str())).collect::<Vec<_>>().join(",");
    (!list.is_empty()).then(|| format!("[{list}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_pointer_and_with_a_subscriber_40_bytes_more_at_most() {
        assert_eq!(size_of::<RequestSpan>(), size_of::<usize>());
        assert!(size_of::<Span>() <= 40, "{} bytes", size_of::<Span>());
    }
}
