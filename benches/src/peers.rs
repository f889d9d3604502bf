//! Alternatives to the layer.

use std::{convert::Infallible, time::Instant};

use axum_prometheus::BaseMetricLayer;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use metrics::{counter, gauge, histogram};
use tower::{Layer, Service};
use tower_http::trace::TraceLayer;

use crate::{sample::MODEL, script::Chunks, serve::Handler};

/// The same metrics with the macros of `metrics`, in a handler that already knows all values, so nothing is parsed. Labels are separate strings, as
/// in a handler that has the model's name from the request, and each macro looks its metric up.
#[derive(Debug)]
pub struct ByHand {
    model: String,
    started: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    tokens: u64,
}

/// Labels, each value of which is a separate string.
macro_rules! labelled {
    ($kind:ident $name:literal $($label:literal = $value:expr),+) => {
        $kind!($name, $($label => $value.to_owned()),+)
    };
}

impl ByHand {
    /// A request begins.
    #[must_use]
    pub fn start() -> Self {
        labelled!(counter "llm_requests_started_total" "operation" = "chat", "endpoint" = "chat_completions")
            .increment(1);
        in_flight("waiting").increment(1.0);
        Self { model: MODEL.to_owned(), started: Instant::now(), first: None, last: None, tokens: 0 }
    }

    /// The next token is sent.
    pub fn token(&mut self) {
        let now = Instant::now();
        let model = &self.model;
        self.tokens += 1;
        if let Some(last) = self.last.replace(now) {
            labelled!(histogram "llm_inter_token_latency_seconds" "model" = model, "operation" = "chat")
                .record((now - last).as_secs_f64());
            return;
        }
        self.first = Some(now);
        in_flight("waiting").decrement(1.0);
        in_flight("streaming").increment(1.0);
        let time = (now - self.started).as_secs_f64();
        labelled!(histogram "llm_time_to_first_token_seconds" "model" = model, "operation" = "chat").record(time);
        labelled!(histogram "llm_time_to_first_answer_token_seconds" "model" = model, "operation" = "chat")
            .record(time);
    }

    /// The answer is complete, with this many tokens.
    pub fn end(self, tokens: u64) {
        let (now, model) = (Instant::now(), &self.model);
        let stream = if self.first.is_some() { "true" } else { "false" };
        labelled!(counter "llm_finish_reasons_total" "model" = model, "operation" = "chat", "finish_reason" = "stop")
            .increment(1);
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let each = (last - first).as_secs_f64() / self.tokens as f64;
            labelled!(histogram "llm_time_per_output_token_seconds"
                "model" = model, "operation" = "chat", "thinking" = "false")
            .record(each);
            labelled!(histogram "llm_stream_max_gap_seconds" "model" = model, "operation" = "chat").record(each);
        }
        labelled!(counter "llm_usage_reports_total" "model" = model, "stream" = stream, "source" = "upstream")
            .increment(1);
        labelled!(counter "llm_input_tokens_total" "model" = model, "operation" = "chat").increment(9);
        labelled!(histogram "llm_request_input_tokens" "model" = model, "operation" = "chat").record(9.0);
        labelled!(counter "llm_output_tokens_total" "model" = model, "operation" = "chat").increment(tokens);
        labelled!(histogram "llm_request_output_tokens" "model" = model, "operation" = "chat").record(tokens as f64);
        labelled!(histogram "llm_request_max_tokens" "model" = model, "operation" = "chat").record(256.0);
        labelled!(histogram "llm_request_duration_seconds"
            "model" = model, "operation" = "chat", "thinking" = "false", "outcome" = "success")
        .record((now - self.started).as_secs_f64());
        labelled!(counter "llm_requests_total"
            "model" = model, "operation" = "chat", "endpoint" = "chat_completions", "stream" = stream,
            "thinking" = "false", "outcome" = "success")
        .increment(1);
        in_flight(if self.first.is_some() { "streaming" } else { "waiting" }).decrement(1.0);
    }
}

fn in_flight(phase: &str) -> metrics::Gauge {
    labelled!(gauge "llm_requests_in_flight" "operation" = "chat", "phase" = phase)
}

/// The handler behind axum-prometheus, which records with the global recorder.
pub fn axum_prometheus(
    handler: Handler,
) -> impl Service<Request<Chunks>, Response = Response<impl Body<Data = Bytes> + Unpin>, Error = Infallible> {
    BaseMetricLayer::new().layer(handler)
}

/// The handler behind tower-http's trace layer, with default settings.
pub fn trace(
    handler: Handler,
) -> impl Service<Request<Chunks>, Response = Response<impl Body<Data = Bytes> + Unpin>, Error = Infallible> {
    TraceLayer::new_for_http().layer(handler)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tracing::{Dispatch, dispatcher};

    use super::*;
    use crate::{sample, script::Script, serve};

    static WRITTEN: AtomicUsize = AtomicUsize::new(0);

    struct Counting;

    impl io::Write for Counting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            WRITTEN.fetch_add(bytes.len(), Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_trace_layer_writes_if_there_is_a_subscriber() {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(|| Counting);
        let question = Script::whole(&sample::question(false), usize::MAX);
        let mut service = trace(Handler::unary(&Script::whole(&sample::document(), usize::MAX)));
        dispatcher::with_default(&Dispatch::new(subscriber.finish()), || {
            serve::request(&mut service, serve::chat(&question));
        });
        assert!(WRITTEN.load(Ordering::Relaxed) > 0);
    }
}
