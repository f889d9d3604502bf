//! The effect of names, buckets and labels on the page.

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use llm_metrics::{
    LabelPolicy, LlmMetrics,
    catalog::{self, Kind, Naming},
    prometheus::Exporter,
};
use llm_metrics_tests::{Client, MODEL, Page, Script, Watched, serve, stream::*};

use crate::assert_ended;

/// Asserts that every histogram of the catalogue on the page has exactly these bounds.
#[track_caller]
fn assert_buckets(page: &Page, naming: &Naming) -> usize {
    let mut found = 0;
    for row in catalog::all().filter(|row| row.kind == Kind::Histogram) {
        let name = naming.name(row);
        let histogram = page.histogram(&name, &[]);
        if histogram.count == 0.0 {
            continue;
        }
        found += 1;
        let bounds: Vec<f64> = histogram.buckets.iter().map(|(bound, _)| *bound).collect();
        assert_eq!(bounds[..bounds.len() - 1], *row.buckets, "{name}");
    }
    assert!(!page.text.contains("quantile="), "a summary cannot be added up over instances");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_replaces_the_first_word_of_every_name_and_the_buckets_follow() {
    let naming = Naming::new().prefix("qwen").unwrap();
    let watched =
        Watched::with(|builder| builder.naming(naming.clone()), |exporter| exporter.naming(naming.clone())).await;
    watched.exchange(CHAT, ask(MODEL), || Script::stream([vec![thought("Hm")], well(3)].concat())).await;
    let page = watched.when(|page| page.count("qwen_request_output_tokens", &[]) == 1.0).await;
    assert!(!page.text.contains("llm_"), "no name keeps the old prefix");
    assert_eq!(assert_buckets(&page, &naming), 9);
    assert_eq!(page.value("qwen_metrics_build_info", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_histogram_has_the_buckets_of_the_catalogue() {
    let watched = Watched::start().await;
    let stream = [vec![thought("Hm")], well(3)].concat();
    watched.exchange(CHAT, ask(MODEL), move || Script::stream(stream.clone())).await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    assert_eq!(assert_buckets(&page, &Naming::new()), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_can_be_given_for_each_metric() {
    let bounds = [0.2, 0.4];
    let watched =
        Watched::with(|builder| builder, |exporter| exporter.buckets("llm_time_to_first_token_seconds", bounds)).await;
    watched.exchange(CHAT, ask(MODEL), || Script::stream(well(1))).await;
    let histogram = watched.settled().await.histogram("llm_time_to_first_token_seconds", &[]);
    let found: Vec<f64> = histogram.buckets.iter().map(|(bound, _)| *bound).collect();
    assert_eq!(found, [0.2, 0.4, f64::INFINITY]);
}

#[tokio::test(flavor = "multi_thread")]
async fn constant_labels_are_on_every_line_of_ours_or_on_every_line() {
    let watched = Watched::with(
        |builder| builder.constant_label("service", "assistant"),
        |exporter| exporter.constant_label("region", "eu"),
    )
    .await;
    watched.exchange(CHAT, ask(MODEL), || Script::stream(well(2))).await;
    let page = watched.settled().await;
    for (name, family) in page.families() {
        for sample in &family.samples {
            assert_eq!(sample.labels.get("region").map(String::as_str), Some("eu"), "{name}");
            let service = sample.labels.get("service").map(String::as_str);
            assert_eq!(service, name.starts_with("llm_").then_some("assistant"), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_models_exist_at_zero_before_the_first_request() {
    let watched = Watched::with(|builder| builder.models([MODEL, "Qwen3-14B"]), |exporter| exporter).await;
    let page = watched.scrape().await;
    for model in [MODEL, "Qwen3-14B"] {
        for outcome in ["success", "rejected", "error", "cancelled"] {
            let labels = [("model", model), ("outcome", outcome), ("endpoint", CHAT)];
            assert!(page.series("llm_requests_total", &labels) > 0, "{labels:?}");
            assert_eq!(page.value("llm_requests_total", &labels), 0.0);
        }
    }
    assert!(page.families().values().all(|family| family.kind != "histogram"), "empty histograms say nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_metrics_in_one_process_do_not_meet() {
    let (one, other) = (Watched::start().await, Watched::start().await);
    one.exchange(CHAT, ask(MODEL), || Script::stream(well(2))).await;
    assert_ended(&one.settled().await, 1, "success");
    assert_eq!(other.scrape().await.value("llm_requests_total", &[]), 0.0);
}

#[test]
fn a_label_that_histograms_need_is_rejected() {
    for name in ["le", "quantile"] {
        let constant = LlmMetrics::builder().constant_label(name, "x").build();
        assert!(constant.is_err(), "a second {name:?} on a line would cost the whole page");
        let policy = LabelPolicy::first_accepted(1);
        assert!(LlmMetrics::builder().request_label(name, policy, |_| None).build().is_err(), "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_constant_labels_are_escaped() {
    let value = "a \"quoted\" text, ünïcödé, and {braces}";
    let watched = Watched::with(
        |builder| builder.constant_label("service", value),
        |exporter| exporter.constant_label("region", value),
    )
    .await;
    watched.exchange(CHAT, ask(MODEL), || Script::stream(well(1))).await;
    let page = watched.settled().await;
    assert_eq!(page.value("llm_requests_total", &[("service", value)]), 1.0);
    assert_eq!(page.value("llm_requests_total", &[("region", value)]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_served_keeps_its_exporter_going() {
    let (_recorder, exporter) = Exporter::builder().build().unwrap();
    let server = serve(exporter.service()).await;
    let get = || Request::get("/metrics").header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(Client::connect(server.addr).await.send(get()).await.status(), 200);
    drop(exporter);
    assert_eq!(Client::connect(server.addr).await.send(get()).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_scrapers_at_once_all_get_their_page() {
    let watched = Watched::start().await;
    watched.exchange(CHAT, ask(MODEL), || Script::stream(well(1))).await;
    watched.settled().await;
    let pages = (0..32).map(|_| watched.scrape());
    for page in futures_util::future::join_all(pages).await {
        assert_eq!(page.value("llm_requests_total", &[]), 1.0);
    }
}
