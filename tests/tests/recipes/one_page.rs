// docs: prometheus
use llm_metrics::prometheus::Exporter;

fn with_prometheus(theirs: &prometheus::Registry, ours: &Exporter) -> prometheus::Result<String> {
    let page = prometheus::TextEncoder::new().encode_to_string(&theirs.gather())?;
    Ok(page + &ours.render())
}
// end

// docs: prometheus-client
fn with_prometheus_client(
    theirs: &prometheus_client::registry::Registry,
    ours: &Exporter,
) -> Result<String, std::fmt::Error> {
    let mut page = ours.render();
    prometheus_client::encoding::prometheus_text::encode(&mut page, theirs)?;
    Ok(page)
}
// end

use llm_metrics::{LlmMetrics, catalog::REQUEST_DURATION};
use llm_metrics_tests::Page;

use crate::answer;

/// The exporter of llm-metrics without process metrics, so that no name is on the page twice.
fn ours() -> Exporter {
    let (_, ours) = Exporter::builder().process_metrics(false).build().unwrap();
    answer(&LlmMetrics::builder().exporter(&ours).build().unwrap(), "Qwen3-4B");
    ours
}

#[track_caller]
fn assert_both(page: String) {
    let page = Page::parse(page);
    assert_eq!(page.value("jobs_total", &[("kind", "large")]), 3.0);
    assert_eq!(page.histogram("job_seconds", &[]).count, 1.0);
    assert_eq!(page.histogram(REQUEST_DURATION.name, &[("model", "Qwen3-4B")]).count, 1.0);
}

#[test]
fn one_page_has_the_metrics_of_llm_metrics_and_of_the_crate_prometheus() {
    let theirs = prometheus::Registry::new();
    let jobs = prometheus::IntCounterVec::new(prometheus::opts!("jobs_total", "Jobs."), &["kind"]).unwrap();
    let seconds = prometheus::Histogram::with_opts(prometheus::histogram_opts!("job_seconds", "A job.")).unwrap();
    theirs.register(Box::new(jobs.clone())).unwrap();
    theirs.register(Box::new(seconds.clone())).unwrap();
    jobs.with_label_values(&["large"]).inc_by(3);
    seconds.observe(0.2);
    assert_both(with_prometheus(&theirs, &ours()).unwrap());
}

#[test]
fn one_page_has_the_metrics_of_llm_metrics_and_of_prometheus_client() {
    use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};
    let mut theirs = prometheus_client::registry::Registry::default();
    let jobs = Family::<Vec<(String, String)>, Counter>::default();
    let seconds = Histogram::new([0.1, 1.0]);
    theirs.register("jobs", "Jobs", jobs.clone());
    theirs.register("job_seconds", "A job", seconds.clone());
    jobs.get_or_create(&vec![("kind".to_owned(), "large".to_owned())]).inc_by(3);
    seconds.observe(0.2);
    assert_both(with_prometheus_client(&theirs, &ours()).unwrap());
}
