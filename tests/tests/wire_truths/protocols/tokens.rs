//! The number of tokens and the time of each, in each protocol.

use std::time::Duration;

use llm_metrics_tests::{Client, Http, Page, Script, Step, Watched, post};
use serde_json::Value;

use super::{Case, cases, steps};
use crate::assert_ended;

/// The keys under which output tokens are counted.
const OUTPUT: [&str; 4] = ["output_tokens", "eval_count", "tokens_predicted", "predicted_n"];
/// The objects and keys that hold counts.
const COUNTS: [&str; 6] =
    ["usage", "timings", "prompt_eval_count", "eval_count", "tokens_predicted", "tokens_evaluated"];

/// The same without any count.
fn without_counts(document: &mut Value) {
    if let Value::Object(members) = document {
        members.retain(|key, _| !COUNTS.contains(&key.as_str()));
        members.values_mut().for_each(without_counts);
    }
}

/// An event with its data changed.
fn changed(event: &str, change: impl Fn(&mut Value)) -> String {
    let (name, data) = event.split_at(event.find('{').expect("a document"));
    let mut document = serde_json::from_str(data).expect("a document");
    change(&mut document);
    format!("{name}{document}{}", &data[data.trim_end().len()..])
}

#[track_caller]
fn assert_no_output(page: &Page, source: &str, how: &str) {
    assert_ended(page, 1, "success");
    assert_eq!(page.value("llm_usage_reports_total", &[("source", source)]), 1.0, "{how}");
    assert_eq!(page.value("llm_usage_reports_total", &[]), 1.0, "{how}");
    for name in ["llm_input_tokens_total", "llm_output_tokens_total"] {
        assert_eq!(page.value(name, &[]), 0.0, "{how}: {name}");
    }
    for name in ["llm_request_input_tokens", "llm_request_output_tokens"] {
        assert_eq!(page.count(name, &[]), 0.0, "{how}: no zero in {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_usage_is_estimated_and_a_document_missing_and_nothing_is_zero() {
    for case in cases::all() {
        let events: Vec<_> = case.events.iter().map(|event| changed(event, without_counts)).collect();
        let page = case.stream(Http::One, steps(&events)).await;
        assert_no_output(&page, "estimated", case.endpoint);

        let mut document = case.document.clone();
        without_counts(&mut document);
        let watched = Watched::start().await;
        let answer = move |_: &_, _: &_| Script::json(document.to_string());
        let server = watched.answer_through(watched.metrics.layer().ollama(), answer).await;
        let mut client = Client::connect(server.addr).await;
        client.send(post(server.addr, case.endpoint, case.whole.to_string())).await.text().await;
        assert_no_output(&watched.settled().await, "missing", case.endpoint);
    }
}

/// The stream with one token, and with the matching counts.
fn one_token(case: &Case) -> Vec<String> {
    let events = case.without_tokens(&case.bearing[..1]).into_iter();
    let count = |event: String| {
        OUTPUT
            .iter()
            .fold(event, |event, key| event.replace(&format!("\"{key}\":{}", case.output), &format!("\"{key}\":1")))
    };
    events.map(count).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_one_token_has_no_time_per_token() {
    for case in cases::all() {
        let page = case.stream(Http::One, steps(&one_token(&case))).await;
        assert_ended(&page, 1, "success");
        assert_eq!(page.value("llm_output_tokens_total", &[]), 1.0, "{}", case.endpoint);
        for name in ["llm_time_per_output_token_seconds", "llm_inter_token_latency_seconds"] {
            assert_eq!(page.count(name, &[]), 0.0, "{}: {name}", case.endpoint);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_token_that_the_engine_counted_in_an_event_is_a_sample() {
    let case = cases::all().into_iter().find(|case| case.endpoint == "/completion").expect("llama.cpp");
    let count = |tokens: u64| move |event: &mut Value| event["tokens_predicted"] = tokens.into();
    let events = [
        Step::from(case.events[0].clone()),
        Step::Wait(Duration::from_millis(200)),
        Step::from(changed(&case.events[1], count(6))),
        Step::from(changed(&case.events[2], |event| {
            count(6)(event);
            event["timings"]["predicted_n"] = 6.into();
        })),
    ];
    let page = case.stream(Http::One, events.to_vec()).await;
    assert_ended(&page, 1, "success");
    let samples = page.histogram("llm_inter_token_latency_seconds", &[]);
    assert_eq!(samples.count, 5.0);
    assert!((0.2..1.0).contains(&samples.sum), "they add up to the gap: {}", samples.sum);
}
