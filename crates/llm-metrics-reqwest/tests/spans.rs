//! The span of a call, as OpenTelemetry receives it.

use axum::{Router, http::header, routing::post};
use llm_metrics::testing;
use llm_metrics_reqwest::ReqwestLayer;
use opentelemetry::{
    Value,
    trace::{SpanKind, Status, TracerProvider},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tokio::net::TcpListener;
use tower::Layer;
use tracing::Instrument;
use tracing_subscriber::{Registry, prelude::*};

const CHAT: &str = "/v1/chat/completions";
const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"content":"Yes."},"finish_reason":"stop"}]}"#;

#[tokio::test]
async fn the_span_of_a_call_is_a_client_span_and_a_child_of_the_programs_span() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test")).with_context_activation(false);
    let guard = tracing::subscriber::set_default(Registry::default().with(layer));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{CHAT}", listener.local_addr().unwrap());
    let answer = async |_: String| ([(header::CONTENT_TYPE, "application/json")], ANSWER);
    let app = Router::new().route(CHAT, post(answer));
    tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    let (metrics, _page) = testing::metrics();
    let http = reqwest::Client::new();
    let client = ReqwestLayer::new(metrics.layer()).layer(http.clone());
    let ask = async {
        for url in [url.as_str(), "http://127.0.0.1:1/v1/chat/completions"] {
            let question = http.post(url).body(r#"{"model": "Qwen3-4B"}"#).build().unwrap();
            if let Ok(answer) = client.execute(question).await {
                answer.bytes().await.unwrap();
            }
        }
    };
    ask.instrument(tracing::info_span!("the program")).await;

    drop(guard);
    let [answered, failed, program] = <[SpanData; 3]>::try_from(exporter.get_finished_spans().unwrap()).unwrap();
    for span in [&answered, &failed] {
        assert_eq!((&span.span_kind, &*span.name), (&SpanKind::Client, "chat Qwen3-4B"));
        assert_eq!(span.parent_span_id, program.span_context.span_id());
    }
    let attribute = |name| failed.attributes.iter().find(|pair| pair.key.as_str() == name).map(|pair| &pair.value);
    assert_eq!(attribute("server.address"), Some(&Value::from("127.0.0.1")));
    assert_eq!(attribute("server.port"), Some(&Value::I64(1)));
    assert_eq!(answered.status, Status::Unset);
    assert!(matches!(failed.status, Status::Error { .. }), "{:?}", failed.status);
}
