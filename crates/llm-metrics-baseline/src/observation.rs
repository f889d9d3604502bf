//! A client's measurements of one request.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a request was not answered. The words are those of `error_type` in the catalogue of [`llm_metrics`], if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection.
    Unreachable,
    /// The connection was lost before the response head.
    ConnectionLost,
    /// Not answered within the timeout of a request.
    Timeout,
    /// No data for longer than the timeout of a response.
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
    /// An error inside a response.
    StreamError,
    /// The response ended, or its connection was lost, before it was complete.
    StreamTruncated,
    /// The response is not valid in the protocol.
    Malformed,
}

impl ErrorKind {
    /// `None` for a successful status.
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

    /// Whether an overloaded server responds like this.
    pub(crate) fn is_overload(self) -> bool {
        matches!(self, Self::Timeout | Self::Stalled | Self::RateLimited | Self::Overloaded)
    }

    /// Whether the server rejected it immediately.
    pub(crate) fn is_turned_away(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded)
    }

    /// The word in files.
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
    /// By the client, on purpose.
    HungUp,
    Failed(ErrorKind),
    /// The step ended before the response did.
    Unfinished,
}

/// Why a request failed, with the server's message.
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
    /// When it was due: latencies start here, so that a late load generator hides nothing.
    pub(crate) scheduled: Duration,
    pub(crate) sent: Duration,
    pub(crate) ended: Duration,
    pub(crate) first_token: Option<Duration>,
    pub(crate) first_answer: Option<Duration>,
    /// The last token, or the finish reason if that came later, because it arrives with the last token.
    pub(crate) last_token: Option<Duration>,
    /// Gaps between events with tokens, in microseconds.
    pub(crate) gaps: Vec<u32>,
    /// Events with tokens.
    pub(crate) events: u64,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    /// The settings of the request.
    pub(crate) thinking: Option<bool>,
    pub(crate) streamed: bool,
    pub(crate) end: End,
    /// The message of the server or the connection about a failure.
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

    /// Seconds to the first token. Only for streams, because a document has all tokens at its end.
    pub(crate) fn time_to_first_token(&self) -> Option<f64> {
        self.first_token.filter(|_| self.streamed).map(|at| at.saturating_sub(self.scheduled).as_secs_f64())
    }

    pub(crate) fn time_to_first_answer_token(&self) -> Option<f64> {
        self.first_answer.filter(|_| self.streamed).map(|at| at.saturating_sub(self.scheduled).as_secs_f64())
    }

    /// Mean seconds per token after the first. The number of tokens is from usage if there is one, because events are not tokens.
    pub(crate) fn time_per_output_token(&self) -> Option<f64> {
        if self.end != End::Answered || !self.streamed {
            return None;
        }
        let decode = (self.last_token? - self.first_token?).as_secs_f64();
        let tokens = self.output_tokens.unwrap_or(self.events);
        // All in one event: there is no time between them.
        (tokens >= 2 && self.last_token > self.first_token).then(|| decode / (tokens - 1) as f64)
    }

    /// Whether it failed because of overload. Silence in the middle of a response has another cause, because requests queue before their first token.
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

    /// The delay of the load generator.
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
