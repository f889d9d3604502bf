//! The examples of the core, run as a reader would run them.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use llm_metrics_tests::{Client, Page, post};
use serde_json::Value;

const EXAMPLES: [&str; 6] = ["axum-server", "both-sides", "by-hand", "client", "hyper-server", "own-exporter"];
const QUESTION: &str = r#"{"model":"parrot","stream":true,"messages":[]}"#;

/// The path of an example that cargo has built. It is built from the workspace's root without `-p`, like `cargo test` does, so that nothing is left
/// to compile.
fn example(name: &str) -> Command {
    static BUILT: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--message-format=json-render-diagnostics", "--features", "llm-metrics/prometheus"]);
        cargo.args(EXAMPLES.iter().flat_map(|name| ["--example", name]));
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let output = cargo.current_dir(root).stderr(Stdio::inherit()).output().expect("cargo runs");
        assert!(output.status.success(), "the examples do not build; what cargo says is above");
        let messages = String::from_utf8(output.stdout).expect("text");
        let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        messages
            .filter(|message| message["target"]["kind"][0] == "example")
            .filter_map(|m| Some((m["target"]["name"].as_str()?.to_owned(), m["executable"].as_str()?.into())))
            .collect()
    });
    Command::new(&built[name])
}

/// The output of an example that ends by itself.
fn printed(name: &str) -> String {
    let Output { status, stdout, stderr } = example(name).output().expect("it starts");
    assert!(status.success(), "{name}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

#[track_caller]
fn assert_line(printed: &str, name: &str, labels: &[&str], value: &str) {
    let is_it = |line: &str| {
        let Some((series, sample)) = line.rsplit_once(' ') else { return false };
        series.starts_with(name) && sample == value && labels.iter().all(|label| series.contains(label))
    };
    assert!(printed.lines().any(is_it), "no {name} with {labels:?} and {value} in\n{printed}");
}

/// An example that serves until it is dropped.
struct Serving {
    process: Child,
    addresses: Vec<SocketAddr>,
}

impl Serving {
    fn start(name: &str, listeners: usize) -> Self {
        let mut command = example(name);
        let mut process =
            command.args(vec!["127.0.0.1:0"; listeners]).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines().take(listeners);
        let address = |line: String| {
            let (_, rest) = line.split_once("http://").expect("an address");
            rest.trim_end_matches("/metrics").parse().expect("an address")
        };
        let addresses = lines.map(|line| address(line.expect("a line"))).collect();
        Self { process, addresses }
    }

    async fn ask(&self, path: &str) -> String {
        let address = self.addresses[0];
        let mut client = Client::connect(address).await; // read to the end, because dropping it disconnects
        let answer = client.send(post(address, path, QUESTION)).await;
        assert_eq!(answer.status(), 200);
        answer.text().await
    }

    async fn page(&self) -> Page {
        let address = *self.addresses.last().expect("an address");
        let request = Request::get("/metrics").header("host", address.to_string()).body(Empty::<Bytes>::new());
        let mut client = Client::connect(address).await;
        let answer = client.send(request.expect("a request")).await;
        assert_eq!(answer.status(), 200);
        Page::parse(answer.text().await)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn the_axum_server_measures_what_it_answers() {
    let server = Serving::start("axum-server", 1);
    assert!(server.ask("/v1/chat/completions").await.ends_with("data: [DONE]\n\n"));
    let page = server.page().await;
    let requests = [("model", "parrot"), ("stream", "true"), ("outcome", "success")];
    assert_eq!(page.value("llm_requests_total", &requests), 1.0);
    assert_eq!(page.value("llm_output_tokens_total", &[("model", "parrot")]), 5.0);
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "engine")]), 1.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 1.0);
    assert_eq!(page.count("llm_request_prefill_seconds", &[]), 1.0);
}

#[tokio::test]
async fn the_hyper_server_has_its_metrics_on_another_port() {
    let server = Serving::start("hyper-server", 2);
    assert!(server.ask("/v1/completions").await.ends_with("data: [DONE]\n\n"));
    let page = server.page().await;
    let requests = [("model", "parrot"), ("operation", "text_completion"), ("outcome", "success")];
    assert_eq!(page.value("llm_requests_total", &requests), 1.0);
    assert_eq!(page.value("llm_output_tokens_total", &[("model", "parrot")]), 3.0);
}

#[test]
fn both_sides_count_a_request_once_each() {
    let printed = printed("both-sides");
    let labels = ["model=\"parrot\"", "outcome=\"success\""];
    for side in ["llm", "upstream"] {
        assert_line(&printed, &format!("{side}_requests_total{{"), &labels, "1");
        assert_line(&printed, &format!("{side}_output_tokens_total{{"), &labels[..1], "2");
        assert_line(&printed, &format!("{side}_request_duration_seconds_bucket{{"), &["le=\"+Inf\""], "1");
    }
}

#[test]
fn the_client_shows_four_endings() {
    let printed = printed("client");
    for (model, outcome) in [("parrot", "success"), ("parrot", "cancelled"), ("other", "rejected"), ("parrot", "error")]
    {
        let labels = [format!("model=\"{model}\""), format!("outcome=\"{outcome}\"")];
        assert_line(&printed, "llm_requests_total", &labels.each_ref().map(String::as_str), "1");
    }
    assert_line(&printed, "llm_request_errors_total", &["error_type=\"upstream_unavailable\""], "1");
    assert_line(&printed, "llm_discarded_tokens_total", &["reason=\"client_disconnect\""], "1");
}

#[test]
fn the_engine_without_http_is_measured_by_hand() {
    let printed = printed("by-hand");
    for (outcome, requests) in [("success", "2"), ("cancelled", "1"), ("error", "1")] {
        assert_line(&printed, "llm_requests_total", &[&format!("outcome=\"{outcome}\"")], requests);
    }
    assert_line(&printed, "llm_model_info", &["engine=\"by hand\""], "1");
    assert_line(&printed, "llm_request_queue_seconds_count", &[], "3");
}

#[test]
fn a_custom_exporter_has_all_buckets() {
    let page = Page::parse(printed("own-exporter"));
    assert_eq!(page.value("qwen_requests_total", &[("outcome", "success")]), 1.0);
    assert!(page.value("qwen_recent_request_duration_seconds", &[("stat", "max")]) > 0.0);
    let histogram = page.histogram("qwen_request_duration_seconds", &[]);
    assert_eq!(histogram.count, 1.0);
    assert_eq!(histogram.buckets.len(), llm_metrics::catalog::REQUEST_DURATION.buckets.len() + 1);
}
