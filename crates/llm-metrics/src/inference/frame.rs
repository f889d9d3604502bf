//! From what a reader tells to one request's life.

use std::time::{Duration, Instant};

use super::life::Life;
use crate::{
    vocabulary::{FinishReason, InspectionFailure, Usage},
    wire::{Sink, TextKind},
};

/// A frame of a body, while it is read. Events that arrive in one frame arrive at one time: the clock is read once, and
/// not at all for a frame that bears no token.
pub(crate) struct Frame<'a> {
    life: &'a mut Life,
    tokens: u64,
    events: u64,
    usage: bool,
}

impl Life {
    pub(crate) fn frame(&mut self) -> Frame<'_> {
        Frame { life: self, tokens: 0, events: 0, usage: false }
    }
}

impl Frame<'_> {
    pub(crate) fn end(self) {
        if self.events > 0 {
            self.life.tick(Instant::now(), self.tokens, self.events);
        } else if self.usage {
            self.life.publish_live();
        }
    }
}

impl Sink for Frame<'_> {
    fn text(&mut self, choice: u32, kind: TextKind, fragment: &[u8]) {
        match kind {
            TextKind::Answer => self.life.answer_text(choice, fragment),
            TextKind::Reasoning => self.life.reasoning_text(fragment),
            TextKind::Refusal | TextKind::ToolCall => self.life.answer_part(),
        }
    }

    fn choice(&mut self, index: u32) {
        self.life.choice(index);
    }

    fn finish_reason(&mut self, choice: u32, reason: FinishReason) {
        self.life.finish_reason(choice, reason);
    }

    fn usage(&mut self, usage: Usage) {
        self.usage = true;
        self.life.wire_usage(usage);
    }

    fn model(&mut self, name: &str) {
        self.life.answer_model(name);
    }

    fn error(&mut self) {
        self.life.in_band_error();
    }

    fn done(&mut self) {
        self.life.done();
    }

    fn timings(&mut self, prefill: Option<Duration>, decode: Option<Duration>) {
        self.life.timings(prefill, decode);
    }

    fn event_end(&mut self) {
        let tokens = self.life.end_event();
        if tokens > 0 {
            self.tokens += tokens;
            self.events += 1;
        }
    }

    fn failure(&mut self, kind: InspectionFailure) {
        self.life.failure(kind);
    }
}
