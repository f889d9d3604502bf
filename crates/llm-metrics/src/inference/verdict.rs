//! How a request ended, in one word.

use crate::vocabulary::{ErrorType, Outcome};

/// How the transport ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The body came to its end, or the embedder said so.
    Complete,
    /// The body failed.
    Failed,
    /// The inner service returned an error instead of a response.
    ServiceError(ErrorType),
    /// Nobody waited any longer, or a panic is unwinding.
    Dropped { panicking: bool },
}

/// How much is known about the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inspection {
    /// Nothing: transport decides.
    None,
    /// One document.
    Document,
    /// A stream of events, which has to say when it is complete.
    Stream,
}

/// All that decides about the outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) end: End,
    /// Of the response's head, if one came.
    pub(crate) status: Option<u16>,
    pub(crate) inspection: Inspection,
    /// A terminal event came: everything was delivered.
    pub(crate) terminal: bool,
    /// An error was reported in the body.
    pub(crate) in_band_error: bool,
    /// What the handler said about it.
    pub(crate) reported: Option<ErrorType>,
    /// Whether we stand in front of another server.
    pub(crate) proxy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<ErrorType>,
}

impl Ending {
    pub(crate) fn verdict(&self) -> Verdict {
        let by_head = || self.status.and_then(|status| self.by_status(status));
        if let Some(error) = self.reported {
            return Verdict::of(error);
        }
        if let End::ServiceError(error) = self.end {
            return Verdict::of(error);
        }
        if let Some(verdict) = by_head() {
            return verdict;
        }
        if self.in_band_error {
            let streamed = self.inspection == Inspection::Stream;
            return Verdict::of(if streamed { ErrorType::StreamError } else { self.server_error() });
        }
        if self.terminal {
            return Verdict::SUCCESS;
        }
        match (self.end, self.inspection) {
            (End::Complete | End::Failed, Inspection::Stream) => Verdict::of(ErrorType::StreamTruncated),
            (End::Complete, _) => Verdict::SUCCESS,
            (End::Dropped { panicking: false }, _) => Verdict::CANCELLED,
            (End::Dropped { panicking: true }, _) => Verdict::of(ErrorType::Internal),
            (End::Failed | End::ServiceError(_), _) => Verdict::of(self.server_error()),
        }
    }

    fn by_status(&self, status: u16) -> Option<Verdict> {
        Some(match status {
            499 => Verdict::CANCELLED,
            401 | 403 | 407 => Verdict::of(ErrorType::Unauthorized),
            404 | 410 => Verdict::of(ErrorType::NotFound),
            429 => Verdict::of(ErrorType::RateLimited),
            408 | 504 | 524 => Verdict::of(ErrorType::Timeout),
            503 | 529 => Verdict::of(ErrorType::Overloaded),
            502 => Verdict::of(ErrorType::UpstreamUnavailable),
            // A redirect is no answer: the request went to the wrong place.
            300..=499 => Verdict::of(ErrorType::InvalidRequest),
            500.. => Verdict::of(self.server_error()),
            _ => return None,
        })
    }

    fn server_error(&self) -> ErrorType {
        server_error(self.proxy)
    }
}

/// A failure of which nothing else is known: ours, or that of the server behind us.
pub(crate) fn server_error(proxy: bool) -> ErrorType {
    if proxy { ErrorType::UpstreamError } else { ErrorType::Internal }
}

impl Verdict {
    const SUCCESS: Self = Self { outcome: Outcome::Success, error: None };
    const CANCELLED: Self = Self { outcome: Outcome::Cancelled, error: None };

    fn of(error: ErrorType) -> Self {
        Self { outcome: error.outcome(), error: Some(error) }
    }
}
