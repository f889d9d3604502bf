//! What goes over the wire: bytes in, events out.
//!
//! A reader is picked by a [`Route`], by what the response's head says and by the body's first bytes. It is fed the body as it flows
//! by, and emits what happened to a [`Sink`]. It does no I/O, keeps no text, allocates nothing and cannot fail: what it does not
//! understand it reports once and leaves alone.
//!
//! ```text
//!   bytes ─► framing: lines, events ─► scanner: values at their place ─► facts: what they mean ─► Sink
//!                       └─ template: an event like the one before is not read again ─┘
//! ```
//!
//! A protocol is a file in `protocol/` with its shapes, and a row in [`ROUTES`] for each of its endpoints.

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

/// Receives what a reader sees, in the order of the bytes.
pub(crate) trait Sink {
    /// What the body is, by its first bytes; once per body, before all else. A body that cannot be read is left alone.
    fn begins(&mut self, _framing: Result<Framing, SkipReason>) {}
    /// A piece of an answer's text, unescaped and not empty. One text may come in several pieces, cut anywhere.
    fn text(&mut self, _choice: u32, _kind: TextKind, _fragment: &[u8]) {}
    /// An event that is nothing but one piece of one text: the same as [`choice`](Self::choice), [`text`](Self::text) and
    /// [`event_end`](Self::event_end), one after the other.
    #[inline]
    fn text_event(&mut self, choice: u32, kind: TextKind, text: &[u8]) {
        self.choice(choice);
        self.text(choice, kind, text);
        self.event_end();
    }
    /// A choice was seen in this event, before its first text or else at its end. Where a server names the index after
    /// the text, the text is emitted for the choice at that place in the event; it is moved, and the index emitted, at the end.
    fn choice(&mut self, _index: u32) {}
    /// What was emitted in this event for the choice at place `_from` belongs to the one with index `_to`, which stood after its text.
    fn moved(&mut self, _from: u32, _to: u32) {}
    /// A choice is finished.
    fn finish_reason(&mut self, _choice: u32, _reason: FinishReason) {}
    /// Token counts of the whole request, or of the request so far. In an event that shows exactly one choice they may be
    /// that choice's alone (vLLM's `continuous_usage_stats`).
    fn usage(&mut self, _usage: Usage, _finality: Finality) {}
    /// The model that answers, at most once per body. A name that is not a valid label value is passed on, so that the label policy rejects it.
    fn model(&mut self, _name: &str) {}
    /// An error inside the answer; once an event. What its code or type says it is, where it has one that is known.
    fn error(&mut self, _kind: Option<ErrorType>) {}
    /// The data of an event is plain text: an error, unless the stream completes all the same.
    fn plain_text(&mut self) {}
    /// The protocol's last word: `[DONE]`, `message_stop`, `"done": true` and the like.
    fn done(&mut self) {}
    /// Nothing was to be generated: a model was loaded or unloaded, or the work is done in the background.
    fn no_generation(&mut self) {}
    /// The work is accepted and not done.
    fn pending(&mut self) {}
    /// It goes on whether anybody waits for it or not.
    fn in_background(&mut self) {}
    /// The caller has cancelled the request by another one.
    fn cancelled(&mut self) {}
    /// A tool of this name is being called, in an event that bears no token.
    fn tool_named(&mut self, _name: &[u8]) {}
    /// Calls of tools that were open are complete.
    fn tool_calls_end(&mut self) {}
    /// The engine has cut the prompt.
    fn input_truncated(&mut self) {}
    /// The engine's own measurements.
    fn timings(&mut self, _timings: Timings) {}
    /// The end of an event of a stream, or of a whole answer.
    fn event_end(&mut self) {}
    /// Something could not be read; once a body and kind.
    fn failure(&mut self, _kind: InspectionFailure) {}
}

/// Whether a token count can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finality {
    /// As of this event. It may be a place-holder: Anthropic's `message_start` has one output token.
    SoFar,
    /// The protocol says that this is the count of the whole request.
    Final,
}

/// What an engine measured itself, and reports in its answer (llama.cpp's `timings`, Ollama's durations).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Timings {
    /// Loading the model.
    pub(crate) load: Option<Duration>,
    /// Processing the prompt.
    pub(crate) prefill: Option<Duration>,
    /// Producing the output.
    pub(crate) decode: Option<Duration>,
    /// The tokens that it counted meanwhile: exact, and there without a usage object.
    pub(crate) usage: Usage,
}

/// What a text of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    Answer,
    Reasoning,
    Refusal,
    /// The name of a tool, by the call's place among those of its choice.
    ToolName(u8),
    /// What it is called with, as JSON.
    ToolArguments(u8),
    /// What it is called with, as it likes.
    ToolInput,
    /// Speech or an image, encoded.
    Media,
}

impl TextKind {
    /// The same, of the call at this place.
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
