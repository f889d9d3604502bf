//! What a client saw of one request.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a request did not get its answer. The words are those of `error_type` in the catalogue of [`llm_metrics`], where that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection.
    Unreachable,
    /// The connection was lost before the head of an answer.
    ConnectionLost,
    /// Not answered within the limit on one request.
    Timeout,
    /// Nothing came for longer than the limit on silence.
    Stalled,
    /// 400 and other 4xx.
    InvalidRequest,
    /// 401, 403, 407.
    Unauthorized,
    /// 404, 410.
    NotFound,
    /// 429, or an error inside an answer that says so.
    RateLimited,
    /// 503, 529, or an error inside an answer that says so.
    Overloaded,
    /// Any other 5xx.
    Internal,
    /// An error inside an answer.
    StreamError,
    /// The answer ended, or its connection was lost, before it was complete.
    StreamTruncated,
    /// The answer is not of the protocol.
    Malformed,
}

impl ErrorKind {
    /// None where the status is that of an answer.
    pub(crate) fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            200..=299 => return None,
            401 | 403 | 407 => Self::Unauthorized,
            404 | 410 => Self::NotFound,
            408 | 504 | 524 => Self::Timeout,
            429 => Self::RateLimited,
            503 | 529 => Self::Overloaded,
            500..=599 => Self::Internal,
            _ => Self::InvalidRequest,
        })
    }

    /// A server that has more to do than it can answers so.
    pub(crate) fn is_overload(self) -> bool {
        matches!(self, Self::Timeout | Self::Stalled | Self::RateLimited | Self::Overloaded)
    }

    /// It was told so at once.
    pub(crate) fn is_turned_away(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded)
    }

    /// The word that stands in files.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::ConnectionLost => "connection_lost",
            Self::Timeout => "timeout",
            Self::Stalled => "stalled",
            Self::InvalidRequest => "invalid_request",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
            Self::StreamError => "stream_error",
            Self::StreamTruncated => "stream_truncated",
            Self::Malformed => "malformed",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answered,
    /// By us, as was meant.
    HungUp,
    Failed(ErrorKind),
    /// The step was over before it had its answer.
    Unfinished,
}

/// Why a request failed, and what was said about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) why: Option<Box<str>>,
}

impl From<ErrorKind> for Failure {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, why: None }
    }
}

impl Failure {
    pub(crate) fn because(kind: ErrorKind, why: &str) -> Self {
        Self { kind, why: (!why.is_empty()).then(|| why.into()) }
    }
}

/// `not_found (status 404: model 'x' not found)`.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind.word())?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// One request. Times are since the start of its step.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    /// When it was to be sent: latencies count from here, so that a generator that is late, or that waits, hides nothing.
    pub(crate) scheduled: Duration,
    pub(crate) sent: Duration,
    pub(crate) ended: Duration,
    pub(crate) first_token: Option<Duration>,
    pub(crate) first_answer: Option<Duration>,
    /// The last token, or the reason why there is none after it: that comes with the last one.
    pub(crate) last_token: Option<Duration>,
    /// Gaps between events with tokens, in microseconds.
    pub(crate) gaps: Vec<u32>,
    /// Events with tokens.
    pub(crate) events: u64,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    /// What was asked.
    pub(crate) thinking: Option<bool>,
    pub(crate) streamed: bool,
    pub(crate) end: End,
    /// What the server, or the connection, said of a failure.
    pub(crate) why: Option<Box<str>>,
}

impl Observation {
    pub(crate) fn new(scheduled: Duration) -> Self {
        Self {
            scheduled,
            sent: scheduled,
            ended: scheduled,
            first_token: None,
            first_answer: None,
            last_token: None,
            gaps: Vec::new(),
            events: 0,
            input_tokens: None,
            output_tokens: None,
            thinking: None,
            streamed: true,
            end: End::Unfinished,
            why: None,
        }
    }

    /// Seconds from when it was due to the end of its answer.
    pub(crate) fn duration(&self) -> Option<f64> {
        (self.end == End::Answered).then(|| (self.ended - self.scheduled).as_secs_f64())
    }

    /// Seconds to the first token. Of streams alone: a document has its tokens all at once.
    pub(crate) fn time_to_first_token(&self) -> Option<f64> {
        self.first_token.filter(|_| self.streamed).map(|at| at.saturating_sub(self.scheduled).as_secs_f64())
    }

    pub(crate) fn time_to_first_answer_token(&self) -> Option<f64> {
        self.first_answer.filter(|_| self.streamed).map(|at| at.saturating_sub(self.scheduled).as_secs_f64())
    }

    /// Seconds from the first token to the last, for each that came after the first. From usage where there is one: events are
    /// not tokens.
    pub(crate) fn time_per_output_token(&self) -> Option<f64> {
        if self.end != End::Answered || !self.streamed {
            return None;
        }
        let decode = (self.last_token? - self.first_token?).as_secs_f64();
        let tokens = self.output_tokens.unwrap_or(self.events);
        // All in one event: there is no time between them that could be told.
        (tokens >= 2 && self.last_token > self.first_token).then(|| decode / (tokens - 1) as f64)
    }

    /// Whether it failed because the server has more to do than it can. Who falls silent in the middle of an answer has another
    /// trouble: where requests wait is before their first token.
    pub(crate) fn is_overload(&self) -> bool {
        match self.end {
            End::Failed(ErrorKind::Stalled) => self.first_token.is_none(),
            End::Failed(kind) => kind.is_overload(),
            _ => false,
        }
    }

    /// Why it did not get its answer.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let End::Failed(kind) = self.end else { return None };
        Some(Failure { kind, why: self.why.clone() })
    }

    /// How late the generator was.
    pub(crate) fn lateness(&self) -> f64 {
        self.sent.saturating_sub(self.scheduled).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_count_from_when_the_request_was_due() {
        let at = Duration::from_millis;
        let mut seen = Observation::new(at(1000));
        seen.sent = at(1400);
        seen.first_token = Some(at(1500));
        seen.last_token = Some(at(1900));
        seen.ended = at(2000);
        seen.events = 3;
        seen.output_tokens = Some(5);
        assert_eq!((seen.duration(), seen.time_per_output_token()), (None, None), "not answered");
        seen.end = End::Answered;
        assert_eq!(seen.time_to_first_token(), Some(0.5));
        assert_eq!(seen.duration(), Some(1.0));
        assert!((seen.time_per_output_token().unwrap() - 0.1).abs() < 1e-12, "by usage, not by events");
        assert!((seen.lateness() - 0.4).abs() < 1e-12);
        seen.streamed = false;
        assert_eq!((seen.time_to_first_token(), seen.time_per_output_token()), (None, None));
    }
}
