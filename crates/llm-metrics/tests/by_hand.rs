//! Requests that are measured without HTTP, and metrics that an engine reports about itself.

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::Recording;
use llm_metrics::{
    Endpoint, ErrorType, FinishReason, InferenceHandle, LabelPolicy, ModelInfo, Operation, RecentRequest, Usage,
};

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
    assert!(recorded.samples("llm_reasoning_duration_seconds", &[])[0] >= PAUSE.as_secs_f64());
    let gaps = recorded.samples("llm_inter_token_latency_seconds", &[]);
    assert_eq!(gaps.len(), 4, "four tokens of one step share its gap");
    assert!(gaps.iter().sum::<f64>() >= PAUSE.as_secs_f64() - 1e-9);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 5);
    assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", "engine")]), 1);
}

#[test]
fn operations_of_a_model_at_one_endpoint_have_separate_series() {
    let recording = Recording::new();
    for operation in [Operation::Chat, Operation::TextCompletion, Operation::Chat, Operation::TextCompletion] {
        recording.metrics.start(operation, "m").finish(FinishReason::Stop);
    }
    let recorded = recording.take();
    for operation in ["chat", "text_completion"] {
        let labels = [("model", "m"), ("endpoint", "other"), ("operation", operation)];
        assert_eq!(recorded.counter("llm_requests_total", &labels), 2, "{operation}");
    }
}

#[test]
fn tokens_are_counted_when_they_are_reported() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.tokens(3);
    inference.handle().tokens(2);
    assert_eq!(recording.take().counter("llm_output_tokens_total", &[("model", "m")]), 5);
}

#[test]
fn dropping_it_is_a_cancellation() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
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
fn reasoning_is_counted_step_by_step_if_its_amount_is_not_reported() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.reasoning_tokens(3);
    inference.reasoning_tokens(1);
    inference.tokens(2);
    inference.finish(FinishReason::Stop);
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 6);
    assert_eq!(recorded.counter("llm_output_reasoning_tokens_total", &[]), 4);
    assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "true")]), 1);
}

#[test]
fn tokens_of_a_request_that_is_not_streamed_have_no_times() {
    for (streamed, label) in [(false, "false"), (true, "true")] {
        let recording = Recording::new();
        let mut inference = recording.metrics.start(Operation::Chat, "m");
        inference.streamed(streamed);
        inference.tokens(1);
        inference.tokens(1);
        inference.finish(FinishReason::Stop);
        let recorded = recording.take();
        assert_eq!(recorded.counter("llm_requests_total", &[("stream", label)]), 1);
        for metric in ["llm_time_to_first_token_seconds", "llm_inter_token_latency_seconds"] {
            assert_eq!(recorded.samples(metric, &[]).len(), usize::from(streamed), "{metric}");
        }
    }
}

#[test]
fn an_embedding_is_not_streamed_and_its_output_is_not_missing() {
    for operation in [Operation::Embeddings, Operation::Rerank] {
        let recording = Recording::new();
        let mut inference = recording.metrics.start(operation, "m");
        inference.usage(Usage::new().input(9).output(0));
        inference.finish(FinishReason::Stop);
        let recorded = recording.take();
        recorded.assert_ended("success", None);
        assert_eq!(recorded.counter("llm_requests_total", &[("stream", "false"), ("model", "m")]), 1);
        assert_eq!(recorded.counter("llm_input_tokens_total", &[("operation", operation.as_str())]), 9);
        for nothing in [
            "llm_usage_reports_total",
            "llm_finish_reasons_total",
            "llm_output_tokens_total",
            "llm_request_output_tokens",
            "llm_outputs_total",
        ] {
            assert!(recorded.series().all(|(name, ..)| name != nothing), "{nothing} of {operation:?}");
        }
    }
}

#[test]
fn the_settings_of_a_started_request_are_in_its_labels() {
    let recording = Recording::with(|builder| {
        builder.request_label("tier", LabelPolicy::only(["gold"]), |_| None).request_label(
            "tenant",
            LabelPolicy::first_accepted(1),
            |_| None,
        )
    });
    let request = || recording.metrics.inference(Operation::Chat, "m").endpoint(Endpoint::ChatCompletions);
    let finish = |inference: llm_metrics::Inference| inference.finish(FinishReason::Stop);
    finish(request().label("tenant", "acme").label("tier", "gold").streamed(false).start());
    finish(request().label("tenant", "initech").label("nobody declared this", "x").start());
    finish(request().label("tenant", "").start());
    let recorded = recording.take();
    let count = |labels: &[(&str, &str)]| recorded.counter("llm_requests_total", labels);
    assert_eq!(count(&[("endpoint", "/v1/chat/completions")]), 3);
    assert_eq!(count(&[("tenant", "acme"), ("tier", "gold"), ("stream", "false")]), 1);
    assert_eq!(count(&[("tenant", "other"), ("tier", "unknown"), ("stream", "true")]), 1, "the cap holds by hand, too");
    assert_eq!(count(&[("tenant", "unknown"), ("tier", "unknown")]), 1);
    let recent = recording.metrics.recent_requests(3);
    assert!(recent.iter().all(|request: &RecentRequest| request.endpoint == Endpoint::ChatCompletions));
}

#[test]
fn an_unfinished_generation_is_an_upstream_error_only_at_a_client() {
    for (client, error) in [(true, "upstream_error"), (false, "internal")] {
        let recording = Recording::new();
        let request = recording.metrics.inference(Operation::Chat, "m");
        let request = if client { request.client() } else { request.server() };
        request.start().finish(FinishReason::Error);
        recording.take().assert_ended("error", Some((error, "none")));
    }
}

#[test]
fn tokens_that_the_handle_of_another_thread_reports_have_their_times() {
    let recording = Recording::new();
    let inference = recording.metrics.start(Operation::Chat, "m");
    let handle = inference.handle();
    let engine = std::thread::spawn(move || {
        handle.reasoning_tokens(2);
        std::thread::sleep(PAUSE);
        handle.tokens(1);
        std::thread::sleep(PAUSE);
        handle.tokens(4);
        handle
    });
    let handle = engine.join().unwrap();
    let live = recording.take();
    assert_eq!(live.gauge("llm_requests_in_flight", &[("phase", "streaming")]), 1.0, "as soon as it has a token");
    let [first] = live.samples("llm_time_to_first_token_seconds", &[])[..] else { panic!("one first token") };
    assert!(first < PAUSE.as_secs_f64() * 2.0);
    let gaps = live.samples("llm_inter_token_latency_seconds", &[]);
    assert_eq!(gaps.len(), 5);
    assert!(gaps[0] >= PAUSE.as_secs_f64() && gaps[1..].iter().sum::<f64>() >= PAUSE.as_secs_f64() - 1e-9, "{gaps:?}");
    assert_eq!(live.counter("llm_output_tokens_total", &[("model", "m")]), 7);

    inference.finish(FinishReason::Stop);
    handle.tokens(9);
    handle.reasoning_tokens(9);
    let ended = recording.take();
    assert_eq!(ended.counter("llm_requests_total", &[("outcome", "success"), ("thinking", "true")]), 1);
    assert_eq!(ended.counter("llm_output_reasoning_tokens_total", &[]), 2);
    assert_eq!(ended.counter("llm_output_tokens_total", &[]), 0, "nothing is recorded after the end");
    let [answer] = ended.samples("llm_time_to_first_answer_token_seconds", &[])[..] else { panic!("one answer") };
    assert!(answer >= PAUSE.as_secs_f64());
    assert_eq!(ended.samples("llm_time_per_output_token_seconds", &[]).len(), 1);
    // A snapshot resets the gauge, which counts from 0 afterwards.
    assert_eq!(ended.gauge("llm_requests_in_flight", &[("phase", "streaming")]), -1.0);
}

#[test]
fn a_request_ends_when_it_is_dropped_even_if_handles_exist() {
    let recording = Recording::new();
    let inference = recording.metrics.start(Operation::Chat, "m");
    let handle = inference.handle();
    handle.tokens(3);
    drop(inference);
    handle.tokens(1);
    let recorded = recording.take();
    recorded.assert_ended("cancelled", None);
    assert_eq!(recorded.counter("llm_discarded_tokens_total", &[("reason", "client_disconnect")]), 3);
}

#[test]
fn a_listener_may_report_a_step_of_the_same_request() {
    let handle: Arc<Mutex<InferenceHandle>> = Arc::default();
    let told = Arc::clone(&handle);
    let recording = Recording::with(|builder| builder.on_finding(move |_| told.lock().unwrap().tokens(2)));
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    *handle.lock().unwrap() = inference.handle();
    inference.tokens(1);
    inference.answer_text("<|im_end|>");
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_output_anomalies_total", &[]), 1);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 3);
    assert_eq!(recorded.samples("llm_inter_token_latency_seconds", &[]).len(), 2, "and it has its time");
    inference.finish(FinishReason::Stop);
}

#[test]
fn no_step_is_lost_if_several_threads_report_steps() {
    const THREADS: u64 = 4;
    const STEPS: u64 = 2_000;
    let recording = Recording::new();
    let inference = recording.metrics.start(Operation::Chat, "m");
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let handle = inference.handle();
            scope.spawn(move || (0..STEPS).for_each(|_| handle.tokens(1)));
        }
    });
    let gaps = recording.take().samples("llm_inter_token_latency_seconds", &[]).len() as u64;
    assert_eq!(gaps, THREADS * STEPS - 1);
    inference.finish(FinishReason::Stop);
}

#[test]
fn a_step_without_tokens_is_ignored() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.tokens(0);
    inference.reasoning_tokens(0);
    inference.fail(ErrorType::Overloaded);
    let recorded = recording.take();
    assert!(recorded.samples("llm_time_to_first_token_seconds", &[]).is_empty());
    assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "unknown")]), 1);
}

#[test]
fn gaps_between_tokens_are_not_recorded_if_that_is_turned_off() {
    let recording = Recording::with(|builder| builder.models(["m"]).inter_token_latency(false));
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.tokens(1);
    inference.tokens(1);
    inference.finish(FinishReason::Stop);
    let recorded = recording.take();
    assert!(recorded.samples("llm_inter_token_latency_seconds", &[]).is_empty());
    assert_eq!(recorded.samples("llm_time_to_first_token_seconds", &[("model", "m")]).len(), 1);
}

#[test]
fn a_failure_has_its_type() {
    let recording = Recording::new();
    recording.metrics.start(Operation::Chat, "m").fail(ErrorType::Overloaded);
    recording.take().assert_ended("error", Some(("overloaded", "none")));
}

#[test]
fn an_unfinished_generation_is_an_error() {
    let recording = Recording::new();
    recording.metrics.start(Operation::Chat, "m").finish(FinishReason::Error);
    recording.take().assert_ended("error", Some(("internal", "none")));
}

#[test]
fn an_implausible_number_of_tokens_is_discarded() {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.tokens(1);
    inference.tokens(u64::MAX);
    inference.reasoning_tokens((1 << 30) + 1);
    inference.finish(FinishReason::Stop);
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 1);
    assert!(recorded.samples("llm_inter_token_latency_seconds", &[]).is_empty());
    assert_eq!(recorded.counter("llm_metrics_inspection_failures_total", &[("kind", "implausible")]), 2);

    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    inference.tokens(1 << 30);
    inference.finish(FinishReason::Stop);
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 1 << 30);
    assert_eq!(recorded.counter("llm_metrics_inspection_failures_total", &[]), 0);
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
fn every_fact_about_a_model_is_in_its_labels() {
    let recording = Recording::new();
    let info =
        ModelInfo::new("m").engine("mistral.rs").engine_version("0.8.1").quantization("Q4K").context_length(40960);
    let _loaded = recording.metrics.model_loaded(info, PAUSE);
    let labels = [
        ("model", "m"),
        ("engine", "mistral.rs"),
        ("engine_version", "0.8.1"),
        ("quantization", "Q4K"),
        ("context_length", "40960"),
    ];
    assert_eq!(recording.take().gauge("llm_model_info", &labels), 1.0);
}

#[test]
fn a_model_that_is_loaded_again_is_loaded() {
    let recording = Recording::new();
    let mut loaded = recording.metrics.model_loaded(ModelInfo::new("m"), PAUSE);
    assert_eq!(recording.take().gauge("llm_model_info", &[]), 1.0);
    // A snapshot resets the gauge, which counts from 0 afterwards.
    loaded = {
        let again = recording.metrics.model_loaded(ModelInfo::new("m"), PAUSE);
        drop(loaded);
        again
    };
    assert_eq!(recording.take().gauge("llm_model_info", &[]), 0.0, "one came, one went");
    drop(loaded);
}

#[test]
fn gauges_of_an_engine_that_is_gone_are_nan() {
    let recording = Recording::new();
    let engine = recording.metrics.engine("m");
    engine.running(3);
    engine.gone();
    let recorded = recording.take();
    assert!(recorded.gauge("llm_engine_requests_running", &[]).is_nan());
    assert!(
        recorded.series().all(|(name, ..)| name != "llm_engine_requests_waiting"),
        "values that were never set are absent"
    );
}

#[test]
fn engine_gauges_show_only_reported_values() {
    let recording = Recording::new();
    let engine = recording.metrics.engine("m");
    engine.running(3);
    engine.waiting(None);
    engine.kv_cache_usage(1.5);
    let recorded = recording.take();
    assert_eq!(recorded.gauge("llm_engine_requests_running", &[("model", "m")]), 3.0);
    for never_known in ["llm_engine_requests_waiting", "llm_engine_kv_cache_usage_ratio"] {
        assert!(recorded.series().all(|(name, ..)| name != never_known), "{never_known}");
    }
}

#[test]
fn a_gauge_of_an_engine_is_nan_when_its_value_is_not_known_any_more() {
    let recording = Recording::new();
    let engine = recording.metrics.engine("m");
    let gauges = || {
        let recorded = recording.take();
        ["llm_engine_requests_running", "llm_engine_requests_waiting", "llm_engine_kv_cache_usage_ratio"]
            .map(|name| recorded.gauge(name, &[("model", "m")]))
    };
    let known = || {
        engine.running(3);
        engine.waiting(12);
        engine.kv_cache_usage(0.25);
    };
    for unknown in 0..3 {
        known();
        match unknown {
            0 => engine.running(None),
            1 => engine.waiting(None),
            _ => engine.kv_cache_usage(None),
        }
        let shown = gauges();
        for (gauge, value) in [3.0, 12.0, 0.25].into_iter().enumerate() {
            assert!(
                if gauge == unknown { shown[gauge].is_nan() } else { shown[gauge] == value },
                "{unknown}: {shown:?}"
            );
        }
    }
    for impossible in [-0.1, 1.5, f64::NAN] {
        known();
        engine.kv_cache_usage(impossible);
        assert!(gauges()[2].is_nan(), "{impossible}");
    }
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
    // A snapshot resets the gauge, which counts from 0 afterwards.
    assert_eq!(recording.take().gauge("llm_model_info", &labels), -1.0);
}

#[test]
fn metrics_of_engine_steps_exist_once_they_are_reported() {
    let recording = Recording::new();
    let engine = recording.metrics.engine("m");
    assert!(recording.take().series().all(|(name, ..)| !name.starts_with("llm_engine_")), "absent is not zero");

    for (requests, tokens) in [(1, 512), (3, 3)] {
        engine.batch_size(requests);
        engine.step_tokens(tokens);
    }
    engine.preempted(0);
    engine.prefix_cache(512, 256);
    engine.prefix_cache(100, 0);
    engine.drafted(8, 5);
    let recorded = recording.take();
    let of_model = [("model", "m")];
    assert_eq!(recorded.samples("llm_engine_batch_size", &of_model), [1.0, 3.0]);
    assert_eq!(recorded.samples("llm_engine_step_tokens", &of_model), [512.0, 3.0]);
    let count = |name| recorded.counter(name, &of_model);
    assert_eq!(count("llm_engine_prefix_cache_queried_tokens_total"), 612);
    assert_eq!(count("llm_engine_prefix_cache_hit_tokens_total"), 256);
    assert_eq!(count("llm_engine_draft_tokens_total"), 8);
    assert_eq!(count("llm_engine_accepted_draft_tokens_total"), 5);
    assert!(recorded.series().any(|(name, ..)| name == "llm_engine_preemptions_total"), "reported as zero");
    assert_eq!(count("llm_engine_preemptions_total"), 0);

    engine.preempted(2);
    drop(engine);
    assert_eq!(recording.take().counter("llm_engine_preemptions_total", &of_model), 2, "counts stay");
}

#[test]
fn impossible_values_of_an_engine_are_not_recorded() {
    let recording = Recording::new();
    let engine = recording.metrics.engine("m");
    engine.prefix_cache(5, 6);
    engine.prefix_cache((1 << 30) + 1, 1);
    engine.drafted(0, 1);
    engine.drafted((1 << 30) + 1, 1);
    engine.running((1 << 30) + 1);
    engine.waiting(u64::MAX);
    engine.preempted(u64::MAX);
    engine.step_tokens((1 << 30) + 1);
    engine.batch_size(u64::MAX);
    assert!(recording.take().series().all(|(name, ..)| !name.starts_with("llm_engine_")));
    engine.step_tokens(1 << 30);
    engine.drafted(1 << 30, 1 << 30);
    engine.prefix_cache(6, 6);
    engine.waiting(1 << 30);
    engine.running(3);
    engine.running(u64::MAX);
    let recorded = recording.take();
    assert_eq!(recorded.gauge("llm_engine_requests_waiting", &[]), f64::from(1 << 30));
    assert!(recorded.gauge("llm_engine_requests_running", &[]).is_nan(), "the last value is not true any more");
    assert_eq!(recorded.samples("llm_engine_step_tokens", &[]).len(), 1);
    assert_eq!(recorded.counter("llm_engine_accepted_draft_tokens_total", &[]), 1 << 30);
    assert_eq!(recorded.counter("llm_engine_prefix_cache_hit_tokens_total", &[]), 6);
}
