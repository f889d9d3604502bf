//! OpenTelemetry's names: <https://github.com/open-telemetry/semantic-conventions-genai>, v0.1.0, and semantic conventions 1.36.
//!
//! Units are suffixes as in OpenTelemetry's mapping to Prometheus: `_seconds` for `s`, nothing for `{token}`, `_total` for counters.

use super::{ABOUT_THIS_LIBRARY, Absent, Family, LabelMapping, Otel, Value, label};
use crate::{
    catalog::{self as rows, labels as ours},
    vocabulary::Operation,
};

const OPERATION: LabelMapping = label(ours::OPERATION, "gen_ai.operation.name");
const INFERENCE: LabelMapping = LabelMapping { value: unless_embeddings, ..OPERATION };
const EMBEDDINGS: LabelMapping = LabelMapping { value: only_embeddings, ..OPERATION };
const MODEL: LabelMapping = label(ours::MODEL, "gen_ai.request.model");
const ERROR_TYPE: LabelMapping = LabelMapping { from: ours::OUTCOME, to: "error.type", value: error_type };

const REQUEST: &[LabelMapping] = &[OPERATION, MODEL];
const ENDED: &[LabelMapping] = &[OPERATION, MODEL, ERROR_TYPE];

const DURATION: &[f64] = &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST_TOKEN: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const PER_TOKEN: &[f64] = &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

pub(super) fn families(otel: &Otel) -> Vec<Family> {
    let (mut families, provider) = if otel.semconv_1_36 {
        (semconv_1_36(otel.client), "gen_ai.system")
    } else {
        (registry_0_1_0(otel.client), "gen_ai.provider.name")
    };
    if !otel.client {
        families.extend(server());
    }
    let provided = families.into_iter().map(|family| family.constant_everywhere(provider, otel.provider.clone()));
    provided.collect()
}

/// The families that both versions share.
fn server() -> [Family; 3] {
    [
        Family::of("gen_ai.server.request.duration_seconds", rows::REQUEST_DURATION, ENDED).with_buckets(DURATION),
        Family::of("gen_ai.server.time_to_first_token_seconds", rows::TIME_TO_FIRST_TOKEN, REQUEST)
            .with_buckets(FIRST_TOKEN),
        Family::of("gen_ai.server.time_per_output_token_seconds", rows::TIME_PER_OUTPUT_TOKEN, REQUEST)
            .with_buckets(PER_TOKEN),
    ]
}

/// The conventions have separate metrics for embeddings.
fn registry_0_1_0(client: bool) -> Vec<Family> {
    let inference = |name, row| Family::of(name, row, &[INFERENCE, MODEL]);
    // Counts of text, image and audio tokens are not read from the usage.
    let usage = |name, row| inference(name, row).constant("gen_ai.token.modality", "unknown");
    let mut families = vec![
        usage("gen_ai.client.inference.usage.input_tokens_total", rows::INPUT_TOKENS),
        usage("gen_ai.client.inference.usage.output_tokens_total", rows::OUTPUT_TOKENS),
        usage("gen_ai.client.inference.usage.cache_read.input_tokens_total", rows::INPUT_CACHED_TOKENS),
        usage("gen_ai.client.inference.usage.cache_write.input_tokens_total", rows::INPUT_CACHE_WRITE_TOKENS),
        usage("gen_ai.client.inference.usage.reasoning.output_tokens_total", rows::OUTPUT_REASONING_TOKENS),
        inference("gen_ai.client.inference.operation.input_tokens", rows::REQUEST_INPUT_TOKENS).with_buckets(TOKENS),
        inference("gen_ai.client.inference.operation.output_tokens", rows::REQUEST_OUTPUT_TOKENS).with_buckets(TOKENS),
        Family::of("gen_ai.client.embeddings.operation.input_tokens", rows::REQUEST_INPUT_TOKENS, &[EMBEDDINGS, MODEL])
            .with_buckets(TOKENS),
    ];
    if client {
        let duration = |name, labels| Family::of(name, rows::REQUEST_DURATION, labels).with_buckets(DURATION);
        families.extend([
            duration("gen_ai.client.inference.duration_seconds", &[INFERENCE, MODEL, ERROR_TYPE]),
            duration("gen_ai.client.embeddings.duration_seconds", &[EMBEDDINGS, MODEL, ERROR_TYPE]),
            inference("gen_ai.client.inference.time_to_first_chunk_seconds", rows::TIME_TO_FIRST_TOKEN)
                .with_buckets(DURATION),
            inference("gen_ai.client.inference.time_per_output_chunk_seconds", rows::INTER_TOKEN_LATENCY)
                .with_buckets(DURATION),
        ]);
    }
    families
}

fn semconv_1_36(client: bool) -> Vec<Family> {
    let mut families = vec![
        Family::of("gen_ai.client.token.usage", rows::REQUEST_INPUT_TOKENS, REQUEST)
            .constant("gen_ai.token.type", "input")
            .and(rows::REQUEST_OUTPUT_TOKENS, REQUEST)
            .constant("gen_ai.token.type", "output")
            .with_buckets(TOKENS)
            .helped("Tokens of one prompt or one answer, where usage is known."),
    ];
    if client {
        families.push(
            Family::of("gen_ai.client.operation.duration_seconds", rows::REQUEST_DURATION, ENDED)
                .with_buckets(DURATION),
        );
    }
    families
}

fn unless_embeddings(operation: &str) -> Value<'_> {
    if operation == Operation::Embeddings.as_str() { Value::NoSeries } else { Value::Is(operation) }
}

fn only_embeddings(operation: &str) -> Value<'_> {
    if operation == Operation::Embeddings.as_str() { Value::Is(operation) } else { Value::NoSeries }
}

/// A successful request has no `error.type`. For the others, it is our outcome: the histogram has no finer label, and the conventions allow custom
/// values of low cardinality.
fn error_type(outcome: &str) -> Value<'_> {
    if outcome == "success" { Value::NoLabel } else { Value::Is(outcome) }
}

const NOT_THERE: (&str, &[rows::MetricDef]) = (
    "The conventions have no such metric.",
    &[
        rows::REQUESTS_STARTED,
        rows::REQUESTS_IN_FLIGHT,
        rows::MODEL_REQUESTS_IN_FLIGHT,
        rows::FINISH_REASONS,
        rows::TIME_TO_FIRST_ANSWER_TOKEN,
        rows::REASONING_DURATION,
        rows::STREAM_MAX_GAP,
        rows::STREAM_STALLS,
        rows::REQUEST_MAX_TOKENS,
        rows::REQUEST_INPUTS,
        rows::USAGE_REPORTS,
        rows::DISCARDED_TOKENS,
        rows::OUTPUTS,
        rows::STRUCTURED_OUTPUTS,
        rows::TOOL_CALLS,
        rows::OUTPUT_TRUNCATED,
        rows::INPUT_TRUNCATED,
        rows::OUTPUT_EMPTY,
        rows::OUTPUT_REPETITION,
        rows::REFUSALS,
        rows::OUTPUT_ANOMALIES,
        rows::REQUEST_QUEUE,
        rows::REQUEST_PREFILL,
        rows::REQUEST_DECODE,
        rows::ENGINE_REQUESTS_RUNNING,
        rows::ENGINE_REQUESTS_WAITING,
        rows::ENGINE_KV_CACHE_USAGE,
        rows::ENGINE_BATCH_SIZE,
        rows::ENGINE_STEP_TOKENS,
        rows::ENGINE_PREEMPTIONS,
        rows::ENGINE_PREFIX_CACHE_QUERIED_TOKENS,
        rows::ENGINE_PREFIX_CACHE_HIT_TOKENS,
        rows::ENGINE_DRAFT_TOKENS,
        rows::ENGINE_ACCEPTED_DRAFT_TOKENS,
        rows::MODEL_LOAD,
        rows::MODEL_INFO,
        rows::SLO_REQUESTS,
        rows::RECENT_REQUEST_DURATION,
        rows::RECENT_TIME_TO_FIRST_TOKEN,
        rows::RECENT_TIME_PER_OUTPUT_TOKEN,
    ],
);
const IN_DURATION: (&str, &[rows::MetricDef]) = (
    "Requests are the count of the duration histogram. Its series with an `error.type` are the requests that failed, were rejected or were cancelled.",
    &[rows::REQUESTS, rows::REQUEST_ERRORS],
);
const GAPS_OF_CLIENTS: (&str, &[rows::MetricDef]) =
    ("The conventions have it for clients only.", &[rows::INTER_TOKEN_LATENCY]);
const NO_GAPS: (&str, &[rows::MetricDef]) = ("Conventions 1.36 do not have it.", &[rows::INTER_TOKEN_LATENCY]);
const NO_TIME_PER_TOKEN: (&str, &[rows::MetricDef]) =
    ("The conventions have it for servers only.", &[rows::TIME_PER_OUTPUT_TOKEN]);
const NO_FIRST_CHUNK: (&str, &[rows::MetricDef]) =
    ("Conventions 1.36 have it for servers only.", &[rows::TIME_TO_FIRST_TOKEN]);
const NO_TOKEN_COUNTERS: (&str, &[rows::MetricDef]) = (
    "Conventions 1.36 have a histogram of tokens and no counters.",
    &[
        rows::INPUT_TOKENS,
        rows::INPUT_CACHED_TOKENS,
        rows::INPUT_CACHE_WRITE_TOKENS,
        rows::OUTPUT_TOKENS,
        rows::OUTPUT_REASONING_TOKENS,
    ],
);

pub(super) fn absent(otel: &Otel) -> Absent {
    match (otel.semconv_1_36, otel.client) {
        (false, false) => &[NOT_THERE, IN_DURATION, ABOUT_THIS_LIBRARY, GAPS_OF_CLIENTS],
        (false, true) => &[NOT_THERE, IN_DURATION, ABOUT_THIS_LIBRARY, NO_TIME_PER_TOKEN],
        (true, false) => &[NOT_THERE, IN_DURATION, ABOUT_THIS_LIBRARY, NO_GAPS, NO_TOKEN_COUNTERS],
        (true, true) => {
            &[NOT_THERE, IN_DURATION, ABOUT_THIS_LIBRARY, NO_GAPS, NO_TIME_PER_TOKEN, NO_FIRST_CHUNK, NO_TOKEN_COUNTERS]
        }
    }
}

impl Otel {
    /// The value of the provider's label, which every series has.
    #[cfg(feature = "prometheus")]
    pub(crate) fn provider(&self) -> &str {
        &self.provider
    }
}
