//! Token counts and their sources. An absent count is not zero.

mod common;

use std::convert::Infallible;

use common::*;
use http::Request;
use llm_metrics::{InferenceHandle, Usage};
use tower::{ServiceBuilder, ServiceExt};

async fn streamed(steps: impl Into<Vec<Step>>) -> Recorded {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), stream(steps)).await.unwrap();
    recording.take()
}

const FULL_USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":40,\
    \"prompt_tokens_details\":{\"cached_tokens\":64},\"completion_tokens_details\":{\"reasoning_tokens\":30}}}\n\n";

#[tokio::test]
async fn usage_is_counted_with_its_subsets() {
    let recorded = streamed([Step::Data(HELLO), Step::Data(STOP), Step::Data(FULL_USAGE), Step::Data(DONE)]).await;
    let chat = [("model", MODEL), ("operation", "chat")];
    assert_eq!(recorded.counter("llm_input_tokens_total", &chat), 100);
    assert_eq!(recorded.counter("llm_input_cached_tokens_total", &chat), 64);
    assert_eq!(recorded.counter("llm_output_tokens_total", &chat), 40);
    assert_eq!(recorded.counter("llm_output_reasoning_tokens_total", &chat), 30);
    assert_eq!(recorded.samples("llm_request_input_tokens", &chat), [100.0]);
    assert_eq!(recorded.samples("llm_request_output_tokens", &chat), [40.0]);
    assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", "upstream"), ("stream", "true")]), 1);
    assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "true")]), 1, "reasoning tokens are thinking");
}

#[tokio::test]
async fn without_usage_the_count_is_an_estimate_and_in_no_token_metric() {
    let recorded = streamed([Step::Data(HELLO), Step::Data(WORLD), Step::Data(STOP), Step::Data(DONE)]).await;
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", "estimated")]), 1);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 0);
    assert!(recorded.samples("llm_request_output_tokens", &[]).is_empty());
    assert!(recorded.samples("llm_request_input_tokens", &[]).is_empty());
}

#[tokio::test]
async fn a_document_without_usage_counts_as_missing() {
    let recording = Recording::new();
    let whole = "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"Hello\"},\"finish_reason\":\"stop\"}]}";
    exchange(&recording, post(CHAT, "{}"), json(whole)).await.unwrap();
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", "missing")]), 1);
    assert!(recorded.samples("llm_request_output_tokens", &[]).is_empty());
}

#[tokio::test]
async fn a_failed_request_has_no_output_length() {
    let error = "data: {\"error\":{\"message\":\"gone\"}}\n\n";
    let recorded = streamed([Step::Data(HELLO), Step::Data(FULL_USAGE), Step::Data(error)]).await;
    recorded.assert_ended("error", Some(("stream_error", "200")));
    assert!(recorded.samples("llm_request_output_tokens", &[]).is_empty());
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 40, "they were produced all the same");
    assert_eq!(recorded.counter("llm_discarded_tokens_total", &[("reason", "stream_error")]), 40);
}

#[tokio::test]
async fn a_count_that_no_model_could_produce_is_discarded() {
    let absurd =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":18446744073709551615}}\n\n";
    let recorded = streamed([Step::Data(HELLO), Step::Data(STOP), Step::Data(absurd), Step::Data(DONE)]).await;
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 0);
    assert_eq!(recorded.counter("llm_input_tokens_total", &[]), 9);
    let implausible = [("kind", "implausible"), ("protocol", "openai")];
    assert_eq!(recorded.counter("llm_metrics_inspection_failures_total", &implausible), 1);
}

#[tokio::test]
async fn the_limit_that_a_request_sets_is_recorded() {
    for ask in
        ["{\"max_tokens\":256}", "{\"max_completion_tokens\":256}", "{\"max_tokens\":1,\"max_completion_tokens\":256}"]
    {
        let recording = Recording::new();
        exchange(&recording, post(CHAT, ask), stream([Step::Data(STOP)])).await.unwrap();
        assert_eq!(recording.take().samples("llm_request_max_tokens", &[]), [256.0], "{ask}");
    }
}

#[tokio::test]
async fn an_implausible_limit_is_discarded() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, "{\"max_tokens\":9999999999999}"), stream([Step::Data(STOP)])).await.unwrap();
    let recorded = recording.take();
    assert!(recorded.samples("llm_request_max_tokens", &[]).is_empty());
    assert_eq!(recorded.counter("llm_metrics_inspection_failures_total", &[("kind", "implausible")]), 1);
}

#[tokio::test]
async fn live_tokens_grow_by_event_and_end_at_usage() {
    let recording = Recording::with(|builder| builder.live_tokens(true));
    let usage = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\n";
    let steps = [Step::Data(HELLO), Step::Data(WORLD), Step::Data(STOP), Step::Data(usage), Step::Data(DONE)];
    exchange(&recording, post(CHAT, ASK), stream(steps)).await.unwrap();
    assert_eq!(recording.take().counter("llm_output_tokens_total", &[]), 7);
}

/// A chat handler that uses the request's handle, and answers with a stream of two tokens.
async fn handled(say: impl Fn(&InferenceHandle)) -> Recorded {
    let recording = Recording::new();
    handled_by(&recording, say).await;
    recording.take()
}

async fn handled_by(recording: &Recording, say: impl Fn(&InferenceHandle)) {
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(
        |request: Request<llm_metrics::layer::RequestBody<http_body_util::Full<bytes::Bytes>>>| {
            let handle = request.extensions().get::<InferenceHandle>().unwrap().clone();
            say(&handle);
            async move {
                read(request).await;
                Ok::<_, Infallible>(stream([
                    Step::Data(HELLO),
                    Step::Data(WORLD),
                    Step::Data(STOP),
                    Step::Data(USAGE),
                    Step::Data(DONE),
                ]))
            }
        },
    );
    let response = service.oneshot(post(CHAT, ASK)).await.unwrap();
    read(Request::new(response.into_body())).await;
}

#[tokio::test]
async fn the_handle_takes_precedence_over_the_response() {
    let recorded = handled(|handle| {
        handle.model("Qwen3-4B-Instruct");
        handle.tokens(5);
        handle.tokens(1);
        handle.usage(Usage::new().input(11).cached_input(4));
        handle.queue_time(std::time::Duration::from_millis(3));
        handle.prefill_time(std::time::Duration::from_millis(20));
        handle.decode_time(std::time::Duration::from_millis(90));
    })
    .await;
    let model = [("model", "Qwen3-4B-Instruct")];
    assert_eq!(recorded.counter("llm_output_tokens_total", &model), 6);
    assert_eq!(recorded.samples("llm_request_output_tokens", &model), [6.0]);
    assert_eq!(recorded.counter("llm_input_tokens_total", &model), 11);
    assert_eq!(recorded.counter("llm_input_cached_tokens_total", &model), 4);
    assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", "engine")]), 1);
    assert_eq!(recorded.samples("llm_request_queue_seconds", &model), [0.003]);
    assert_eq!(recorded.samples("llm_request_prefill_seconds", &model), [0.02]);
    assert_eq!(recorded.samples("llm_request_decode_seconds", &model), [0.09]);
}

#[tokio::test]
async fn tokens_for_a_client_that_disconnected_before_the_head_are_counted() {
    const ASK: &str = r#"{"model":"Qwen3-4B","stream":true,"enable_thinking":true,"messages":[]}"#;
    let recording = Recording::new();
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(
        |request: Request<llm_metrics::layer::RequestBody<http_body_util::Full<bytes::Bytes>>>| async {
            let handle = request.extensions().get::<InferenceHandle>().unwrap().clone();
            read(request).await;
            handle.tokens(50);
            std::future::pending::<Result<Answer, Infallible>>().await
        },
    );
    let waited = tokio::time::timeout(std::time::Duration::from_millis(10), service.oneshot(post(CHAT, ASK))).await;
    assert!(waited.is_err());
    let recorded = recording.take();
    recorded.assert_ended("cancelled", None);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[("model", MODEL)]), 50);
    assert_eq!(
        recorded.counter("llm_discarded_tokens_total", &[("model", MODEL), ("reason", "client_disconnect")]),
        50
    );
    assert_eq!(
        recorded.counter("llm_requests_total", &[("thinking", "false")]),
        1,
        "it has produced, and no reasoning"
    );
}

#[tokio::test]
async fn tokens_of_an_engine_that_is_ahead_of_the_response_are_not_sampled_twice() {
    let recording = Recording::new();
    // One token is reported for two events, so there is no gap between tokens.
    handled_by(&recording, |handle| handle.tokens(1)).await;
    let recorded = recording.take();
    assert!(recorded.samples("llm_inter_token_latency_seconds", &[]).is_empty());
    assert_eq!(recorded.samples("llm_stream_max_gap_seconds", &[]).len(), 1, "the wire had a gap all the same");

    let recording = Recording::new();
    // Two tokens are reported before the first event. The gap of the second event is the gap between them.
    handled_by(&recording, |handle| handle.tokens(2)).await;
    assert_eq!(recording.take().samples("llm_inter_token_latency_seconds", &[]).len(), 1);
}

#[tokio::test]
async fn the_handle_decides_why_a_request_failed() {
    let recorded = handled(|handle| handle.error(llm_metrics::ErrorType::Timeout)).await;
    recorded.assert_ended("error", Some(("timeout", "200")));
    assert_eq!(recorded.counter("llm_discarded_tokens_total", &[("reason", "timeout")]), 3);
}

#[tokio::test]
async fn a_handle_does_not_keep_a_request_open_and_does_nothing_afterwards() {
    let recording = Recording::new();
    let kept = std::sync::Mutex::new(None);
    handled_by(&recording, |handle| *kept.lock().unwrap() = Some(handle.clone())).await;
    let handle = kept.lock().unwrap().take().unwrap();
    handle.tokens(1000);
    handle.usage(Usage::new().input(1000));
    handle.error(llm_metrics::ErrorType::Internal);
    drop(handle);
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 3);
    assert_eq!(recorded.counter("llm_input_tokens_total", &[]), 9);
}

#[tokio::test]
async fn implausible_counts_of_a_handle_are_discarded() {
    let recorded = handled(|handle| {
        handle.tokens(u64::MAX);
        handle.usage(Usage::new().input(1 << 31));
    })
    .await;
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 3);
    assert_eq!(recorded.counter("llm_input_tokens_total", &[]), 9);
    assert_eq!(recorded.counter("llm_metrics_inspection_failures_total", &[("protocol", "handle")]), 2);
}

#[tokio::test]
async fn llama_cpp_timings_are_engine_times() {
    let timings = "data: {\"choices\":[],\"timings\":{\"prompt_n\":9,\"prompt_ms\":12.5,\"predicted_n\":3,\"predicted_ms\":30}}\n\n";
    let recorded = streamed([Step::Data(HELLO), Step::Data(STOP), Step::Data(timings), Step::Data(DONE)]).await;
    assert_eq!(recorded.samples("llm_request_prefill_seconds", &[]), [0.0125]);
    assert_eq!(recorded.samples("llm_request_decode_seconds", &[]), [0.03]);
}

#[tokio::test]
async fn finish_reasons_count_once_per_choice() {
    let two = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}},{\"index\":1,\"delta\":{\"content\":\"b\"}}]}\n\n";
    let ends = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"},{\"index\":1,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
    let recorded = streamed([Step::Data(two), Step::Data(ends), Step::Data(ends), Step::Data(DONE)]).await;
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[]), 2);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[("finish_reason", "length")]), 1);
}
