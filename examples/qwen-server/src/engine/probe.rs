//! The engine's state, observed from inside.
//!
//! mistral.rs 0.8.1 does not report how many requests run or wait, and its token counts are wrong for more than one choice. But it calls a custom
//! logits processor once for every token that it is about to sample, on its own thread, and drops it with the sequence. That is enough for the exact
//! number of tokens, and to know which requests wait, run or are gone.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use mistralrs::{CustomLogitsProcessor, Tensor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Fault, steering::Steering};
use crate::telemetry::{EngineMetrics, Handle};

/// How many requests wait for their first token, and how many have one.
pub(crate) struct Load {
    counts: Mutex<(u64, u64)>,
    gauges: EngineMetrics,
}

impl Load {
    pub(crate) fn new(gauges: EngineMetrics) -> Self {
        let load = Self { counts: Mutex::new((0, 0)), gauges };
        load.change(|_| {});
        load
    }

    /// Publishes under the lock, so that an older count never overwrites a newer one.
    fn change(&self, change: impl FnOnce(&mut (u64, u64))) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        self.gauges.waiting(counts.0);
        self.gauges.running(counts.1);
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64) {
        *self.counts.lock().unwrap()
    }
}

/// One request in the engine: waiting until its first token, then running, until all its sequences are gone.
pub(super) struct Presence {
    load: Arc<Load>,
    started: AtomicBool,
    /// Held for as long as the engine has it.
    seats: Option<OwnedSemaphorePermit>,
    /// Held until the engine has dropped the request, which is later than its client's disconnect.
    _slots: OwnedSemaphorePermit,
}

impl Presence {
    pub(super) fn enter(load: Arc<Load>, slots: OwnedSemaphorePermit) -> Self {
        load.change(|(waiting, _)| *waiting += 1);
        Self { load, started: AtomicBool::new(false), seats: None, _slots: slots }
    }

    /// Waits until the engine may have this many more choices, in the order of arrival.
    pub(super) async fn wait_for_seats(
        &mut self,
        seats: &Arc<Semaphore>,
        choices: usize,
        handle: &Handle,
    ) -> Result<(), Fault> {
        let waiting = Instant::now();
        let choices = u32::try_from(choices).map_err(|_| Fault::Gone)?;
        // The semaphore is never closed.
        self.seats = Some(Arc::clone(seats).acquire_many_owned(choices).await.map_err(|_| Fault::Gone)?);
        handle.queue_time(waiting.elapsed());
        Ok(())
    }

    fn start(&self) {
        if !self.started.swap(true, Ordering::Relaxed) {
            self.load.change(|(waiting, running)| (*waiting, *running) = (*waiting - 1, *running + 1));
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let started = *self.started.get_mut();
        self.load.change(|(waiting, running)| *(if started { running } else { waiting }) -= 1);
    }
}

/// The ids of `<think>` and `</think>`.
#[derive(Clone, Copy)]
pub(super) struct ThinkTags {
    pub(super) open: u32,
    pub(super) close: u32,
}

/// The tokens of one choice, counted as they are sampled.
#[derive(Default)]
pub(super) struct TokenCounts {
    sampled: AtomicU64,
    reasoning: AtomicU64,
    thinking: AtomicBool,
    seen: AtomicUsize,
}

impl TokenCounts {
    /// Called before each sampling with the tokens so far; `true` if a new token is about to be sampled.
    ///
    /// A grammar makes the engine sample twice for one token, with the same context.
    fn observe(&self, context: &[u32], tags: Option<ThinkTags>) -> bool {
        if self.seen.swap(context.len(), Ordering::Relaxed) == context.len() {
            return false;
        }
        let first = self.sampled.fetch_add(1, Ordering::Relaxed) == 0;
        if let (Some(tags), Some(&last)) = (tags, context.last()) {
            if first {
                self.thinking.store(opens_thinking(context, tags), Ordering::Relaxed);
            } else if last == tags.open || last == tags.close {
                self.thinking.store(last == tags.open, Ordering::Relaxed);
            } else if self.thinking.load(Ordering::Relaxed) {
                self.reasoning.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    pub(super) fn sampled(&self) -> u64 {
        self.sampled.load(Ordering::Relaxed)
    }

    /// Tokens between the think tags. The last token is never seen in a context: if the limit cut the reasoning, it belongs to the reasoning.
    pub(super) fn reasoning(&self, cut_short: bool) -> u64 {
        let unseen = u64::from(cut_short && self.thinking.load(Ordering::Relaxed));
        self.reasoning.load(Ordering::Relaxed) + unseen
    }
}

/// Whether the prompt ends inside reasoning, as with the templates of thinking-only models: `<think>
/// `.
fn opens_thinking(prompt: &[u32], tags: ThinkTags) -> bool {
    prompt.iter().rev().take(2).any(|token| *token == tags.open) && !prompt.ends_with(&[tags.close])
}

/// The logits processor that counts.
pub(super) struct Probe {
    pub(super) token_counts: Arc<TokenCounts>,
    pub(super) presence: Arc<Presence>,
    pub(super) steering: Arc<Steering>,
    pub(super) tags: Option<ThinkTags>,
    pub(super) handle: Handle,
}

impl CustomLogitsProcessor for Probe {
    fn apply(&self, logits: &Tensor, context: &[u32]) -> mistralrs::Result<Tensor> {
        if self.token_counts.observe(context, self.tags) {
            self.presence.start();
            self.handle.tokens(1);
        }
        Ok(self.steering.apply(logits, self.token_counts.sampled() - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: Option<ThinkTags> = Some(ThinkTags { open: 100, close: 101 });

    fn token_counts(prompt: &[u32], sampled: &[u32]) -> TokenCounts {
        let token_counts = TokenCounts::default();
        let mut context = prompt.to_vec();
        for token in sampled {
            token_counts.observe(&context, TAGS);
            context.push(*token);
        }
        token_counts
    }

    #[test]
    fn a_token_that_is_sampled_twice_counts_once() {
        let token_counts = TokenCounts::default();
        assert!(token_counts.observe(&[1, 2], None));
        assert!(!token_counts.observe(&[1, 2], None));
        assert!(token_counts.observe(&[1, 2, 3], None));
        assert_eq!(token_counts.sampled(), 2);
    }

    #[test]
    fn tags_are_not_reasoning_and_words_between_them_are() {
        let token_counts = token_counts(&[1, 2], &[100, 7, 8, 9, 101, 3, 4]);
        assert_eq!((token_counts.sampled(), token_counts.reasoning(false)), (7, 3));
    }

    #[test]
    fn a_thought_that_the_prompt_opened_counts() {
        assert_eq!(token_counts(&[1, 100, 2], &[7, 8, 101, 3]).reasoning(false), 2);
        assert_eq!(token_counts(&[1, 100, 2, 101, 2], &[7, 8, 3]).reasoning(false), 0, "thinking was switched off");
    }

    #[test]
    fn a_thought_cut_short_includes_its_last_token() {
        assert_eq!(token_counts(&[1], &[100, 7, 8]).reasoning(true), 2);
    }
}
