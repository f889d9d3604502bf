use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::vocabulary::{Endpoint, ErrorType, FinishReason, Operation, Outcome, Thinking, Usage};

/// The number of finished requests that are kept.
pub(crate) const KEPT: usize = 1024;

/// The last finished requests.
#[derive(Debug, Default)]
pub(super) struct Ring(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    requests: Vec<RecentRequest>,
    /// The index of the oldest, which the next one replaces when the ring is full.
    oldest: usize,
}

impl Ring {
    pub(super) fn push(&self, request: RecentRequest) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.requests.len() < KEPT {
            return kept.requests.push(request);
        }
        let oldest = kept.oldest;
        kept.requests[oldest] = request;
        kept.oldest = (oldest + 1) % KEPT;
    }

    /// The newest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<RecentRequest> {
        let mut newest = Vec::with_capacity(limit.min(KEPT));
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (later, earlier) = kept.requests.split_at(kept.oldest);
        newest.extend(later.iter().rev().chain(earlier.iter().rev()).take(limit).cloned());
        newest
    }
}

/// A request that has ended, as recorded. It holds no content: nothing from the prompt or the response.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecentRequest {
    /// When it ended.
    pub ended: Instant,
    /// The value of the label `model`: `other` if the name is over the cap.
    pub model: Arc<str>,
    /// The operation.
    pub operation: Operation,
    /// The route template.
    pub endpoint: Endpoint,
    /// The outcome.
    pub outcome: Outcome,
    /// Why it was rejected or failed.
    pub error_type: Option<ErrorType>,
    /// The status of the response head, if there was one.
    pub status: Option<u16>,
    /// The finish reason; with several choices, that of one that finished.
    pub finish_reason: Option<FinishReason>,
    /// Whether the response was streamed.
    pub stream: bool,
    /// Whether the model reasoned.
    pub thinking: Thinking,
    /// From its arrival to its end.
    pub duration: Duration,
    /// From its arrival to the first event with a token. Streams only.
    pub time_to_first_token: Option<Duration>,
    /// From its arrival to the first token of the answer, after any reasoning. Streams only.
    pub time_to_first_answer_token: Option<Duration>,
    /// The mean time per output token after the first. Streams with at least two tokens.
    pub time_per_output_token: Option<Duration>,
    /// Token counts, as far as they are known.
    pub usage: Usage,
    /// The [request labels](crate::Builder::request_label) with the values in the metrics: `other` if the value is over its cap, `unknown` if there
    /// was none.
    pub labels: Arc<[(Arc<str>, Arc<str>)]>,
}

impl RecentRequest {
    /// The value of a request label; `None` if there is no such label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| **label == *name).map(|(_, value)| &**value)
    }
}
