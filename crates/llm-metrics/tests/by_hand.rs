//! Without HTTP: requests that are measured by hand, and what an engine says about itself.

mod common;

use std::time::Duration;

use common::Recording;
use llm_metrics::{ErrorType, FinishReason, ModelInfo, Operation, Usage};

const PAUSE: Duration = Duration::from_millis(30);

#[test]
fn a_request_by_hand_has_the_same_metrics() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.reasoning_tokens(1);
    std::thread::sleep(PAUSE);
    inference.tokens(4);
    inference.usage(Usage::new().input(9).output(5).reasoning(1));
    inference.finish(FinishReason::Stop);

    let recorded = recording.take();
    recorded.assert_ended("success", None);
    let request =
        [("model", "m"), ("operation", "chat"), ("endpoint", "other"), ("stream", "true"), ("thinking", "true")];
    assert_eq!(recorded.counter("llm_requests_total", &request), 1);
    assert_eq!(recorded.samples("llm_time_to_first_token_seconds", &[]).len(), 1);
    assert!(recorded.samples("llm_time_to_first_answer_token_seconds", &[])[0] >= PAUSE.as_secs_f64());
    let gaps = recorded.samples("llm_inter_token_latency_seconds", &[]);
    assert_eq!(gaps.len(), 4, "four tokens of one step share its gap");
    assert!(gaps.iter().sum::<f64>() >= PAUSE.as_secs_f64() - 1e-9);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 5);
    assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", "engine")]), 1);
}

#[test]
fn tokens_are_counted_as_they_come() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.tokens(3);
    inference.handle().tokens(2);
    assert_eq!(recording.take().counter("llm_output_tokens_total", &[("model", "m")]), 5);
}

#[test]
fn dropping_it_is_a_cancellation() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Embeddings, "m");
    inference.tokens(3);
    drop(inference);
    let recorded = recording.take();
    recorded.assert_ended("cancelled", None);
    assert_eq!(recorded.counter("llm_discarded_tokens_total", &[("reason", "client_disconnect")]), 3);
}

#[test]
fn dropping_it_before_its_first_token_learns_no_name() {
    let recording = Recording::new();
    drop(recording.metrics.start(Operation::Chat, "m"));
    assert_eq!(recording.take().counter("llm_requests_total", &[("model", "other"), ("outcome", "cancelled")]), 1);
}

#[test]
fn a_failure_has_its_type() {
    let recording = Recording::new();
    recording.metrics.start(Operation::Chat, "m").fail(ErrorType::Overloaded);
    recording.take().assert_ended("error", Some(("overloaded", "none")));
}

#[test]
fn what_the_engine_could_not_finish_is_an_error() {
    let recording = Recording::new();
    recording.metrics.start(Operation::Chat, "m").finish(FinishReason::Error);
    recording.take().assert_ended("error", Some(("internal", "none")));
}

#[test]
fn an_absurd_number_of_tokens_is_discarded() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.tokens(1);
    inference.tokens(u64::MAX);
    inference.reasoning_tokens(u64::MAX);
    inference.finish(FinishReason::Stop);
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 1);
    assert!(recorded.samples("llm_inter_token_latency_seconds", &[]).is_empty());
    assert_eq!(recorded.counter("llm_metrics_inspection_failures_total", &[("kind", "implausible")]), 2);
}

#[test]
fn a_step_of_many_tokens_is_at_most_64_samples_of_its_gap_by_their_number() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.tokens(1);
    std::thread::sleep(PAUSE);
    inference.tokens(1000);
    inference.finish(FinishReason::Stop);
    let recorded = recording.take();
    let samples = recorded.samples("llm_inter_token_latency_seconds", &[]);
    assert_eq!(samples.len(), 64);
    let gap = recorded.samples("llm_stream_max_gap_seconds", &[])[0];
    assert!(samples.iter().all(|sample| (sample - gap / 1000.0).abs() < 1e-12), "{samples:?} of {gap}");
}

#[test]
fn a_model_that_is_loaded_again_is_loaded() {
    let recording = Recording::new();
    let mut loaded = recording.metrics.model_loaded(ModelInfo::new("m"), PAUSE);
    assert_eq!(recording.take().gauge("llm_model_info", &[]), 1.0);
    // A snapshot takes the value away: from here on, the gauge counts from 0.
    loaded = {
        let again = recording.metrics.model_loaded(ModelInfo::new("m"), PAUSE);
        drop(loaded);
        again
    };
    assert_eq!(recording.take().gauge("llm_model_info", &[]), 0.0, "one came, one went");
    drop(loaded);
}

#[test]
fn gauges_of_an_engine_that_is_gone_are_no_numbers() {
    let recording = Recording::new();
    let engine = recording.metrics.engine("m");
    engine.running(3);
    engine.gone();
    let recorded = recording.take();
    assert!(recorded.gauge("llm_engine_requests_running", &[]).is_nan());
    assert!(
        recorded.series().all(|(name, ..)| name != "llm_engine_requests_waiting"),
        "what was never set stays absent"
    );
}

#[test]
fn engine_gauges_show_what_was_pushed_and_nothing_else() {
    let recording = Recording::new();
    let engine = recording.metrics.engine("m");
    engine.running(3);
    engine.kv_cache_usage(0.25);
    engine.kv_cache_usage(f64::NAN);
    let recorded = recording.take();
    assert_eq!(recorded.gauge("llm_engine_requests_running", &[("model", "m")]), 3.0);
    assert_eq!(recorded.gauge("llm_engine_kv_cache_usage_ratio", &[("model", "m")]), 0.25);
    assert!(recorded.series().all(|(name, ..)| name != "llm_engine_requests_waiting"));
}

#[test]
fn a_model_is_loaded_until_its_guard_drops() {
    let recording = Recording::new();
    let info = ModelInfo::new("m").engine("mistral.rs").engine_version("0.8.1").context_length(4096);
    let loaded = recording.metrics.model_loaded(info, Duration::from_secs(2));
    let recorded = recording.take();
    let labels = [("model", "m"), ("engine", "mistral.rs"), ("quantization", ""), ("context_length", "4096")];
    assert_eq!(recorded.gauge("llm_model_info", &labels), 1.0);
    assert_eq!(recorded.samples("llm_model_load_seconds", &[("model", "m")]), [2.0]);
    drop(loaded);
    // A snapshot takes the value away: from here on, the gauge counts from 0.
    assert_eq!(recording.take().gauge("llm_model_info", &labels), -1.0);
}
