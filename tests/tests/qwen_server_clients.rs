//! The official clients of OpenAI, Anthropic and Ollama, with the Qwen server and with a gateway in front of it. The metrics match what the clients
//! received.

use std::{net::SocketAddr, process::Stdio};

use llm_metrics_tests::{
    Page, Tool,
    gateway::{Running, attempts},
    python_with,
    qwen_server::{QwenServer, TINY},
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Saw {
    endpoint: String,
    stream: bool,
    #[serde(default)]
    text: String,
    #[serde(default)]
    input: u64,
    #[serde(default)]
    output: u64,
    /// If the protocol has a count for it.
    reasoning: Option<u64>,
    finish: Option<String>,
    refused: Option<u16>,
}

impl Saw {
    fn operation(&self) -> &'static str {
        match self.endpoint.as_str() {
            "/v1/completions" | "/api/generate" => "text_completion",
            _ => "chat",
        }
    }
}

#[tokio::test]
async fn the_counts_match_what_the_official_clients_saw() {
    let Some(python) = python_with(&["openai", "anthropic", "ollama"]) else { return };
    let server = QwenServer::start(&["--no-gpu"]).await;
    let saw = talk(&python, server.api).await;
    all_of_it(&server.settled().await, &saw);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_counts_match_what_the_clients_saw() {
    let Some(python) = python_with(&["openai", "anthropic", "ollama"]) else { return };
    let server = QwenServer::start(&["--no-gpu"]).await;
    // The gateway detects the kind of upstream, and its models.
    let gateway = Running::start(&format!("[upstreams.qwen]\nurl = \"http://{}\"\nprobe = \"1s\"", server.api)).await;
    gateway.when(|page| page.value("llm_gateway_upstream_up", &[("upstream", "qwen")]) == 1.0).await;
    let saw = talk(&python, gateway.addr).await;

    let page = gateway.ended(saw.len() as u32).await;
    all_of_it(&page, &saw);
    let upstream = [("upstream", "qwen")];
    assert_eq!(page.value("llm_requests_total", &upstream), saw.len() as f64);
    let forwarded = saw.len() + NO_GENERATION;
    assert_eq!(attempts(&page), [forwarded as f64, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(page.histogram("llm_gateway_overhead_seconds", &upstream).count, forwarded as f64);

    // The server and the gateway have counted the same.
    let served = server.settled().await;
    for counter in [
        "llm_requests_total",
        "llm_request_errors_total",
        "llm_input_tokens_total",
        "llm_output_tokens_total",
        "llm_finish_reasons_total",
    ] {
        assert_eq!(page.value(counter, &[]), served.value(counter, &[]), "{counter}");
    }
}

/// Requests of the script that generate nothing. They are forwarded, and are not model calls.
const NO_GENERATION: usize = 5;

/// Runs the clients with this address, and returns what they received.
async fn talk(python: &Tool, addr: SocketAddr) -> Vec<Saw> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/talk.py");
    let mut talk = python.command();
    talk.args([script, &format!("http://{addr}"), TINY]).stdin(Stdio::null());
    let talk = tokio::task::spawn_blocking(move || talk.output()).await.expect("no panic").expect("Python runs");
    let log = String::from_utf8_lossy(&talk.stderr);
    assert!(talk.status.success(), "{log}");
    let saw: Vec<Saw> = String::from_utf8_lossy(&talk.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert_eq!(saw.iter().filter(|saw| saw.refused.is_some()).count(), 4, "{log}");
    saw
}

/// Asserts that a page has everything that the clients received.
fn all_of_it(page: &Page, saw: &[Saw]) {
    let (answered, refused): (Vec<&Saw>, Vec<&Saw>) = saw.iter().partition(|saw| saw.refused.is_none());
    assert!(answered.iter().filter(|saw| saw.finish.as_deref() == Some("stop")).all(|saw| saw.text.ends_with("wait.")));
    requests(page, &answered, &refused);
    tokens(page, &answered);
    streams(page, &answered);
    assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0);
    assert_eq!(page.value("llm_metrics_bodies_skipped_total", &[]), 0.0);
}

fn requests(page: &Page, answered: &[&Saw], refused: &[&Saw]) {
    assert_eq!(page.value("llm_requests_total", &[]), (answered.len() + refused.len()) as f64);
    for one in answered {
        let alike = |other: &&&Saw| (&other.endpoint, other.stream) == (&one.endpoint, one.stream);
        let stream = one.stream.to_string();
        let labels =
            [("endpoint", one.endpoint.as_str()), ("stream", &stream), ("outcome", "success"), ("model", TINY)];
        assert_eq!(page.value("llm_requests_total", &labels), answered.iter().filter(alike).count() as f64, "{one:?}");
    }
    for one in refused {
        assert_eq!(one.refused, Some(404));
        let labels = [("endpoint", one.endpoint.as_str()), ("error_type", "not_found"), ("status", "404")];
        assert_eq!(page.value("llm_request_errors_total", &labels), 1.0, "{one:?}");
    }
}

fn tokens(page: &Page, answered: &[&Saw]) {
    for operation in ["chat", "text_completion"] {
        let of = || answered.iter().filter(|saw| saw.operation() == operation);
        let labels = [("operation", operation)];
        let (input, output): (u64, u64) = (of().map(|saw| saw.input).sum(), of().map(|saw| saw.output).sum());
        assert_eq!(page.value("llm_input_tokens_total", &labels), input as f64);
        assert_eq!(page.value("llm_output_tokens_total", &labels), output as f64);
        assert_eq!(page.histogram("llm_request_output_tokens", &labels).sum, output as f64);
        for finish in ["stop", "length"] {
            let finished = of().filter(|saw| saw.finish.as_deref() == Some(finish)).count();
            let labels = [("operation", operation), ("finish_reason", finish)];
            assert_eq!(page.value("llm_finish_reasons_total", &labels), finished as f64, "{operation} {finish}");
        }
    }
    let told: u64 = answered.iter().filter_map(|saw| saw.reasoning).sum();
    assert!(page.value("llm_output_reasoning_tokens_total", &[]) >= told as f64);
}

/// Every stream had a first token, and no other answer had one.
fn streams(page: &Page, answered: &[&Saw]) {
    let streams = answered.iter().filter(|saw| saw.stream).count() as f64;
    assert_eq!(page.histogram("llm_time_to_first_token_seconds", &[]).count, streams);
}
