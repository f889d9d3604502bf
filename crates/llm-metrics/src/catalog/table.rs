//! The table itself. A new metric is one row here and one call where it is observed.

use super::{buckets, labels::*};

crate::catalogue! {
    "Request lifecycle" {
        /// Requests that reached the layer, counted before the body is read.
        REQUESTS_STARTED = counter("llm_requests_started_total", Count)[OPERATION, ENDPOINT];
        /// Requests that ended, each counted once: when the response body has ended, or when the client has disconnected.
        REQUESTS = counter("llm_requests_total", Count)[MODEL, OPERATION, ENDPOINT, STREAM, THINKING, OUTCOME];
        /// Requests that were rejected or failed, by cause, including failures inside a stream whose status was 200.
        REQUEST_ERRORS = counter("llm_request_errors_total", Count)[MODEL, OPERATION, ENDPOINT, ERROR_TYPE, STATUS];
        /// Requests in flight: waiting for the first token, or streaming. A request that is not streamed is waiting until it ends.
        REQUESTS_IN_FLIGHT = gauge("llm_requests_in_flight", Count)[OPERATION, PHASE];
        /// Requests in flight, by model. A request is counted from when it or its handler has named the model. If the label policy has not admitted the name yet, the request is counted from when it is accepted. If it names no model, it is counted as `unknown`, from its first token on.
        MODEL_REQUESTS_IN_FLIGHT = gauge("llm_model_requests_in_flight", Count)[MODEL];
        /// Time from the arrival of a request to the end of its response, or until the client disconnects.
        REQUEST_DURATION = histogram("llm_request_duration_seconds", Seconds, buckets::DURATION)[MODEL, OPERATION, THINKING, OUTCOME];
        /// Choices that finished, by the reason why the model stopped.
        FINISH_REASONS = counter("llm_finish_reasons_total", Count)[MODEL, OPERATION, FINISH_REASON];
    }
    "Streaming latency" {
        /// Time from the arrival of a request to the first event that carries a token, including reasoning. Streams only.
        TIME_TO_FIRST_TOKEN = histogram("llm_time_to_first_token_seconds", Seconds, buckets::FIRST_TOKEN)[MODEL, OPERATION];
        /// Time from the arrival of a request to the first token that is not reasoning (text or a tool call): how long the reader of a reasoning model waits. Streams only.
        TIME_TO_FIRST_ANSWER_TOKEN = histogram("llm_time_to_first_answer_token_seconds", Seconds, buckets::FIRST_TOKEN)[MODEL, OPERATION];
        /// Time from the first token to the first token that is not reasoning, for requests with reasoning. Streams only.
        REASONING_DURATION = histogram("llm_reasoning_duration_seconds", Seconds, buckets::DURATION)[MODEL, OPERATION];
        /// Mean time per output token after the first, one sample per request with one choice and at least two tokens: the decode time that the engine reports, otherwise (time of the finish reason - time of the first event with a token) / tokens after that event. Not recorded if there were far fewer events than tokens and the engine reports no time. Streams, and single-document responses whose engine reports its timing.
        TIME_PER_OUTPUT_TOKEN = histogram("llm_time_per_output_token_seconds", Seconds, buckets::PER_TOKEN)[MODEL, OPERATION, THINKING];
        /// Time between consecutive tokens of a choice, sampled as they arrive; an event with k tokens counts as k samples of its gap / k. Streams only.
        INTER_TOKEN_LATENCY = histogram("llm_inter_token_latency_seconds", Seconds, buckets::PER_TOKEN)[MODEL, OPERATION];
        /// Longest gap between events after the first token, one sample per stream.
        STREAM_MAX_GAP = histogram("llm_stream_max_gap_seconds", Seconds, buckets::GAP)[MODEL, OPERATION];
        /// Gaps between events after the first token that lasted longer than the configured threshold (5 s by default).
        STREAM_STALLS = counter("llm_stream_stalls_total", Count)[MODEL, OPERATION];
    }
    "Tokens" {
        /// Prompt tokens, including cached ones, for requests with known usage.
        INPUT_TOKENS = counter("llm_input_tokens_total", Tokens)[MODEL, OPERATION];
        /// Prompt tokens that were read from a cache: a subset of the input tokens.
        INPUT_CACHED_TOKENS = counter("llm_input_cached_tokens_total", Tokens)[MODEL, OPERATION];
        /// Prompt tokens that were written to a cache: a subset of the input tokens, for protocols that report it.
        INPUT_CACHE_WRITE_TOKENS = counter("llm_input_cache_write_tokens_total", Tokens)[MODEL, OPERATION];
        /// Tokens that models generated, including reasoning, as reported. With `live_tokens`, the number of events with tokens until a count is reported.
        OUTPUT_TOKENS = counter("llm_output_tokens_total", Tokens)[MODEL, OPERATION];
        /// Tokens that models generated for reasoning: a subset of the output tokens.
        OUTPUT_REASONING_TOKENS = counter("llm_output_reasoning_tokens_total", Tokens)[MODEL, OPERATION];
        /// Prompt tokens per request, for requests with known usage.
        REQUEST_INPUT_TOKENS = histogram("llm_request_input_tokens", Tokens, buckets::TOKENS)[MODEL, OPERATION];
        /// Output tokens per request, over all choices, for successful requests with known usage.
        REQUEST_OUTPUT_TOKENS = histogram("llm_request_output_tokens", Tokens, buckets::TOKENS)[MODEL, OPERATION];
        /// Limit on output tokens that a request set.
        REQUEST_MAX_TOKENS = histogram("llm_request_max_tokens", Tokens, buckets::TOKENS)[MODEL, OPERATION];
        /// Texts per request to embed or rerank.
        REQUEST_INPUTS = histogram("llm_request_inputs", Count, buckets::TOKENS)[MODEL, OPERATION];
        /// Accepted requests by the source of their output token count. The output tokens of `missing` requests are in no metric.
        USAGE_REPORTS = counter("llm_usage_reports_total", Count)[MODEL, STREAM, SOURCE];
        /// Output tokens of responses that were not delivered to the end: wasted work.
        DISCARDED_TOKENS = counter("llm_discarded_tokens_total", Tokens)[MODEL, DISCARD_REASON];
    }
    "Output quality" {
        /// Choices that finished: the denominator for ratios of the other metrics in this section.
        OUTPUTS = counter("llm_outputs_total", Count)[MODEL, OPERATION];
        /// Choices of requests for structured output, by the result of checking it. JSON in a Markdown fence is `fenced`, incomplete JSON in an output that was cut is `truncated`, a format other than JSON is `unchecked`. If schema checks are on, JSON that violates its schema is a `schema_mismatch`. Choices that were cancelled, refused, or answered with a tool call are not counted.
        STRUCTURED_OUTPUTS = counter("llm_structured_outputs_total", Count)[MODEL, FORMAT, STRUCTURED_RESULT];
        /// Tool calls, each counted once at its end, by whether they can be executed: arguments that are not a JSON object are `invalid_json`, arguments that end early are `incomplete`, a name that the request did not offer is an `unknown_tool`.
        TOOL_CALLS = counter("llm_tool_calls_total", Count)[MODEL, TOOL_CALL_RESULT];
        /// Choices that were cut, by cause. A token limit that the request did not set, or did not reach, is attributed to the model's context window.
        OUTPUT_TRUNCATED = counter("llm_output_truncated_total", Count)[MODEL, CAUSE];
        /// Requests whose prompt was cut: `reported` by the engine, or `suspected` by the number of its tokens that the engine counted.
        INPUT_TRUNCATED = counter("llm_input_truncated_total", Count)[MODEL, EVIDENCE];
        /// Choices of successful requests without any visible content, and successful requests without a choice.
        OUTPUT_EMPTY = counter("llm_output_empty_total", Count)[MODEL, EMPTY_KIND];
        /// Choices that were stuck in a loop: their text repeated itself for one period and 1 KiB more. Each choice is counted at most once.
        OUTPUT_REPETITION = counter("llm_output_repetition_total", Count)[MODEL, REPETITION_KIND];
        /// Choices that the model refused to answer, or that a content filter stopped.
        REFUSALS = counter("llm_refusals_total", Count)[MODEL, REFUSAL_KIND];
        /// Choices with text that should not be there: replacement characters, special tokens of the chat template, reasoning that was opened and never closed. Each kind is counted at most once per choice.
        OUTPUT_ANOMALIES = counter("llm_output_anomalies_total", Count)[MODEL, ANOMALY_KIND];
    }
    "Engine" {
        /// Time that a request waited in the engine before its prompt was processed, including the time to load its model.
        REQUEST_QUEUE = histogram("llm_request_queue_seconds", Seconds, buckets::FIRST_TOKEN)[MODEL];
        /// Time that the engine spent processing a request's prompt.
        REQUEST_PREFILL = histogram("llm_request_prefill_seconds", Seconds, buckets::FIRST_TOKEN)[MODEL];
        /// Time that the engine spent generating a request's output after its first token, for outputs of at least two tokens.
        REQUEST_DECODE = histogram("llm_request_decode_seconds", Seconds, buckets::DURATION)[MODEL];
        /// Requests for which the engine is generating tokens.
        ENGINE_REQUESTS_RUNNING = gauge("llm_engine_requests_running", Count)[MODEL];
        /// Requests in the engine that have no token yet.
        ENGINE_REQUESTS_WAITING = gauge("llm_engine_requests_waiting", Count)[MODEL];
        /// Share of the engine's KV cache that is in use.
        ENGINE_KV_CACHE_USAGE = gauge("llm_engine_kv_cache_usage_ratio", Ratio)[MODEL];
        /// Requests in the batch of one engine step, one sample per step.
        ENGINE_BATCH_SIZE = histogram("llm_engine_batch_size", Count, buckets::BATCH)[MODEL];
        /// Prompt and output tokens that the engine processes in one step, one sample per step.
        ENGINE_STEP_TOKENS = histogram("llm_engine_step_tokens", Tokens, buckets::TOKENS)[MODEL];
        /// Preemptions: requests that the engine removed from its batch before they had ended, to free their space in the KV cache.
        ENGINE_PREEMPTIONS = counter("llm_engine_preemptions_total", Count)[MODEL];
        /// Prompt tokens that the engine looked up in its prefix cache.
        ENGINE_PREFIX_CACHE_QUERIED_TOKENS = counter("llm_engine_prefix_cache_queried_tokens_total", Tokens)[MODEL];
        /// Prompt tokens that the engine found in its prefix cache: a subset of those that it looked up.
        ENGINE_PREFIX_CACHE_HIT_TOKENS = counter("llm_engine_prefix_cache_hit_tokens_total", Tokens)[MODEL];
        /// Draft tokens of speculative decoding.
        ENGINE_DRAFT_TOKENS = counter("llm_engine_draft_tokens_total", Tokens)[MODEL];
        /// Draft tokens that the model accepted: a subset of the draft tokens.
        ENGINE_ACCEPTED_DRAFT_TOKENS = counter("llm_engine_accepted_draft_tokens_total", Tokens)[MODEL];
        /// Time to load a model.
        MODEL_LOAD = histogram("llm_model_load_seconds", Seconds, buckets::DURATION)[MODEL];
        /// Loaded instances of a model: 1, or 0 after it was unloaded.
        MODEL_INFO = gauge("llm_model_info", Count)[MODEL, ENGINE, ENGINE_VERSION, QUANTIZATION, CONTEXT_LENGTH];
    }
    "SLO attainment" {
        /// Requests that met or missed a configured objective. Failed requests miss it. Rejected and cancelled requests are not counted, nor are successful ones for which none of the objective's terms can be measured.
        SLO_REQUESTS = counter("llm_slo_requests_total", Count)[SLO, MODEL, SLO_RESULT];
    }
    "Recent window" {
        /// Duration of the requests that succeeded or failed within the recent window (60 s by default). Only the maximum can be aggregated over instances. NaN if there were none.
        RECENT_REQUEST_DURATION = gauge("llm_recent_request_duration_seconds", Seconds)[MODEL, STAT];
        /// Time to first token of the streams whose first token came within the recent window (60 s by default). Only the maximum can be aggregated over instances. NaN if there were none.
        RECENT_TIME_TO_FIRST_TOKEN = gauge("llm_recent_time_to_first_token_seconds", Seconds)[MODEL, STAT];
        /// Time per output token of the requests that ended within the recent window (60 s by default). Only the maximum can be aggregated over instances. NaN if there were none.
        RECENT_TIME_PER_OUTPUT_TOKEN = gauge("llm_recent_time_per_output_token_seconds", Seconds)[MODEL, STAT];
    }
    "Instrumentation" {
        /// Requests (accepted, or failed with a server error) with a label value that was replaced by `other` because the cap was reached or the value is not valid.
        LABEL_OVERFLOW = counter("llm_metrics_label_overflow_total", Count)[LABEL];
        /// Bodies, or values in them, that could not be parsed. The body itself was passed on unchanged.
        INSPECTION_FAILURES = counter("llm_metrics_inspection_failures_total", Count)[PROTOCOL, FAILURE_KIND];
        /// Bodies that were not inspected, so that the outcome of their requests only depends on the status, and on whether the body ended without an error.
        BODIES_SKIPPED = counter("llm_metrics_bodies_skipped_total", Count)[SKIP_REASON];
        /// Successful POST requests that look like calls of a model but were not measured because the layer does not know the path: it ends like a path of an LLM API (`unknown_path`), or the response is an event stream (`event_stream`).
        REQUESTS_PASSED = counter("llm_metrics_requests_passed_total", Count)[PASS_REASON];
        /// Always 1; the label has the version of llm-metrics.
        BUILD_INFO = gauge("llm_metrics_build_info", Count)[VERSION];
    }
}
