//! The metrics of a request in each protocol.

mod common;

use std::convert::Infallible;

use common::*;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use llm_metrics::{Endpoint, layer::LlmMetricsLayer};
use metrics_util::debugging::DebugValue;

const MESSAGES: &str = "/v1/messages";

fn leak(text: impl Into<String>) -> &'static str {
    Box::leak(text.into().into_boxed_str())
}

fn event(name: &str, rest: &str) -> Step {
    Step::Data(leak(format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n")))
}

/// Sends a request through a layer that the test has configured.
async fn through(layer: LlmMetricsLayer, request: Request<Full<bytes::Bytes>>, answer: Answer) {
    let answer = std::sync::Mutex::new(Some(answer));
    let service = tower::ServiceBuilder::new().layer(layer).service_fn(|request| {
        let answer = answer.lock().unwrap().take().expect("one request");
        async move {
            read(request).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let response = tower::ServiceExt::oneshot(service, request).await.unwrap();
    let _ = response.into_body().collect().await;
}

fn delta(text: &str) -> Step {
    event("content_block_delta", &format!(r#","index":0,"delta":{{"type":"text_delta","text":"{text}"}}"#))
}

fn start() -> Step {
    event(
        "message_start",
        r#","message":{"model":"m","usage":{"input_tokens":25,"cache_read_input_tokens":1000,"cache_creation_input_tokens":7,"output_tokens":1}}"#,
    )
}

#[tokio::test]
async fn anthropics_message_adds_up_cached_tokens_and_ends_with_its_last_event() {
    let recording = Recording::new();
    let stop = r#","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":57}"#;
    let steps = [start(), delta("Hel"), delta("lo"), event("message_delta", stop), event("message_stop", "")];
    exchange(&recording, post(MESSAGES, r#"{"model":"m","stream":true,"max_tokens":99}"#), stream(steps))
        .await
        .unwrap();
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    let labels = [("model", "m"), ("operation", "chat")];
    assert_eq!(recorded.counter("llm_requests_total", &[("endpoint", MESSAGES), ("stream", "true")]), 1);
    assert_eq!(recorded.counter("llm_input_tokens_total", &labels), 1032);
    assert_eq!(recorded.counter("llm_input_cached_tokens_total", &labels), 1000);
    assert_eq!(recorded.counter("llm_input_cache_write_tokens_total", &labels), 7);
    assert_eq!(recorded.counter("llm_output_tokens_total", &labels), 57);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[("finish_reason", "length")]), 1);
    assert_eq!(recorded.samples("llm_request_max_tokens", &labels), [99.0]);
}

#[tokio::test]
async fn a_truncated_message_has_the_tokens_that_were_seen_and_not_the_placeholders() {
    let recording = Recording::new();
    let steps: Vec<_> = [start()].into_iter().chain((0..300).map(|_| delta("a"))).collect();
    exchange(&recording, post(MESSAGES, r#"{"model":"m","stream":true}"#), stream(steps)).await.unwrap();
    let recorded = recording.take();
    recorded.assert_ended("error", Some(("stream_truncated", "200")));
    assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", "estimated")]), 1);
    assert_eq!(recorded.counter("llm_discarded_tokens_total", &[("reason", "stream_truncated")]), 300);
}

#[tokio::test]
async fn an_estimate_of_the_input_is_replaced_by_the_final_count() {
    for (estimate, last, input) in
        [(5000, r#""input_tokens":25,"#, 25), (5, r#""input_tokens":25,"#, 25), (5000, "", 5000)]
    {
        let recording = Recording::new();
        let start = format!(r#","message":{{"model":"m","usage":{{"input_tokens":{estimate},"output_tokens":1}}}}"#);
        let stop = format!(r#","delta":{{"stop_reason":"end_turn"}},"usage":{{{last}"output_tokens":2}}"#);
        // There is no `message_stop`: some proxies omit it.
        let steps = [event("message_start", &start), delta("Hel"), delta("lo"), event("message_delta", &stop)];
        exchange(&recording, post(MESSAGES, r#"{"model":"m","stream":true}"#), stream(steps)).await.unwrap();
        let recorded = recording.take();
        recorded.assert_ended("success", None);
        assert_eq!(recorded.counter("llm_input_tokens_total", &[]), input, "{estimate} {last}");
    }
}

#[tokio::test]
async fn an_overload_error_in_a_stream_of_anthropic_is_an_overload() {
    let recording = Recording::new();
    let steps = [start(), delta("a"), event("error", r#","error":{"type":"overloaded_error","message":"x"}"#)];
    exchange(&recording, post(MESSAGES, r#"{"model":"m","stream":true}"#), stream(steps)).await.unwrap();
    recording.take().assert_ended("error", Some(("overloaded", "200")));
}

#[tokio::test]
async fn a_response_ends_by_its_status() {
    for (status, reason) in [
        (r#""status":"completed""#, "stop"),
        (r#""status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}"#, "length"),
    ] {
        let recording = Recording::new();
        let steps = [
            event("response.created", r#","response":{"model":"m","status":"in_progress"}"#),
            event("response.output_text.delta", r#","delta":"a""#),
            event("response.output_text.delta", r#","delta":"b""#),
            event(
                "response.completed",
                &format!(r#","response":{{{status},"usage":{{"input_tokens":9,"output_tokens":2}}}}"#),
            ),
        ];
        exchange(&recording, post("/v1/responses", r#"{"model":"m","stream":true}"#), stream(steps)).await.unwrap();
        let recorded = recording.take();
        recorded.assert_ended("success", None);
        assert_eq!(recorded.counter("llm_finish_reasons_total", &[("finish_reason", reason)]), 1);
        assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 2);
        assert_eq!(recorded.samples("llm_time_to_first_token_seconds", &[]).len(), 1);
    }
}

#[tokio::test]
async fn a_response_in_the_background_is_accepted_and_has_no_tokens() {
    let recording = Recording::new();
    let queued = r#"{"id":"r","object":"response","status":"queued","model":"m","output":[],"usage":null}"#;
    exchange(&recording, post("/v1/responses", r#"{"model":"m","background":true}"#), json(queued)).await.unwrap();
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    for name in ["llm_usage_reports_total", "llm_finish_reasons_total", "llm_metrics_inspection_failures_total"] {
        assert_eq!(recorded.counter(name, &[]), 0, "{name}");
    }
}

#[tokio::test]
async fn a_stream_of_a_response_in_the_background_may_end_before_the_response_has_begun() {
    let status = |status: &str, more: &str| {
        let name = if status == "queued" { "response.queued" } else { "response.in_progress" };
        event(name, &format!(r#","response":{{"id":"r","model":"m","status":"{status}"{more},"output":[]}}"#))
    };
    let (asked, unasked) = (r#"{"model":"m","background":true,"stream":true}"#, r#"{"model":"m","stream":true}"#);
    let delta = || event("response.output_text.delta", r#","delta":"a""#);
    let truncated = Some(("stream_truncated", "200"));
    for (request, steps, error) in [
        (asked, vec![status("queued", "")], None),
        (asked, vec![status("queued", ""), status("in_progress", "")], None),
        (asked, vec![status("in_progress", "")], None),
        // The request could not be read, or the server runs all requests in the background.
        (unasked, vec![status("queued", r#","background":true"#)], None),
        (unasked, vec![status("queued", "")], truncated),
        (unasked, vec![status("in_progress", r#","background":false"#)], truncated),
        // There is no sign that the response was accepted; the answer had begun; the connection broke.
        (asked, vec![event("keepalive", "")], truncated),
        (asked, vec![status("in_progress", ""), delta()], truncated),
        (asked, vec![status("queued", ""), Step::Fail], truncated),
    ] {
        let recording = Recording::new();
        // The reader of the broken connection gets an error.
        let _ = exchange(&recording, post("/v1/responses", request), stream(steps)).await;
        let recorded = recording.take();
        recorded.assert_ended(if error.is_some() { "error" } else { "success" }, error);
        assert_eq!(recorded.counter("llm_requests_total", &[("stream", "true"), ("model", "m")]), 1);
        if error.is_none() {
            for name in [
                "llm_usage_reports_total",
                "llm_finish_reasons_total",
                "llm_output_truncated_total",
                "llm_output_empty_total",
                "llm_outputs_total",
                "llm_discarded_tokens_total",
                "llm_metrics_inspection_failures_total",
            ] {
                assert_eq!(recorded.counter(name, &[]), 0, "{request}: {name}");
            }
            assert_eq!(recorded.samples("llm_time_to_first_token_seconds", &[]), [0.0_f64; 0]);
        }
    }
    // If it is read to its end, it ends like any other.
    let recording = Recording::new();
    let steps = [
        status("queued", ""),
        delta(),
        event(
            "response.completed",
            r#","response":{"status":"completed","usage":{"input_tokens":9,"output_tokens":1}}"#,
        ),
    ];
    exchange(&recording, post("/v1/responses", asked), stream(steps)).await.unwrap();
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[("finish_reason", "stop")]), 1);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 1);
}

#[tokio::test]
async fn a_missing_answer_counts_as_streamed_if_streaming_is_the_default() {
    for (path, ask, stream) in [
        ("/api/chat", r#"{"model":"m"}"#, "true"),
        ("/api/generate", r#"{"model":"m","stream":null}"#, "true"),
        ("/api/generate", r#"{"model":"m","stream":false}"#, "false"),
        ("/api/embed", r#"{"model":"m","input":"a"}"#, "false"),
        (CHAT, r#"{"model":"m"}"#, "false"),
        (CHAT, r#"{"model":"m","stream":true}"#, "true"),
    ] {
        let recording = Recording::new();
        let answer = answer(503, "application/json", [Step::Data("{\"error\":\"server busy\"}")]);
        through(recording.metrics.layer().ollama(), post(path, ask), answer).await;
        let recorded = recording.take();
        recorded.assert_ended("error", Some(("overloaded", "503")));
        assert_eq!(recorded.counter("llm_requests_total", &[("stream", stream)]), 1, "{path} {ask}");
    }
}

const OLLAMA: [&str; 3] = [
    "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00.1Z\",\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"done\":false}\n",
    "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00.2Z\",\"message\":{\"role\":\"assistant\",\"content\":\"b\"},\"done\":false}\n",
    "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00.3Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done_reason\":\"stop\",\"done\":true,\"load_duration\":2000000000,\"prompt_eval_count\":26,\"prompt_eval_duration\":300000000,\"eval_count\":2,\"eval_duration\":4500000000}\n",
];

fn ollama(lines: &[&'static str]) -> Answer {
    answer(200, "application/x-ndjson", lines.iter().map(|line| Step::Data(line)).collect::<Vec<_>>())
}

#[tokio::test]
async fn ollama_is_a_stream_of_lines_if_enabled() {
    let recording = Recording::new();
    let layer = recording.metrics.layer();
    through(layer.clone(), post("/api/chat", r#"{"model":"m"}"#), ollama(&OLLAMA)).await;
    assert_eq!(recording.take().counter("llm_requests_total", &[]), 0);
    let recording = Recording::new();
    through(recording.metrics.layer().ollama(), post("/api/chat", r#"{"model":"m"}"#), ollama(&OLLAMA)).await;
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_requests_total", &[("endpoint", "/api/chat"), ("stream", "true")]), 1);
    assert_eq!(recorded.counter("llm_input_tokens_total", &[]), 26);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 2);
    assert_eq!(recorded.samples("llm_request_prefill_seconds", &[]), [0.3]);
    assert_eq!(recorded.samples("llm_request_decode_seconds", &[]), [4.5]);
    // Cut before its last line.
    let recording = Recording::new();
    through(recording.metrics.layer().ollama(), post("/api/chat", r#"{"model":"m"}"#), ollama(&OLLAMA[..2])).await;
    recording.take().assert_ended("error", Some(("stream_truncated", "200")));
}

/// Ollama's JSON is lines or a document. A document may have several lines.
#[tokio::test]
async fn json_without_a_clear_content_type_is_read_as_the_request_asked() {
    let whole = "{\n  \"model\": \"m\",\n  \"message\": {\"role\": \"assistant\", \"content\": \"ab\"},\n  \"done\": true,\n  \"done_reason\": \"stop\",\n  \"prompt_eval_count\": 26,\n  \"eval_count\": 2\n}\n";
    for (ask, stream, body) in [
        (r#"{"model":"m","stream":false}"#, "false", &[whole][..]),
        (r#"{"model":"m","stream":true}"#, "true", &OLLAMA[..]),
        (r#"{"model":"m"}"#, "true", &OLLAMA[..]),
    ] {
        let recording = Recording::new();
        let steps = body.iter().map(|piece| Step::Data(piece)).collect::<Vec<_>>();
        let answer = answer(200, "text/plain", steps);
        through(recording.metrics.layer().ollama(), post("/api/chat", ask), answer).await;
        let recorded = recording.take();
        recorded.assert_ended("success", None);
        assert_eq!(recorded.counter("llm_requests_total", &[("stream", stream)]), 1, "{ask}");
        assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 2, "{ask}");
        assert_eq!(recorded.counter("llm_metrics_inspection_failures_total", &[]), 0, "{ask}");
    }
}

#[tokio::test]
async fn loading_a_model_is_not_a_generation() {
    let recording = Recording::new();
    let loaded = r#"{"model":"m","created_at":"2026","response":"","done":true,"done_reason":"load"}"#;
    let request = post("/api/generate", r#"{"model":"m","stream":false}"#);
    through(recording.metrics.layer().ollama(), request, json(loaded)).await;
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    for name in ["llm_usage_reports_total", "llm_finish_reasons_total", "llm_metrics_inspection_failures_total"] {
        assert_eq!(recorded.counter(name, &[]), 0, "{name}");
    }
}

#[tokio::test]
async fn embeddings_and_rankings_have_inputs_and_no_series_that_cannot_change() {
    for (path, operation, request, answer) in [
        (
            "/v1/embeddings",
            "embeddings",
            r#"{"model":"e","input":["a","b"]}"#,
            r#"{"data":[{"embedding":[0.1,0.2]},{"embedding":"AAAA"}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        ),
        (
            "/v1/rerank",
            "rerank",
            r#"{"model":"e","query":"q","documents":["a","b"]}"#,
            r#"{"results":[{"index":1,"relevance_score":0.9}],"meta":{"tokens":{"input_tokens":8,"output_tokens":0}}}"#,
        ),
        (
            "/api/embed",
            "embeddings",
            r#"{"model":"e","input":["a","b"]}"#,
            r#"{"model":"e","embeddings":[[0.1],[0.2]],"total_duration":9,"load_duration":1,"prompt_eval_count":8}"#,
        ),
    ] {
        let recording = Recording::new();
        through(recording.metrics.layer().ollama(), post(path, request), json(answer)).await;
        let recorded = recording.take();
        recorded.assert_ended("success", None);
        let labels = [("model", "e"), ("operation", operation)];
        assert_eq!(recorded.samples("llm_request_inputs", &labels), [2.0], "{path}");
        assert_eq!(recorded.counter("llm_input_tokens_total", &labels), 8, "{path}");
        for (name, series, value) in recorded.series() {
            let of_it = series.iter().any(|(_, value)| value == "e");
            let never = [
                "llm_output",
                "llm_request_output",
                "llm_finish",
                "llm_usage",
                "llm_discarded",
                "llm_stream",
                "llm_input_cache",
                "llm_structured",
                "llm_tool",
                "llm_refusals",
                "llm_time",
                "llm_reasoning",
            ];
            assert!(!of_it || !never.iter().any(|start| name.starts_with(start)), "{name} {series:?}");
            let moved = !matches!(value, DebugValue::Counter(0));
            assert!(name != "llm_metrics_inspection_failures_total" || !moved, "{series:?}");
        }
        let requests = recorded.series().filter(|(name, ..)| *name == "llm_requests_total").count();
        assert_eq!(requests, 4, "{path}: one for each outcome");
    }
}

#[tokio::test]
async fn inputs_are_counted_in_every_form() {
    for (input, inputs) in
        [(r#""one text""#, 1.0), (r#"["a"]"#, 1.0), (r#"["a","b","c"]"#, 3.0), ("[1,2,3]", 1.0), ("[[1,2],[3]]", 2.0)]
    {
        let recording = Recording::new();
        let request = post("/v1/embeddings", leak(format!(r#"{{"model":"e","input":{input}}}"#)));
        exchange(&recording, request, json(r#"{"data":[]}"#)).await.unwrap();
        assert_eq!(recording.take().samples("llm_request_inputs", &[]), [inputs], "{input}");
    }
}

#[tokio::test]
async fn the_completion_of_llama_cpp_is_not_a_broken_stream() {
    let recording = Recording::new();
    let steps = [
        Step::Data("data: {\"index\":0,\"content\":\"Hel\",\"stop\":false,\"tokens_predicted\":1}\n\n"),
        Step::Data(
            "data: {\"index\":0,\"content\":\"\",\"stop\":true,\"stop_type\":\"limit\",\"tokens_predicted\":2,\"tokens_evaluated\":4}\n\n",
        ),
    ];
    exchange(&recording, post("/completions", r#"{"prompt":"x","stream":true,"n_predict":2}"#), stream(steps))
        .await
        .unwrap();
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_requests_total", &[("endpoint", "/completion")]), 1);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 2);
    assert_eq!(recorded.samples("llm_request_max_tokens", &[]), [2.0]);
}

#[tokio::test]
async fn a_custom_path_has_the_format_of_its_endpoint() {
    let recording = Recording::new();
    let layer = recording.metrics.layer().path("/ask/{tenant}", Endpoint::ChatCompletions);
    through(layer, post("/ask/someone", ASK), stream([Step::Data(HELLO), Step::Data(STOP), Step::Data(DONE)])).await;
    assert_eq!(recording.take().counter("llm_requests_total", &[("endpoint", CHAT), ("outcome", "success")]), 1);
}

#[tokio::test]
async fn an_answer_that_has_no_body_has_ended_with_its_head() {
    for (status, length) in [(204, None), (200, Some("0"))] {
        let recording = Recording::new();
        // hyper drops such a body without polling it.
        let service =
            tower::ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(move |request| async move {
                read(request).await;
                let mut response = Response::builder().status(status);
                if let Some(length) = length {
                    response = response.header("content-length", length).header("content-type", "application/json");
                }
                Ok::<_, Infallible>(response.body(Steps::new([Step::Pending])).unwrap())
            });
        drop(tower::ServiceExt::oneshot(service, post(CHAT, ASK)).await.unwrap());
        recording.take().assert_ended("success", None);
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_counted() {
    let whole = r#"{"model":"m1","stream":true,"max_tokens":5}"#;
    for (body, encoding, model, malformed, compressed) in [
        (whole.as_bytes().to_vec(), None, "m1", 0, 0),
        ([b"\xEF\xBB\xBF", whole.as_bytes()].concat(), None, "m1", 0, 0),
        (whole.as_bytes().to_vec(), Some("gzip"), "m1", 0, 0),
        (b"\x1f\x8b\x08 and so on".to_vec(), Some("gzip"), MODEL, 0, 1),
        (b"{\"model\":\"m1\",,".to_vec(), None, "m1", 1, 0),
        (b"{\"model\":\"m1\",\"stream\":".to_vec(), None, "m1", 1, 0),
        (b"".to_vec(), None, MODEL, 0, 0),
    ] {
        let recording = Recording::new();
        let mut request = post(CHAT, body.clone());
        if let Some(encoding) = encoding {
            request.headers_mut().insert("content-encoding", encoding.parse().unwrap());
        }
        exchange(&recording, request, stream([Step::Data(HELLO), Step::Data(STOP), Step::Data(DONE)])).await.unwrap();
        let recorded = recording.take();
        let what = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(recorded.counter("llm_requests_total", &[("model", model)]), 1, "{what}");
        let failures = recorded.counter("llm_metrics_inspection_failures_total", &[("kind", "malformed")]);
        assert_eq!(failures, malformed, "{what}");
        let skipped = recorded.counter("llm_metrics_bodies_skipped_total", &[("reason", "compressed")]);
        assert_eq!(skipped, compressed, "{what}");
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn in_a_nested_router_a_chat_is_a_chat() {
    use axum::{Router, routing::post as route};
    let recording = Recording::new();
    let chat = Router::new().route("/completions", route(|| async { "" })).layer(recording.metrics.layer());
    let app: Router = Router::new().nest("/v1/chat", chat);
    let request = Request::post(CHAT).body(axum::body::Body::from(ASK)).unwrap();
    let _ = tower::ServiceExt::oneshot(app, request).await.unwrap().into_body().collect().await;
    assert_eq!(recording.take().counter("llm_requests_total", &[("endpoint", CHAT)]), 1);
}
