//! From what a reader emits to one request's life.

use std::time::Instant;

use super::life::Life;
use crate::{
    vocabulary::{ErrorType, FinishReason, InspectionFailure, SkipReason, Usage},
    wire::{Finality, Framing, Sink, TextKind, Timings},
};

/// A frame of a body, while it is read. Events that arrive in one frame arrive at one time: the clock is read once, and
/// not at all for a frame that bears neither a token nor a finish reason.
pub(crate) struct Frame<'a> {
    life: &'a mut Life,
    tokens: u64,
    events: u64,
    finished: bool,
    usage: bool,
    /// The body came to its end, and what is emitted now is about what was left.
    last: bool,
}

impl Life {
    pub(crate) fn frame(&mut self) -> Frame<'_> {
        Frame { life: self, tokens: 0, events: 0, finished: false, usage: false, last: false }
    }

    /// What the reader says when the body came to its end.
    pub(crate) fn last_frame(&mut self) -> Frame<'_> {
        Frame { last: true, ..self.frame() }
    }
}

impl Frame<'_> {
    #[inline]
    pub(crate) fn end(self) {
        self.end_at(Instant::now);
    }

    /// There is text of this choice.
    #[inline(always)]
    fn on_text(&mut self, choice: u32, kind: TextKind, fragment: &[u8]) {
        match kind {
            TextKind::Answer => self.life.answer_text(choice, fragment),
            TextKind::Reasoning => self.life.reasoning_text(fragment),
            _ => self.life.answer_part(),
        }
    }

    /// Ends it at the time that `clock` says, if it is asked.
    #[inline]
    pub(super) fn end_at(self, clock: impl FnOnce() -> Instant) {
        if self.events > 0 || self.finished {
            let now = clock();
            if self.finished {
                self.life.finished_at(now);
            }
            if self.events > 0 {
                return self.life.tick(now, self.tokens, self.events);
            }
        }
        if self.usage {
            self.life.publish_live();
        }
    }
}

impl Sink for Frame<'_> {
    fn begins(&mut self, framing: Result<Framing, SkipReason>) {
        self.life.begins(framing);
    }

    #[inline]
    fn text(&mut self, choice: u32, kind: TextKind, fragment: &[u8]) {
        let choice = self.life.text(choice);
        self.life.check_text(choice, kind, fragment);
        self.on_text(choice, kind, fragment);
    }

    #[inline]
    fn text_event(&mut self, choice: u32, kind: TextKind, text: &[u8]) {
        let choice = self.life.lone_text(choice);
        self.life.check_lone_text(choice, kind, text);
        self.on_text(choice, kind, text);
        self.tokens += self.life.end_lone_text(choice);
        self.events += 1;
    }

    #[inline]
    fn choice(&mut self, index: u32) {
        let index = self.life.choice(index);
        self.life.check(|outputs, _| outputs.choice(index));
    }

    fn moved(&mut self, from: u32, to: u32) {
        self.life.moved(from, to);
        self.life.check(|outputs, _| outputs.mixed_up(from, to));
    }

    fn finish_reason(&mut self, choice: u32, reason: FinishReason) {
        let choice = self.life.finish_reason(choice, reason);
        self.life.check(|outputs, _| outputs.finish(choice, reason));
    }

    fn usage(&mut self, usage: Usage, finality: Finality) {
        self.life.wire_usage(usage, finality);
    }

    fn model(&mut self, name: &str) {
        self.life.answer_model(name);
    }

    fn error(&mut self, kind: Option<ErrorType>) {
        self.life.in_band_error(kind);
    }

    fn plain_text(&mut self) {
        self.life.plain_text = true;
    }

    fn done(&mut self) {
        self.life.done = true;
    }

    fn no_generation(&mut self) {
        self.life.no_generation = true;
        self.life.forget_quality();
    }

    fn pending(&mut self, background: bool) {
        self.life.pending(background);
    }

    fn cancelled(&mut self) {
        self.life.cancelled();
    }

    fn timings(&mut self, timings: Timings) {
        self.life.timings(timings);
    }

    fn tool_named(&mut self, name: &[u8]) {
        // Responses have one choice, and one call at a time.
        self.life.check(|outputs, mut emit| outputs.tool_name(0, 0, name, &mut emit));
    }

    fn tool_calls_end(&mut self) {
        self.life.check(|outputs, mut emit| outputs.end_tool_calls(&mut emit));
    }

    fn input_truncated(&mut self) {
        self.life.input_truncated();
    }

    #[inline]
    fn event_end(&mut self) {
        self.life.check(|outputs, _| outputs.end_event());
        let event = self.life.end_event();
        if event.tokens > 0 {
            self.tokens += event.tokens;
            self.events += 1;
        }
        self.finished |= event.finished;
        self.usage |= event.counted;
    }

    fn failure(&mut self, kind: InspectionFailure) {
        self.life.failure(kind);
        self.life.unreadable = true;
        if kind == InspectionFailure::Malformed || kind == InspectionFailure::TooLarge {
            self.life.forget_quality();
        }
        if kind == InspectionFailure::Malformed {
            if self.last {
                self.life.broken_off();
            } else {
                // What is no JSON may be a text for people.
                self.life.plain_text = true;
            }
        }
    }
}
