//! Framings: which bytes of a body are data, and where an event ends. One file per framing.

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

/// The framing of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events,
    /// One JSON document per line.
    Lines,
    /// One JSON document.
    Document,
}

impl Framing {
    /// The framing for a content type.
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

    /// Whether an answer with this framing is streamed.
    pub(crate) fn is_stream(self) -> bool {
        self != Self::Document
    }

    /// The bytes before the data of an event with this name, as servers write them.
    pub(super) fn lead(self, name: Option<&'static str>) -> [&'static [u8]; 3] {
        if self == Self::Events { sse::lead(name) } else { [b"", b"", b""] }
    }

    /// The bytes after the data.
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
    /// The event is marked as an error.
    fn error(&mut self) {}
    /// The event has ended.
    fn event_ends(&mut self) {}
    /// The body has ended. The last event may be incomplete.
    fn body_ends(&mut self);
}

/// The position of a piece in its data line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The data begins with it.
    pub(super) begins: bool,
    /// The line ends with the piece.
    pub(super) ends: bool,
    /// The event ends with the piece, too: a blank line follows, or each line is an event.
    pub(super) last: bool,
}
