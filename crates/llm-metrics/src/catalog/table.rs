//! The table itself. A new metric is one row here and one call where it is observed.

use super::{MetricDef, Section, Unit, buckets, labels::*};

/// Declares rows: the documentation of a row is its HELP text.
macro_rules! catalogue {
    ($($title:literal {
        $($(#[doc = $help:literal])+ $row:ident = $kind:ident($name:literal, $unit:ident $(, $buckets:ident)?)
            [$($label:ident),*] $(.$dialect:ident($alias:literal))*;)+
    })+) => {
        $($($(#[doc = $help])+
        pub const $row: MetricDef =
            MetricDef::$kind($name, Unit::$unit, concat!($($help),+).trim_ascii() $(, buckets::$buckets)?)
                .with_labels(&[$($label),*])$(.$dialect($alias))*;)+)+

        /// The rows in their sections.
        pub const SECTIONS: &[Section] = &[$(Section::new($title, &[$($row),+])),+];
    };
}

catalogue! {
    "Request lifecycle" {
        /// Requests that reached the layer, counted before the body is read.
        REQUESTS_STARTED = counter("llm_requests_started_total", Count)[OPERATION, ENDPOINT];
        /// Requests that ended, counted once each when the body has ended or nobody waits for it any more.
        REQUESTS = counter("llm_requests_total", Count)[MODEL, OPERATION, ENDPOINT, STREAM, THINKING, OUTCOME];
        /// Requests that were rejected or failed, by cause, also those that failed inside a stream that began with status 200.
        REQUEST_ERRORS = counter("llm_request_errors_total", Count)[MODEL, OPERATION, ENDPOINT, ERROR_TYPE, STATUS];
        /// Requests in flight, waiting for their first token or past it. What is not streamed waits to its end.
        REQUESTS_IN_FLIGHT = gauge("llm_requests_in_flight", Count)[OPERATION, PHASE];
        /// Time from the arrival of a request to the end of its answer, or to the moment when nobody waited any more.
        REQUEST_DURATION = histogram("llm_request_duration_seconds", Seconds, DURATION)[MODEL, OPERATION, THINKING, OUTCOME]
            .otel("gen_ai.server.request.duration").vllm("vllm:e2e_request_latency_seconds");
        /// Choices that finished, by why the model stopped.
        FINISH_REASONS = counter("llm_finish_reasons_total", Count)[MODEL, OPERATION, FINISH_REASON]
            .otel("gen_ai.response.finish_reasons").vllm("vllm:request_success_total");
    }
    "Streaming latency" {
        /// Time from the arrival of a request to the first event that bears a token, reasoning included. Streams only.
        TIME_TO_FIRST_TOKEN = histogram("llm_time_to_first_token_seconds", Seconds, FIRST_TOKEN)[MODEL, OPERATION]
            .otel("gen_ai.server.time_to_first_token").vllm("vllm:time_to_first_token_seconds");
        /// Time from the arrival of a request to the first text of the answer proper, or the first tool call: what a reader of a reasoning model waits for. Streams only.
        TIME_TO_FIRST_ANSWER_TOKEN = histogram("llm_time_to_first_answer_token_seconds", Seconds, FIRST_TOKEN)[MODEL, OPERATION];
        /// Time from the first token to the first one of the answer, where reasoning was seen. Streams only.
        REASONING_DURATION = histogram("llm_reasoning_duration_seconds", Seconds, DURATION)[MODEL, OPERATION];
        /// Mean time a token after the first one, (last - first) / (tokens - 1), once a request with two tokens or more. Streams only.
        TIME_PER_OUTPUT_TOKEN = histogram("llm_time_per_output_token_seconds", Seconds, PER_TOKEN)[MODEL, OPERATION, THINKING]
            .otel("gen_ai.server.time_per_output_token").vllm("vllm:request_time_per_output_token_seconds");
        /// Gap between tokens, sampled as they arrive; an event that bears k tokens counts as k samples of its gap / k. Streams only.
        INTER_TOKEN_LATENCY = histogram("llm_inter_token_latency_seconds", Seconds, PER_TOKEN)[MODEL, OPERATION]
            .otel("gen_ai.client.operation.time_per_output_chunk").vllm("vllm:inter_token_latency_seconds");
        /// The longest silence after the first token, once a stream.
        STREAM_MAX_GAP = histogram("llm_stream_max_gap_seconds", Seconds, GAP)[MODEL, OPERATION];
        /// Silences after the first token that lasted longer than the configured threshold (5 s by default).
        STREAM_STALLS = counter("llm_stream_stalls_total", Count)[MODEL, OPERATION];
    }
    "Tokens" {
        /// Tokens of prompts, cached ones included, where usage is known.
        INPUT_TOKENS = counter("llm_input_tokens_total", Tokens)[MODEL, OPERATION]
            .otel("gen_ai.usage.input_tokens").vllm("vllm:prompt_tokens_total");
        /// Tokens of prompts that came from a cache: a part of the input tokens.
        INPUT_CACHED_TOKENS = counter("llm_input_cached_tokens_total", Tokens)[MODEL, OPERATION]
            .otel("gen_ai.usage.cache_read.input_tokens").vllm("vllm:prompt_tokens_cached_total");
        /// Tokens that models produced, reasoning included, as they are reported.
        OUTPUT_TOKENS = counter("llm_output_tokens_total", Tokens)[MODEL, OPERATION]
            .otel("gen_ai.usage.output_tokens").vllm("vllm:generation_tokens_total");
        /// Tokens that models spent on reasoning: a part of the output tokens.
        OUTPUT_REASONING_TOKENS = counter("llm_output_reasoning_tokens_total", Tokens)[MODEL, OPERATION]
            .otel("gen_ai.usage.reasoning.output_tokens");
        /// Tokens of one prompt, where usage is known.
        REQUEST_INPUT_TOKENS = histogram("llm_request_input_tokens", Tokens, TOKENS)[MODEL, OPERATION]
            .otel("gen_ai.client.token.usage").vllm("vllm:request_prompt_tokens");
        /// Tokens of one answer over all its choices, for requests that succeeded and whose usage is known.
        REQUEST_OUTPUT_TOKENS = histogram("llm_request_output_tokens", Tokens, TOKENS)[MODEL, OPERATION]
            .otel("gen_ai.client.token.usage").vllm("vllm:request_generation_tokens");
        /// The limit on output tokens that a request set.
        REQUEST_MAX_TOKENS = histogram("llm_request_max_tokens", Tokens, TOKENS)[MODEL, OPERATION]
            .otel("gen_ai.request.max_tokens").vllm("vllm:request_params_max_tokens");
        /// Accepted requests by where their output token count came from; what is `missing` is in no token metric.
        USAGE_REPORTS = counter("llm_usage_reports_total", Count)[MODEL, STREAM, SOURCE];
        /// Output tokens of answers that nobody read to the end: work done for nothing.
        DISCARDED_TOKENS = counter("llm_discarded_tokens_total", Tokens)[MODEL, REASON];
    }
    "Engine" {
        /// Time that a request waited in the engine before its prompt was processed.
        REQUEST_QUEUE = histogram("llm_request_queue_seconds", Seconds, FIRST_TOKEN)[MODEL]
            .vllm("vllm:request_queue_time_seconds");
        /// Time that the engine spent on a request's prompt.
        REQUEST_PREFILL = histogram("llm_request_prefill_seconds", Seconds, FIRST_TOKEN)[MODEL]
            .vllm("vllm:request_prefill_time_seconds");
        /// Time that the engine spent on producing a request's output after its first token.
        REQUEST_DECODE = histogram("llm_request_decode_seconds", Seconds, DURATION)[MODEL]
            .vllm("vllm:request_decode_time_seconds");
        /// Requests that the engine is producing tokens for.
        ENGINE_REQUESTS_RUNNING = gauge("llm_engine_requests_running", Count)[MODEL].vllm("vllm:num_requests_running");
        /// Requests that the engine has and that have no token yet.
        ENGINE_REQUESTS_WAITING = gauge("llm_engine_requests_waiting", Count)[MODEL].vllm("vllm:num_requests_waiting");
        /// Share of the engine's KV cache that is in use.
        ENGINE_KV_CACHE_USAGE = gauge("llm_engine_kv_cache_usage_ratio", Ratio)[MODEL].vllm("vllm:kv_cache_usage_perc");
        /// Time that it took to load a model.
        MODEL_LOAD = histogram("llm_model_load_seconds", Seconds, DURATION)[MODEL];
        /// Instances of a model that are loaded: 1, and 0 once it was unloaded.
        MODEL_INFO = gauge("llm_model_info", Count)[MODEL, ENGINE, ENGINE_VERSION, QUANTIZATION, CONTEXT_LENGTH];
    }
    "SLO attainment" {
        /// Requests that met or missed a configured objective. One that failed has missed it; rejected and cancelled requests do not count, nor does a success of which no term of the objective can be measured.
        SLO_REQUESTS = counter("llm_slo_requests_total", Count)[SLO, MODEL, RESULT];
    }
    "Recent window" {
        /// Time from arrival to end of the requests that succeeded or failed in the last seconds (60 by default). Only the maximum can be aggregated over instances. NaN where there was none.
        RECENT_REQUEST_DURATION = gauge("llm_recent_request_duration_seconds", Seconds)[MODEL, STAT];
        /// Time to the first token of the streams that had it in the last seconds (60 by default). Only the maximum can be aggregated over instances. NaN where there was none.
        RECENT_TIME_TO_FIRST_TOKEN = gauge("llm_recent_time_to_first_token_seconds", Seconds)[MODEL, STAT];
        /// Mean time a token after the first one of the streams that ended in the last seconds (60 by default). Only the maximum can be aggregated over instances. NaN where there was none.
        RECENT_TIME_PER_OUTPUT_TOKEN = gauge("llm_recent_time_per_output_token_seconds", Seconds)[MODEL, STAT];
    }
    "About ourselves" {
        /// Accepted requests whose value of a label was replaced by `other`, because a cap was reached or the value could not be a label.
        LABEL_OVERFLOW = counter("llm_metrics_label_overflow_total", Count)[LABEL];
        /// Bodies, or facts in them, that could not be read. The body itself passed unchanged.
        INSPECTION_FAILURES = counter("llm_metrics_inspection_failures_total", Count)[PROTOCOL, KIND];
        /// Bodies that were not read, hence judged by status and clean end alone.
        BODIES_SKIPPED = counter("llm_metrics_bodies_skipped_total", Count)[REASON];
        /// Always 1; the label tells the version of llm-metrics.
        BUILD_INFO = gauge("llm_metrics_build_info", Count)[VERSION];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Kind, all, buckets::validate};

    #[test]
    fn every_row_keeps_the_rules() {
        for row in all() {
            let suffixes: &[&str] = match row.unit {
                Unit::Seconds => &["_seconds"],
                Unit::Tokens => &["_tokens", "_tokens_total"],
                Unit::Ratio => &["_ratio"],
                _ => &[""],
            };
            assert!(suffixes.iter().any(|suffix| row.name.ends_with(suffix)), "{} lacks its unit", row.name);
            assert_eq!(row.kind == Kind::Counter, row.name.ends_with("_total"), "{}", row.name);
            assert_eq!(row.kind == Kind::Histogram, validate(row.buckets).is_ok(), "{}", row.name);
            assert!(!["_count", "_sum", "_bucket"].iter().any(|bad| row.name.ends_with(bad)), "{}", row.name);
            assert!(row.name.starts_with("llm_") && row.help.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn names_are_unique_and_labels_are_declared() {
        let mut names: Vec<_> = all().map(|row| row.name).collect();
        let rows = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows);
        for label in all().flat_map(|row| row.labels) {
            assert!(ALL.iter().any(|known| known.name == *label), "{label} is not in the list of labels");
        }
    }
}
