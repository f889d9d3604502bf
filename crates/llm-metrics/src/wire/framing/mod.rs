//! How a body is made up: which of its bytes are data, and where an event ends. One file for each framing.

mod document;
mod ndjson;
mod sse;
#[cfg(test)]
mod tests;

pub(super) use document::DocumentDecoder;
pub(super) use ndjson::NdJsonDecoder;
#[cfg(any(test, fuzzing))]
pub(super) use sse::LONGEST as LONGEST_NAME;
pub(super) use sse::SseDecoder;

/// How a body is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events,
    /// A JSON document a line.
    Lines,
    /// One JSON document.
    Document,
}

impl Framing {
    /// What a content type says about it.
    pub(crate) fn of_content_type(content_type: &[u8]) -> Option<Self> {
        match content_type {
            b"text/event-stream" => return Some(Self::Events),
            b"application/json" => return Some(Self::Document),
            _ => {}
        }
        let media_type = content_type.split(|byte| *byte == b';').next()?.trim_ascii();
        let is = |known: &str| media_type.eq_ignore_ascii_case(known.as_bytes());
        if is("text/event-stream") {
            Some(Self::Events)
        } else if is("application/x-ndjson") || is("application/ndjson") || is("application/jsonl") {
            Some(Self::Lines)
        } else if is("application/json")
            || media_type.last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(b"+json"))
        {
            Some(Self::Document)
        } else {
            None
        }
    }

    /// Whether an answer comes piece by piece.
    pub(crate) fn is_stream(self) -> bool {
        self != Self::Document
    }

    /// What an event of this name begins with, before its data, as servers write it.
    pub(super) fn lead(self, name: Option<&'static str>) -> [&'static [u8]; 3] {
        if self == Self::Events { sse::lead(name) } else { [b"", b"", b""] }
    }

    /// What it ends with, after them.
    #[inline]
    pub(super) fn end(self) -> &'static [u8] {
        match self {
            Self::Events => sse::END,
            Self::Lines => ndjson::END,
            Self::Document => b"",
        }
    }
}

/// Receives the lines of a body.
pub(super) trait LineSink {
    /// A piece of what is in a data line.
    fn data(&mut self, data: &[u8], extent: Extent);
    /// The event has a name.
    fn named(&mut self, _name: &[u8]) {}
    /// The event says of itself that it is an error.
    fn error(&mut self) {}
    /// The event is over.
    fn event_ends(&mut self) {}
    /// The body is over, and what it holds of an event all that there is.
    fn body_ends(&mut self);
}

/// How much of a data line a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The data begins with it.
    pub(super) begins: bool,
    /// The line ends with it.
    pub(super) ends: bool,
    /// It is known that the event ends with it, too: a blank line follows, or each line is an event.
    pub(super) last: bool,
}
