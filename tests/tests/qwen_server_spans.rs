//! The Qwen server and an OpenTelemetry collector: one span per request, in the caller's trace, with the values that the client received.

use llm_metrics_tests::{
    Collector, ExportedSpan, collector,
    qwen_server::{Launch, QwenServer, Seen, TINY, Usage},
    stream::{CHAT, COMPLETIONS},
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const SERVER: i32 = 2;
const UNSET: i32 = 0;
const ERROR: i32 = 2;

/// A server that exports every 50 ms.
fn launch(endpoint: &str, options: &[&str]) -> Launch {
    Launch::new(&[&["--otlp-endpoint", endpoint], options].concat()).env("OTEL_BSP_SCHEDULE_DELAY", "50")
}

async fn observed(options: &[&str]) -> (QwenServer, Collector) {
    let collector = collector().await;
    (launch(&collector.endpoint(), options).start().await, collector)
}

fn chat(stream: bool) -> Value {
    json!({
        "model": TINY, "stream": stream, "stream_options": {"include_usage": true}, "temperature": 0, "max_tokens": 40,
        "messages": [{"role": "user", "content": "The prompt, which is nobody's business"}],
    })
}

async fn traced(server: &QwenServer, request: &Value) -> Seen {
    server.open_traced(CHAT, request, &format!("00-{TRACE}-{CALLER}-01")).await.rest().await
}

/// Asserts the attributes that are the same for all answers of the tiny model, and those that depend on what the client received.
#[track_caller]
fn assert_tells(span: &ExportedSpan, seen: &Seen) {
    let Usage { input, output, reasoning, .. } = seen.reported_usage();
    let mut expected = json!({
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_rs",
        "gen_ai.request.model": TINY,
        "gen_ai.request.stream": seen.streamed,
        "gen_ai.request.max_tokens": 40,
        "gen_ai.response.model": TINY,
        "gen_ai.response.finish_reasons": format!("[\"{}\"]", seen.finish_reasons[0]),
        "gen_ai.usage.input_tokens": input,
        "gen_ai.usage.output_tokens": output,
        "gen_ai.usage.reasoning.output_tokens": reasoning,
        "llm.outcome": "success",
    });
    if seen.streamed {
        let first = span.attribute("gen_ai.response.time_to_first_chunk").clone();
        let (seconds, client) = (first.as_f64().expect("a time"), seen.first_token.expect("a token").as_secs_f64());
        assert!(0.0 < seconds && seconds <= client, "{seconds} of the client's {client}");
        assert!(seconds <= span.duration.as_secs_f64());
        expected["gen_ai.response.time_to_first_chunk"] = first;
    }
    assert_eq!(json!(span.attributes), expected);
    assert_eq!((span.name.as_str(), span.kind, span.status, span.events), ("chat Qwen3-tiny", SERVER, UNSET, 0));
}

#[tokio::test]
async fn a_stream_is_a_span_in_the_callers_trace_with_what_the_client_saw() {
    let (server, collector) = observed(&[]).await;
    let seen = traced(&server, &chat(true)).await;
    assert!(seen.done);
    let span = collector.span().await;
    assert_eq!((span.trace_id.as_str(), span.parent_id.as_str()), (TRACE, CALLER));
    assert_tells(&span, &seen);
    assert_eq!(span.resource["service.name"], "qwen-server");
    assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_document_is_a_span_in_the_callers_trace_with_what_the_client_saw() {
    let (server, collector) = observed(&[]).await;
    let seen = traced(&server, &chat(false)).await;
    let span = collector.span().await;
    assert_eq!((span.trace_id.as_str(), span.parent_id.as_str()), (TRACE, CALLER));
    assert_tells(&span, &seen);
}

#[tokio::test]
async fn a_request_without_a_traceparent_begins_a_trace() {
    let (server, collector) = observed(&[]).await;
    for traceparent in ["nonsense", "00-00000000000000000000000000000000-0000000000000000-01"] {
        server.open_traced(CHAT, &chat(false), traceparent).await.rest().await;
    }
    server.ask(COMPLETIONS, &json!({"prompt": "Measure at", "max_tokens": 2})).await;
    let spans = collector.until_spans(3).await;
    let mut traces: Vec<_> = spans.iter().map(|span| span.trace_id.as_str()).collect();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 3);
    assert!(
        spans.iter().all(|span| span.parent_id.is_empty() && !span.trace_id.trim_matches('0').is_empty()),
        "{spans:?}"
    );
    // A request may omit the model, because there is only one. The server sets it.
    let completion = spans.iter().find(|span| span.attribute("gen_ai.operation.name") == "text_completion");
    assert_eq!(completion.expect("the last one").name, "text_completion Qwen3-tiny");
}

#[tokio::test]
async fn a_caller_that_does_not_sample_gets_no_span() {
    const UNSAMPLED: &str = "0af7651916cd43dd8448eb211c80319c";
    let (server, collector) = observed(&[]).await;
    server.open_traced(CHAT, &chat(false), &format!("00-{UNSAMPLED}-{CALLER}-00")).await.rest().await;
    traced(&server, &chat(false)).await;
    // Spans are exported in the order in which they end.
    assert_eq!(collector.span().await.trace_id, TRACE);
}

#[tokio::test]
async fn an_error_of_the_caller_and_one_of_the_server_have_their_types() {
    let (server, collector) = observed(&["--request-timeout", "300ms"]).await;
    let mut request = chat(false);
    request["model"] = json!("gpt-none");
    assert_eq!(traced(&server, &request).await.status, 404);
    let rejected = collector.span().await;
    assert_eq!((rejected.name.as_str(), rejected.status), ("chat other", UNSET));
    assert_eq!(rejected.attribute("gen_ai.request.model"), "gpt-none");
    assert_eq!(
        (rejected.attribute("error.type"), rejected.attribute("llm.outcome")),
        (&json!("not_found"), &json!("rejected"))
    );

    let mut request = json!({"model": TINY, "stream": true, "ignore_eos": true, "prompt": "Measure at"});
    request["n"] = json!(8);
    let seen = server.ask(COMPLETIONS, &request).await;
    assert!(seen.error.is_some(), "it takes longer than it may: {seen:?}");
    let spans = collector.until_spans(2).await;
    let failed = spans.iter().find(|span| span.status == ERROR).expect("a failure");
    assert_eq!((failed.attribute("error.type"), failed.attribute("llm.outcome")), (&json!("timeout"), &json!("error")));
}

#[tokio::test]
async fn a_client_that_hangs_up_is_a_cancelled_span() {
    let (server, collector) = observed(&[]).await;
    let mut request = chat(true);
    (request["ignore_eos"], request["max_tokens"]) = (json!(true), json!(1900));
    let mut leaving = server.open(CHAT, &request).await;
    leaving.until_tokens(3).await;
    let left = leaving.hang_up();
    let span = collector.span().await;
    assert_eq!(span.attribute("llm.outcome"), "cancelled");
    assert_eq!((span.attribute("error.type"), span.status), (&Value::Null, UNSET));
    assert!(span.attribute("gen_ai.usage.output_tokens").as_u64().expect("a count") >= left.token_events);
    assert_eq!(span.attribute("gen_ai.response.finish_reasons"), &Value::Null);
}

#[tokio::test]
async fn no_content_leaves_the_server() {
    // With all logs enabled.
    let collector = collector().await;
    let server = launch(&collector.endpoint(), &[]).env("RUST_LOG", "trace").start().await;
    let seen = [traced(&server, &chat(true)).await, traced(&server, &chat(false)).await];
    let spans = collector.until_spans(2).await;
    assert!(spans.iter().all(|span| span.events == 0), "{spans:?}");
    for export in collector.exports() {
        let export = String::from_utf8_lossy(&export);
        assert!(export.contains(TINY), "it is read rightly");
        for text in [seen[0].answer(), seen[1].answer(), &seen[0].reasoning, "business"] {
            assert!(text.len() > 5 && !export.contains(text), "{text:?} is in {export}");
        }
    }
}

#[tokio::test]
async fn requests_that_are_not_llm_calls_have_no_span() {
    let (server, collector) = observed(&[]).await;
    for path in ["/health", "/ready", "/v1/models", "/metrics", "/nowhere"] {
        server.send("GET", path).await;
    }
    traced(&server, &chat(false)).await;
    collector.span().await;
}

#[tokio::test]
async fn remaining_spans_are_sent_at_the_end() {
    let collector = collector().await;
    let server = launch(&collector.endpoint(), &[]).env("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let mut server = server.start().await;
    traced(&server, &chat(false)).await;
    assert!(collector.spans().is_empty(), "not before");
    server.signal("TERM");
    assert!(server.exited().await.success(), "{}", server.log());
    assert_eq!(collector.spans().len(), 1);
}

#[tokio::test]
async fn a_missing_collector_is_logged_and_affects_no_request() {
    let nowhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = nowhere.local_addr().expect("an address");
    drop(nowhere);
    let mut server = launch(&format!("http://{address}"), &[]).start().await;
    for stream in [true, false, true] {
        let seen = traced(&server, &chat(stream)).await;
        assert!(seen.whole && seen.error.is_none(), "{seen:?}");
    }
    let page = server.settled().await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), 3.0);
    server.signal("TERM");
    assert!(server.exited().await.success(), "{}", server.log());
    assert!(server.log().contains("BatchSpanProcessor.ExportError"), "{}", server.log());
}

#[tokio::test]
async fn a_collector_that_never_answers_delays_no_request() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let server = launch(&endpoint, &[])
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "2")
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")
        .start()
        .await;
    traced(&server, &chat(false)).await;
    let (mut export, _) = silent.accept().await.expect("an export");
    assert!(export.read(&mut [0; 64]).await.expect("its beginning") > 0);
    // From here on the exporter waits for an answer that does not arrive, and two more spans fill its queue.
    for _ in 0..6 {
        let seen = traced(&server, &chat(true)).await;
        assert!(seen.done && seen.error.is_none(), "{seen:?}");
    }
    assert!(server.log().contains("SpanDroppingStarted"), "the queue was full: {}", server.log());
    drop(export);
}

#[tokio::test]
async fn the_environment_sets_the_endpoint_and_the_service_name() {
    let collector = collector().await;
    let server = Launch::new(&[])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("OTEL_SERVICE_NAME", "assistant")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .start()
        .await;
    traced(&server, &chat(false)).await;
    let span = collector.span().await;
    assert_eq!(span.resource["service.name"], "assistant");
    assert_eq!(span.resource["deployment.environment.name"], "test");
}

#[tokio::test]
async fn an_invalid_endpoint_is_rejected_at_the_start() {
    let (status, log) = Launch::new(&["--otlp-endpoint", "localhost:4318"]).fails().await;
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("--otlp-endpoint localhost:4318") && log.contains("http://localhost:4318"), "{log}");
}
