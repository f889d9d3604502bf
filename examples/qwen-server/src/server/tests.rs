//! The whole server in one process, without sockets.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use llm_metrics::prometheus::Exporter;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::engine::{Options, Source, load};

mod protocols;

const NAME: &str = "Qwen3-tiny";

struct Server {
    app: Arc<App>,
    router: Router,
    exporter: Exporter,
    metrics: LlmMetrics,
    cache: tempfile::TempDir,
}

fn server(request_timeout: Option<Duration>) -> Server {
    server_with(request_timeout, false)
}

fn server_with(request_timeout: Option<Duration>, demo: bool) -> Server {
    let (_, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
    let metrics = LlmMetrics::builder().exporter(&exporter).models([NAME]).build().unwrap();
    let app = App::new(NAME.into(), 0, Limits { request_timeout, max_tokens: None, body: 4096 }, demo);
    let router = router(&app, &metrics).merge(watching(&metrics, exporter.service()));
    Server { app, router, exporter, metrics, cache: tempfile::tempdir().unwrap() }
}

impl Server {
    async fn load(&self) {
        let model = crate::tiny::ensure_in(self.cache.path()).unwrap();
        let options = Options { max_seqs: 4, max_queue: 4, prefix_cache: true };
        let engine = load(&Source::Directory(model), &options, self.metrics.engine(NAME)).await.unwrap();
        self.app.model_is_loaded(engine);
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn post(&self, path: &str, body: impl ToString) -> (StatusCode, String) {
        self.send(Request::post(path).body(Body::from(body.to_string())).unwrap()).await
    }

    async fn chat(&self, mut body: Value) -> (StatusCode, Value) {
        body["messages"] = json!([{"role": "user", "content": "hello"}]);
        let (status, body) = self.post("/v1/chat/completions", body).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn get(&self, path: &str) -> StatusCode {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await.0
    }

    /// The sum of the series that have this name and all of these labels. Panics for a name or a label that the catalogue does not have.
    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let row = llm_metrics::catalog::all().find(|row| name.strip_suffix("_count").unwrap_or(name) == row.name);
        let row = row.unwrap_or_else(|| panic!("the catalogue has no {name}"));
        for (label, _) in labels.iter().filter_map(|label| label.split_once('=')) {
            assert!(row.label(label).is_some(), "{name} has no label {label}");
        }
        let page = tokio::task::block_in_place(|| self.exporter.render());
        let series = |line: &&str| line.starts_with(&format!("{name}{{")) && labels.iter().all(|l| line.contains(l));
        page.lines().filter(series).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tiny_model_thinks_answers_and_is_counted() {
    let server = server(None);
    server.load().await;
    let (status, answer) = server.chat(json!({"model": NAME, "temperature": 0})).await;
    assert_eq!(status, StatusCode::OK);
    let (reasoning, content) = crate::tiny::greedy();
    assert_eq!(answer["choices"][0]["message"]["reasoning_content"], reasoning);
    assert_eq!(answer["choices"][0]["message"]["content"], content);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["model"], NAME);
    assert_eq!(answer["usage"]["completion_tokens"], 17);

    assert_eq!(server.metric("llm_requests_total", &["outcome=\"success\"", "thinking=\"true\""]), 1.0);
    assert_eq!(server.metric("llm_output_tokens_total", &["operation=\"chat\""]), 17.0);
    assert_eq!(server.metric("llm_output_reasoning_tokens_total", &["operation=\"chat\""]), 5.0);
    assert_eq!(server.metric("llm_usage_reports_total", &["source=\"engine\"", "stream=\"false\""]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_usage_only_if_asked_and_ends_with_done() {
    let server = server(None);
    server.load().await;
    for asked in [false, true] {
        let body = json!({"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "stream": true,
            "enable_thinking": false, "stream_options": {"include_usage": asked}});
        let (status, stream) = server.post("/v1/chat/completions", body).await;
        assert_eq!(status, StatusCode::OK);
        let events: Vec<&str> =
            stream.split_terminator("\n\n").map(|event| event.trim_start_matches("data: ")).collect();
        let (done, chunks) = events.split_last().unwrap();
        assert_eq!(*done, "[DONE]");
        let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
        let text: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text, "Measure at the edge where users wait.");
        assert_eq!(chunks.iter().any(|chunk| chunk.get("usage").is_some()), asked);
        if asked {
            let last = chunks.last().unwrap();
            assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(9)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_choice_counts() {
    let server = server(None);
    server.load().await;
    let (_, answer) = server.chat(json!({"n": 3, "temperature": 0, "enable_thinking": false})).await;
    assert_eq!(answer["choices"].as_array().unwrap().len(), 3);
    assert_eq!(answer["usage"]["completion_tokens"], 27);
    assert_eq!(server.metric("llm_finish_reasons_total", &["finish_reason=\"stop\""]), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_tool_call_has_valid_arguments() {
    let server = server(None);
    server.load().await;
    let parameters = json!({"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"], "additionalProperties": false});
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": parameters}}]);
    let (status, answer) = server.chat(json!({"tools": tools, "tool_choice": "required"})).await;
    assert_eq!((status, &answer["choices"][0]["finish_reason"]), (StatusCode::OK, &json!("tool_calls")));
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(["Rome", "Oslo"].contains(&arguments["city"].as_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_is_a_504_and_frees_the_engine() {
    let server = server(Some(Duration::from_millis(200)));
    server.load().await;
    let (status, error) = server.chat(json!({"ignore_eos": true})).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::GATEWAY_TIMEOUT, &json!("timeout")));
    assert_eq!(server.metric("llm_request_errors_total", &["error_type=\"timeout\"", "status=\"504\""]), 1.0);
    let mut running = 1.0;
    while running > 0.0 {
        running = server.metric("llm_engine_requests_running", &[]) + server.metric("llm_engine_requests_waiting", &[]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_request_has_a_status_and_an_error_code() {
    let server = server(None);
    server.load().await;
    let cases = [
        (json!({"model": "gpt-4"}), StatusCode::NOT_FOUND, "model"),
        (json!({"temperature": "hot"}), StatusCode::BAD_REQUEST, "temperature"),
        (json!({"max_tokens": 0}), StatusCode::BAD_REQUEST, "max_tokens"),
        (json!({"n": 99}), StatusCode::BAD_REQUEST, "n"),
        (json!({"logprobs": true}), StatusCode::BAD_REQUEST, "logprobs"),
        (json!({"tool_choice": "required"}), StatusCode::BAD_REQUEST, "tool_choice"),
    ];
    for (body, expected, param) in cases {
        let (status, error) = server.chat(body).await;
        assert_eq!((status, &error["error"]["param"]), (expected, &json!(param)));
    }
    let (status, error) = server.chat(json!({"grammar": {"type": "regex", "value": "((("}})).await;
    assert_eq!((status, &error["error"]["type"]), (StatusCode::BAD_REQUEST, &json!("invalid_request_error")));
    let (status, _) = server.post("/v1/chat/completions", "{").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, error) = server.post("/v1/completions", json!({"prompt": "!".repeat(4096)})).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{error}");
    assert_eq!(server.metric("llm_request_errors_total", &["status=\"404\"", "error_type=\"not_found\""]), 1.0);
    assert_eq!(server.metric("llm_requests_total", &["outcome=\"success\""]), 0.0);
}

#[tokio::test]
async fn a_server_without_its_model_is_alive_but_not_ready() {
    let server = server(None);
    assert_eq!(server.get("/health").await, StatusCode::OK);
    assert_eq!(server.get("/ready").await, StatusCode::SERVICE_UNAVAILABLE);
    let (status, error) = server.chat(json!({})).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("model_loading")));
    assert_eq!(server.get("/v1/chat/completions").await, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(server.get("/nowhere").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_busy_server_sends_retry_after() {
    let server = server(None);
    let request = Request::get("/ready").body(Body::empty()).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    assert!(response.headers().contains_key(header::RETRY_AFTER));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_requests_can_be_looked_at() {
    let server = server(None);
    let looked = async |query: &str| -> Value {
        let request = Request::get(format!("/debug/requests{query}")).body(Body::empty()).unwrap();
        let (status, text) = server.send(request).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(looked("").await, json!({"models": [], "requests": []}));
    server.load().await;
    server.post("/v1/chat/completions", "no JSON").await;
    server.chat(json!({"temperature": 0, "enable_thinking": false})).await;
    server.chat(json!({"temperature": 0, "stream": false, "model": "another"})).await;

    let seen = looked("?limit=2").await;
    let requests = seen["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        (&requests[0]["outcome"], &requests[0]["model"]),
        (&json!("rejected"), &json!("other")),
        "the newest first"
    );
    let answered = &requests[1];
    for (field, value) in [
        ("model", json!(NAME)),
        ("operation", json!("chat")),
        ("endpoint", json!("/v1/chat/completions")),
        ("outcome", json!("success")),
        ("error_type", json!(null)),
        ("status", json!(200)),
        ("finish_reason", json!("stop")),
        ("stream", json!(false)),
        ("thinking", json!("false")),
        ("time_to_first_token_seconds", json!(null)),
        ("output_tokens", json!(9)),
        ("cached_input_tokens", json!(null)),
    ] {
        assert_eq!(answered[field], value, "{field}");
    }
    let took = answered["duration_seconds"].as_f64().unwrap();
    assert!(took > 0.0 && answered["ended_unix_seconds"].as_f64().unwrap() > 1.7e9, "{answered}");
    assert_eq!(seen["models"].as_array().unwrap().len(), 1);
    assert_eq!(seen["models"][0]["duration_seconds"]["max"].as_f64(), Some(took));
    assert_eq!(seen["models"][0]["time_to_first_token_seconds"], json!(null));
    assert_eq!(server.metric("llm_recent_request_duration_seconds", &["stat=\"max\""]), took);

    assert_eq!(looked("").await["requests"].as_array().unwrap().len(), 3);
    let (status, error) = server.send(Request::get("/debug/requests?limit=all").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error.contains("limit must be a number"), "{error}");
    assert_eq!(server.metric("llm_requests_started_total", &[]), 3.0, "reading metrics is not traffic");
}
