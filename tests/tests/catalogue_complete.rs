//! The page has every row of the catalogue, and no others.

use std::collections::{BTreeSet, HashSet};

use llm_metrics::catalog::{self, Kind};
use llm_metrics_tests::{
    Busy, Case, Client, Gate, MODEL, Script, Step, Watched, everything, everything_can_happen, post, stream,
};

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_described_metrics_are_emitted_with_their_type_help_and_labels() {
    let watched = Watched::with(everything_can_happen, |exporter| exporter).await;
    let _running = everything(&watched).await;
    // A request that is in flight while the page is read.
    let server = watched.answer(|_, _| Script::stream([Step::Hold(Gate::new())])).await;
    let mut client = Client::connect(server.addr).await;
    let _answer = client.send(post(server.addr, stream::CHAT, stream::ask(MODEL))).await;
    let page = watched.scrape().await;
    let mut faults = Vec::new();
    for row in catalog::all() {
        let Some(family) = page.families().get(row.name).filter(|family| !family.samples.is_empty()) else {
            faults.push(format!("{} is described and never emitted", row.name));
            continue;
        };
        if family.kind != row.kind.as_str() {
            faults.push(format!("{} is a {} and declared a {}", row.name, family.kind, row.kind));
        }
        if family.help.as_deref() != Some(row.help) {
            faults.push(format!("{} says of itself {:?}, and the catalogue {:?}", row.name, family.help, row.help));
        }
        let declared: BTreeSet<&str> = row.labels.iter().map(|label| label.name).collect();
        let emitted = family.label_names();
        if emitted != HashSet::from([declared.iter().copied().collect()]) {
            faults.push(format!("{} has labels {emitted:?}, and declares {declared:?}", row.name));
        }
        let says_something = family.samples.iter().any(|sample| sample.value != 0.0);
        if !says_something {
            faults.push(format!("{} is 0, whatever happens", row.name));
        }
    }
    let declared: HashSet<&str> = catalog::all().map(|row| row.name).collect();
    for name in page.families().keys().filter(|name| name.starts_with("llm_") && !declared.contains(name.as_str())) {
        faults.push(format!("{name} is emitted and not in the catalogue"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_a_closed_label_is_one_that_the_catalogue_lists() {
    let watched = Watched::with(everything_can_happen, |exporter| exporter).await;
    let _running = everything(&watched).await;
    let page = watched.scrape().await;
    for row in catalog::all() {
        for label in row.labels {
            let name = if row.kind == Kind::Histogram { format!("{}_count", row.name) } else { row.name.to_owned() };
            for value in page.label_values(&name, label.name) {
                assert!(label.allows(&value), "{name} has {label}={value:?}, which is not in {:?}", label.values);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_gauges_have_the_last_reported_values_and_an_unloaded_model_is_zero() {
    let watched = Watched::with(everything_can_happen, |exporter| exporter).await;
    let running = everything(&watched).await;
    let page = watched.scrape().await;
    let labels = [("model", MODEL)];
    assert_eq!(page.value("llm_engine_requests_running", &labels), 3.0);
    assert_eq!(page.value("llm_engine_requests_waiting", &labels), 12.0);
    assert_eq!(page.value("llm_engine_kv_cache_usage_ratio", &labels), 0.25);
    let info = [("model", MODEL), ("engine", "mistral.rs"), ("quantization", "Q4K"), ("context_length", "32768")];
    assert_eq!(page.value("llm_model_info", &info), 1.0);
    assert_eq!(page.histogram("llm_model_load_seconds", &labels).sum, 7.0);
    running.engine.running(0);
    running.engine.kv_cache_usage(1.5);
    drop(running.loaded);
    let page = watched.scrape().await;
    assert_eq!(page.value("llm_engine_requests_running", &labels), 0.0);
    let usage = page.value("llm_engine_kv_cache_usage_ratio", &labels);
    assert!(usage.is_nan(), "a value that is not a ratio is not known, but it is {usage}");
    assert_eq!(page.value("llm_model_info", &info), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_models_in_typical_use_stay_below_25_000_lines() {
    let watched = Watched::start().await;
    let busy = Busy::start(&watched).await;
    for n in 0..64 {
        let model = format!("Qwen/Qwen3-Model-Number-{n}");
        busy.send(&model, Case::Well).await;
        if n % 2 == 0 {
            busy.send(&model, Case::Thinking).await;
        }
        if n % 4 == 0 {
            busy.send(&model, Case::HangsUp).await;
        }
        if n % 4 == 1 {
            busy.send(&model, Case::Failed).await;
            busy.send(&model, Case::StreamError).await;
        }
    }
    let page = watched.settled().await;
    assert_eq!(page.label_values("llm_requests_total", "model").len(), 64);
    let lines = page.text.lines().count();
    println!("64 models in typical use: {lines} lines, {} KiB", page.text.len() / 1024);
    assert!(lines < 25_000, "{lines} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_has_as_many_series_as_documented() {
    let lines = |text: &str| text.lines().filter(|line| line.contains(&format!("model=\"{MODEL}\""))).count();
    let watched = Watched::start().await;
    let busy = Busy::start(&watched).await;
    busy.send(MODEL, Case::Well).await;
    let streams = lines(&watched.settled().await.text);
    for case in [Case::Thinking, Case::Whole, Case::HangsUp, Case::Failed, Case::RateLimited] {
        busy.send(MODEL, case).await;
    }
    let all = lines(&watched.settled().await.text);
    println!("a chat model: {streams} series, {all} with every outcome");
    let page = include_str!("../../docs/METRICS.md");
    for number in [streams, all] {
        assert!(page.contains(&format!("has {number} series")), "docs/METRICS.md does not say {number}");
    }
}
