//! The entry points of the fuzz targets in `fuzz/`. They exist only under `--cfg fuzzing`.

#![allow(missing_docs, clippy::exhaustive_enums, clippy::exhaustive_structs, reason = "no crate can depend on it")]

use std::time::Duration;

use super::framing::{DocumentDecoder, Extent, LineSink, NdJsonDecoder, SseDecoder};
use super::recorder::{self, NullSink, Recorder};
use super::{Framing, Reader, RequestScan, Route, TextKind};
use crate::vocabulary::{Endpoint, FinishReason, InspectionFailure, Usage};

/// The bytes of an event's name that are kept.
pub const LONGEST_EVENT_NAME: usize = super::framing::LONGEST_NAME;

/// A call of a sink, with the pieces of one text joined.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkCall {
    /// The choice, the kind, and the text.
    Text(u32, Kind, Vec<u8>),
    Choice(u32),
    Finish(u32, FinishReason),
    Usage(Usage),
    Model(String),
    Error,
    PlainText,
    Done,
    NoGeneration,
    Timings(Option<Duration>, Option<Duration>),
    TimedUsage(Usage),
    EventEnd,
    Malformed,
    TooLarge,
    Implausible,
}

impl SinkCall {
    /// The part of a call that the fuzz targets compare with their own reading of the answer.
    fn of(call: recorder::SinkCall) -> Option<Self> {
        use recorder::SinkCall as Call;

        Some(match call {
            Call::Text(choice, kind, text) => Self::Text(choice, kind.into(), text),
            Call::Choice(index) => Self::Choice(index),
            Call::Finish(choice, reason) => Self::Finish(choice, reason),
            Call::UsageSoFar(usage) | Call::Usage(usage) => Self::Usage(usage),
            Call::Model(name) => Self::Model(name),
            Call::Error | Call::ErrorOf(_) => Self::Error,
            Call::PlainText => Self::PlainText,
            Call::Done => Self::Done,
            Call::NoGeneration => Self::NoGeneration,
            Call::InBackground | Call::Load(_) => return None,
            Call::Timings(prefill, decode) => Self::Timings(prefill, decode),
            Call::TimedUsage(usage) => Self::TimedUsage(usage),
            Call::EventEnd => Self::EventEnd,
            Call::Failure(InspectionFailure::Malformed) => Self::Malformed,
            Call::Failure(InspectionFailure::TooLarge) => Self::TooLarge,
            Call::Failure(InspectionFailure::Implausible) => Self::Implausible,
            Call::Failure(InspectionFailure::NoChoices) => unreachable!("readers do not emit it"),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Answer,
    Reasoning,
    Refusal,
    ToolCall,
    Media,
}

impl From<TextKind> for Kind {
    fn from(kind: TextKind) -> Self {
        match kind {
            TextKind::Answer => Self::Answer,
            TextKind::Reasoning => Self::Reasoning,
            TextKind::Refusal => Self::Refusal,
            TextKind::ToolName(_) | TextKind::ToolArguments(_) | TextKind::ToolInput => Self::ToolCall,
            TextKind::Media => Self::Media,
        }
    }
}

/// The input.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    ChatStream,
    CompletionStream,
    ChatDocument,
    CompletionDocument,
    /// A stream of server-sent events, a stream of lines, or a document, for any endpoint.
    Events(Endpoint),
    Lines(Endpoint),
    Document(Endpoint),
}

/// All calls for an answer.
#[derive(Debug, PartialEq)]
pub struct Reading {
    pub calls: Vec<SinkCall>,
    /// An event was recognized by its two ends with an object between them, which is only reliable in valid JSON.
    pub trusted: bool,
}

/// Reads an answer in pieces. Without `templates`, every event is read completely.
pub fn read<'a>(answer: Answer, templates: bool, pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut reader = reader(answer);
    if !templates {
        reader.without_templates();
    }
    let mut recorder = Recorder::default();
    pieces.into_iter().for_each(|piece| reader.read(piece, &mut recorder));
    reader.end(&mut recorder);
    let trusted = reader.stream().is_some_and(|stream| stream.template().probe.trusted);
    Reading { calls: recorder.0.into_iter().filter_map(SinkCall::of).collect(), trusted }
}

/// Reads an answer without recording the calls.
pub fn skim<'a>(answer: Answer, pieces: impl IntoIterator<Item = &'a [u8]>) {
    let mut reader = reader(answer);
    pieces.into_iter().for_each(|piece| reader.read(piece, &mut NullSink));
    reader.end(&mut NullSink);
}

fn reader(answer: Answer) -> Reader {
    let (endpoint, framing) = match answer {
        Answer::ChatStream => (Endpoint::ChatCompletions, Framing::Events),
        Answer::CompletionStream => (Endpoint::Completions, Framing::Events),
        Answer::ChatDocument => (Endpoint::ChatCompletions, Framing::Document),
        Answer::CompletionDocument => (Endpoint::Completions, Framing::Document),
        Answer::Events(endpoint) => (endpoint, Framing::Events),
        Answer::Lines(endpoint) => (endpoint, Framing::Lines),
        Answer::Document(endpoint) => (endpoint, Framing::Document),
    };
    Route::of(endpoint).expect("a known endpoint").reader(Some(framing), false, None)
}

/// The calls of the framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The data of a line, and whether a blank line was known to follow.
    Data(Vec<u8>, bool),
    Error,
    Named(Vec<u8>),
    EventEnd,
    BodyEnd,
}

/// Splits a stream into its lines.
pub fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Line> {
    let mut decoder = SseDecoder::new();
    let mut recorder = LineRecorder { lines: Vec::new(), open: false };
    pieces.into_iter().for_each(|piece| decoder.read(piece, &mut recorder));
    decoder.end(&mut recorder);
    recorder.lines
}

/// Splits a stream with one document per line into its lines.
pub fn json_lines(pieces: &[&[u8]]) -> Vec<Line> {
    let mut decoder = NdJsonDecoder::default();
    let mut recorder = LineRecorder { lines: Vec::new(), open: false };
    pieces.iter().for_each(|piece| decoder.read(piece, &mut recorder));
    decoder.end(&mut recorder);
    recorder.lines
}

/// A document, which is one line.
pub fn document_lines(pieces: &[&[u8]]) -> Vec<Line> {
    let mut decoder = DocumentDecoder::default();
    let mut recorder = LineRecorder { lines: Vec::new(), open: false };
    pieces.iter().for_each(|piece| decoder.read(piece, &mut recorder));
    decoder.end(&mut recorder);
    recorder.lines
}

/// Splits a stream into its lines without recording them.
pub fn skim_lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) {
    let mut decoder = SseDecoder::new();
    pieces.into_iter().for_each(|piece| decoder.read(piece, &mut NullSink));
    decoder.end(&mut NullSink);
}

impl LineSink for NullSink {
    fn data(&mut self, _: &[u8], _: Extent) {}
    fn body_ends(&mut self) {}
}

struct LineRecorder {
    lines: Vec<Line>,
    /// A data line has begun and may go on.
    open: bool,
}

impl LineSink for LineRecorder {
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
    fn named(&mut self, name: &[u8]) {
        let kept = name.len().min(LONGEST_EVENT_NAME);
        self.lines.push(Line::Named(name[..kept].to_vec()));
    }
    fn error(&mut self) {
        self.lines.push(Line::Error);
    }
    fn event_ends(&mut self) {
        self.open = false;
        self.lines.push(Line::EventEnd);
    }
    fn body_ends(&mut self) {
        self.open = false;
        self.lines.push(Line::BodyEnd);
    }
}

/// The facts of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParsedRequest {
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
pub fn request<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> ParsedRequest {
    let scan = scan(pieces);
    let facts = scan.facts();
    ParsedRequest {
        model: facts.model.map(|name| name.as_str().to_owned()),
        stream: facts.stream,
        max_tokens: facts.max_tokens,
        choices: facts.choices,
        format: facts.format.map(|format| format!("{format:?}")),
        tools: facts.tools,
        thinking: facts.thinking,
    }
}

/// Reads a request without recording its facts.
pub fn skim_request<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) {
    scan(pieces);
}

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> RequestScan {
    let mut scan = Route::of(Endpoint::ChatCompletions).expect("a known endpoint").request_scan(false);
    pieces.into_iter().for_each(|piece| scan.read(piece));
    scan
}
