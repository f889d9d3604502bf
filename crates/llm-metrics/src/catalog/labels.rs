//! Label names, and the values of each.

use crate::vocabulary::{
    Endpoint, ErrorType, FinishReason, Flag, InputTruncation, Operation, Outcome, Phase, Protocol, Stat,
    StructuredFormat, Thinking, TruncationCause, UsageSource,
};

/// Replaces every value over a label's cap.
pub const OTHER: &str = "other";
/// The value if none was given.
pub const UNKNOWN: &str = "unknown";

macro_rules! labels {
    ($($(#[doc = $help:literal])+ $name:ident = $word:literal: $values:expr;)+) => {
        $($(#[doc = $help])+ pub const $name: &str = $word;)+

        /// Every label, with the meaning of its values.
        pub const ALL: &[LabelDef] = &[$(LabelDef {
            name: $word,
            help: concat!($($help),+).trim_ascii(),
            values: $values,
        },)+];
    };
}

/// The definition of a label.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LabelDef {
    /// Its name.
    pub name: &'static str,
    /// The meaning of its values.
    pub help: &'static str,
    /// All possible values; empty if a label policy or the embedder decides.
    pub values: &'static [&'static str],
}

macro_rules! status_codes {
    ($($code:literal),+ $(,)?) => { [$(($code, stringify!($code))),+] };
}

/// HTTP status codes with a value each; `other` for the rest, `none` where there was no response.
pub(crate) const STATUS_CODES: &[(u16, &str)] = &status_codes![
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411,
    412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 498, 499, 500, 501, 502, 503,
    504, 505, 507, 508, 511, 520, 521, 522, 523, 524, 525, 529, 530, 598, 599,
];

labels! {
    /// The requested model, bounded by the label policy: `other` beyond the cap, `unknown` if no name was seen.
    MODEL = "model": &[];
    /// The operation, with the values of OpenTelemetry's `gen_ai.operation.name`.
    OPERATION = "operation": Operation::WORDS;
    /// The route template, never the raw path.
    ENDPOINT = "endpoint": Endpoint::WORDS;
    /// Whether the response was streamed: by its content type if it succeeded, otherwise by what the request asked for.
    STREAM = "stream": Flag::WORDS;
    /// Whether the output has reasoning; without output, what the request asked for, otherwise `unknown`.
    THINKING = "thinking": Thinking::WORDS;
    /// How the request ended. The error ratio is `error / (success + error)`, and availability is one minus that.
    OUTCOME = "outcome": Outcome::WORDS;
    /// Why it was rejected or failed.
    ERROR_TYPE = "error_type": ErrorType::WORDS;
    /// The HTTP status code (200 for a failure inside a stream), `other` for unusual codes, `none` without a response.
    STATUS = "status": &[];
    /// The phase of a request in flight: before or after its first token.
    PHASE = "phase": Phase::WORDS;
    /// Why the model stopped.
    FINISH_REASON = "finish_reason": FinishReason::WORDS;
    /// The source of the output token count: `upstream` is the usage in the response, `engine` the request's handle, `timings` the engine's timings in the response (llama.cpp), `estimated` the number of events with tokens.
    SOURCE = "source": UsageSource::WORDS;
    /// On `llm_discarded_tokens_total`, why the tokens were not delivered; on `llm_metrics_bodies_skipped_total`, why the body was not inspected; on `llm_metrics_requests_passed_total`, why the request looks like a call of a model.
    REASON = "reason": &["client_disconnect", "stream_error", "stream_truncated", "timeout", "compressed", "content_type", "too_large", "unknown_path", "event_stream"];
    /// The name of the objective, as configured.
    SLO = "slo": &[];
    /// On `llm_slo_requests_total`, whether the objective was met; on `llm_structured_outputs_total` and `llm_tool_calls_total`, the result of checking the output or the call.
    RESULT = "result": &[
        "met", "missed", "valid", "invalid_json", "schema_mismatch", "truncated", "fenced", "unchecked", "unknown_tool", "incomplete",
    ];
    /// The output format that the request asked for.
    FORMAT = "format": StructuredFormat::WORDS;
    /// Why the output was cut.
    CAUSE = "cause": TruncationCause::WORDS;
    /// How it is known that the prompt was cut.
    EVIDENCE = "evidence": InputTruncation::WORDS;
    /// The statistic of the recent window: a quantile, computed from buckets 14 to 25 % wide, or the exact maximum.
    STAT = "stat": Stat::WORDS;
    /// The name of the label whose cap was reached.
    LABEL = "label": &[];
    /// The protocol of the body, or `handle` for values reported through the request's handle.
    PROTOCOL = "protocol": Protocol::WORDS;
    /// On `llm_metrics_inspection_failures_total`, why a body or a value was not used; on `llm_output_…` and `llm_refusals_total`, the kind of finding.
    KIND = "kind": &[
        "malformed", "too_large", "implausible", "no_choices", "no_content", "whitespace", "reasoning_only", "char_run", "token_run",
        "cycle", "refusal_field", "content_filter", "replacement_char", "special_token_leak", "unclosed_reasoning",
    ];
    /// The engine that runs the model.
    ENGINE = "engine": &[];
    /// The version of the engine.
    ENGINE_VERSION = "engine_version": &[];
    /// The quantization of the weights.
    QUANTIZATION = "quantization": &[];
    /// The longest context, in tokens.
    CONTEXT_LENGTH = "context_length": &[];
    /// The version of this crate.
    VERSION = "version": &[];
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
    /// The catalogue, Prometheus itself or another setting has a label of that name.
    #[error("the label {name:?} is already in use: choose another name")]
    Taken {
        /// The name.
        name: String,
    },
}

/// Checks that the embedder can use these label names.
pub(crate) fn check_own<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), InvalidLabel> {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        check_name(name)?;
        if seen.contains(&name) {
            return Err(InvalidLabel::Taken { name: name.to_owned() });
        }
        seen.push(name);
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), InvalidLabel> {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && !name.starts_with("__");
    if !begins || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(InvalidLabel::Name { name: name.to_owned() });
    }
    if ["le", "quantile"].contains(&name) || ALL.iter().any(|label| label.name == name) {
        return Err(InvalidLabel::Taken { name: name.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{
        AnomalyKind, DiscardReason, EmptyKind, InspectionFailure, PassReason, RefusalKind, RepetitionKind, SkipReason,
        SloResult, StructuredResult, ToolCallResult,
    };

    /// Values of a label whose values depend on the metric.
    #[track_caller]
    fn assert_documented(label: &str, emitted: &[&[&str]]) {
        let mut words: Vec<&str> = Vec::new();
        for word in emitted.concat() {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        let documented = ALL.iter().find(|known| known.name == label).unwrap().values;
        assert_eq!(documented, words);
    }

    #[test]
    fn the_documented_words_are_those_that_are_emitted() {
        assert_documented(REASON, &[DiscardReason::WORDS, SkipReason::WORDS, PassReason::WORDS]);
        assert_documented(RESULT, &[SloResult::WORDS, StructuredResult::WORDS, ToolCallResult::WORDS]);
        let kinds = [EmptyKind::WORDS, RepetitionKind::WORDS, RefusalKind::WORDS, AnomalyKind::WORDS];
        assert_documented(KIND, &[&[InspectionFailure::WORDS], &kinds[..]].concat());
    }
}
