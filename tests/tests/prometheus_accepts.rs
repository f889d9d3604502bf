//! Other programs read a page: promtool, PyPI's parser, and a real Prometheus.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use llm_metrics::catalog::{Dialect, Otel};
use llm_metrics_tests::{
    Client, MODEL, Watched, everything, everything_can_happen, python_with_client, start_prometheus, tool,
};

/// Runs a command with this input, and returns whether it succeeded and its output.
fn run(command: &mut Command, input: &str) -> (bool, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("the program ends");
    let _ = writing.join();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_say_about_the_names() {
    let Some(promtool) = tool("promtool") else { return };
    let watched = Watched::with(everything_can_happen, |exporter| exporter).await;
    let _running = everything(&watched).await;
    let page = watched.scrape().await;
    let check = |page: &str| run(promtool.command().args(["check", "metrics"]), page);
    assert_eq!(check(&page.text), (true, String::new()));
    // promtool reports a wrong name, so it really checks the page.
    let (passed, said) = check(&page.text.replace("llm_requests_total", "llm_requestsCount"));
    assert!(!passed && !said.is_empty(), "promtool checks");
}

/// Prints every sample: name, labels and value, as JSON.
const PARSE: &str = r##"
import json, sys, io
from prometheus_client import parser as text
from prometheus_client.openmetrics import parser as openmetrics
page = sys.stdin.read()
samples = []
for family in text.text_fd_to_metric_families(io.StringIO(page)):
    for sample in family.samples:
        samples.append([family.type, sample.name, sample.labels, repr(sample.value)])
print(json.dumps(samples))
# The OpenMetrics parser is the stricter one. It wants no blank lines, counters declared without `_total`, and an end.
lines = []
for line in page.splitlines():
    if line.startswith("# ") and line.split(" ")[2].endswith("_total"):
        words = line.split(" ")
        words[2] = words[2][: -len("_total")]
        line = " ".join(words)
    if line:
        lines.append(line)
count = 0
for family in openmetrics.text_fd_to_metric_families(io.StringIO("\n".join(lines) + "\n# EOF\n")):
    count += len(family.samples)
assert count == len(samples), (count, len(samples))
"##;

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_client_reads_every_sample_as_we_do() {
    let Some(python) = python_with_client() else { return };
    let watched = Watched::with(everything_can_happen, |exporter| exporter).await;
    let _running = everything(&watched).await;
    let page = watched.scrape().await;
    let (passed, said) = run(python.command().args(["-c", PARSE]), &page.text);
    assert!(passed, "{said}");
    let samples: Vec<(String, String, std::collections::BTreeMap<String, String>, String)> =
        serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    let mine = page.families().values().flat_map(|family| family.samples.iter().map(|sample| (&family.kind, sample)));
    assert_eq!(samples.len(), mine.clone().count());
    for (kind, sample) in mine {
        let same = samples.iter().any(|(theirs, name, labels, value)| {
            let value: f64 = value.parse().expect("a number");
            theirs == kind && *name == sample.name && *labels == sample.labels && value == sample.value
        });
        assert!(same, "{sample:?}");
    }
}

/// Reads a page with UTF-8 names, and prints the names of the samples.
const PARSE_UTF8: &str = r##"
import sys, io
from prometheus_client import parser as text
for family in text.text_fd_to_metric_families(io.StringIO(sys.stdin.read())):
    for sample in family.samples:
        print(sample.name, *sorted(sample.labels))
"##;

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_client_reads_names_with_dots() {
    let Some(python) = python_with_client() else { return };
    let dialects = [Dialect::Llm, Dialect::Vllm, Otel::new("a \"provider\"").into()];
    let watched = Watched::with(everything_can_happen, |exporter| exporter.dialects(dialects)).await;
    let _running = everything(&watched).await;
    let request = Request::get(format!("http://{}/metrics", watched.addr))
        .header("host", watched.addr.to_string())
        .header("accept", "text/plain;version=1.0.0;escaping=allow-utf-8");
    let mut client = Client::connect(watched.addr).await;
    let page = client.send(request.body(Empty::<Bytes>::new()).expect("a request")).await.text().await;
    let (passed, said) = run(python.command().args(["-c", PARSE_UTF8]), &page);
    assert!(passed, "{said}");
    let series = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert_eq!(said.lines().count(), series);
    let duration =
        "gen_ai.server.request.duration_seconds_count gen_ai.operation.name gen_ai.provider.name gen_ai.request.model";
    for line in [duration, "llm_requests_started_total endpoint operation"] {
        assert!(said.lines().any(|found| found == line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_the_page_and_has_its_numbers() {
    let Some(tool) = tool("prometheus") else { return };
    let watched = Watched::with(everything_can_happen, |exporter| exporter).await;
    let _running = everything(&watched).await;
    let page = watched.scrape().await;
    let prometheus = start_prometheus(&tool, watched.addr).await;
    prometheus.until("count_over_time(up[1m]) >= 3").await;
    assert_eq!(prometheus.value("up").await, Some(1.0));

    // The metrics no longer change, so Prometheus has the values of the page.
    let ours: Vec<_> = page.families().iter().filter(|(name, _)| name.starts_with("llm_")).collect();
    let mut compared = 0;
    for sample in ours.iter().flat_map(|(_, family)| &family.samples) {
        let value = prometheus.value(&selector(sample)).await;
        assert_eq!(value, Some(sample.value), "{sample:?}");
        compared += 1;
    }
    assert!(compared > 300, "{compared} samples");
    let series = prometheus.value("count({__name__=~\"llm_.+\"})").await;
    assert_eq!(series, Some(f64::from(compared)), "and no series more");

    // The quantile is in the bucket of the histogram's sample.
    let query = "histogram_quantile(0.9, sum by (le) (llm_model_load_seconds_bucket))";
    let load = prometheus.value(query).await.expect("a quantile");
    assert!((5.0..=8.0).contains(&load), "7 s lie between the bounds 5 and 8: {load}");
    for row in llm_metrics::catalog::all().filter(|row| row.kind == llm_metrics::catalog::Kind::Histogram) {
        let query = format!("histogram_quantile(0.5, sum by (le, model) ({}_bucket{{model=\"{MODEL}\"}}))", row.name);
        let median = prometheus.value(&query).await;
        assert!(median.is_some_and(f64::is_finite), "{}: {median:?}", row.name);
    }
    let help: serde_json::Value =
        serde_json::from_str(&prometheus.get("/api/v1/metadata?metric=llm_requests_total").await.expect("an answer"))
            .expect("JSON");
    assert_eq!(help["data"]["llm_requests_total"][0]["type"], "counter");
    assert_eq!(help["data"]["llm_requests_total"][0]["help"], llm_metrics::catalog::REQUESTS.help);

    let log = prometheus.log();
    let complaints: Vec<_> = log.lines().filter(|l| l.contains("level=warn") || l.contains("level=error")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

fn selector(sample: &llm_metrics_tests::Sample) -> String {
    let label = |(key, value): (&String, &String)| format!("{key}={}", serde_json::Value::from(value.as_str()));
    let labels: Vec<String> = sample.labels.iter().map(label).collect();
    format!("{}{{{}}}", sample.name, labels.join(","))
}
