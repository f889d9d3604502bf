//! The wire protocols: bytes in, events out.
//!
//! A [`Route`], the response head and the first bytes of the body select a reader. It reads the body as it passes, and emits events to a [`Sink`]. It
//! does no I/O, keeps no text, allocates nothing and cannot fail. It reports once what it cannot read, and ignores it.
//!
//! ```text
//!   bytes ─► framing: lines, events ─► scanner: values at their place ─► facts: what they mean ─► Sink
//!                       └─ template: an event like the one before is not read again ─┘
//! ```
//!
//! A protocol is a file in `protocol/` with its shapes, and a row in [`ROUTES`] per endpoint.

mod counts;
mod document;
mod error_words;
mod escape;
mod facts;
mod framing;
#[cfg(fuzzing)]
pub mod fuzzing;
mod json;
mod learner;
mod pattern;
mod protocol;
mod reader;
#[cfg(any(test, fuzzing))]
mod recorder;
mod request;
mod route;
mod scanner;
mod skip;
mod stream;
mod template;
mod words;

use std::time::Duration;

pub(crate) use counts::Counts;
pub(crate) use framing::Framing;
pub(crate) use reader::Reader;
pub(crate) use request::{Format, RequestFacts, RequestScan};
pub(crate) use route::{ROUTES, Route, route, segments};

use crate::vocabulary::{ErrorType, FinishReason, InspectionFailure, SkipReason, Usage};

/// Receives the events of a reader, in the order of the bytes.
pub(crate) trait Sink {
    /// The framing of the body, by its first bytes; once per body, before all else. Not called if the body cannot be read.
    fn begins(&mut self, _framing: Result<Framing, SkipReason>) {}
    /// A piece of an answer's text, unescaped and not empty. One text may arrive in several pieces, split at any place.
    fn text(&mut self, _choice: u32, _kind: TextKind, _fragment: &[u8]) {}
    /// An event that consists of one piece of one text. Equivalent to [`choice`](Self::choice), [`text`](Self::text) and
    /// [`event_end`](Self::event_end), in this order.
    #[inline]
    fn text_event(&mut self, choice: u32, kind: TextKind, text: &[u8]) {
        self.choice(choice);
        self.text(choice, kind, text);
        self.event_end();
    }
    /// A choice in this event, called before its first text, or else at its end. If a server sends the index after the text, the text is emitted for
    /// the choice at that position in the event; at the end it is moved, and the index emitted.
    fn choice(&mut self, _index: u32) {}
    /// Moves this event's text from the choice at position `_from` to the choice with index `_to`, because the index came after the text.
    fn moved(&mut self, _from: u32, _to: u32) {}
    /// A choice has a finish reason.
    fn finish_reason(&mut self, _choice: u32, _reason: FinishReason) {}
    /// Token counts of the whole request, or of the request so far. In an event with exactly one choice, they may be those of that choice (vLLM's
    /// `continuous_usage_stats`).
    fn usage(&mut self, _usage: Usage, _finality: Finality) {}
    /// The model in the response, at most once per body. A name that is not a valid label value is passed on, so that the label policy rejects it.
    fn model(&mut self, _name: &str) {}
    /// An error inside the answer; at most once per event. With its type, if the code or type in the answer is known.
    fn error(&mut self, _kind: Option<ErrorType>) {}
    /// The data of an event is plain text: an error, unless the stream completes nevertheless.
    fn plain_text(&mut self) {}
    /// The protocol's terminal event: `[DONE]`, `message_stop`, `"done": true` and the like.
    fn done(&mut self) {}
    /// There was nothing to generate: a model was loaded or unloaded, or the work is done in the background.
    fn no_generation(&mut self) {}
    /// The work was accepted, but is not done yet.
    fn pending(&mut self) {}
    /// The work continues even if the client disconnects.
    fn in_background(&mut self) {}
    /// The caller has cancelled the request with another request.
    fn cancelled(&mut self) {}
    /// A tool of this name is called, in an event without a token.
    fn tool_named(&mut self, _name: &[u8]) {}
    /// The open tool calls are complete.
    fn tool_calls_end(&mut self) {}
    /// The engine has cut the prompt.
    fn input_truncated(&mut self) {}
    /// The engine's own timings.
    fn timings(&mut self, _timings: Timings) {}
    /// The end of an event of a stream, or of a whole answer.
    fn event_end(&mut self) {}
    /// A body or value could not be read; at most once per body and kind.
    fn failure(&mut self, _kind: InspectionFailure) {}
}

/// Whether a token count can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finality {
    /// So far. It may be a placeholder: Anthropic's `message_start` has one output token.
    SoFar,
    /// The protocol defines it as the count of the whole request.
    Final,
}

/// The engine's own measurements, in its answer (llama.cpp's `timings`, Ollama's durations).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Timings {
    /// Loading the model.
    pub(crate) load: Option<Duration>,
    /// Processing the prompt.
    pub(crate) prefill: Option<Duration>,
    /// Generating the output.
    pub(crate) decode: Option<Duration>,
    /// The engine's token counts for these times: exact, and present without a usage object.
    pub(crate) usage: Usage,
}

/// The kind of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    Answer,
    Reasoning,
    Refusal,
    /// The name of a tool, with the call's index within its choice.
    ToolName(u8),
    /// The arguments, as JSON.
    ToolArguments(u8),
    /// The arguments, in any format.
    ToolInput,
    /// Audio or an image, encoded.
    Media,
}

impl TextKind {
    /// The same kind, for the call at this index.
    pub(crate) fn of_call(self, call: u8) -> Self {
        match self {
            Self::ToolName(_) => Self::ToolName(call),
            Self::ToolArguments(_) => Self::ToolArguments(call),
            other => other,
        }
    }

    pub(crate) fn is_tool_call(self) -> bool {
        matches!(self, Self::ToolName(_) | Self::ToolArguments(_) | Self::ToolInput)
    }
}

#[cfg(test)]
mod tests;
