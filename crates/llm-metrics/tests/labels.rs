//! Which label values a request is recorded under.

mod common;

use common::*;
use llm_metrics::{LabelPolicy, catalog::Naming};
use metrics_util::debugging::DebugValue;

async fn ask(recording: &Recording, model: &str, status: u16) {
    let body = serde_json::json!({ "model": model }).to_string();
    exchange(recording, post(CHAT, body), answer(status, "application/json", [Step::Data("{}")])).await.unwrap();
}

#[tokio::test]
async fn declared_models_have_every_outcome_at_zero_from_the_start() {
    let recording = Recording::with(|builder| builder.models(["a", "b"]));
    let recorded = recording.take();
    for model in ["a", "b"] {
        for outcome in ["success", "rejected", "error", "cancelled"] {
            let zero = recorded.series().any(|(name, labels, value)| {
                let has = |key: &str, wanted: &str| labels.iter().any(|(k, v)| k == key && v == wanted);
                name == "llm_requests_total"
                    && has("model", model)
                    && has("outcome", outcome)
                    && *value == DebugValue::Counter(0)
            });
            assert!(zero, "{model} {outcome}");
        }
    }
}

#[tokio::test]
async fn made_up_names_on_rejected_requests_are_never_learnt() {
    let recording = Recording::new();
    for name in 0..200 {
        ask(&recording, &format!("made-up-{name}"), 404).await;
    }
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "other"), ("outcome", "rejected")]), 200);
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[]), 0, "they took nobody's place");
}

#[tokio::test]
async fn names_over_the_cap_count_under_other() {
    let recording = Recording::with(|builder| builder.model_labels(LabelPolicy::first_accepted(2)));
    for name in ["a", "b", "c", "a", "d"] {
        ask(&recording, name, 200).await;
    }
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "a")]), 2);
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "b")]), 1);
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "other")]), 2);
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[("label", "model")]), 2);
}

#[tokio::test]
async fn the_requested_name_wins_over_the_answers() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, "{\"model\":\"alias\"}"), json("{\"model\":\"Qwen3-4B-0725\"}")).await.unwrap();
    assert_eq!(recording.take().counter("llm_requests_total", &[("model", "alias")]), 1);
}

#[tokio::test]
async fn the_answers_name_counts_where_the_request_had_none() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, "{}"), json("{\"model\":\"Qwen3-4B\"}")).await.unwrap();
    exchange(&recording, post(CHAT, "{}"), json("{}")).await.unwrap();
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "Qwen3-4B")]), 1);
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "unknown")]), 1);
}

#[tokio::test]
async fn keys_inside_tools_and_messages_are_no_facts() {
    let recording = Recording::new();
    let hostile = r#"{"messages":[{"role":"user","content":"\"model\":\"evil\"","model":"evil"}],
        "tools":[{"function":{"parameters":{"properties":{"model":"evil","stream":true}}}}],
        "metadata":{"model":"evil"},"model":"Qwen3-4B","stream":false}"#;
    exchange(&recording, post(CHAT, hostile), json("{}")).await.unwrap();
    assert_eq!(recording.take().counter("llm_requests_total", &[("model", "Qwen3-4B"), ("stream", "false")]), 1);
}

#[tokio::test]
async fn constant_labels_are_on_every_series() {
    let recording = Recording::with(|builder| builder.constant_label("region", "eu"));
    ask(&recording, "a", 200).await;
    for (name, labels, _) in recording.take().series() {
        assert!(labels.iter().any(|(key, value)| key == "region" && value == "eu"), "{name}");
    }
}

#[tokio::test]
async fn request_labels_have_a_cap_of_their_own() {
    let tenant = |parts: &http::request::Parts| Some(parts.headers.get("x-tenant")?.to_str().ok()?.to_owned());
    let recording = Recording::with(|builder| builder.request_label("tenant", LabelPolicy::first_accepted(2), tenant));
    for name in ["acme", "globex", "initech", "acme"] {
        let mut request = post(CHAT, "{\"model\":\"a\"}");
        request.headers_mut().insert("x-tenant", name.parse().unwrap());
        exchange(&recording, request, json("{}")).await.unwrap();
    }
    ask(&recording, "a", 200).await;
    let recorded = recording.take();
    for (tenant, count) in [("acme", 2), ("globex", 1), ("other", 1), ("unknown", 1)] {
        assert_eq!(recorded.counter("llm_requests_total", &[("tenant", tenant)]), count, "{tenant}");
    }
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[("label", "tenant")]), 1);
}

#[tokio::test]
async fn no_product_of_labels_is_unbounded() {
    let tenant = |parts: &http::request::Parts| Some(parts.headers.get("x-tenant")?.to_str().ok()?.to_owned());
    let recording = Recording::with(|builder| {
        builder.request_label("tenant", LabelPolicy::first_accepted(1000), tenant).max_label_sets(10)
    });
    for tenant in 0..50 {
        for model in ["a", "b"] {
            let mut request = post(CHAT, serde_json::json!({ "model": model }).to_string());
            request.headers_mut().insert("x-tenant", tenant.to_string().parse().unwrap());
            exchange(&recording, request, json("{}")).await.unwrap();
        }
    }
    let recorded = recording.take();
    let sets: std::collections::HashSet<_> = recorded
        .series()
        .filter(|(name, ..)| *name == "llm_requests_total")
        .map(|(_, labels, _)| {
            let value = |key: &str| labels.iter().find(|(k, _)| k == key).unwrap().1.clone();
            (value("model"), value("tenant"))
        })
        .collect();
    assert_eq!(sets.len(), 11, "ten, and one for the rest: {sets:?}");
    assert_eq!(recorded.counter("llm_requests_total", &[]), 100, "totals are exact");
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "other"), ("tenant", "other")]), 90);
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[("label", "tenant")]), 90);
}

#[tokio::test]
async fn a_prefix_is_on_every_name() {
    let recording = Recording::with(|builder| builder.naming(Naming::new().prefix("qwen").unwrap()));
    ask(&recording, "a", 200).await;
    assert!(recording.take().series().all(|(name, ..)| name.starts_with("qwen_")));
}

#[tokio::test]
async fn what_is_no_request_to_a_model_leaves_no_trace() {
    let recording = Recording::new();
    recording.metrics.register();
    let before: Vec<_> =
        recording.take().series().map(|(name, labels, _)| (name.to_owned(), labels.to_vec())).collect();
    for path in ["/metrics", "/health", "/v1/models", "/v1/chat", "/chat/completions/x", "/"] {
        exchange(&recording, post(path, ASK), stream([Step::Data(HELLO)])).await.unwrap();
    }
    let mut request = post(CHAT, ASK);
    *request.method_mut() = http::Method::GET;
    exchange(&recording, request, stream([Step::Data(HELLO)])).await.unwrap();
    let after = recording.take();
    assert_eq!(after.series().count(), before.len());
    assert_eq!(after.counter("llm_requests_started_total", &[]), 0);
}

#[tokio::test]
async fn completions_are_an_operation_of_their_own() {
    let recording = Recording::new();
    let text = "data: {\"choices\":[{\"index\":0,\"text\":\"Hello\",\"finish_reason\":\"stop\"}]}\n\n";
    exchange(&recording, post(COMPLETIONS, ASK), stream([Step::Data(text), Step::Data(DONE)])).await.unwrap();
    let recorded = recording.take();
    let labels = [("operation", "text_completion"), ("endpoint", "/v1/completions"), ("outcome", "success")];
    assert_eq!(recorded.counter("llm_requests_total", &labels), 1);
    assert_eq!(recorded.counter("llm_requests_started_total", &labels[..2]), 1);
}
