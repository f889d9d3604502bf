//! The door through which the targets in `fuzz/` reach the readers. It is there under `--cfg fuzzing` alone.

#![allow(missing_docs, clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "nobody can depend on it")]

use std::time::Duration;

use super::sse::{Extent, Framing, Lines};
use super::{Body, Reader, RequestScan, Sink, TextKind, route};
use crate::vocabulary::{FinishReason, InspectionFailure, Usage};

/// What a reader told, the pieces of one text put together.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Of a choice, what it is, and the text.
    Text(u32, Kind, Vec<u8>),
    Choice(u32),
    Finish(u32, FinishReason),
    Usage(Usage),
    Model(String),
    Error,
    Done,
    Timings(Option<Duration>, Option<Duration>),
    EventEnd,
    Malformed,
    TooLarge,
    Implausible,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Answer,
    Reasoning,
    Refusal,
    ToolCall,
}

/// What is read.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    ChatStream,
    CompletionStream,
    ChatDocument,
    CompletionDocument,
}

/// Everything that was told of an answer.
#[derive(Debug, PartialEq)]
pub struct Reading {
    pub told: Vec<Told>,
    /// An event was known by its two ends and an object between them, which is sure in what is JSON and only there.
    pub trusted: bool,
}

/// Reads an answer in pieces; without `templates`, every event from its first byte to its last.
pub fn read<'a>(answer: Answer, templates: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut reader = reader(answer);
    if let Body::Events(events) = &mut reader.body {
        events.template().probe.off = !templates;
    }
    let mut recorder = Recorder(Vec::new());
    pieces.into_iter().for_each(|piece| reader.read(piece, &mut recorder));
    reader.end(&mut recorder);
    let trusted = match &mut reader.body {
        Body::Events(events) => events.template().probe.trusted,
        Body::Document(_) => false,
    };
    Reading { told: recorder.0, trusted }
}

/// Reads an answer, and writes nothing down.
pub fn skim<'a>(answer: Answer, pieces: impl IntoIterator<Item = &'a [u8]>) {
    let mut reader = reader(answer);
    pieces.into_iter().for_each(|piece| reader.read(piece, &mut Nobody));
    reader.end(&mut Nobody);
}

fn reader(answer: Answer) -> Reader {
    let route = |path| route(&http::Method::POST, path).expect("a known endpoint");
    match answer {
        Answer::ChatStream => route("/v1/chat/completions").stream_reader(),
        Answer::CompletionStream => route("/v1/completions").stream_reader(),
        Answer::ChatDocument => route("/v1/chat/completions").unary_reader(),
        Answer::CompletionDocument => route("/v1/completions").unary_reader(),
    }
}

struct Nobody;

impl Sink for Nobody {}

struct Recorder(Vec<Told>);

impl Sink for Recorder {
    fn text(&mut self, choice: u32, kind: TextKind, fragment: &[u8]) {
        assert!(!fragment.is_empty(), "an empty text was told");
        let kind = match kind {
            TextKind::Answer => Kind::Answer,
            TextKind::Reasoning => Kind::Reasoning,
            TextKind::Refusal => Kind::Refusal,
            TextKind::ToolCall => Kind::ToolCall,
        };
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
        self.0.push(match kind {
            InspectionFailure::Malformed => Told::Malformed,
            InspectionFailure::TooLarge => Told::TooLarge,
            InspectionFailure::Implausible => Told::Implausible,
        });
    }
}

/// What the framing told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// What is in a data line, and whether it was known that a blank line follows.
    Data(Vec<u8>, bool),
    Error,
    EventEnd,
}

/// Splits a stream into its lines.
pub fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Line> {
    let mut framing = Framing::new();
    let mut noted = Noted { lines: Vec::new(), open: false };
    pieces.into_iter().for_each(|piece| framing.read(piece, &mut noted));
    framing.end(&mut noted);
    noted.lines
}

/// Splits a stream into its lines, and writes nothing down.
pub fn skim_lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) {
    let mut framing = Framing::new();
    pieces.into_iter().for_each(|piece| framing.read(piece, &mut Nobody));
    framing.end(&mut Nobody);
}

impl Lines for Nobody {
    fn data(&mut self, _: &[u8], _: Extent) {}
    fn error(&mut self) {}
    fn event_ends(&mut self) {}
}

struct Noted {
    lines: Vec<Line>,
    /// A data line has begun and may go on.
    open: bool,
}

impl Lines for Noted {
    fn data(&mut self, data: &[u8], extent: Extent) {
        assert!(extent.ends || !extent.last, "an event ends that has not ended its line");
        if extent.begins {
            self.lines.push(Line::Data(data.to_vec(), extent.last));
        } else {
            assert!(self.open, "a data line goes on that has not begun");
            let Some(Line::Data(line, last)) = self.lines.last_mut() else {
                panic!("something came inside a data line")
            };
            line.extend_from_slice(data);
            *last = extent.last;
        }
        self.open = !extent.ends;
    }
    fn error(&mut self) {
        self.lines.push(Line::Error);
    }
    fn event_ends(&mut self) {
        self.open = false;
        self.lines.push(Line::EventEnd);
    }
}

/// What was found in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub model: Option<String>,
    pub stream: Option<bool>,
    pub max_tokens: Option<u64>,
    pub choices: Option<u64>,
    /// `Text`, `JsonObject`, `JsonSchema` or `Grammar`.
    pub format: Option<String>,
    pub tools: bool,
    pub thinking: Option<bool>,
}

/// Reads a request in pieces.
pub fn request<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Asked {
    let scan = scan(pieces);
    let facts = scan.facts();
    Asked {
        model: facts.model.map(|name| name.as_str().to_owned()),
        stream: facts.stream,
        max_tokens: facts.max_tokens,
        choices: facts.choices,
        format: facts.format.map(|format| format!("{format:?}")),
        tools: facts.tools,
        thinking: facts.thinking,
    }
}

/// Reads a request, and writes nothing down.
pub fn skim_request<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) {
    scan(pieces);
}

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> RequestScan {
    let mut scan = route(&http::Method::POST, "/v1/chat/completions").expect("a known endpoint").request_scan();
    pieces.into_iter().for_each(|piece| scan.read(piece));
    scan
}
