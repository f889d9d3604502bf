//! The events that a reader emits, one by one.

mod choices;
mod counts;
mod engine;
mod gaps;
mod models;
mod reasoning;

use std::time::Duration;

use super::{End, FrameSink, Framing, Recorded, Request, Role};
use crate::{
    record::Objective,
    vocabulary::{ErrorType, FinishReason, InspectionFailure, Usage},
    wire::{Finality, Sink, TextKind, Timings},
};

const ASKED: &str = r#"{"model":"m","stream":true}"#;
const TWO: &str = r#"{"model":"m","stream":true,"n":2}"#;
const ITL: &str = "llm_inter_token_latency_seconds";
const TPOT: &str = "llm_time_per_output_token_seconds";
const MAX_GAP: &str = "llm_stream_max_gap_seconds";
const ANSWER: &str = "llm_time_to_first_answer_token_seconds";

type Emit<'a> = &'a dyn Fn(&mut FrameSink<'_>);

fn token(frame: &mut FrameSink<'_>) {
    text_of(frame, 0);
}

fn text_of(frame: &mut FrameSink<'_>, choice: u32) {
    says(frame, choice, "a");
}

fn says(frame: &mut FrameSink<'_>, choice: u32, text: &str) {
    frame.choice(choice);
    frame.text(choice, TextKind::Answer, text.as_bytes());
    frame.event_end();
}

fn thinks(frame: &mut FrameSink<'_>, text: &str) {
    frame.text(0, TextKind::Reasoning, text.as_bytes());
    frame.event_end();
}

/// Emits an event with text, and with the output tokens so far.
fn counted(frame: &mut FrameSink<'_>, choice: u32, tokens: u64) {
    frame.choice(choice);
    frame.text(choice, TextKind::Answer, b"a");
    usage(frame, Usage::new().output(tokens));
}

fn usage(frame: &mut FrameSink<'_>, usage: Usage) {
    frame.usage(usage, Finality::SoFar);
    frame.event_end();
}

fn finish(frame: &mut FrameSink<'_>, choice: u32, reason: FinishReason) {
    frame.choice(choice);
    frame.finish_reason(choice, reason);
    frame.event_end();
}

fn stop(frame: &mut FrameSink<'_>) {
    finish(frame, 0, FinishReason::Stop);
}

fn done(frame: &mut FrameSink<'_>) {
    frame.done();
    frame.event_end();
}

impl Request {
    /// Emits frames 10 ms apart, the first of them after 10 ms.
    fn each(mut self, frames: &[Emit<'_>]) -> Self {
        for (at, emit) in (1..).zip(frames) {
            self.at(10 * at, emit);
        }
        self
    }
}

fn implausible(recorded: &Recorded) -> u64 {
    recorded.counter("llm_metrics_inspection_failures_total", &[("kind", "implausible")])
}

fn source(recorded: &Recorded, source: &str) {
    assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", source)]), 1, "{:?}", recorded.nonzero());
}

fn output(recorded: &Recorded) -> u64 {
    recorded.counter("llm_output_tokens_total", &[])
}
