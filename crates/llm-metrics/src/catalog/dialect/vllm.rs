//! vLLM's names: those in `vllm/v1/metrics/loggers.py` and of the HTTP instrumentation in its API server, as its Grafana dashboards query them.

use super::{ABOUT_THIS_LIBRARY, Absent, Family, LabelMapping, Value, label};
use crate::{
    catalog::{self as rows, labels as ours},
    vocabulary::{ErrorType, Outcome},
};

const MODEL: &[LabelMapping] = &[label(ours::MODEL, "model_name")];
const FINISHED: &[LabelMapping] = &[
    label(ours::MODEL, "model_name"),
    LabelMapping { from: ours::FINISH_REASON, to: "finished_reason", value: finished_reason },
];
const ENDED: &[LabelMapping] =
    &[label(ours::ENDPOINT, "handler"), LabelMapping { from: ours::OUTCOME, to: "status", value: status_of_outcome }];
const FAILED: &[LabelMapping] = &[
    label(ours::ENDPOINT, "handler"),
    LabelMapping { from: ours::STATUS, to: "status", value: status_class },
    LabelMapping { from: ours::ERROR_TYPE, to: "status", value: status_class_of_error },
];
/// A request that was rejected never reaches vLLM's engine, which measures this.
const REACHED_ENGINE: &[LabelMapping] =
    &[label(ours::MODEL, "model_name"), LabelMapping { from: ours::OUTCOME, to: "outcome", value: unless_rejected }];

const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
const PER_TOKEN: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
const REQUEST: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];
/// vLLM's bounds end at the model's longest context, which is not known here.
const TOKENS: &[f64] = &[
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
    200.0,
    500.0,
    1_000.0,
    2_000.0,
    5_000.0,
    10_000.0,
    20_000.0,
    50_000.0,
    100_000.0,
    200_000.0,
    500_000.0,
    1_000_000.0,
];
const STEP_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0];
const HTTP: &[f64] = &[0.1, 0.5, 1.0];

pub(super) fn families() -> Vec<Family> {
    let engine = |family: Family| family.constant("engine", "0");
    let histogram = |name, row, buckets| engine(Family::of(name, row, MODEL).with_buckets(buckets));
    let other = |name, row| engine(Family::of(name, row, MODEL));
    let http = |family: Family| family.constant_everywhere("method", "POST");
    let mut families = vec![
        engine(Family::of("vllm:request_success_total", rows::FINISH_REASONS, FINISHED)),
        other("vllm:prompt_tokens_total", rows::INPUT_TOKENS),
        other("vllm:prompt_tokens_cached_total", rows::INPUT_CACHED_TOKENS),
        other("vllm:generation_tokens_total", rows::OUTPUT_TOKENS),
        http(
            Family::of("http_requests_total", rows::REQUESTS, ENDED)
                .and(rows::REQUEST_ERRORS, FAILED)
                .helped("Requests that ended, by the class of their status."),
        ),
        other("vllm:num_requests_running", rows::ENGINE_REQUESTS_RUNNING),
        other("vllm:num_requests_waiting", rows::ENGINE_REQUESTS_WAITING),
        other("vllm:kv_cache_usage_perc", rows::ENGINE_KV_CACHE_USAGE),
        histogram("vllm:iteration_tokens_total", rows::ENGINE_STEP_TOKENS, STEP_TOKENS),
        other("vllm:num_preemptions_total", rows::ENGINE_PREEMPTIONS),
        other("vllm:prefix_cache_queries_total", rows::ENGINE_PREFIX_CACHE_QUERIED_TOKENS),
        other("vllm:prefix_cache_hits_total", rows::ENGINE_PREFIX_CACHE_HIT_TOKENS),
        other("vllm:spec_decode_num_draft_tokens_total", rows::ENGINE_DRAFT_TOKENS),
        other("vllm:spec_decode_num_accepted_tokens_total", rows::ENGINE_ACCEPTED_DRAFT_TOKENS),
        engine(
            Family::of("vllm:e2e_request_latency_seconds", rows::REQUEST_DURATION, REACHED_ENGINE)
                .with_buckets(REQUEST),
        ),
        histogram("vllm:time_to_first_token_seconds", rows::TIME_TO_FIRST_TOKEN, FIRST_TOKEN),
        histogram("vllm:request_time_per_output_token_seconds", rows::TIME_PER_OUTPUT_TOKEN, PER_TOKEN),
        histogram("vllm:inter_token_latency_seconds", rows::INTER_TOKEN_LATENCY, PER_TOKEN),
        histogram("vllm:request_queue_time_seconds", rows::REQUEST_QUEUE, REQUEST),
        histogram("vllm:request_prefill_time_seconds", rows::REQUEST_PREFILL, REQUEST),
        histogram("vllm:request_decode_time_seconds", rows::REQUEST_DECODE, REQUEST),
        histogram("vllm:request_prompt_tokens", rows::REQUEST_INPUT_TOKENS, TOKENS),
        histogram("vllm:request_generation_tokens", rows::REQUEST_OUTPUT_TOKENS, TOKENS),
        histogram("vllm:request_params_max_tokens", rows::REQUEST_MAX_TOKENS, TOKENS),
        http(Family::of("http_request_duration_seconds", rows::REQUEST_DURATION, &[]).with_buckets(HTTP)),
    ];
    families.iter_mut().for_each(|family| family.python_floats = true);
    families
}

pub(super) const ABSENT: Absent = &[
    ("vLLM counts requests when they end.", &[rows::REQUESTS_STARTED, rows::REQUESTS_IN_FLIGHT]),
    ("vLLM has gauges for the requests in its engine only: running and waiting.", &[rows::MODEL_REQUESTS_IN_FLIGHT]),
    (
        "vLLM's metrics do not separate reasoning from answers.",
        &[rows::TIME_TO_FIRST_ANSWER_TOKEN, rows::REASONING_DURATION, rows::OUTPUT_REASONING_TOKENS],
    ),
    (
        "vLLM has no metric for pauses in a stream, or for tokens that were not delivered.",
        &[rows::STREAM_MAX_GAP, rows::STREAM_STALLS, rows::DISCARDED_TOKENS],
    ),
    (
        "vLLM always knows its token counts, and does not report tokens written to a cache.",
        &[rows::USAGE_REPORTS, rows::INPUT_CACHE_WRITE_TOKENS],
    ),
    ("vLLM does not count the inputs of an embedding.", &[rows::REQUEST_INPUTS]),
    ("vLLM has its batch size only as a gauge: the requests that are running.", &[rows::ENGINE_BATCH_SIZE]),
    (
        "vLLM does not check the output of its models.",
        &[
            rows::OUTPUTS,
            rows::STRUCTURED_OUTPUTS,
            rows::TOOL_CALLS,
            rows::OUTPUT_TRUNCATED,
            rows::INPUT_TRUNCATED,
            rows::OUTPUT_EMPTY,
            rows::OUTPUT_REPETITION,
            rows::REFUSALS,
            rows::OUTPUT_ANOMALIES,
        ],
    ),
    ("A vLLM process serves one model for its whole life.", &[rows::MODEL_LOAD, rows::MODEL_INFO]),
    ("vLLM has no objectives for single requests; its dashboards compute shares from buckets.", &[rows::SLO_REQUESTS]),
    (
        "vLLM has no gauges of recent latency.",
        &[rows::RECENT_REQUEST_DURATION, rows::RECENT_TIME_TO_FIRST_TOKEN, rows::RECENT_TIME_PER_OUTPUT_TOKEN],
    ),
    ABOUT_THIS_LIBRARY,
];

/// vLLM's reasons are `stop`, `length`, `abort`, `error` and `repetition`. A tool call is a `stop` there. Reasons that vLLM does not have stay
/// unchanged.
fn finished_reason(reason: &str) -> Value<'_> {
    Value::Is(if reason == "tool_calls" { "stop" } else { reason })
}

/// Requests that were rejected or failed are counted by their status instead. A client that disconnected has usually received the response head, and
/// vLLM counts it that way.
fn status_of_outcome(outcome: &str) -> Value<'_> {
    match outcome {
        "success" | "cancelled" => Value::Is("2xx"),
        _ => Value::NoSeries,
    }
}

fn unless_rejected(outcome: &str) -> Value<'_> {
    if outcome == Outcome::Rejected.as_str() { Value::NoSeries } else { Value::NoLabel }
}

fn status_class(status: &str) -> Value<'_> {
    Value::Is(match status.as_bytes().first() {
        Some(b'2') => "2xx",
        Some(b'3') => "3xx",
        Some(b'4') => "4xx",
        Some(b'5') => "5xx",
        _ if status == "none" => return Value::NoLabel,
        _ => status,
    })
}

/// The class of a request without a response head: a mistake of the caller is a 4xx. Anything else was an exception, which vLLM's instrumentation
/// counts as a 500.
fn status_class_of_error(error: &str) -> Value<'_> {
    let is_rejected = |error: &ErrorType| error.outcome() == Outcome::Rejected;
    Value::Is(if error.parse().as_ref().is_ok_and(is_rejected) { "4xx" } else { "5xx" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_in_one_class_of_status() {
        let expected = [Value::Is("2xx"), Value::NoSeries, Value::NoSeries, Value::Is("2xx")];
        assert_eq!(Outcome::WORDS, ["success", "rejected", "error", "cancelled"]);
        assert_eq!(Outcome::WORDS.iter().map(|word| status_of_outcome(word)).collect::<Vec<_>>(), expected);
        let classes = ["200", "307", "429", "503", "other"].map(status_class);
        assert_eq!(classes, ["2xx", "3xx", "4xx", "5xx", "other"].map(Value::Is));
        assert_eq!(status_class("none"), Value::NoLabel, "the type of the error decides");
        let rejected = ["invalid_request", "unauthorized", "not_found", "rate_limited"];
        for error in ErrorType::WORDS {
            let class = if rejected.contains(error) { "4xx" } else { "5xx" };
            assert_eq!(status_class_of_error(error), Value::Is(class), "{error}");
        }
    }

    #[test]
    fn reasons_are_vllms_where_it_has_them() {
        assert_eq!(finished_reason("tool_calls"), Value::Is("stop"));
        assert_eq!(finished_reason("refusal"), Value::Is("refusal"));
    }
}
