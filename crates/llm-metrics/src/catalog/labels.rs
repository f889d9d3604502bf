//! Label names, and what values each can have.

use crate::vocabulary::{
    Endpoint, ErrorType, FinishReason, Flag, InspectionFailure, Operation, Outcome, Phase, Protocol, SloResult, Stat,
    Thinking, UsageSource,
};

/// The value that stands for every value over a label's cap.
pub const OTHER: &str = "other";
/// The value for what was never said.
pub const UNKNOWN: &str = "unknown";

macro_rules! labels {
    ($($(#[doc = $help:literal])+ $name:ident = $word:literal: $values:expr;)+) => {
        $($(#[doc = $help])+ pub const $name: &str = $word;)+

        /// Every label, with what its values are.
        pub const ALL: &[LabelDef] = &[$(LabelDef {
            name: $word,
            help: concat!($($help),+).trim_ascii(),
            values: $values,
        },)+];
    };
}

/// What is to be known about a label.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LabelDef {
    /// Its name.
    pub name: &'static str,
    /// What its values say.
    pub help: &'static str,
    /// Every value that it can have; empty where a policy or the embedder decides.
    pub values: &'static [&'static str],
}

macro_rules! status_codes {
    ($($code:literal),+ $(,)?) => { [$(($code, stringify!($code))),+] };
}

/// HTTP status codes that are told apart; `other` for the rest, `none` where there was no response.
pub(crate) const STATUS_CODES: &[(u16, &str)] = &status_codes![
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411,
    412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 498, 499, 500, 501, 502, 503,
    504, 505, 507, 508, 511, 520, 521, 522, 523, 524, 525, 529, 530, 598, 599,
];

labels! {
    /// The model that was asked for, bounded by the label policy: `other` over the cap, `unknown` where no name was seen.
    MODEL = "model": &[];
    /// The kind of work: OpenTelemetry's `gen_ai.operation.name`.
    OPERATION = "operation": Operation::WORDS;
    /// The route template, never the raw path.
    ENDPOINT = "endpoint": Endpoint::WORDS;
    /// Whether the answer was streamed: the response's content type on success, else what the request asked for.
    STREAM = "stream": Flag::WORDS;
    /// Whether reasoning was seen; with no output, the request's switch, else `unknown`.
    THINKING = "thinking": Thinking::WORDS;
    /// How the request ended. Availability is `error / (success + error)`.
    OUTCOME = "outcome": Outcome::WORDS;
    /// Why it was rejected or failed.
    ERROR_TYPE = "error_type": ErrorType::WORDS;
    /// The status code of the response's head (a failure inside a stream has 200), `other` for unusual ones, `none` without a head.
    STATUS = "status": &[];
    /// Where a request in flight is: before or after its first token.
    PHASE = "phase": Phase::WORDS;
    /// Why the model stopped.
    FINISH_REASON = "finish_reason": FinishReason::WORDS;
    /// Where the output token count comes from: `upstream` is the usage on the wire, `engine` the request's handle, `estimated` the number of events that bore tokens.
    SOURCE = "source": UsageSource::WORDS;
    /// On `llm_discarded_tokens_total`, why nobody read the tokens; on `llm_metrics_bodies_skipped_total`, why the body was not read.
    REASON = "reason": &["client_disconnect", "stream_error", "stream_truncated", "timeout", "compressed", "content_type", "too_large"];
    /// The name of the objective, as the embedder gave it.
    SLO = "slo": &[];
    /// Whether the objective was reached.
    RESULT = "result": SloResult::WORDS;
    /// Which figure of the recent window it is: a quantile, as exact as buckets 14 to 25 % wide tell, or the exact maximum.
    STAT = "stat": Stat::WORDS;
    /// The name of the label whose cap was reached.
    LABEL = "label": &[];
    /// The wire format that was being read, or `handle` for what was reported by the request's handle.
    PROTOCOL = "protocol": Protocol::WORDS;
    /// What could not be read.
    KIND = "kind": InspectionFailure::WORDS;
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

/// Why a label of the embedder's own cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLabel {
    /// Prometheus would refuse the name.
    #[error(
        "{name:?} cannot be a label name: use letters, digits and underscores, begin with a letter, and not with two underscores"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The catalogue, Prometheus itself or another setting has a label of that name.
    #[error("the label {name:?} is in use already: give yours another name")]
    Taken {
        /// The name.
        name: String,
    },
}

/// Checks that the embedder can have labels of these names.
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
    use crate::vocabulary::{DiscardReason, SkipReason};

    #[test]
    fn the_documented_reasons_are_those_that_are_emitted() {
        let emitted = [DiscardReason::WORDS, SkipReason::WORDS].concat();
        let documented = ALL.iter().find(|label| label.name == REASON).unwrap().values;
        assert_eq!(documented, emitted);
    }
}
