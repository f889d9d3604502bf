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

/// How the dashboards query a metric.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// The rate and the increase of a counter. One that is selected by a label is also divided by the rate of all its series.
    Counter,
    /// The rate of a counter, divided by the rate of another one.
    Ratio(&'static str),
    /// Aggregates of a gauge, now and over time.
    Gauge,
    /// Quantiles, the mean, the rate of samples, the distribution, and the shares below these bounds, in the spelling of the dashboards.
    Histogram(&'static [&'static str]),
}

/// A metric, the matcher of its own label, and how it is queried.
struct Ask(&'static str, &'static str, Form);

const FIRST_TOKEN_BOUNDS: &[&str] = &["0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0", "10.0"];
const PER_TOKEN_BOUNDS: &[&str] = &["0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.5"];

/// The labels by which the dashboards group the metrics of an engine, and those of a target.
const BY_ENGINE: &[&str] = &["", "model_name", "instance", "model_name, instance", "instance, engine"];
const BY_TARGET: &[&str] = &["", "instance"];

/// The dashboards' variables, set to all values. They are the labels of `vllm:num_requests_running`.
const ENGINE: &str = "job=~\".+\", instance=~\".+\", model_name=~\".+\", engine=~\".+\"";
const TARGET: &str = "job=~\".+\", instance=~\".+\"";

/// The metrics of vLLM's four dashboards, as of `tools/generate_grafana_dashboards.py` in its commit 0b9faa4.
const METRICS: &[&str] = &[
    "http_request_duration_seconds",
    "http_requests_total",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "up",
    "vllm:cache_config_info",
    "vllm:e2e_request_latency_seconds",
    "vllm:engine_sleep_state",
    "vllm:estimated_flops_per_gpu_total",
    "vllm:estimated_read_bytes_per_gpu_total",
    "vllm:estimated_write_bytes_per_gpu_total",
    "vllm:external_prefix_cache_hits_total",
    "vllm:external_prefix_cache_queries_total",
    "vllm:generation_tokens_total",
    "vllm:inter_token_latency_seconds",
    "vllm:iteration_tokens_total",
    "vllm:kv_block_idle_before_evict_seconds",
    "vllm:kv_block_lifetime_seconds",
    "vllm:kv_block_reuse_gap_seconds",
    "vllm:kv_cache_usage_perc",
    "vllm:kv_offload_allocation_failure_total",
    "vllm:kv_offload_cpu_cache_read_usage_perc",
    "vllm:kv_offload_cpu_cache_usage_perc",
    "vllm:kv_offload_cpu_cache_write_usage_perc",
    "vllm:kv_offload_load_bytes_total",
    "vllm:kv_offload_load_size",
    "vllm:kv_offload_load_time_total",
    "vllm:kv_offload_lookup_async_delay_seconds",
    "vllm:kv_offload_lookup_sync_delay_seconds",
    "vllm:kv_offload_store_bytes_total",
    "vllm:kv_offload_store_size",
    "vllm:kv_offload_store_time_total",
    "vllm:kv_offload_stores_skipped_total",
    "vllm:lora_requests_info",
    "vllm:mm_cache_hits_total",
    "vllm:mm_cache_queries_total",
    "vllm:nixl_bytes_transferred",
    "vllm:nixl_num_descriptors",
    "vllm:nixl_num_failed_notifications_total",
    "vllm:nixl_num_failed_transfers_total",
    "vllm:nixl_num_kv_expired_reqs_total",
    "vllm:nixl_num_notifications_after_expiry_total",
    "vllm:nixl_post_time_seconds",
    "vllm:nixl_xfer_time_seconds",
    "vllm:num_preemptions_total",
    "vllm:num_requests_kv_fetch_by_stage",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:num_requests_waiting_by_reason",
    "vllm:prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prompt_tokens_by_source_total",
    "vllm:prompt_tokens_cached_by_source_total",
    "vllm:prompt_tokens_cached_total",
    "vllm:prompt_tokens_total",
    "vllm:request_decode_time_seconds",
    "vllm:request_generation_tokens",
    "vllm:request_prefill_kv_computed_tokens",
    "vllm:request_prefill_time_seconds",
    "vllm:request_prompt_tokens",
    "vllm:request_queue_time_seconds",
    "vllm:request_success_total",
    "vllm:request_time_per_output_token_seconds",
    "vllm:rl_weight_update_operation_duration_seconds",
    "vllm:simple_kv_offload_load_blocks_total",
    "vllm:simple_kv_offload_pending_store_blocks",
    "vllm:simple_kv_offload_save_outcomes_total",
    "vllm:simple_kv_offload_used_blocks",
    "vllm:sleep_mode_operation_duration_seconds",
    "vllm:spec_decode_num_accepted_tokens_per_pos_total",
    "vllm:spec_decode_num_accepted_tokens_total",
    "vllm:spec_decode_num_draft_tokens_total",
    "vllm:spec_decode_num_drafts_total",
    "vllm:time_to_first_token_seconds",
];

/// The metrics among them that a page has.
const ON_THE_PAGE: &[Ask] = &[
    Ask("vllm:request_success_total", "", Counter),
    Ask("vllm:request_success_total", "finished_reason=\"error\"", Counter),
    Ask("vllm:prompt_tokens_total", "", Counter),
    Ask("vllm:generation_tokens_total", "", Counter),
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
    Ask("vllm:num_requests_running", "", Gauge),
    Ask("vllm:num_requests_waiting", "", Gauge),
    Ask("vllm:kv_cache_usage_perc", "", Gauge),
    Ask("vllm:iteration_tokens_total", "", Histogram(&[])),
    Ask("vllm:num_preemptions_total", "", Counter),
    Ask("vllm:prefix_cache_hits_total", "", Ratio("vllm:prefix_cache_queries_total")),
    Ask("vllm:spec_decode_num_accepted_tokens_total", "", Counter),
    Ask("vllm:spec_decode_num_accepted_tokens_total", "", Ratio("vllm:spec_decode_num_draft_tokens_total")),
    Ask("vllm:spec_decode_num_accepted_tokens_total", "", Ratio("vllm:generation_tokens_total")),
    Ask("vllm:spec_decode_num_draft_tokens_total", "", Counter),
    Ask("http_requests_total", "", Counter),
    Ask("http_requests_total", "status=\"5xx\"", Counter),
    Ask("http_requests_total", "status=\"4xx\"", Counter),
    Ask("http_requests_total", "status=\"2xx\"", Counter),
    Ask("http_request_duration_seconds", "", Histogram(&[])),
    Ask("process_start_time_seconds", "", Gauge),
    Ask("process_cpu_seconds_total", "", Counter),
    Ask("process_resident_memory_bytes", "", Gauge),
    Ask("process_open_fds", "", Gauge),
    Ask("process_max_fds", "", Gauge),
    Ask("up", "", Gauge),
];

/// Expressions of the dashboards that have other labels or several metrics.
fn others() -> Vec<String> {
    let rate = |name: &str, scope: &str| format!("rate({name}{{{scope}}}[1m])");
    let finished = rate("vllm:request_success_total", ENGINE);
    let [answered, failed] = ["", ", status=\"5xx\""].map(|m| rate("http_requests_total", &format!("{TARGET}{m}")));
    let [duration, count] = ["sum", "count"].map(|end| rate(&format!("http_request_duration_seconds_{end}"), TARGET));
    let [drafts, accepted] =
        ["draft", "accepted"].map(|kind| rate(&format!("vllm:spec_decode_num_{kind}_tokens_total"), ENGINE));
    vec![
        format!("sum by (finished_reason) ({finished})"),
        format!(
            "sum by (finished_reason) ({finished}) / ignoring (finished_reason) group_left () (sum({finished}) > 0)"
        ),
        format!("sum by (status) ({answered})"),
        format!("sum by (handler) ({answered})"),
        format!("(sum({failed}) or vector(0)) / (sum({answered}) > 0)"),
        // This metric has no `handler`, so there is one line.
        format!("sum by (handler) ({duration}) / (sum by (handler) ({count}) > 0)"),
        format!("sum({drafts}) - sum({accepted})"),
        format!(
            "max by (model_name, instance) ((time() - process_start_time_seconds{{{TARGET}}}) * on (job, instance) \
             group_left (model_name) group by (job, instance, model_name) (vllm:num_requests_running{{{ENGINE}}}))"
        ),
        format!("sum by (instance) (process_open_fds{{{TARGET}}}) / sum by (instance) (process_max_fds{{{TARGET}}})"),
        "count(up{job=~\".+\"} == 0) or vector(0)".to_owned(),
    ]
}

/// The other metrics of the dashboards, from the table in docs/dialects.md. A name that ends in `*` means all names with that beginning.
fn known_only_to_the_engine() -> Vec<&'static str> {
    let document = include_str!("../../docs/dialects.md");
    let rows = document.lines().filter(|line| line.starts_with('|') && line.contains("`vllm:"));
    let cells = rows.filter_map(|row| row.rsplit('|').nth(1)).filter(|cell| !cell.contains('…'));
    cells.flat_map(|cell| cell.split('`').filter(|name| name.starts_with("vllm:"))).collect()
}

/// Whether an entry of that table means this metric.
fn is_named(entry: &str, name: &str) -> bool {
    entry.strip_suffix('*').map_or(entry == name, |start| name.starts_with(start))
}

impl Ask {
    /// The names in its expressions, without the suffixes of a histogram.
    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let other = if let Ratio(other) = self.2 { Some(other) } else { None };
        [self.0].into_iter().chain(other)
    }

    /// The expressions, each by every set of labels.
    fn expressions(&self) -> Vec<String> {
        let Self(name, matcher, form) = self;
        let (scope, groups) = if name.starts_with("vllm:") { (ENGINE, BY_ENGINE) } else { (TARGET, BY_TARGET) };
        groups.iter().flat_map(|group| form.expressions(name, matcher, scope, group)).collect()
    }
}

impl Form {
    fn expressions(self, name: &str, matcher: &str, scope: &str, group: &str) -> Vec<String> {
        let select = |name: &str, matcher: &str| match matcher {
            "" => format!("{name}{{{scope}}}"),
            _ => format!("{name}{{{scope}, {matcher}}}"),
        };
        let rate = |name: &str, matcher: &str| format!("rate({}[1m])", select(name, matcher));
        let increase = |name: &str| format!("increase({}[1m])", select(name, ""));
        let sum = |operand: &str| format!("sum by ({group}) ({operand})");
        let ratio = |of: &str, to: &str| format!("{} / ({} > 0)", sum(of), sum(to));
        match self {
            Counter if matcher.is_empty() => vec![sum(&rate(name, "")), format!("round({})", sum(&increase(name)))],
            Counter => vec![sum(&rate(name, matcher)), ratio(&rate(name, matcher), &rate(name, ""))],
            Ratio(other) => vec![ratio(&rate(name, matcher), &rate(other, ""))],
            Gauge => {
                let now = ["max", "min", "avg", "sum", "count"].map(|op| (op, select(name, matcher)));
                let over = ["max_over_time", "last_over_time"];
                let over = over.map(|function| ("max", format!("{function}({}[1m])", select(name, matcher))));
                now.into_iter().chain(over).map(|(op, operand)| format!("{op} by ({group}) ({operand})")).collect()
            }
            Histogram(bounds) => {
                let [buckets, total, count] = ["bucket", "sum", "count"].map(|suffix| format!("{name}_{suffix}"));
                let by_bound = |operand: &str| match group {
                    "" => format!("sum by (le) ({operand})"),
                    _ => format!("sum by (le, {group}) ({operand})"),
                };
                let quantile = |q: &f64| format!("histogram_quantile({q}, {})", by_bound(&rate(&buckets, "")));
                let below = |le: &&str| ratio(&rate(&buckets, &format!("le=\"{le}\"")), &rate(&count, ""));
                let mut all: Vec<_> = [0.5, 0.95, 0.99].iter().map(quantile).collect();
                all.extend([
                    ratio(&rate(&total, ""), &rate(&count, "")),
                    sum(&rate(&count, "")),
                    by_bound(&rate(&buckets, "")),
                    format!(
                        "sum by (le) ({}) / on () group_left () (sum({}) > 0)",
                        increase(&buckets),
                        increase(&count)
                    ),
                ]);
                all.extend(bounds.iter().map(below));
                all
            }
        }
    }
}

#[test]
fn every_metric_of_vllms_dashboards_is_queried_or_known_only_to_the_engine() {
    let queried: BTreeSet<_> = ON_THE_PAGE.iter().flat_map(Ask::names).collect();
    let listed = known_only_to_the_engine();
    let is_listed = |name: &str| listed.iter().any(|listed| is_named(listed, name));
    for name in METRICS {
        assert!(queried.contains(name) != is_listed(name), "{name} must be in one of the lists, and not in both");
    }
    assert_eq!(queried.iter().find(|name| !METRICS.contains(name)), None, "no dashboard has this metric");
    let is_unused = |listed: &&&str| !METRICS.iter().any(|name| is_named(listed, name));
    assert_eq!(listed.iter().find(is_unused), None, "docs/dialects.md: no dashboard has this metric");
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
    let asked: BTreeSet<_> = ON_THE_PAGE.iter().flat_map(Ask::expressions).chain(others()).collect();
    for expression in &asked {
        let results = prometheus.query(expression).await;
        if !results.iter().any(|(_, value)| value.is_finite()) {
            without.push(format!("{expression}: {results:?}"));
        }
    }
    assert!(without.is_empty(), "{}", without.join("\n"));

    for absent in known_only_to_the_engine() {
        let found = page.families().keys().find(|name| is_named(absent, name));
        assert_eq!(found, None, "docs/dialects.md: only the engine knows {absent}");
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
