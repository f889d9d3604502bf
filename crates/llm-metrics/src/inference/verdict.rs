//! The outcome of a request.

use crate::{
    vocabulary::{DiscardReason, ErrorType, Outcome},
    wire::Framing,
};

/// How the transport ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The body ended, or the embedder ended the request.
    Complete,
    /// The body failed.
    Failed,
    /// The inner service returned an error instead of a response.
    ServiceError(ErrorType),
    /// The client disconnected, or a panic is unwinding.
    Dropped { panicking: bool },
}

/// How far the answer came, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerState {
    /// It is incomplete.
    Open,
    /// A terminal event arrived: everything was delivered.
    Complete,
    /// It is generated in the background, and nothing of it has arrived.
    Deferred,
    /// Plain text arrived instead of an event, and nothing after it showed that the stream continues.
    Suspect,
    /// Its caller has cancelled it with another request.
    Cancelled,
    /// It contains an error, with a type if it has one.
    Failed(Option<ErrorType>),
}

/// All facts that decide about the outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutcomeFacts {
    pub(crate) end: End,
    /// The status of the response head, if there was one.
    pub(crate) status: Option<u16>,
    /// The framing of the body that was read; `None`: the transport decides.
    pub(crate) framing: Option<Framing>,
    pub(crate) answer: AnswerState,
    /// The error that the handler reported.
    pub(crate) reported: Option<ErrorType>,
    /// Whether this is a proxy in front of another server.
    pub(crate) proxy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<ErrorType>,
    /// Why the output was not delivered, if so.
    pub(crate) discard: Option<DiscardReason>,
}

impl OutcomeFacts {
    pub(crate) fn verdict(&self) -> Verdict {
        let by_head = || self.status.and_then(|status| self.by_status(status));
        if let Some(error) = self.reported {
            return Verdict::of(error);
        }
        if let End::ServiceError(error) = self.end {
            return self.failure(error);
        }
        if let Some(verdict) = by_head() {
            return verdict;
        }
        // A stream must have a terminal event.
        let streamed = self.framing.is_some_and(Framing::is_stream);
        match self.answer {
            AnswerState::Failed(error) if streamed => {
                let discard = Some(DiscardReason::StreamError);
                return Verdict { discard, ..self.failure(error.unwrap_or(ErrorType::StreamError)) };
            }
            AnswerState::Failed(error) => return self.failure(error.unwrap_or_else(|| self.server_error())),
            AnswerState::Suspect => return Verdict::of(ErrorType::StreamError),
            AnswerState::Complete => return Verdict::SUCCESS,
            AnswerState::Cancelled => return Verdict::CANCELLED,
            AnswerState::Deferred if self.end == End::Complete => return Verdict::SUCCESS,
            AnswerState::Deferred | AnswerState::Open => {}
        }
        match self.end {
            End::Complete | End::Failed if streamed => Verdict::of(ErrorType::StreamTruncated),
            End::Complete => Verdict::SUCCESS,
            End::Dropped { panicking: false } => Verdict::CANCELLED,
            End::Dropped { panicking: true } => Verdict::of(ErrorType::Internal),
            End::Failed | End::ServiceError(_) => Verdict::of(self.server_error()),
        }
    }

    /// Whether the request counts as cancelled only because it was dropped.
    pub(crate) fn was_dropped(&self) -> bool {
        let said = self.answer == AnswerState::Cancelled || self.status == Some(499);
        matches!(self.end, End::Dropped { .. }) && !said && self.verdict() == Verdict::CANCELLED
    }

    fn by_status(&self, status: u16) -> Option<Verdict> {
        Some(match status {
            499 => Verdict::CANCELLED,
            // The provider wants to be paid by the owner of the key.
            402 if self.proxy => self.failure(ErrorType::Unauthorized),
            401 | 407 => self.failure(ErrorType::Unauthorized),
            403 => Verdict::of(ErrorType::Unauthorized),
            404 | 410 => Verdict::of(ErrorType::NotFound),
            429 => Verdict::of(ErrorType::RateLimited),
            408 | 504 | 524 => Verdict::of(ErrorType::Timeout),
            503 | 529 => Verdict::of(ErrorType::Overloaded),
            502 => Verdict::of(ErrorType::UpstreamUnavailable),
            // A redirect is not an answer: the request went to the wrong place.
            300..=499 => Verdict::of(ErrorType::InvalidRequest),
            500.. => Verdict::of(self.server_error()),
            _ => return None,
        })
    }

    /// The type for a status or an error of the service. Credentials that the upstream of a proxy rejects are the proxy's.
    fn failure(&self, error: ErrorType) -> Verdict {
        let ours = self.proxy && error == ErrorType::Unauthorized;
        let verdict = Verdict::of(error);
        if ours { Verdict { outcome: Outcome::Error, ..verdict } } else { verdict }
    }

    fn server_error(&self) -> ErrorType {
        server_error(self.proxy)
    }
}

/// A failure without details: of this server, or of the upstream server.
pub(crate) fn server_error(proxy: bool) -> ErrorType {
    if proxy { ErrorType::UpstreamError } else { ErrorType::Internal }
}

impl Verdict {
    const SUCCESS: Self = Self { outcome: Outcome::Success, error: None, discard: None };
    const CANCELLED: Self =
        Self { outcome: Outcome::Cancelled, error: None, discard: Some(DiscardReason::ClientDisconnect) };

    fn of(error: ErrorType) -> Self {
        let discard = match error {
            ErrorType::StreamError => Some(DiscardReason::StreamError),
            ErrorType::StreamTruncated => Some(DiscardReason::StreamTruncated),
            ErrorType::Timeout => Some(DiscardReason::Timeout),
            _ => None,
        };
        Self { outcome: error.outcome(), error: Some(error), discard }
    }
}
