//! Programs that read names of another dialect find them on a page with that dialect: vLLM's four dashboards, in a real Prometheus, and llm-d's
//! endpoint picker.

use std::collections::BTreeSet;

use llm_metrics::catalog::Dialect;
use llm_metrics_tests::{
    Busy, Case, MODEL, Page, Watched, everything, everything_can_happen,
    monitoring::{parse, text},
    start_prometheus, tool,
};

use self::Form::{Counter, Gauge, Histogram, Ratio};

/// How a dashboard queries a metric.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// The rate of a counter, by these labels.
    Counter(&'static [&'static str]),
    /// The ratio of the rates of two counters.
    Ratio(&'static str),
    /// A gauge, by these labels.
    Gauge(&'static [&'static str]),
    /// Quantiles, a mean, and shares below bounds, in the spelling of the dashboards.
    Histogram(&'static [&'static str]),
}

/// A metric, the matcher of its own label, and how it is queried.
struct Ask(&'static str, &'static str, Form);

const BY_ENGINE: &[&str] = &["model_name", "instance", "engine"];
const FIRST_TOKEN_BOUNDS: &[&str] = &["0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "10.0"];
const PER_TOKEN_BOUNDS: &[&str] = &["0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.5"];

/// The metrics of vLLM's dashboards that a page has, as of `tools/generate_grafana_dashboards.py` in its commit 0b9faa4.
const ON_THE_PAGE: &[Ask] = &[
    Ask("vllm:request_success_total", "", Counter(&["model_name", "finished_reason"])),
    Ask("vllm:request_success_total", "finished_reason=\"error\"", Counter(&["model_name"])),
    Ask("vllm:prompt_tokens_total", "", Counter(BY_ENGINE)),
    Ask("vllm:generation_tokens_total", "", Counter(BY_ENGINE)),
    Ask("vllm:prompt_tokens_cached_total", "", Ratio("vllm:prompt_tokens_total")),
    Ask("vllm:time_to_first_token_seconds", "", Histogram(FIRST_TOKEN_BOUNDS)),
    Ask("vllm:inter_token_latency_seconds", "", Histogram(&[])),
    Ask("vllm:request_time_per_output_token_seconds", "", Histogram(PER_TOKEN_BOUNDS)),
    Ask("vllm:e2e_request_latency_seconds", "", Histogram(&[])),
    Ask("vllm:request_queue_time_seconds", "", Histogram(&[])),
    Ask("vllm:request_prefill_time_seconds", "", Histogram(&[])),
    Ask("vllm:request_decode_time_seconds", "", Histogram(&[])),
    Ask("vllm:request_prompt_tokens", "", Histogram(&[])),
    Ask("vllm:request_generation_tokens", "", Histogram(&[])),
    Ask("vllm:num_requests_running", "", Gauge(BY_ENGINE)),
    Ask("vllm:num_requests_waiting", "", Gauge(BY_ENGINE)),
    Ask("vllm:kv_cache_usage_perc", "", Gauge(BY_ENGINE)),
    Ask("vllm:iteration_tokens_total", "", Histogram(&[])),
    Ask("vllm:num_preemptions_total", "", Counter(BY_ENGINE)),
    Ask("vllm:prefix_cache_hits_total", "", Ratio("vllm:prefix_cache_queries_total")),
    Ask("vllm:spec_decode_num_accepted_tokens_total", "", Ratio("vllm:spec_decode_num_draft_tokens_total")),
    Ask("http_requests_total", "status=\"5xx\"", Counter(&["status", "handler"])),
    Ask("http_requests_total", "status=\"4xx\"", Counter(&["status", "handler"])),
    Ask("http_requests_total", "status=\"2xx\"", Counter(&["status", "handler"])),
    // The dashboards group by `handler`, which this metric does not have, so there is one line.
    Ask("http_request_duration_seconds_sum", "", Ratio("http_request_duration_seconds_count")),
    Ask("process_start_time_seconds", "", Gauge(&["instance"])),
    Ask("process_cpu_seconds_total", "", Counter(&["instance"])),
    Ask("process_resident_memory_bytes", "", Gauge(&["instance"])),
    Ask("process_open_fds", "", Gauge(&["instance"])),
    Ask("process_max_fds", "", Gauge(&["instance"])),
    Ask("up", "", Gauge(&["instance"])),
];

/// The other metrics of the dashboards, from the table in docs/dialects.md. A name that ends in `*` means all names with that beginning.
fn known_only_to_the_engine() -> Vec<&'static str> {
    let document = include_str!("../../docs/dialects.md");
    let rows = document.lines().filter(|line| line.starts_with('|') && line.contains("`vllm:"));
    let cells = rows.filter_map(|row| row.rsplit('|').nth(1)).filter(|cell| !cell.contains('…'));
    cells.flat_map(|cell| cell.split('`').filter(|name| name.starts_with("vllm:"))).collect()
}

impl Ask {
    /// The expressions, with the dashboards' variables set to all values. The variables are the labels that are selected here, of
    /// `vllm:num_requests_running`.
    fn expressions(&self) -> Vec<String> {
        let Self(name, matcher, form) = self;
        let scope = match *name {
            name if name.starts_with("vllm:") => "job=~\".+\", instance=~\".+\", model_name=~\".+\", engine=~\".+\"",
            _ => "job=~\".+\", instance=~\".+\"",
        };
        let select = |name: &str, matcher: &str| {
            let matchers: Vec<_> = [scope, matcher].into_iter().filter(|matcher| !matcher.is_empty()).collect();
            format!("{name}{{{}}}", matchers.join(", "))
        };
        let rate = |name: &str, matcher: &str| format!("rate({}[1m])", select(name, matcher));
        match form {
            Counter(labels) => vec![format!("sum by ({}) ({})", labels.join(", "), rate(name, matcher))],
            Ratio(other) => vec![format!("sum({}) / (sum({}) > 0)", rate(name, matcher), rate(other, ""))],
            Gauge(labels) => vec![format!("max by ({}) ({})", labels.join(", "), select(name, matcher))],
            Histogram(bounds) => {
                let [bucket, sum, count] = ["bucket", "sum", "count"].map(|suffix| format!("{name}_{suffix}"));
                let quantile = |q| format!("histogram_quantile({q}, sum by (le, model_name) ({}))", rate(&bucket, ""));
                let count = format!("(sum({}) > 0)", rate(&count, ""));
                let below = |le: &&str| format!("sum({}) / {count}", rate(&bucket, &format!("le=\"{le}\"")));
                let mut all = vec![quantile(0.5), quantile(0.99), format!("sum({}) / {count}", rate(&sum, ""))];
                all.extend(bounds.iter().map(below));
                all
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_vllms_dashboards_have_a_result_unless_only_the_engine_knows_it() {
    let Some(tool) = tool("prometheus") else { return };
    let watched = Watched::with(everything_can_happen, |exporter| {
        exporter.dialects([Dialect::Llm, Dialect::Vllm]).process_metrics(true)
    })
    .await;
    let running = everything(&watched).await;
    let prometheus = start_prometheus(&tool, watched.addr).await;
    prometheus.until("count_over_time(up[1m]) >= 3").await;
    // Between two scrapes, so that rates change.
    let busy = Busy::start(&watched).await;
    running.step();
    for case in [Case::Well, Case::Thinking, Case::Engine, Case::Failed, Case::RateLimited, Case::StreamError] {
        busy.send(MODEL, case).await;
    }
    let page = watched.settled().await;
    let sent = page.value("vllm:generation_tokens_total", &[("model_name", MODEL)]);
    prometheus.until(&format!("vllm:generation_tokens_total{{model_name=\"{MODEL}\"}} >= {sent}")).await;

    let mut without = Vec::new();
    let asked: Vec<_> = ON_THE_PAGE.iter().flat_map(Ask::expressions).collect();
    for expression in &asked {
        let results = prometheus.query(expression).await;
        if !results.iter().any(|(_, value)| value.is_finite()) {
            without.push(format!("{expression}: {results:?}"));
        }
    }
    assert!(without.is_empty(), "{}", without.join("\n"));
    assert!(asked.len() > 50, "{}", asked.len());

    let names: BTreeSet<&str> = page.families().keys().map(String::as_str).collect();
    let absent = known_only_to_the_engine();
    assert!(absent.len() > 15, "{absent:?}");
    for absent in absent {
        let is_named =
            |name: &&&str| absent.strip_suffix('*').map_or(absent == **name, |start| name.starts_with(start));
        assert_eq!(names.iter().find(is_named), None, "docs/dialects.md: only the engine knows {absent}");
    }
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_all_metrics_in_the_configuration_of_llm_ds_picker() {
    let watched = Watched::with(everything_can_happen, |exporter| exporter).await;
    let running = everything(&watched).await;
    let page = watched.scrape().await;
    let manifest = parse(&text("kubernetes/llm-d-endpoint-picker.yml"));
    let config = parse(manifest["data"]["config.yaml"].as_str().expect("a file in the ConfigMap"));
    let plugins = config["plugins"].as_array().expect("a list of plugins");
    let engines = plugins.iter().filter_map(|plugin| plugin["parameters"]["engineConfigs"].as_array()).flatten();
    let ours = engines.clone().filter(|engine| engine["name"] == "llm-metrics").collect::<Vec<_>>();
    assert_eq!(ours.len(), 1, "{config}");
    let expected = [("queuedRequestsSpec", 12.0), ("runningRequestsSpec", 3.0), ("kvUsageSpec", 0.25)];
    for (key, value) in expected {
        let name = ours[0][key].as_str().unwrap_or_else(|| panic!("{key} names a metric"));
        assert_eq!(one(&page, name), value, "{key}");
    }
    drop(running);
}

/// The value of a gauge with one series.
#[track_caller]
fn one(page: &Page, name: &str) -> f64 {
    let samples: Vec<_> = page.samples(name, &[]).collect();
    assert_eq!(samples.len(), 1, "{name}");
    samples[0].value
}
