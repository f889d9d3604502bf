//! The recent window and the ring of finished requests, as a service uses them.

mod common;

use std::time::{Duration, Instant};

use common::*;
use llm_metrics::{Endpoint, ErrorType, FinishReason, LabelPolicy, Operation, Outcome, RecentRequest, Thinking, Usage};

const PAUSE: Step = Step::Wait(Duration::from_millis(2));

fn only(recording: &Recording) -> RecentRequest {
    let mut requests = recording.metrics.recent_requests(usize::MAX);
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

#[tokio::test]
async fn a_finished_request_is_kept_with_all_its_recorded_values() {
    let recording = Recording::new();
    let before = Instant::now();
    let steps = [PAUSE, Step::Data(ROLE), Step::Data(HELLO), PAUSE, Step::Data(WORLD)];
    let steps = steps.into_iter().chain([STOP, USAGE, DONE].map(Step::Data));
    exchange(&recording, post(CHAT, ASK), stream(steps.collect::<Vec<_>>())).await.unwrap();
    let request = only(&recording);
    assert_eq!(&*request.model, MODEL);
    assert_eq!((request.operation, request.endpoint), (Operation::Chat, Endpoint::ChatCompletions));
    assert_eq!((request.outcome, request.error_type, request.status), (Outcome::Success, None, Some(200)));
    assert_eq!(request.finish_reason, Some(FinishReason::Stop));
    assert_eq!((request.stream, request.thinking), (true, Thinking::False));
    assert_eq!(request.usage, Usage::new().input(9).output(3));
    assert!(before < request.ended && request.ended <= Instant::now());
    let first = request.time_to_first_token.unwrap();
    assert_eq!(request.time_to_first_answer_token, Some(first));
    assert!(Duration::from_millis(2) <= first && first < request.duration, "{request:?}");
    let recorded = recording.take();
    let sample = |name: &str| recorded.samples(name, &[]);
    assert_eq!(sample("llm_request_duration_seconds"), [request.duration.as_secs_f64()]);
    assert_eq!(sample("llm_time_to_first_token_seconds"), [first.as_secs_f64()]);
    let each = request.time_per_output_token.unwrap().as_secs_f64();
    assert_eq!(sample("llm_time_per_output_token_seconds"), [each]);
}

#[tokio::test]
async fn unknown_values_of_a_request_are_absent() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), answer(503, "application/json", [Step::Data("{}")])).await.unwrap();
    let request = only(&recording);
    assert_eq!((request.outcome, request.error_type), (Outcome::Error, Some(ErrorType::Overloaded)));
    assert_eq!((request.status, request.finish_reason), (Some(503), None));
    assert_eq!((request.time_to_first_token, request.time_to_first_answer_token), (None, None));
    assert_eq!((request.time_per_output_token, request.usage), (None, Usage::new()));

    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), stream([HELLO, WORLD, STOP, DONE].map(Step::Data))).await.unwrap();
    assert_eq!(only(&recording).usage.output, None, "estimates from events are not known counts");
}

#[tokio::test]
async fn no_text_of_prompt_or_answer_is_kept() {
    let ask = r#"{"model":"made-up-secret","stream":true,"messages":[{"role":"user","content":"prompt-secret"}]}"#;
    let answers = [
        stream(vec![
            Step::Data("data: {\"choices\":[{\"delta\":{\"content\":\"answer-secret\"}}]}\n\n"),
            Step::Data(DONE),
        ]),
        answer(400, "application/json", [Step::Data(r#"{"error":{"message":"error-secret"}}"#)]),
    ];
    for answer in answers {
        let recording = Recording::with(|builder| builder.models([MODEL]));
        exchange(&recording, post(CHAT, ask), answer).await.unwrap();
        let kept = format!("{:?}", recording.metrics.recent_requests(10));
        assert!(kept.contains("\"other\"") && !kept.contains("secret"), "{kept}");
    }
}

#[test]
fn the_newest_come_first_and_no_more_than_1024_are_kept() {
    let recording = Recording::new();
    for n in 0..1500_u64 {
        let mut request = recording.metrics.start(Operation::Chat, MODEL);
        request.usage(Usage::new().input(n));
        request.finish(FinishReason::Stop);
    }
    let inputs = |limit| -> Vec<_> {
        recording.metrics.recent_requests(limit).iter().map(|request| request.usage.input.unwrap()).collect()
    };
    assert_eq!(inputs(3), [1499, 1498, 1497]);
    assert_eq!(inputs(0), [0; 0]);
    let all = inputs(usize::MAX);
    assert_eq!((all.len(), all.first(), all.last()), (1024, Some(&1499), Some(&476)));
}

#[tokio::test]
async fn a_window_has_successes_and_errors_without_rejected_and_cancelled_requests() {
    let recording = Recording::with(|builder| builder.models([MODEL]));
    for status in [400, 429] {
        exchange(&recording, post(CHAT, ASK), answer(status, "application/json", [Step::Data("{}")])).await.unwrap();
    }
    let mut hung_up = recording.metrics.start(Operation::Chat, MODEL);
    hung_up.tokens(1);
    drop(hung_up);
    exchange(&recording, post(CHAT, "{}"), answer(400, "application/json", [Step::Data("{}")])).await.unwrap();
    let models = recording.metrics.recent_models();
    assert_eq!(models.len(), 1, "a model without requests has no entry: {models:?}");
    assert_eq!((models[0].model.as_ref(), models[0].duration), (MODEL, None));
    assert_eq!(models[0].time_to_first_token.unwrap().count, 1, "its first token came");

    exchange(&recording, post(CHAT, ASK), answer(500, "application/json", [Step::Data("{}")])).await.unwrap();
    recording.metrics.start(Operation::Chat, MODEL).finish(FinishReason::Stop);
    assert_eq!(recording.metrics.recent_models()[0].duration.unwrap().count, 2);
    assert_eq!(recording.metrics.recent_requests(10).len(), 6, "the ring has them all");
}

#[tokio::test]
async fn a_first_token_shows_before_its_stream_ends() {
    let recording = Recording::new();
    let mut running = recording.metrics.start(Operation::Chat, MODEL);
    running.tokens(1);
    let models = recording.metrics.recent_models();
    assert_eq!(models[0].time_to_first_token.unwrap().count, 1);
    assert_eq!((models[0].duration, models[0].time_per_output_token), (None, None));
}

#[test]
fn gauges_exist_once_they_were_refreshed_and_have_the_values_of_the_windows() {
    let recording = Recording::new();
    recording.metrics.refresh();
    let mut request = recording.metrics.start(Operation::Chat, MODEL);
    request.tokens(1);
    std::thread::sleep(Duration::from_millis(1));
    request.tokens(1);
    request.finish(FinishReason::Stop);
    recording.metrics.refresh();
    let model = recording.metrics.recent_models().remove(0);
    let recorded = recording.take();
    for (name, recent) in [
        ("llm_recent_request_duration_seconds", model.duration),
        ("llm_recent_time_to_first_token_seconds", model.time_to_first_token),
        ("llm_recent_time_per_output_token_seconds", model.time_per_output_token),
    ] {
        let recent = recent.unwrap();
        assert_eq!(recent.count, 1);
        for (stat, time) in [("p50", recent.p50), ("p95", recent.p95), ("p99", recent.p99), ("max", recent.max)] {
            let labels = [("model", MODEL), ("stat", stat)];
            assert_eq!(recorded.gauge(name, &labels), time.as_secs_f64(), "{name} {stat}");
            assert_eq!(time, recent.max, "one sample is known exactly");
        }
    }
}

#[test]
fn models_over_the_cap_share_one_window() {
    let recording = Recording::with(|builder| builder.model_labels(LabelPolicy::first_accepted(2)));
    for n in 0..100 {
        recording.metrics.start(Operation::Chat, &format!("model-{n}")).finish(FinishReason::Stop);
    }
    let models = recording.metrics.recent_models();
    let counts: Vec<_> = models.iter().map(|model| (&*model.model, model.duration.unwrap().count)).collect();
    assert_eq!(counts, [("model-0", 1), ("model-1", 1), ("other", 98)]);
}

#[tokio::test]
async fn the_labels_of_a_recent_request_are_those_of_its_metrics() {
    let read =
        |name: &'static str| move |parts: &http::request::Parts| Some(parts.headers.get(name)?.to_str().ok()?.into());
    let recording = Recording::with(|builder| {
        let tenant = builder.request_label("tenant", LabelPolicy::first_accepted(1), read("x-tenant"));
        tenant.request_label("tier", LabelPolicy::only(["gold"]), read("x-tier"))
    });
    for (tenant, tier) in [("acme", "gold"), ("initech", "")] {
        let mut request = post(CHAT, ASK);
        request.headers_mut().insert("x-tenant", tenant.parse().unwrap());
        request.headers_mut().insert("x-tier", tier.parse().unwrap());
        exchange(&recording, request, stream([Step::Data(HELLO), Step::Data(STOP), Step::Data(DONE)])).await.unwrap();
    }
    let recent = recording.metrics.recent_requests(2);
    let labels = recent.iter().map(|request| ["tenant", "tier", "nobody's"].map(|name| request.label(name)));
    let expected = [[Some("other"), Some("unknown"), None], [Some("acme"), Some("gold"), None]];
    assert_eq!(labels.collect::<Vec<_>>(), expected, "the newest first");
    assert!(Recording::new().metrics.recent_requests(1).is_empty());
}
