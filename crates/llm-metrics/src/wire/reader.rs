//! Reads an answer as it passes, whatever framing its head declares.

use super::document::Document;
use super::facts::Fact;
use super::json::Shape;
use super::stream::EventStream;
use super::{Framing, Route, Sink};
use crate::vocabulary::SkipReason;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// The bytes needed at most to detect the framing: a byte order mark and `retry:`.
const ENOUGH: usize = 10;

/// Reads an answer as it passes.
#[derive(Debug)]
pub(crate) struct Reader(Body);

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a reader lives in the state of its request; a box would be an allocation"
)]
pub(super) enum Body {
    Undecided(Undecided),
    Stream(EventStream),
    Document(Document),
    /// A body that cannot be read.
    Unknown,
}

/// A body whose first bytes do not decide yet.
#[derive(Debug)]
pub(super) struct Undecided {
    event: &'static Shape<Fact>,
    document: &'static Shape<Fact>,
    /// The framing in the head.
    declared: Option<Framing>,
    /// The framing of JSON if the head does not declare it.
    json: Framing,
    /// The framing of the protocol's streams.
    stream: Framing,
    /// The reason to report if the body turns out to be unreadable.
    otherwise: SkipReason,
    seen: [u8; ENOUGH],
    length: u8,
    #[cfg(any(test, fuzzing))]
    templates_off: bool,
}

impl Route {
    /// A reader for an answer with the content type `declared`. `encoded`: the head declares a compressed body. `asked`: whether the request asked
    /// for a stream.
    pub(crate) fn reader(&self, declared: Option<Framing>, encoded: bool, asked: Option<bool>) -> Reader {
        let declared = declared.filter(|_| !encoded);
        let json = if self.streams_by_default && asked != Some(false) { self.stream } else { Framing::Document };
        Reader(Body::Undecided(Undecided {
            event: self.event,
            document: self.document,
            declared,
            json,
            stream: self.stream,
            otherwise: if encoded { SkipReason::Compressed } else { SkipReason::ContentType },
            seen: [0; ENOUGH],
            length: 0,
            #[cfg(any(test, fuzzing))]
            templates_off: false,
        }))
    }
}

impl Reader {
    /// The framing, as far as the head declares it.
    pub(crate) fn declared(&self) -> Option<Framing> {
        if let Body::Undecided(undecided) = &self.0 { undecided.declared } else { None }
    }

    /// Reads the next bytes of the body.
    #[inline(always)]
    pub(crate) fn read(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        // Only the usual path is inlined.
        if let Body::Stream(stream) = &mut self.0 { stream.read(bytes, sink) } else { self.read_any(bytes, sink) }
    }

    #[inline(never)]
    fn read_any(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        match &mut self.0 {
            Body::Stream(stream) => stream.read(bytes, sink),
            Body::Document(document) => document.read(bytes, sink),
            Body::Undecided(_) => self.first_bytes(bytes, sink),
            Body::Unknown => {}
        }
    }

    /// The body has ended.
    pub(crate) fn end(&mut self, sink: &mut impl Sink) {
        if let Body::Undecided(undecided) = &self.0 {
            let (seen, length) = (undecided.seen, usize::from(undecided.length));
            self.decide(undecided.declared, &seen[..length], sink);
        }
        match &mut self.0 {
            Body::Stream(stream) => stream.end(sink),
            Body::Document(document) => document.end(sink),
            Body::Undecided(_) | Body::Unknown => {}
        }
    }

    #[cold]
    fn first_bytes(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let Body::Undecided(undecided) = &mut self.0 else { return };
        let mut bytes = bytes;
        // White space at the beginning matters in no framing.
        if undecided.length == 0 {
            bytes = bytes.trim_ascii_start();
        }
        let kept = usize::from(undecided.length);
        let fits = bytes.len().min(ENOUGH - kept);
        undecided.seen[kept..kept + fits].copy_from_slice(&bytes[..fits]);
        undecided.length += fits as u8;
        let (seen, length) = (undecided.seen, usize::from(undecided.length));
        let framing = match undecided.detect(&seen[..length]) {
            Detection::More if length < ENOUGH => return,
            Detection::More => undecided.declared,
            Detection::Is(framing) => framing,
        };
        if kept == 0 {
            // In one piece, so that a complete event is recognized as one.
            self.decide(framing, b"", sink);
            return self.read_any(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes), sink);
        }
        self.decide(framing, &seen[..length], sink);
        self.read_any(&bytes[fits..], sink);
    }

    /// Sets the framing of the body, and reads its first bytes.
    fn decide(&mut self, framing: Option<Framing>, first: &[u8], sink: &mut impl Sink) {
        let Body::Undecided(undecided) = &self.0 else { return };
        sink.begins(framing.ok_or(undecided.otherwise));
        self.0 = framing.map_or(Body::Unknown, |framing| undecided.body(framing));
        self.read_any(first.strip_prefix(BYTE_ORDER_MARK).unwrap_or(first), sink);
    }

    /// Reads every event completely, without templates.
    #[cfg(any(test, fuzzing))]
    pub(super) fn without_templates(&mut self) {
        if let Body::Undecided(undecided) = &mut self.0 {
            undecided.templates_off = true;
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn stream(&mut self) -> Option<&mut EventStream> {
        if let Body::Stream(stream) = &mut self.0 { Some(stream) } else { None }
    }
}

/// The result of looking at the first bytes.
enum Detection {
    /// Undecided.
    More,
    /// The framing, or that the body cannot be read.
    Is(Option<Framing>),
}

impl Undecided {
    #[inline(always)]
    fn body(&self, framing: Framing) -> Body {
        #[allow(unused_mut, reason = "tests turn templates off")]
        let mut stream = match framing {
            Framing::Events => EventStream::events(self.event),
            Framing::Lines => EventStream::lines(self.event),
            Framing::Document => return Body::Document(Document::new(self.document)),
        };
        #[cfg(any(test, fuzzing))]
        if self.templates_off {
            stream.template().probe.off = true;
        }
        Body::Stream(stream)
    }

    fn detect(&self, seen: &[u8]) -> Detection {
        let seen = match seen.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => rest.trim_ascii_start(),
            None if BYTE_ORDER_MARK.starts_with(seen) => return Detection::More,
            None => seen,
        };
        let is_encoded = self.otherwise == SkipReason::Compressed;
        match seen {
            // A single brace may be the first byte of a compressed body.
            [b'{'] if is_encoded => Detection::More,
            [b'{', b'"' | b'}' | b' ' | b'\t' | b'\r' | b'\n', ..] => Detection::Is(Some(self.json())),
            [b'{' | b'[', ..] if !is_encoded => Detection::Is(Some(self.json())),
            [b':', ..] => Detection::Is(Some(Framing::Events)),
            _ => {
                let fields: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b"error:"];
                if fields.iter().any(|field| seen.starts_with(field)) {
                    Detection::Is(Some(Framing::Events))
                } else if fields.iter().any(|field| field.starts_with(seen)) {
                    Detection::More
                } else {
                    Detection::Is(self.declared)
                }
            }
        }
    }

    /// The framing of a JSON body.
    fn json(&self) -> Framing {
        match self.declared {
            Some(Framing::Events) => Framing::Document,
            Some(Framing::Lines) if self.stream != Framing::Lines => Framing::Document,
            Some(declared) => declared,
            None => self.json,
        }
    }
}
