//! Readers, and their calls.

use crate::vocabulary::Endpoint;
pub(super) use crate::wire::recorder::{NullSink, Recorder, SinkCall};
use crate::wire::template::Template;
use crate::wire::{Framing, Reader, Route, TextKind};

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

/// A reader for a stream of server-sent events from this endpoint.
pub(super) fn stream_of(endpoint: Endpoint) -> Reader {
    Route::of(endpoint).unwrap().reader(Some(Framing::Events), false, None)
}

/// A reader for a stream from this endpoint with one document per line.
pub(super) fn lines_of(endpoint: Endpoint) -> Reader {
    Route::of(endpoint).unwrap().reader(Some(Framing::Lines), false, None)
}

/// A reader for a single document from this endpoint.
pub(super) fn document_of(endpoint: Endpoint) -> Reader {
    Route::of(endpoint).unwrap().reader(Some(Framing::Document), false, None)
}

/// A number for each kind of text, whatever its call.
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
