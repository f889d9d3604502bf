//! Passes the events of a reader to the tracker of a request.

use std::time::Instant;

use super::tracker::RequestTracker;
use crate::{
    vocabulary::{ErrorType, FinishReason, InspectionFailure, SkipReason, Usage},
    wire::{Finality, Framing, Sink, TextKind, Timings},
};

/// The frame of a body that is being read. Events that arrive in one frame arrive at the same time: the clock is read once, and not at all for a
/// frame without a token or a finish reason.
pub(crate) struct FrameSink<'a> {
    tracker: &'a mut RequestTracker,
    tokens: u64,
    events: u64,
    finished: bool,
    usage: bool,
    /// The body has ended, and the rest of the buffered data is being emitted.
    last: bool,
}

impl RequestTracker {
    pub(crate) fn frame(&mut self) -> FrameSink<'_> {
        FrameSink { tracker: self, tokens: 0, events: 0, finished: false, usage: false, last: false }
    }

    /// What the reader knows at the end of the body.
    pub(crate) fn last_frame(&mut self) -> FrameSink<'_> {
        FrameSink { last: true, ..self.frame() }
    }
}

impl FrameSink<'_> {
    #[inline]
    pub(crate) fn end(self) {
        self.end_at(Instant::now);
    }

    /// This choice has text.
    #[inline(always)]
    fn on_text(&mut self, choice: u32, kind: TextKind, fragment: &[u8]) {
        match kind {
            TextKind::Answer => self.tracker.answer_text(choice, fragment),
            TextKind::Reasoning => self.tracker.answer.reasoning_text(fragment),
            _ => self.tracker.answer.part(),
        }
    }

    /// Ends the frame, with the time of `clock` if it is needed.
    #[inline]
    pub(super) fn end_at(self, clock: impl FnOnce() -> Instant) {
        // The tokens of a document have no times, and are counted at its end.
        if !self.tracker.is_stream() {
            return;
        }
        if self.events > 0 || self.finished {
            let now = clock();
            if self.finished {
                self.tracker.finished_at(now);
            }
            if self.events > 0 {
                return self.tracker.on_tokens(now, self.tokens, self.events);
            }
        }
        if self.usage {
            self.tracker.publish_live();
        }
    }
}

impl Sink for FrameSink<'_> {
    fn begins(&mut self, framing: Result<Framing, SkipReason>) {
        self.tracker.begins(framing);
    }

    #[inline]
    fn text(&mut self, choice: u32, kind: TextKind, fragment: &[u8]) {
        let choice = self.tracker.answer.text(choice);
        self.tracker.check_text(choice, kind, fragment);
        self.on_text(choice, kind, fragment);
    }

    #[inline]
    fn text_event(&mut self, choice: u32, kind: TextKind, text: &[u8]) {
        let choice = self.tracker.answer.lone_text(choice);
        self.tracker.check_lone_text(choice, kind, text);
        self.on_text(choice, kind, text);
        self.tokens += self.tracker.end_lone_text(choice);
        self.events += 1;
    }

    #[inline]
    fn choice(&mut self, index: u32) {
        let index = self.tracker.answer.choice(index);
        self.tracker.check(|outputs, _| outputs.choice(index));
    }

    fn moved(&mut self, from: u32, to: u32) {
        self.tracker.answer.moved(from, to);
        self.tracker.check(|outputs, _| outputs.mixed_up(from, to));
    }

    fn finish_reason(&mut self, choice: u32, reason: FinishReason) {
        let choice = self.tracker.answer.finish_reason(choice, reason);
        self.tracker.check(|outputs, _| outputs.finish(choice, reason));
    }

    fn usage(&mut self, usage: Usage, finality: Finality) {
        self.tracker.wire_usage(usage, finality);
    }

    fn model(&mut self, name: &str) {
        self.tracker.answer_model(name);
    }

    fn error(&mut self, kind: Option<ErrorType>) {
        self.tracker.answer.in_band_error(kind);
    }

    fn plain_text(&mut self) {
        self.tracker.answer.plain_text = true;
    }

    fn done(&mut self) {
        self.tracker.answer.done = true;
    }

    fn no_generation(&mut self) {
        self.tracker.answer.no_generation = true;
        self.tracker.forget_quality();
    }

    fn pending(&mut self) {
        self.tracker.answer.pending();
    }

    fn in_background(&mut self) {
        self.tracker.answer.in_background();
    }

    fn cancelled(&mut self) {
        self.tracker.answer.cancelled();
    }

    fn timings(&mut self, timings: Timings) {
        self.tracker.timings(timings);
    }

    fn tool_named(&mut self, name: &[u8]) {
        // Responses have one choice, and one tool call at a time.
        self.tracker.check(|outputs, mut emit| outputs.tool_name(0, 0, name, &mut emit));
    }

    fn tool_calls_end(&mut self) {
        self.tracker.check(|outputs, mut emit| outputs.end_tool_calls(&mut emit));
    }

    fn input_truncated(&mut self) {
        self.tracker.input_truncated();
    }

    #[inline]
    fn event_end(&mut self) {
        self.tracker.check(|outputs, _| outputs.end_event());
        let event = self.tracker.end_event();
        if event.tokens > 0 {
            self.tokens += event.tokens;
            self.events += 1;
        }
        self.finished |= event.finished;
        self.usage |= event.counted;
    }

    fn failure(&mut self, kind: InspectionFailure) {
        self.tracker.failure(kind);
        self.tracker.answer.unreadable = true;
        if kind == InspectionFailure::Malformed || kind == InspectionFailure::TooLarge {
            self.tracker.forget_quality();
        }
        if kind == InspectionFailure::Malformed {
            if self.last {
                self.tracker.answer.broken_off();
            } else {
                // A body that is not JSON may be a plain text message.
                self.tracker.answer.plain_text = true;
            }
        }
    }
}
