//! What goes over the wire: bytes in, events out.
//!
//! A reader is picked by [`route`] and by what the response's head says, is fed the body as it flows by, and tells a
//! [`Sink`] what happened. It does no I/O, keeps no text, allocates nothing and cannot fail: what it does not understand
//! it reports once and leaves alone.
//!
//! ```text
//!   bytes ─► sse: lines, events ─► scanner: values at their place ─► facts: what they mean ─► Sink
//!                     └─ template: an event like the one before is not read again ─┘
//! ```
//!
//! A further protocol is a file with its shapes, and a row in [`ROUTES`].

mod counts;
mod document;
mod escape;
mod facts;
#[cfg(fuzzing)]
pub mod fuzzing;
mod json;
mod openai;
mod request;
mod scanner;
mod skip;
mod sse;
mod stream;
mod template;

use std::time::Duration;

pub(crate) use counts::Counts;
use document::Document;
use facts::Fact;
use json::Shape;
use request::Asked;
pub(crate) use request::{RequestFacts, RequestScan};
use stream::EventStream;

use crate::vocabulary::{Endpoint, FinishReason, InspectionFailure, Operation, Protocol, Usage};

/// Who is told what a reader sees, in the order of the bytes.
pub(crate) trait Sink {
    /// A piece of an answer's text, unescaped and not empty. One text may come in several pieces, cut anywhere.
    fn text(&mut self, _choice: u32, _kind: TextKind, _fragment: &[u8]) {}
    /// A choice was seen in this event, before its first text or else at its end. Where a server names the index after
    /// the text, the text counts for the choice at that place in the event, and the index is told at the end.
    fn choice(&mut self, _index: u32) {}
    /// A choice is finished.
    fn finish_reason(&mut self, _choice: u32, _reason: FinishReason) {}
    /// Token counts of the whole request, or of the request so far.
    fn usage(&mut self, _usage: Usage) {}
    /// Which model answers; once a body. A name that is no fit label stays unfit.
    fn model(&mut self, _name: &str) {}
    /// An error inside the answer; once an event.
    fn error(&mut self) {}
    /// `[DONE]`.
    fn done(&mut self) {}
    /// What the engine says it took.
    fn timings(&mut self, _prefill: Option<Duration>, _decode: Option<Duration>) {}
    /// The end of an event of a stream, or of a whole answer.
    fn event_end(&mut self) {}
    /// Something could not be read; once a body and kind.
    fn failure(&mut self, _kind: InspectionFailure) {}
}

/// What a text of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    Answer,
    Reasoning,
    Refusal,
    /// The name of a tool, or what it is called with.
    ToolCall,
}

/// An endpoint that the layer knows.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) endpoint: Endpoint,
    pub(crate) operation: Operation,
    pub(crate) protocol: Protocol,
    /// The path from the last `/v1` on, and the same without it, which counts only as the whole path.
    path: &'static str,
    short: &'static str,
    request: &'static Shape<Asked>,
    event: &'static Shape<Fact>,
    document: &'static Shape<Fact>,
}

/// One row for each endpoint of each protocol.
static ROUTES: [Route; 2] = [
    Route {
        endpoint: Endpoint::ChatCompletions,
        operation: Operation::Chat,
        protocol: Protocol::OpenAi,
        path: "/v1/chat/completions",
        short: "/chat/completions",
        request: &openai::REQUEST,
        event: &openai::CHAT_CHUNK,
        document: &openai::CHAT,
    },
    Route {
        endpoint: Endpoint::Completions,
        operation: Operation::TextCompletion,
        protocol: Protocol::OpenAi,
        path: "/v1/completions",
        short: "/completions",
        request: &openai::REQUEST,
        event: &openai::COMPLETION,
        document: &openai::COMPLETION,
    },
];

/// The endpoint that a request is for, if it is a known one.
#[inline]
pub(crate) fn route(method: &http::Method, path: &str) -> Option<&'static Route> {
    if *method != http::Method::POST {
        return None;
    }
    ROUTES.iter().find(|route| path.ends_with(route.path) || path == route.short || is_azure(path, route.short))
}

/// Azure OpenAI has the model in the path.
fn is_azure(path: &str, short: &str) -> bool {
    path.strip_prefix("/openai/deployments/")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(_, rest)| short.strip_prefix('/') == Some(rest))
}

impl Route {
    /// A reader for an answer that is a stream of events.
    pub(crate) fn stream_reader(&self) -> Reader {
        Reader::new(Body::Events(EventStream::new(self.event)))
    }

    /// A reader for an answer in one piece.
    pub(crate) fn unary_reader(&self) -> Reader {
        Reader::new(Body::Document(Document::new(self.document)))
    }

    /// A reader for the request's body.
    pub(crate) fn request_scan(&self) -> RequestScan {
        RequestScan::new(self.request)
    }
}

/// Reads an answer as it flows by.
#[derive(Debug)]
pub(crate) struct Reader {
    /// How much of a byte order mark was read; `None` when it is out of the question.
    mark: Option<u8>,
    body: Body,
}

#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a reader lives in the state of its request; a box would be an allocation"
)]
enum Body {
    Events(EventStream),
    Document(Document),
}

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

impl Reader {
    fn new(body: Body) -> Self {
        Self { mark: Some(0), body }
    }

    /// Reads the next bytes of the body.
    #[inline]
    pub(crate) fn read(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let bytes = if self.mark.is_some() { self.after_mark(bytes, sink) } else { bytes };
        self.body.read(bytes, sink);
    }

    /// The body came to its end.
    pub(crate) fn end(&mut self, sink: &mut impl Sink) {
        match &mut self.body {
            Body::Events(events) => events.end(sink),
            Body::Document(document) => document.end(sink),
        }
    }

    #[cold]
    fn after_mark<'b>(&mut self, mut bytes: &'b [u8], sink: &mut impl Sink) -> &'b [u8] {
        while let (Some(read), [byte, rest @ ..]) = (self.mark, bytes) {
            let read = usize::from(read);
            if *byte != BYTE_ORDER_MARK[read] {
                self.mark = None;
                self.body.read(&BYTE_ORDER_MARK[..read], sink);
                break;
            }
            self.mark = (read < 2).then_some(read as u8 + 1);
            bytes = rest;
        }
        bytes
    }
}

impl Body {
    #[inline]
    fn read(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        match self {
            Self::Events(events) => events.read(bytes, sink),
            Self::Document(document) => document.read(bytes, sink),
        }
    }
}

#[cfg(test)]
mod tests;
