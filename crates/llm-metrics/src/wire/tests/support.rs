//! A sink that records its calls.

use std::time::Duration;

use crate::vocabulary::{Endpoint, ErrorType, FinishReason, InspectionFailure, Usage};
use crate::wire::template::Template;
use crate::wire::{Finality, Framing, Reader, Route, Sink, TextKind, Timings};

/// A call of the sink, the pieces of one text put together.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SinkCall {
    Text(u32, TextKind, Vec<u8>),
    Choice(u32),
    Finish(u32, FinishReason),
    /// Counts so far, or final ones.
    UsageSoFar(Usage),
    Usage(Usage),
    Model(String),
    Error,
    /// The same, of a type that is known.
    ErrorOf(ErrorType),
    PlainText,
    Done,
    NoGeneration,
    /// The answer is made in the background.
    InBackground,
    Timings(Option<Duration>, Option<Duration>),
    Load(Duration),
    TimedUsage(Usage),
    EventEnd,
    Failure(InspectionFailure),
}

#[derive(Debug, Default)]
pub(super) struct Recorder(pub(super) Vec<SinkCall>);

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

pub(super) fn chat_stream() -> Reader {
    stream_of(Endpoint::ChatCompletions)
}

pub(super) fn chat_document() -> Reader {
    document_of(Endpoint::ChatCompletions)
}

pub(super) fn completion_stream() -> Reader {
    stream_of(Endpoint::Completions)
}

/// A reader that reads every event from its first byte to its last.
pub(super) fn without_templates(mut reader: Reader) -> Reader {
    reader.without_templates();
    reader
}

pub(super) fn template(reader: &mut Reader) -> &mut Template {
    reader.stream().expect("a document has no template").template()
}

/// The calls of a reader for these pieces of a body.
pub(super) fn sink_calls<'a>(mut reader: Reader, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<SinkCall> {
    let mut recorder = Recorder::default();
    for piece in pieces {
        reader.read(piece, &mut recorder);
    }
    reader.end(&mut recorder);
    recorder.0
}

pub(super) fn text(choice: u32, kind: TextKind, text: &str) -> SinkCall {
    SinkCall::Text(choice, kind, text.as_bytes().to_vec())
}

/// A stream of an endpoint's answer, of server-sent events.
pub(super) fn stream_of(endpoint: Endpoint) -> Reader {
    Route::of(endpoint).unwrap().reader(Some(Framing::Events), false, None)
}

/// A stream of an endpoint's answer, of a document a line.
pub(super) fn lines_of(endpoint: Endpoint) -> Reader {
    Route::of(endpoint).unwrap().reader(Some(Framing::Lines), false, None)
}

/// An endpoint's answer in one piece.
pub(super) fn document_of(endpoint: Endpoint) -> Reader {
    Route::of(endpoint).unwrap().reader(Some(Framing::Document), false, None)
}

/// A number for each kind of text, whichever call it is of.
pub(super) fn order(kind: TextKind) -> u8 {
    match kind {
        TextKind::Answer => 0,
        TextKind::Reasoning => 1,
        TextKind::Refusal => 2,
        TextKind::ToolName(_) => 3,
        TextKind::ToolArguments(_) => 4,
        TextKind::ToolInput => 5,
        TextKind::Media => 6,
    }
}
