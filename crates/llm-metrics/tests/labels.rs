//! The label values under which a request is recorded.

mod common;

use std::collections::HashSet;

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
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[]), 0, "they took no place of another name");
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
async fn the_requested_name_takes_precedence_over_that_in_the_answer() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, "{\"model\":\"alias\"}"), json("{\"model\":\"Qwen3-4B-0725\"}")).await.unwrap();
    assert_eq!(recording.take().counter("llm_requests_total", &[("model", "alias")]), 1);
}

#[tokio::test]
async fn the_name_in_the_answer_is_used_if_the_request_has_none() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, "{}"), json("{\"model\":\"Qwen3-4B\"}")).await.unwrap();
    exchange(&recording, post(CHAT, "{}"), json("{}")).await.unwrap();
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "Qwen3-4B")]), 1);
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "unknown")]), 1);
}

#[tokio::test]
async fn keys_inside_tools_and_messages_are_not_facts() {
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
async fn request_labels_have_a_separate_limit() {
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

/// The existing sets of model and tenant.
fn sets(recorded: &Recorded) -> HashSet<(String, String)> {
    let requests = recorded.series().filter(|(name, ..)| *name == "llm_requests_total");
    let value = |labels: &[(String, String)], key: &str| labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    requests
        .map(|(_, labels, _)| (value(labels, "model").unwrap(), value(labels, "tenant").unwrap_or_default()))
        .collect()
}

/// Metrics with a label from the header `x-tenant`.
fn with_tenants(policy: LabelPolicy, set_up: impl FnOnce(llm_metrics::Builder) -> llm_metrics::Builder) -> Recording {
    let tenant = |parts: &http::request::Parts| Some(parts.headers.get("x-tenant")?.to_str().ok()?.to_owned());
    Recording::with(|builder| set_up(builder.request_label("tenant", policy, tenant)))
}

async fn ask_as(recording: &Recording, model: &str, tenant: &str, status: u16) {
    let mut request = post(CHAT, serde_json::json!({ "model": model }).to_string());
    request.headers_mut().insert("x-tenant", tenant.parse().unwrap());
    exchange(recording, request, answer(status, "application/json", [Step::Data("{}")])).await.unwrap();
}

#[tokio::test]
async fn the_number_of_label_combinations_is_bounded() {
    let recording = with_tenants(LabelPolicy::first_accepted(1000), |builder| builder.max_label_sets(10));
    for tenant in 0..50 {
        for model in ["a", "b"] {
            ask_as(&recording, model, &tenant.to_string(), 200).await;
        }
    }
    let recorded = recording.take();
    let sets = sets(&recorded);
    assert_eq!(sets.len(), 11, "ten, and one for the rest: {sets:?}");
    assert_eq!(recorded.counter("llm_requests_total", &[]), 100, "totals are exact");
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "other"), ("tenant", "other")]), 90);
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[("label", "tenant")]), 90);
}

#[test]
fn there_is_room_for_any_number_of_declared_models_whatever_else_is_learnt() {
    let names: Vec<String> = (0..300).map(|n| format!("m{n:03}")).collect();
    let recording = Recording::with(|builder| builder.models(names.clone()).max_label_sets(1));
    for name in &names {
        recording.metrics.start(llm_metrics::Operation::Chat, name).finish(llm_metrics::FinishReason::Stop);
    }
    let recorded = recording.take();
    assert_eq!(sets(&recorded).len(), 300);
    let ended =
        recorded.series().filter(|(name, _, value)| *name == "llm_requests_total" && *value == &DebugValue::Counter(1));
    assert_eq!(ended.count(), 300, "each under its own name");
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[]), 0);
}

#[tokio::test]
async fn a_declared_model_keeps_its_name_if_there_is_no_room_for_its_tenants() {
    let recording =
        with_tenants(LabelPolicy::first_accepted(100), |builder| builder.models(["a", "b"]).max_label_sets(2));
    for tenant in 0..10 {
        ask_as(&recording, "a", &format!("t{tenant}"), 200).await;
    }
    ask_as(&recording, "b", "t9", 500).await;
    ask_as(&recording, "c", "t9", 200).await;
    let recorded = recording.take();
    let count = |model, tenant| recorded.counter("llm_requests_total", &[("model", model), ("tenant", tenant)]);
    assert_eq!((count("a", "t0"), count("a", "t1"), count("a", "other")), (1, 1, 8));
    assert_eq!((count("b", "other"), count("other", "other")), (1, 1));
    assert_eq!(
        recorded.counter("llm_metrics_label_overflow_total", &[("label", "tenant")]),
        10,
        "also of the one that failed"
    );
    assert_eq!(
        recorded.counter("llm_metrics_label_overflow_total", &[("label", "model")]),
        1,
        "the one that is not declared"
    );
}

#[tokio::test]
async fn a_learnt_model_keeps_its_name_if_its_set_without_tenants_is_known() {
    let recording = with_tenants(LabelPolicy::only(["x"]), |builder| builder.max_label_sets(1));
    ask_as(&recording, "a", "not on the list", 200).await;
    ask_as(&recording, "a", "x", 200).await;
    ask_as(&recording, "b", "x", 200).await;
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "a"), ("tenant", "other")]), 2);
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "other"), ("tenant", "other")]), 1);
    assert_eq!(sets(&recorded).len(), 2);
}

#[tokio::test]
async fn rejected_requests_take_no_label_set_and_are_not_overflow() {
    let recording = with_tenants(LabelPolicy::only(["x", "y", "z"]), |builder| {
        builder.model_labels(LabelPolicy::first_accepted(3)).max_label_sets(2)
    });
    ask_as(&recording, "a", "x", 200).await;
    for (model, tenant) in [("a", "y"), ("a", "z"), ("b", "x"), ("c", "made up"), ("a", "x")] {
        ask_as(&recording, model, tenant, 401).await;
    }
    ask_as(&recording, "b", "z", 200).await;
    let recorded = recording.take();
    let count = |model, tenant| recorded.counter("llm_requests_total", &[("model", model), ("tenant", tenant)]);
    assert_eq!(count("a", "x"), 2, "a known set is counted in");
    assert_eq!(count("b", "z"), 1, "the second place was free");
    assert_eq!(count("other", "other"), 4);
    assert_eq!(sets(&recorded).len(), 3);
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[]), 0);
}

#[tokio::test]
async fn a_reserved_value_stays_on_rejected_requests_and_beyond_the_limit() {
    let recording = with_tenants(LabelPolicy::only(["x", "y"]).reserved(), |builder| {
        builder.model_labels(LabelPolicy::first_accepted(9)).max_label_sets(1)
    });
    for (model, tenant, status) in [
        ("a", "x", 401),
        ("a", "x", 200),
        ("a", "y", 429),
        ("b", "y", 200),
        ("b", "made up", 401),
        ("c", "made up", 200),
    ] {
        ask_as(&recording, model, tenant, status).await;
    }
    let recorded = recording.take();
    let count = |model, tenant| recorded.counter("llm_requests_total", &[("model", model), ("tenant", tenant)]);
    assert_eq!((count("a", "x"), count("other", "x")), (1, 1), "the one place was taken by what was accepted");
    assert_eq!(count("other", "y"), 2);
    assert_eq!(count("other", "other"), 2);
    assert_eq!(sets(&recorded).len(), 4);
    let overflow = |label| recorded.counter("llm_metrics_label_overflow_total", &[("label", label)]);
    assert_eq!((overflow("tenant"), overflow("model")), (1, 2));
}

#[tokio::test]
async fn a_rejected_request_for_a_declared_model_has_its_name() {
    let recording = with_tenants(LabelPolicy::only(["x"]), |builder| builder.models(["a"]).max_label_sets(2));
    ask_as(&recording, "a", "x", 429).await;
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "a"), ("tenant", "other")]), 1);
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[]), 0);
}

#[tokio::test]
async fn a_request_without_a_tenant_does_not_use_the_room_of_one_with_a_tenant() {
    let recording = with_tenants(LabelPolicy::first_accepted(9), |builder| builder.models(["a"]).max_label_sets(1));
    ask(&recording, "a", 200).await;
    ask(&recording, "", 200).await;
    ask_as(&recording, "a", "", 200).await;
    ask_as(&recording, "a", "t", 200).await;
    let recorded = recording.take();
    let count = |model, tenant| recorded.counter("llm_requests_total", &[("model", model), ("tenant", tenant)]);
    assert_eq!((count("a", "unknown"), count("unknown", "unknown"), count("a", "t")), (2, 1, 1));
}

/// The address in a client's request has the host. The address in a server's request does not.
#[tokio::test]
async fn the_upstream_is_the_host_and_port_that_a_request_is_sent_to() {
    let recording = Recording::with(|builder| builder.upstream_label(LabelPolicy::first_accepted(9)));
    for address in ["http://GPU-1:8000", "https://user:secret@api.example.com", "http://[::1]:9", ""] {
        exchange(&recording, post(&format!("{address}{CHAT}"), ASK), json("{}")).await.unwrap();
    }
    let recorded = recording.take();
    for upstream in ["gpu-1:8000", "api.example.com", "[::1]:9", "unknown"] {
        assert_eq!(recorded.counter("llm_requests_total", &[("upstream", upstream)]), 1, "{upstream}");
    }
}

#[tokio::test]
async fn a_prefix_is_on_every_name() {
    let recording = Recording::with(|builder| builder.naming(Naming::new().prefix("qwen").unwrap()));
    ask(&recording, "a", 200).await;
    assert!(recording.take().series().all(|(name, ..)| name.starts_with("qwen_")));
}

#[tokio::test]
async fn requests_that_are_not_model_calls_are_not_recorded() {
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
async fn completions_are_a_separate_operation() {
    let recording = Recording::new();
    let text = "data: {\"choices\":[{\"index\":0,\"text\":\"Hello\",\"finish_reason\":\"stop\"}]}\n\n";
    exchange(&recording, post(COMPLETIONS, ASK), stream([Step::Data(text), Step::Data(DONE)])).await.unwrap();
    let recorded = recording.take();
    let labels = [("operation", "text_completion"), ("endpoint", "/v1/completions"), ("outcome", "success")];
    assert_eq!(recorded.counter("llm_requests_total", &labels), 1);
    assert_eq!(recorded.counter("llm_requests_started_total", &labels[..2]), 1);
}
