// docs: metrics
use std::error::Error;

use llm_metrics::{
    LlmMetrics,
    catalog::{self, Naming},
    prometheus::{bind_buckets, render},
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

fn on_their_page(theirs: PrometheusBuilder) -> Result<(LlmMetrics, PrometheusHandle), Box<dyn Error>> {
    let naming = Naming::new();
    let page = bind_buckets(theirs, catalog::SECTIONS, &naming)?.install_recorder()?;
    let metrics = LlmMetrics::builder().naming(naming).build()?; // after the recorder is installed
    Ok((metrics, page))
}

/// The response of `/metrics`.
fn scrape(metrics: &LlmMetrics, page: &PrometheusHandle) -> String {
    render(metrics, page) // refreshes `llm_recent_…` first
}
// end

use llm_metrics::{catalog::REQUEST_DURATION, prometheus::Exporter};
use llm_metrics_tests::Page;

use crate::answer;

/// The only test here that installs a global recorder.
#[test]
fn the_page_of_an_existing_exporter_has_the_histograms_of_llm_metrics() {
    let (metrics, page) = on_their_page(PrometheusBuilder::new()).unwrap();
    metrics::counter!("jobs_total").increment(3);
    answer(&metrics, "Qwen3-4B");
    page.run_upkeep();
    let page = Page::parse(scrape(&metrics, &page));
    assert_eq!(page.value("jobs_total", &[]), 3.0);
    let histogram = page.histogram(REQUEST_DURATION.name, &[("model", "Qwen3-4B")]);
    assert_eq!(histogram.buckets.len(), REQUEST_DURATION.buckets.len() + 1);
    assert!(page.value("llm_recent_request_duration_seconds", &[("model", "Qwen3-4B"), ("stat", "max")]) > 0.0);

    let refused = Exporter::builder().install().expect_err("there is one");
    assert!(refused.to_string().contains("prometheus::bind_buckets"), "{refused}");
}
