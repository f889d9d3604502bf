//! Names that a client invents add no series over the cap, and all their requests are in the totals.

use http::StatusCode;
use llm_metrics::LabelPolicy;
use llm_metrics_tests::{Client, MODEL, Page, Script, Server, Watched, post, stream::*};
use serde_json::json;

const NAMES: usize = 20_000;

/// The names of a hostile client.
fn hostile(n: usize) -> String {
    match n % 8 {
        0 => format!("model-{n}"),
        1 => format!("{}{n}", "x".repeat(300)),
        2 => format!("line\nbreak\r{n}\u{0}\u{7}"),
        3 => format!("ünïcödé-🦀-{n}"),
        4 => format!("\"}} 1\nllm_requests_total{{model=\"injected{n}\""),
        5 => format!("../../etc/passwd?{n}"),
        6 => format!("{n}\\"),
        _ => format!("other{n}\u{202e}"),
    }
}

/// Sends requests over a few connections at the same time, and reads every answer.
async fn send_all(server: &Server, requests: impl Fn(usize) -> (String, String) + Clone + Send + 'static) {
    let connections = 8;
    let mut sending = tokio::task::JoinSet::new();
    let addr = server.addr;
    for connection in 0..connections {
        let requests = requests.clone();
        sending.spawn(async move {
            let mut client = Client::connect(addr).await;
            for n in (connection..NAMES).step_by(connections) {
                let (path, body) = requests(n);
                client.send(post(addr, &path, body)).await.finish().await.unwrap();
            }
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap();
    }
}

fn series(page: &Page) -> usize {
    page.families().iter().filter(|(name, _)| name.starts_with("llm_")).map(|(_, family)| family.samples.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_hostile_names_leave_the_series_at_the_cap_and_the_totals_exact() {
    let watched =
        Watched::with(|builder| builder.model_labels(LabelPolicy::first_accepted(16)), |exporter| exporter).await;
    let server = watched.answer(|_, _| Script::json(completion("Hi", 9, 2))).await;
    send_all(&server, |n| (CHAT.to_owned(), json!({"model": hostile(n), "messages": []}).to_string())).await;
    let page = watched.settled().await;
    let names = page.label_values("llm_requests_total", "model");
    assert_eq!(names.len(), 17, "16 names and `other`: {names:?}");
    assert!(names.iter().all(|name| name.len() <= 128 && !name.chars().any(char::is_control)), "{names:?}");
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), NAMES as f64);
    assert_eq!(page.value("llm_output_tokens_total", &[]), 2.0 * NAMES as f64);
    assert_eq!(page.value("llm_input_tokens_total", &[]), 9.0 * NAMES as f64);
    assert_eq!(page.count("llm_request_duration_seconds", &[]), NAMES as f64);
    let named: f64 = names
        .iter()
        .filter(|name| *name != "other")
        .map(|name| page.value("llm_requests_total", &[("model", name)]))
        .sum();
    assert_eq!(page.value("llm_metrics_label_overflow_total", &[("label", "model")]), NAMES as f64 - named);

    let before = series(&page);
    for n in NAMES..NAMES + 16 {
        let body = json!({"model": hostile(n), "messages": []}).to_string();
        Client::connect(server.addr).await.send(post(server.addr, CHAT, body)).await.finish().await.unwrap();
    }
    assert_eq!(series(&watched.settled().await), before, "no series is born any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_differ_by_a_character_that_needs_escaping_stay_apart_on_the_page() {
    let watched = Watched::start().await;
    let server = watched.answer(|_, _| Script::json(completion("Hi", 9, 2))).await;
    let mut client = Client::connect(server.addr).await;
    let names = [r"a\b", r"a\\b", r#"a"b"#, r#"a\"b"#, r"a\nb", r"a\"];
    for name in &names {
        client.send(post(server.addr, CHAT, ask_whole(name))).await.finish().await.unwrap();
    }
    // Parsing the page fails if a series is on it twice.
    let page = watched.settled().await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), names.len() as f64);
    let found = page.label_values("llm_requests_total", "model");
    for name in found.iter().filter(|name| *name != "other") {
        assert!(names.contains(&name.as_str()), "{name:?} is none of {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_rejected_requests_are_not_learnt() {
    let watched = Watched::start().await;
    let server = watched
        .answer(|_, body| {
            let known = body.windows(MODEL.len()).any(|window| window == MODEL.as_bytes());
            let mut response = Script::json(completion("Hi", 9, 2));
            *response.status_mut() = if known { StatusCode::OK } else { StatusCode::NOT_FOUND };
            response
        })
        .await;
    let mut client = Client::connect(server.addr).await;
    for n in 0..100 {
        client.send(post(server.addr, CHAT, ask_whole(&format!("typo-{n}")))).await.finish().await.unwrap();
    }
    client.send(post(server.addr, CHAT, ask_whole(MODEL))).await.finish().await.unwrap();
    let page = watched.settled().await;
    let names = page.label_values("llm_requests_total", "model");
    assert_eq!(names, ["other".to_owned(), MODEL.to_owned()].into());
    assert_eq!(page.value("llm_request_errors_total", &[("model", "other"), ("error_type", "not_found")]), 100.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_paths_are_not_requests_and_create_no_series() {
    let watched = Watched::start().await;
    watched.metrics.register();
    let server = watched.answer(|_, _| Script::json(completion("Hi", 9, 2))).await;
    let before = series(&watched.scrape().await);
    send_all(&server, |n| (format!("/{:x}/v1/chat/completions{n}", n * 7919), ask_whole(MODEL))).await;
    let page = watched.scrape().await;
    assert_eq!(series(&page), before);
    assert_eq!(page.value("llm_requests_started_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_before_the_endpoint_never_becomes_a_label() {
    let watched = Watched::start().await;
    let server = watched.answer(|_, _| Script::json(completion("Hi", 9, 2))).await;
    let mut client = Client::connect(server.addr).await;
    for n in 0..50 {
        let path = format!("/tenant-{n}{CHAT}?key={n}");
        client.send(post(server.addr, &path, ask_whole(MODEL))).await.finish().await.unwrap();
    }
    let page = watched.settled().await;
    assert_eq!(page.value("llm_requests_total", &[("endpoint", CHAT)]), 50.0);
    assert_eq!(page.label_values("llm_requests_total", "endpoint"), [CHAT.to_owned()].into());
    assert!(!page.text.contains("tenant-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_the_embedder_are_capped_one_by_one() {
    let tenant = |parts: &http::request::Parts| Some(parts.headers.get("x-tenant")?.to_str().ok()?.to_owned());
    let watched = Watched::with(
        |builder| {
            builder
                .constant_label("region", "eu-west-1")
                .models([MODEL])
                .request_label("tenant", LabelPolicy::first_accepted(3), tenant)
                .request_label("priority", LabelPolicy::only(["high", "low"]), |parts| {
                    Some(parts.headers.get("x-priority")?.to_str().ok()?.to_owned())
                })
        },
        |exporter| exporter,
    )
    .await;
    let server = watched.answer(|_, _| Script::stream(well(2))).await;
    let mut client = Client::connect(server.addr).await;
    for n in 0..20 {
        let mut request = post(server.addr, CHAT, ask(MODEL));
        request.headers_mut().insert("x-tenant", format!("tenant-{n}").parse().unwrap());
        request.headers_mut().insert("x-priority", ["high", "urgent"][n % 2].parse().unwrap());
        client.send(request).await.text().await;
    }
    client.send(post(server.addr, CHAT, ask(MODEL))).await.text().await;
    let page = watched.settled().await;
    let ended = |labels: &[(&str, &str)]| page.value("llm_requests_total", labels);
    assert_eq!(ended(&[("tenant", "tenant-0")]), 1.0);
    assert_eq!(ended(&[("tenant", "other")]), 17.0);
    assert_eq!(ended(&[("tenant", "unknown"), ("priority", "unknown")]), 1.0);
    assert_eq!((ended(&[("priority", "high")]), ended(&[("priority", "other")])), (10.0, 10.0));
    assert_eq!(ended(&[]), 21.0);
    assert_eq!(page.value("llm_metrics_label_overflow_total", &[("label", "tenant")]), 17.0);
    assert_eq!(page.value("llm_metrics_label_overflow_total", &[("label", "priority")]), 10.0);
    assert_eq!(page.value("llm_metrics_label_overflow_total", &[("label", "model")]), 0.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[("tenant", "tenant-1"), ("priority", "other")]), 1.0);
    for (name, family) in page.families().iter().filter(|(name, _)| name.starts_with("llm_")) {
        for sample in &family.samples {
            assert_eq!(sample.labels.get("region").map(String::as_str), Some("eu-west-1"), "{name}");
        }
    }
}
