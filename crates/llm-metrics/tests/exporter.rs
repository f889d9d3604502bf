//! The exporter as an embedder meets it.

#![cfg(feature = "prometheus")]

mod common;

use http::Request;
use llm_metrics::{
    LlmMetrics, Operation,
    catalog::{MetricDef, Naming, Section, Unit},
    prometheus::{CONTENT_TYPE, Error, Exporter},
};
use tower::ServiceExt;

fn with_one_request(metrics: &LlmMetrics) {
    let mut inference = metrics.start(Operation::Chat, "m");
    inference.tokens(1);
    inference.tokens(1);
    inference.finish(llm_metrics::FinishReason::Stop);
}

#[test]
fn no_histogram_is_a_summary_even_when_the_exporter_was_not_told_of_the_prefix() {
    let (recorder, exporter) = Exporter::builder().build().unwrap();
    let naming = Naming::new().prefix("qwen").unwrap();
    with_one_request(&LlmMetrics::builder().recorder(recorder).naming(naming).build().unwrap());
    let page = exporter.render();
    assert!(page.contains("# TYPE qwen_request_duration_seconds histogram"), "{page}");
    assert!(!page.contains("quantile="));
}

#[test]
fn buckets_of_ones_own_replace_the_catalogues() {
    let metric = "llm_request_duration_seconds";
    let (recorder, exporter) = Exporter::builder().buckets(metric, [1.0, 2.5]).build().unwrap();
    with_one_request(&LlmMetrics::builder().recorder(recorder).build().unwrap());
    let page = exporter.render();
    let bounds = page.lines().filter(|line| line.starts_with("llm_request_duration_seconds_bucket")).count();
    assert_eq!(bounds, 3, "two and +Inf");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let buckets =
        |bounds: &[f64]| Exporter::builder().buckets("llm_request_duration_seconds", bounds).build().map(drop);
    assert!(matches!(buckets(&[2.0, 1.0]), Err(Error::InvalidBuckets { .. })));
    assert!(matches!(buckets(&[]), Err(Error::InvalidBuckets { .. })));
    let unknown = Exporter::builder().buckets("llm_ttft", [1.0]).build().map(drop);
    assert!(matches!(unknown, Err(Error::UnknownHistogram { .. })));
    for name in ["le", "model", "a-b"] {
        assert!(
            matches!(Exporter::builder().constant_label(name, "x").build().map(drop), Err(Error::Label(_))),
            "{name}"
        );
    }
    let twice = Exporter::builder().constant_label("region", "a").constant_label("region", "b").build().map(drop);
    assert!(matches!(twice, Err(Error::Label(_))));
}

/// What has the labels of its series in braces, and a value.
fn labels<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let series = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    series.map(|rest| rest.rsplit_once('}').expect("a closing brace").0).collect()
}

#[test]
fn a_histogram_has_its_labels_spelled_as_a_counter_has() {
    const THEIRS: &[Section] =
        &[Section::new("Theirs", &[MetricDef::histogram("my.own-seconds", Unit::Seconds, "Mine.", &[1.0])])];
    let builder = Exporter::builder().process_metrics(false).catalogue(THEIRS, Naming::new());
    let (recorder, exporter) = builder.constant_label("path", r#"\\host\a"b"#).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        metrics::counter!("my.own-count", "user-id" => "\\", "n" => "1", "n" => "2").increment(1);
        metrics::histogram!("my.own-seconds", "user-id" => "\\", "n" => "1", "n" => "2").record(0.5);
        // The same set, said in another way.
        metrics::histogram!("my.own-seconds", "n" => "2", "user-id" => "\\", "path" => r#"\\host\a"b"#).record(0.5);
    });
    let page = exporter.render();
    assert_eq!(labels(&page, "my_own_seconds_count"), labels(&page, "my_own_count"), "{page}");
    assert!(page.contains("# TYPE my_own_seconds histogram"), "{page}");
}

#[tokio::test]
async fn rendering_inside_a_runtime_does_not_panic() {
    let (_recorder, exporter) = Exporter::builder().build().unwrap();
    assert!(exporter.render().contains("process_"));
}

#[tokio::test]
async fn the_service_outlives_the_exporter_and_says_what_it_serves() {
    let (recorder, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
    LlmMetrics::builder().recorder(recorder).build().unwrap();
    let service = exporter.service();
    drop(exporter);
    let response = service.clone().oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], CONTENT_TYPE);
    let page = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&page).contains("llm_metrics_build_info"));
    let response = service.oneshot(Request::post("/").body(()).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()));
}

#[test]
fn a_scrape_refreshes_the_recent_window_of_metrics_that_were_built_with_the_exporter() {
    let naming = Naming::new().prefix("qwen").unwrap();
    let (_, exporter) = Exporter::builder().naming(naming).build().unwrap();
    let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
    with_one_request(&metrics);
    let value = |page: &str| -> f64 {
        let mut lines = page.lines().filter(|line| line.starts_with("qwen_recent_request_duration_seconds{"));
        let line = lines.find(|line| line.contains("stat=\"max\"")).unwrap_or_else(|| panic!("{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let first = value(&exporter.render());
    let mut slow = metrics.start(Operation::Chat, "m");
    slow.tokens(1);
    std::thread::sleep(std::time::Duration::from_millis(20));
    slow.finish(llm_metrics::FinishReason::Stop);
    let second = value(&exporter.render());
    assert!(first < second && second >= 0.02, "{first} {second}");
}

#[test]
fn what_nobody_refreshes_is_absent_and_not_stale() {
    let (recorder, exporter) = Exporter::builder().build().unwrap();
    with_one_request(&LlmMetrics::builder().recorder(recorder).build().unwrap());
    let page = exporter.render();
    assert!(page.contains("llm_request_duration_seconds") && !page.contains("llm_recent_"), "{page}");
}
