//! One request's life, whichever door it came in by.
//!
//! The layer feeds it with what it reads on the wire; an engine without HTTP uses [`Inference`] by hand. Both lead to the
//! same state machine, which records each observation at the moment it is true, and settles the request once: at its
//! end, or when it is dropped.

mod choices;
mod frame;
mod handle;
mod life;
#[cfg_attr(not(feature = "tracing"), path = "no_span.rs")]
mod span;
mod tags;
mod verdict;

use std::time::Instant;

pub use handle::InferenceHandle;
use handle::MAX_PLAUSIBLE_TOKENS;
pub(crate) use handle::Shared;
pub(crate) use life::{Door, Life};
pub(crate) use span::SpanKind;
pub(crate) use verdict::{End, Inspection, server_error};

use crate::{
    record::LlmMetrics,
    vocabulary::{Endpoint, ErrorType, FinishReason, Operation, Protocol, Usage},
};

impl LlmMetrics {
    /// Starts the clock for a request that does not come in by the layer: for an engine without HTTP, a queue worker, a
    /// client of one's own.
    ///
    /// ```
    /// use llm_metrics::{FinishReason, LlmMetrics, Operation, Usage};
    ///
    /// # let metrics = LlmMetrics::new();
    /// let mut inference = metrics.start(Operation::Chat, "Qwen3-4B");
    /// for _ in 0..18 {
    ///     // … one step of the engine …
    ///     inference.tokens(1);
    /// }
    /// inference.usage(Usage::new().input(9).output(18));
    /// inference.finish(FinishReason::Stop);
    /// ```
    pub fn start(&self, operation: Operation, model: &str) -> Inference {
        let door = Door { endpoint: Endpoint::Other, operation, protocol: Protocol::Handle };
        let mut life = Life::start(self, door, None, SpanKind::Internal);
        life.handle().model(model);
        life.streams(true);
        #[cfg(feature = "tracing")]
        if let Some(label) = self.0.known_model(model) {
            life.span().name(operation, &label);
        }
        Inference { life }
    }
}

/// A request that is measured by hand; see [`LlmMetrics::start`].
///
/// It counts as streamed, and its model's name as accepted once it has a token, unless told otherwise. Dropping it without
/// [`finish`](Self::finish) or [`fail`](Self::fail) records it as cancelled, or as an internal error while panicking.
#[must_use = "dropping it records the request as cancelled"]
pub struct Inference {
    life: Life,
}

impl Inference {
    /// A handle for the engine's side; it can be sent to another thread. Tokens that it reports are counted; their
    /// *times* are recorded by [`tokens`](Self::tokens) alone.
    #[must_use]
    pub fn handle(&self) -> InferenceHandle {
        self.life.handle()
    }

    /// The request's span, to run the engine inside it: see [`spans`](crate::spans). What keeps a clone of it, or of a child,
    /// keeps it open.
    #[cfg(feature = "tracing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        self.life.span().get()
    }

    /// Says whether the caller gets tokens as they come. Where not, no time of tokens is recorded.
    pub fn streamed(&mut self, streamed: bool) {
        self.life.streams(streamed);
    }

    /// One step of the engine gave `count` tokens of the answer. The first call is the first token.
    pub fn tokens(&mut self, count: u64) {
        if self.is_step(count) {
            self.life.answer_part();
            self.step(count);
        }
    }

    /// One step of the engine gave `count` tokens of reasoning.
    pub fn reasoning_tokens(&mut self, count: u64) {
        if self.is_step(count) {
            self.life.reasoning_text(b"reasoning");
            self.step(count);
        }
    }

    /// Sets token counts; see [`InferenceHandle::usage`].
    pub fn usage(&mut self, usage: Usage) {
        self.handle().usage(usage);
    }

    /// Ends the request with success.
    pub fn finish(mut self, reason: FinishReason) {
        self.life.accept();
        self.life.finish_reason(0, reason);
        self.life.end_event();
        self.life.settle(End::Complete);
    }

    /// Ends the request with an error.
    pub fn fail(mut self, error: ErrorType) {
        self.life.settle(End::ServiceError(error));
    }

    fn is_step(&self, count: u64) -> bool {
        if count > MAX_PLAUSIBLE_TOKENS {
            self.life.shared.implausible();
        }
        (1..=MAX_PLAUSIBLE_TOKENS).contains(&count)
    }

    fn step(&mut self, count: u64) {
        self.life.accept();
        self.life.shared.add_tokens(count);
        self.life.end_event();
        self.life.tick(Instant::now(), count, 1);
    }
}

impl std::fmt::Debug for Inference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inference").finish_non_exhaustive()
    }
}
