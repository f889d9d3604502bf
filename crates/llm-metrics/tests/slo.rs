//! Objectives: which requests meet them, which miss them, and which are not evaluated.

mod common;

use std::time::Duration;

use common::*;
use llm_metrics::{FinishReason, LabelPolicy, Objective, Operation};

/// No request is as fast as this.
const NEVER: Duration = Duration::from_nanos(1);
const ALWAYS: Duration = Duration::from_secs(3600);

const PAUSE: Step = Step::Wait(Duration::from_millis(2));

fn slo(name: &str) -> Objective {
    Objective::new(name)
}

fn with(objectives: impl IntoIterator<Item = Objective>) -> Recording {
    Recording::with(|builder| objectives.into_iter().fold(builder, llm_metrics::Builder::objective))
}

/// The numbers of requests that met and that missed each objective.
fn results<const N: usize>(recording: &Recording, names: [&str; N]) -> [(u64, u64); N] {
    let recorded = recording.take();
    let count = |slo, result| recorded.counter("llm_slo_requests_total", &[("slo", slo), ("result", result)]);
    names.map(|slo| (count(slo, "met"), count(slo, "missed")))
}

async fn streamed(recording: &Recording) {
    let steps = [ROLE, HELLO].map(Step::Data).into_iter().chain([PAUSE]).chain([WORLD, STOP, DONE].map(Step::Data));
    exchange(recording, post(CHAT, ASK), stream(steps.collect::<Vec<_>>())).await.unwrap();
}

async fn in_one_piece(recording: &Recording) {
    const ANSWER: &str = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    exchange(recording, post(CHAT, r#"{"model":"Qwen3-4B"}"#), json(ANSWER)).await.unwrap();
}

#[tokio::test]
async fn each_limit_decides_by_itself() {
    for (objective, expected) in [
        (slo("x").time_to_first_token(ALWAYS), (1, 0)),
        (slo("x").time_to_first_token(NEVER), (0, 1)),
        (slo("x").time_per_output_token(ALWAYS), (1, 0)),
        (slo("x").time_per_output_token(NEVER), (0, 1)),
        (slo("x").duration(ALWAYS), (1, 0)),
        (slo("x").duration(NEVER), (0, 1)),
    ] {
        let recording = with([objective.clone()]);
        streamed(&recording).await;
        assert_eq!(results(&recording, ["x"]), [expected], "{objective:?}");
    }
}

#[tokio::test]
async fn an_objective_is_met_only_if_every_limit_is_met() {
    let all = slo("x").time_to_first_token(ALWAYS).time_per_output_token(ALWAYS).duration(ALWAYS);
    for (objective, expected) in [
        (all.clone(), (1, 0)),
        (all.clone().time_to_first_token(NEVER), (0, 1)),
        (all.clone().time_per_output_token(NEVER), (0, 1)),
        (all.duration(NEVER), (0, 1)),
    ] {
        let recording = with([objective.clone()]);
        streamed(&recording).await;
        assert_eq!(results(&recording, ["x"]), [expected], "{objective:?}");
    }
}

#[tokio::test]
async fn a_limit_that_cannot_be_measured_is_ignored() {
    let recording = with([slo("x").time_to_first_token(NEVER).time_per_output_token(NEVER).duration(ALWAYS)]);
    in_one_piece(&recording).await;
    assert_eq!(results(&recording, ["x"]), [(1, 0)], "an answer in one piece has a duration alone");

    let recording = with([slo("x").time_per_output_token(NEVER).time_to_first_token(ALWAYS)]);
    exchange(&recording, post(CHAT, ASK), stream([ROLE, HELLO, STOP, DONE].map(Step::Data))).await.unwrap();
    assert_eq!(results(&recording, ["x"]), [(1, 0)], "one token has no time between tokens");
}

#[tokio::test]
async fn a_success_without_a_measurable_limit_does_not_count() {
    let recording = with([slo("x").time_to_first_token(NEVER), slo("y").time_per_output_token(ALWAYS)]);
    in_one_piece(&recording).await;
    assert_eq!(results(&recording, ["x", "y"]), [(0, 0); 2]);
}

#[tokio::test]
async fn an_error_has_missed_whatever_its_times() {
    for answer in [
        answer(500, "application/json", [Step::Data("{}")]),
        answer(503, "application/json", [Step::Data("{}")]),
        stream([ROLE, HELLO].map(Step::Data)),
        stream([Step::Data(HELLO), Step::Data("data: {\"error\":{\"message\":\"no\"}}\n\n")]),
    ] {
        let recording = with([slo("x").time_to_first_token(ALWAYS), slo("y").duration(ALWAYS)]);
        let _ = exchange(&recording, post(CHAT, ASK), answer).await;
        assert_eq!(results(&recording, ["x", "y"]), [(0, 1); 2]);
    }
}

#[tokio::test]
async fn rejected_and_cancelled_requests_do_not_count() {
    let recording = with([slo("x").duration(ALWAYS)]);
    for status in [400, 401, 404, 429, 499] {
        exchange(&recording, post(CHAT, ASK), answer(status, "application/json", [Step::Data("{}")])).await.unwrap();
    }
    let mut hung_up = recording.metrics.start(Operation::Chat, MODEL);
    hung_up.tokens(1);
    drop(hung_up);
    assert_eq!(results(&recording, ["x"]), [(0, 0)]);
}

#[tokio::test]
async fn an_objective_for_some_models_does_not_apply_to_others() {
    let for_small = slo("x").duration(ALWAYS).models(["small", "tiny"]);
    let recording = with([for_small, slo("y").duration(ALWAYS)]);
    for model in ["small", "large", "small", "tiny"] {
        recording.metrics.start(Operation::Chat, model).finish(FinishReason::Stop);
    }
    let recorded = recording.take();
    let met =
        |slo, model| recorded.counter("llm_slo_requests_total", &[("slo", slo), ("model", model), ("result", "met")]);
    assert_eq!(["small", "tiny", "large"].map(|model| met("x", model)), [2, 1, 0]);
    assert_eq!(["small", "tiny", "large"].map(|model| met("y", model)), [2, 1, 1]);
    let series = recorded
        .series()
        .filter(|(name, labels, _)| *name == "llm_slo_requests_total" && labels.iter().any(|(_, value)| value == "x"));
    assert_eq!(series.count(), 4, "two results for each of its models, and none for others");
}

#[tokio::test]
async fn an_objective_has_the_model_names_of_requests_before_the_policy_maps_them() {
    let lower = |policy: LabelPolicy| policy.map(|name| name.to_ascii_lowercase().into());
    for policy in [LabelPolicy::only(["Qwen3"]), LabelPolicy::first_accepted(1)] {
        let recording = Recording::with(|builder| {
            builder.model_labels(lower(policy)).objective(slo("x").duration(ALWAYS).models(["QWEN3"]))
        });
        recording.metrics.start(Operation::Chat, "Qwen3").finish(FinishReason::Stop);
        assert_eq!(results(&recording, ["x"]), [(1, 0)]);
    }
}

#[tokio::test]
async fn both_results_exist_at_zero_from_the_start_for_declared_models() {
    let recording = Recording::with(|builder| builder.models(["a", "b"]).objective(slo("x").duration(ALWAYS)));
    let recorded = recording.take();
    let mut series: Vec<_> = recorded
        .series()
        .filter(|(name, _, _)| *name == "llm_slo_requests_total")
        .map(|(_, labels, value)| {
            let label = |name: &str| labels.iter().find(|(key, _)| key == name).unwrap().1.clone();
            (label("model"), label("result"), value)
        })
        .collect();
    series.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let expected = [("a", "met"), ("a", "missed"), ("b", "met"), ("b", "missed")];
    assert_eq!(series.len(), expected.len(), "{series:?}");
    for ((model, result, value), expected) in series.iter().zip(expected) {
        assert_eq!((model.as_str(), result.as_str()), expected);
        assert_eq!(**value, metrics_util::debugging::DebugValue::Counter(0));
    }
}

#[tokio::test]
async fn request_labels_are_on_it_as_on_every_metric_with_a_model() {
    let recording = Recording::with(|builder| {
        builder.objective(slo("x").duration(ALWAYS)).request_label("tenant", LabelPolicy::only(["a"]), |parts| {
            Some(parts.headers.get("x-tenant")?.to_str().ok()?.to_owned())
        })
    });
    let mut request = post(CHAT, ASK);
    request.headers_mut().insert("x-tenant", "a".parse().unwrap());
    exchange(&recording, request, stream([HELLO, STOP, DONE].map(Step::Data))).await.unwrap();
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_slo_requests_total", &[("tenant", "a"), ("result", "met")]), 1);
}
