//! A sink that writes down what it is told.

use std::time::Duration;

use crate::vocabulary::{FinishReason, InspectionFailure, Usage};
use crate::wire::template::Template;
use crate::wire::{Body, Reader, Sink, TextKind, route};

/// What a sink was told, the pieces of one text put together.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    Text(u32, TextKind, Vec<u8>),
    Choice(u32),
    Finish(u32, FinishReason),
    Usage(Usage),
    Model(String),
    Error,
    Done,
    Timings(Option<Duration>, Option<Duration>),
    EventEnd,
    Failure(InspectionFailure),
}

#[derive(Debug, Default)]
pub(super) struct Recorder(pub(super) Vec<Told>);

impl Sink for Recorder {
    fn text(&mut self, choice: u32, kind: TextKind, fragment: &[u8]) {
        assert!(!fragment.is_empty(), "an empty text was told");
        match self.0.last_mut() {
            Some(Told::Text(last, last_kind, text)) if *last == choice && *last_kind == kind => {
                text.extend_from_slice(fragment);
            }
            _ => self.0.push(Told::Text(choice, kind, fragment.to_vec())),
        }
    }
    fn choice(&mut self, index: u32) {
        self.0.push(Told::Choice(index));
    }
    fn finish_reason(&mut self, choice: u32, reason: FinishReason) {
        self.0.push(Told::Finish(choice, reason));
    }
    fn usage(&mut self, usage: Usage) {
        self.0.push(Told::Usage(usage));
    }
    fn model(&mut self, name: &str) {
        self.0.push(Told::Model(name.to_owned()));
    }
    fn error(&mut self) {
        self.0.push(Told::Error);
    }
    fn done(&mut self) {
        self.0.push(Told::Done);
    }
    fn timings(&mut self, prefill: Option<Duration>, decode: Option<Duration>) {
        self.0.push(Told::Timings(prefill, decode));
    }
    fn event_end(&mut self) {
        self.0.push(Told::EventEnd);
    }
    fn failure(&mut self, kind: InspectionFailure) {
        self.0.push(Told::Failure(kind));
    }
}

pub(super) fn chat_stream() -> Reader {
    route(&http::Method::POST, "/v1/chat/completions").unwrap().stream_reader()
}

pub(super) fn chat_document() -> Reader {
    route(&http::Method::POST, "/v1/chat/completions").unwrap().unary_reader()
}

pub(super) fn completion_stream() -> Reader {
    route(&http::Method::POST, "/v1/completions").unwrap().stream_reader()
}

/// A reader that reads every event from its first byte to its last.
pub(super) fn without_templates(mut reader: Reader) -> Reader {
    template(&mut reader).probe.off = true;
    reader
}

pub(super) fn template(reader: &mut Reader) -> &mut Template {
    match &mut reader.body {
        Body::Events(events) => events.template(),
        Body::Document(_) => panic!("a document has no template"),
    }
}

/// What a reader tells of these pieces of a body.
pub(super) fn told<'a>(mut reader: Reader, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Told> {
    let mut recorder = Recorder::default();
    for piece in pieces {
        reader.read(piece, &mut recorder);
    }
    reader.end(&mut recorder);
    recorder.0
}

pub(super) fn text(choice: u32, kind: TextKind, text: &str) -> Told {
    Told::Text(choice, kind, text.as_bytes().to_vec())
}
