//! The protocols that are read depend on the kind of upstream.

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::Full;
use llm_metrics_tests::{Client, Script, Step, gateway::Running, post};
use serde_json::json;

use crate::recording_upstream::RecordingUpstream;

/// As Ollama streams: one line per token, and the counts in the last line.
fn ollama(parts: &Parts, _: &Bytes) -> Response<Script> {
    if parts.method == "GET" {
        return Script::json("{\"version\":\"0.12.0\"}");
    }
    let line = |done: bool| {
        let mut line = json!({"model": "qwen3:4b", "message": {"role": "assistant", "content": if done { "" } else { "word " }}, "done": done});
        if done {
            line["done_reason"] = json!("stop");
            line["prompt_eval_count"] = json!(9);
            line["eval_count"] = json!(3);
            line["prompt_eval_duration"] = json!(50_000_000);
            line["eval_duration"] = json!(300_000_000);
        }
        Step::from(format!("{line}\n"))
    };
    Script::new([line(false), line(false), line(false), line(true)]).respond("application/x-ndjson")
}

async fn gateway(kind: &str) -> (RecordingUpstream, Running) {
    let upstream = RecordingUpstream::start(ollama).await;
    let gateway = Running::before(upstream.server.addr, &format!("kind = \"{kind}\"")).await;
    (upstream, gateway)
}

fn chat(gateway: &Running) -> Request<Full<Bytes>> {
    post(gateway.addr, "/api/chat", "{\"model\":\"qwen3:4b\",\"messages\":[]}")
}

#[tokio::test]
async fn ollamas_own_api_is_measured_if_the_upstream_is_ollama() {
    for kind in ["ollama", "auto"] {
        let (_upstream, gateway) = gateway(kind).await;
        let mut client = Client::connect(gateway.addr).await;
        let answer = client.send(chat(&gateway)).await;
        assert_eq!(answer.text().await.lines().count(), 4);
        let page = gateway.ended(1).await;
        let labels = [
            ("endpoint", "/api/chat"),
            ("model", "qwen3:4b"),
            ("stream", "true"),
            ("outcome", "success"),
            ("upstream", "up"),
        ];
        assert_eq!(page.value("llm_requests_total", &labels), 1.0, "{kind}");
        assert_eq!(page.value("llm_input_tokens_total", &[("upstream", "up")]), 9.0);
        assert_eq!(page.value("llm_output_tokens_total", &[("upstream", "up")]), 3.0);
        assert_eq!(page.histogram("llm_request_decode_seconds", &[]).sum, 0.3);
        assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 1.0);
    }
}

#[tokio::test]
async fn the_same_path_of_another_server_passes_unread() {
    for kind in ["openai", "vllm", "llama.cpp", "anthropic"] {
        let (_upstream, gateway) = gateway(kind).await;
        let mut client = Client::connect(gateway.addr).await;
        assert_eq!(client.send(chat(&gateway)).await.text().await.lines().count(), 4);
        let page =
            gateway.when(|page| page.value("llm_gateway_attempts_total", &[("result", "answered")]) == 1.0).await;
        assert_eq!(page.value("llm_requests_total", &[]), 0.0, "{kind}");
    }
}

#[tokio::test]
async fn other_protocols_are_measured_as_such() {
    let upstream = RecordingUpstream::start(|parts, _| match parts.uri.path() {
        "/v1/messages" => Script::json(
            json!({"type": "message", "model": "claude", "role": "assistant", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn",
                "usage": {"input_tokens": 7, "output_tokens": 2}})
            .to_string(),
        ),
        _ => Script::json(
            json!({"object": "list", "model": "embed", "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}], "usage": {"prompt_tokens": 5, "total_tokens": 5}})
                .to_string(),
        ),
    })
    .await;
    let gateway = Running::before(upstream.server.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    for (path, body) in
        [("/v1/messages", "{\"model\":\"claude\"}"), ("/v1/embeddings", "{\"model\":\"embed\",\"input\":\"x\"}")]
    {
        client.send(post(gateway.addr, path, body)).await.text().await;
    }
    let page = gateway.ended(2).await;
    for (endpoint, model, input) in [("/v1/messages", "claude", 7.0), ("/v1/embeddings", "embed", 5.0)] {
        let labels = [("endpoint", endpoint), ("model", model), ("outcome", "success")];
        assert_eq!(page.value("llm_requests_total", &labels), 1.0, "{endpoint}");
        assert_eq!(page.value("llm_input_tokens_total", &[("model", model)]), input);
    }
}
