//! A sink that records its calls, for the tests and the fuzz targets.

use std::time::Duration;

use super::{Finality, Sink, TextKind, Timings};
use crate::vocabulary::{ErrorType, FinishReason, InspectionFailure, Usage};

/// A sink that ignores its calls.
pub(crate) struct NullSink;

impl Sink for NullSink {}

/// A call of the sink. The pieces of one text are joined.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SinkCall {
    Text(u32, TextKind, Vec<u8>),
    Choice(u32),
    Finish(u32, FinishReason),
    /// Counts that are not final.
    UsageSoFar(Usage),
    /// Final counts.
    Usage(Usage),
    Model(String),
    Error,
    /// An error of a known type.
    ErrorOf(ErrorType),
    PlainText,
    Done,
    NoGeneration,
    /// The answer is generated in the background.
    InBackground,
    Timings(Option<Duration>, Option<Duration>),
    Load(Duration),
    TimedUsage(Usage),
    EventEnd,
    Failure(InspectionFailure),
}

#[derive(Debug, Default)]
pub(crate) struct Recorder(pub(crate) Vec<SinkCall>);

impl Sink for Recorder {
    fn text(&mut self, choice: u32, kind: TextKind, fragment: &[u8]) {
        assert!(!fragment.is_empty(), "an empty text was emitted");
        match self.0.last_mut() {
            Some(SinkCall::Text(last, last_kind, text)) if *last == choice && *last_kind == kind => {
                text.extend_from_slice(fragment);
            }
            _ => self.0.push(SinkCall::Text(choice, kind, fragment.to_vec())),
        }
    }
    fn choice(&mut self, index: u32) {
        self.0.push(SinkCall::Choice(index));
    }
    fn finish_reason(&mut self, choice: u32, reason: FinishReason) {
        self.0.push(SinkCall::Finish(choice, reason));
    }
    fn usage(&mut self, usage: Usage, finality: Finality) {
        self.0.push(if finality == Finality::Final { SinkCall::Usage(usage) } else { SinkCall::UsageSoFar(usage) });
    }
    fn model(&mut self, name: &str) {
        self.0.push(SinkCall::Model(name.to_owned()));
    }
    fn error(&mut self, kind: Option<ErrorType>) {
        self.0.push(kind.map_or(SinkCall::Error, SinkCall::ErrorOf));
    }
    fn plain_text(&mut self) {
        self.0.push(SinkCall::PlainText);
    }
    fn no_generation(&mut self) {
        self.0.push(SinkCall::NoGeneration);
    }
    fn in_background(&mut self) {
        self.0.push(SinkCall::InBackground);
    }
    fn done(&mut self) {
        self.0.push(SinkCall::Done);
    }
    fn timings(&mut self, timings: Timings) {
        if let Some(load) = timings.load {
            self.0.push(SinkCall::Load(load));
        }
        if timings.prefill.is_some() || timings.decode.is_some() {
            self.0.push(SinkCall::Timings(timings.prefill, timings.decode));
        }
        if timings.usage != Usage::new() {
            self.0.push(SinkCall::TimedUsage(timings.usage));
        }
    }
    fn event_end(&mut self) {
        self.0.push(SinkCall::EventEnd);
    }
    fn failure(&mut self, kind: InspectionFailure) {
        self.0.push(SinkCall::Failure(kind));
    }
}
