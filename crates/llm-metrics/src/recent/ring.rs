use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::vocabulary::{Endpoint, ErrorType, FinishReason, Operation, Outcome, Thinking, Usage};

/// How many finished requests are kept.
pub(crate) const KEPT: usize = 1024;

/// The last finished requests.
#[derive(Debug, Default)]
pub(super) struct Ring(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    requests: Vec<RecentRequest>,
    /// Where the oldest is, whose place is the next one's once all places are taken.
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

/// A request that has ended, as it was recorded. It holds no content: nothing of the prompt, nothing of the answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecentRequest {
    /// When it ended.
    pub ended: Instant,
    /// The model as metrics have it: `other` where the name is over the cap.
    pub model: Arc<str>,
    /// The kind of work.
    pub operation: Operation,
    /// The route template.
    pub endpoint: Endpoint,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was rejected or failed.
    pub error_type: Option<ErrorType>,
    /// The status of the response's head, if there was one.
    pub status: Option<u16>,
    /// Why the model stopped; of several choices, one that finished.
    pub finish_reason: Option<FinishReason>,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// Whether the model reasoned.
    pub thinking: Thinking,
    /// From its arrival to its end.
    pub duration: Duration,
    /// From its arrival to the first event that bore a token; streams only.
    pub time_to_first_token: Option<Duration>,
    /// From its arrival to the first token of the answer proper; streams only.
    pub time_to_first_answer_token: Option<Duration>,
    /// The mean time a token after the first one; streams of two tokens or more.
    pub time_per_output_token: Option<Duration>,
    /// Token counts, where they are known.
    pub usage: Usage,
    /// [Request labels](crate::Builder::request_label) as metrics have them, each with its value: `other` where that is over its cap, `unknown` where there was none.
    pub labels: Arc<[(Arc<str>, Arc<str>)]>,
}

impl RecentRequest {
    /// The value of a request label; `None` where metrics have no such label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| **label == *name).map(|(_, value)| &**value)
    }
}
