//! The spans that `tracing-opentelemetry` creates for requests.

use std::time::Duration;

use http_body_util::BodyExt;
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{FutureExt, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, TracerProvider},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing_subscriber::{Registry, prelude::*};

use crate::{LIMITED, common::*, head, tokens};

async fn exported(work: impl Future<Output = ()>) -> SpanData {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("test"))
        .with_context_activation(false)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    let guard = tracing::subscriber::set_default(Registry::default().with(layer));
    work.await;
    drop(guard);
    let [span] = <[SpanData; 1]>::try_from(exporter.get_finished_spans().unwrap()).unwrap();
    span
}

#[tokio::test]
async fn its_fields_become_attributes_with_the_types_of_the_conventions() {
    let span = exported(async {
        exchange(&Recording::new(), post(CHAT, LIMITED), stream(tokens())).await.unwrap();
    })
    .await;
    assert_eq!((span.name.as_ref(), &span.span_kind), ("chat Qwen3-4B", &SpanKind::Server));
    assert_eq!(span.status, Status::Unset);
    let (mut ints, mut others) = (0, 0);
    for KeyValue { key, value, .. } in &span.attributes {
        match (key.as_str(), value) {
            (name, Value::I64(_)) => {
                assert!(name.ends_with("_tokens"), "{name}");
                ints += 1;
            }
            ("gen_ai.request.stream", Value::Bool(true)) => others += 1,
            ("gen_ai.response.time_to_first_chunk", Value::F64(seconds)) if *seconds > 0.0 => others += 1,
            (name, Value::String(_)) => assert!(!name.ends_with("_tokens"), "{name}"),
            (name, value) => panic!("{name} is {value:?}"),
        }
    }
    assert_eq!((ints, others), (3, 2), "{:?}", span.attributes);
}

#[tokio::test]
async fn it_continues_a_remote_callers_trace() {
    let (trace, parent) = (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128, 0x00f0_67aa_0ba9_02b7_u64);
    let remote = SpanContext::new(trace.into(), parent.into(), TraceFlags::SAMPLED, true, Default::default());
    let span = exported(async {
        let asked = async { exchange(&Recording::new(), post(CHAT, ASK), stream(tokens())).await };
        asked.with_context(Context::new().with_remote_span_context(remote)).await.unwrap();
    })
    .await;
    assert_eq!(span.span_context.trace_id(), trace.into());
    assert_eq!(span.parent_span_id, parent.into());
}

#[tokio::test]
async fn it_ends_with_the_request_and_not_with_the_last_frame() {
    const SILENCE: Duration = Duration::from_millis(50);
    let span = exported(async {
        let recording = Recording::new();
        let mut body = head(&recording, tokens()).await;
        body.frame().await.unwrap().unwrap();
        std::thread::sleep(SILENCE);
    })
    .await;
    assert!(span.end_time.duration_since(span.start_time).unwrap() >= SILENCE, "{span:?}");
}
