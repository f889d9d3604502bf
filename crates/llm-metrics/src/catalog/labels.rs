//! The labels of this crate's catalogue, each with its values. A name has several constants where its values depend on the metric.

use super::LabelValueRule;
use crate::vocabulary::{
    AnomalyKind, DiscardReason, EmptyKind, Endpoint, ErrorType, FinishReason, Flag, InputTruncation, InspectionFailure,
    Operation, Outcome, PassReason, Phase, Protocol, RefusalKind, RepetitionKind, SkipReason, SloResult, Stat,
    StructuredFormat, StructuredResult, Thinking, ToolCallResult, TruncationCause, UsageSource,
};

/// Replaces every value over a label's cap.
pub const OTHER: &str = "other";
/// The value if none was given.
pub const UNKNOWN: &str = "unknown";

macro_rules! status_codes {
    ($($code:literal),+ $(,)?) => {
        /// HTTP status codes with a value each.
        pub(crate) const STATUS_CODES: &[(u16, &str)] = &[$(($code, stringify!($code))),+];
        /// The same, `other` for the rest, and `none` where there was no response.
        const STATUS_WORDS: &[&str] = &[$(stringify!($code),)+ OTHER, "none"];
    };
}

status_codes! {
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411,
    412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 498, 499, 500, 501, 502, 503,
    504, 505, 507, 508, 511, 520, 521, 522, 523, 524, 525, 529, 530, 598, 599,
}

crate::labels! {
    /// The requested model, bounded by the label policy: `other` beyond the cap, `unknown` if no name was seen.
    MODEL = "model";
    /// The operation: a value of OpenTelemetry's `gen_ai.operation.name`, or `rerank` or `other`, which OpenTelemetry does not have.
    OPERATION = "operation": Operation::WORDS;
    /// The route template, never the raw path.
    ENDPOINT = "endpoint": Endpoint::WORDS;
    /// Whether the response was streamed: by its content type if it succeeded, otherwise by the field `stream` of the request.
    STREAM = "stream": Flag::WORDS;
    /// Whether the output has reasoning. Without output: whether the request asked for reasoning, or `unknown`.
    THINKING = "thinking": Thinking::WORDS;
    /// How the request ended. The error ratio is `error / (success + error)`, and availability is one minus that.
    OUTCOME = "outcome": Outcome::WORDS;
    /// Why it was rejected or failed.
    ERROR_TYPE = "error_type": ErrorType::WORDS;
    /// The HTTP status code (200 for a failure inside a stream), `other` for unusual codes, `none` without a response.
    STATUS = "status": STATUS_WORDS;
    /// The phase of a request in flight: before or after its first token.
    PHASE = "phase": Phase::WORDS;
    /// Why the model stopped.
    FINISH_REASON = "finish_reason": FinishReason::WORDS;
    /// The source of the output token count: `upstream` is the usage in the response, `engine` the request's handle, `timings` the engine's timings in the response (llama.cpp), `estimated` the number of events with tokens.
    SOURCE = "source": UsageSource::WORDS;
    /// Why the tokens were not delivered.
    DISCARD_REASON = "reason": DiscardReason::WORDS;
    /// Why the body was not inspected.
    SKIP_REASON = "reason": SkipReason::WORDS;
    /// Why the request looks like a call of a model.
    PASS_REASON = "reason": PassReason::WORDS;
    /// The name of the objective, as configured.
    SLO = "slo";
    /// Whether the objective was met.
    SLO_RESULT = "result": SloResult::WORDS;
    /// The result of checking the output.
    STRUCTURED_RESULT = "result": StructuredResult::WORDS;
    /// The result of checking the call.
    TOOL_CALL_RESULT = "result": ToolCallResult::WORDS;
    /// The output format that the request asked for.
    FORMAT = "format": StructuredFormat::WORDS;
    /// Why the output was cut.
    CAUSE = "cause": TruncationCause::WORDS;
    /// How it is known that the prompt was cut.
    EVIDENCE = "evidence": InputTruncation::WORDS;
    /// The statistic of the recent window: a quantile, computed from buckets 14 to 25 % wide, or the exact maximum.
    STAT = "stat": Stat::WORDS;
    /// The name of the label whose cap was reached.
    LABEL = "label";
    /// The protocol of the body, or `handle` for values reported through the request's handle.
    PROTOCOL = "protocol": Protocol::WORDS;
    /// Why a body or a value was not used.
    FAILURE_KIND = "kind": InspectionFailure::WORDS;
    /// Which part of the output is missing.
    EMPTY_KIND = "kind": EmptyKind::WORDS;
    /// What was repeated.
    REPETITION_KIND = "kind": RepetitionKind::WORDS;
    /// How the refusal was reported.
    REFUSAL_KIND = "kind": RefusalKind::WORDS;
    /// The text that should not be there.
    ANOMALY_KIND = "kind": AnomalyKind::WORDS;
    /// The engine that runs the model.
    ENGINE = "engine";
    /// The version of the engine.
    ENGINE_VERSION = "engine_version";
    /// The quantization of the weights.
    QUANTIZATION = "quantization";
    /// The longest context, in tokens.
    CONTEXT_LENGTH = "context_length";
    /// The version of this crate.
    VERSION = "version";
}

/// Why a custom label was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLabel {
    /// The name is not valid in Prometheus.
    #[error(
        "{name:?} is not a valid label name: use letters, digits and underscores; begin with a letter or one underscore"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The value is not valid.
    #[error("{value:?} is not a valid value of the label {name:?}: {LabelValueRule}")]
    Value {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// The catalogue, Prometheus itself or another setting has a label of that name.
    #[error("the label {name:?} is already in use: choose another name")]
    Taken {
        /// The name.
        name: String,
    },
}
