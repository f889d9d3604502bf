//! Converts values in a document to events for a [`Sink`]: the part that all protocols share.
//!
//! Texts are emitted immediately. Everything else in an event (a finish reason, counts, times, an error, its end) is emitted when its document is
//! complete, because one object may be a choice, usage and timings at once, and a truncated document must emit nothing.

mod interpreter;

pub(super) use interpreter::Interpreter;

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use super::counts::{Count, DocumentCounts, Placeholder};
use super::json::Scalar;
use super::{Finality, Sink, Timings};
use crate::vocabulary::{ErrorType, FinishReason, InspectionFailure, MAX_NAME_BYTES, MAX_PLAUSIBLE_TOKENS, Usage};

/// Replaces a model name that is not UTF-8, and is rejected by the label policy.
const UNREADABLE: &str = "\0";

/// The meaning of a value in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// An object per choice.
    Choice,
    ChoiceIndex,
    FinishReason,
    /// The state of the whole answer, in the words of OpenAI's Responses.
    Status,
    /// Its presence means that the answer ended in this state, unless a status says otherwise.
    Ended(Status),
    /// `true`: the answer is generated in the background, even if no client reads it.
    Background,
    /// An object per tool call, and the index of the call.
    ToolCall,
    ToolCallIndex,
    /// The name of a called tool, in an event without a token.
    CalledTool,
    /// Its presence means that the open tool calls are complete.
    ToolCallsEnd,
    /// Its presence means that the server itself calls the tool, and continues with the result.
    HostedTool,
    /// `true`: the prompt was cut.
    InputTruncated,
    /// The kind of an element of a list: its texts are reasoning, if the kind comes before them.
    Item,
    /// The kind of the texts in the events that follow, if these do not say it before the text.
    OpenItem,
    Count(Count),
    Time(Time),
    Model,
    /// An error, unless it is `false` or empty. A word or number in its place is the error's type or code.
    Error,
    /// The type of the error; its code or status, which is more precise.
    ErrorType,
    ErrorCode,
    /// A code and a message are an error if there are no choices.
    LooseCode,
    LooseMessage,
    /// `true`, or its presence, means that nothing follows.
    Done,
    /// The counts of this document are placeholders, or final.
    Provisional,
    Final,
}

/// A duration that the engine measured, and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    PrefillMilliseconds,
    DecodeMilliseconds,
    LoadNanoseconds,
    PrefillNanoseconds,
    DecodeNanoseconds,
}

/// The state of the current choice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice {
    /// Its position in the event, for servers that do not send `index`.
    ordinal: u16,
    index: Option<Index>,
    /// The index under which it was last emitted.
    emitted_as: Option<Index>,
    open: bool,
    finish: Option<FinishReason>,
    /// The key under which reasoning arrived, plus one: some servers send it twice, under an old and a new name.
    reasoning: u8,
    /// The index of the current tool call, and the number of calls so far in this event.
    call: u8,
    calls: u8,
}

/// An index in little memory; no real index is too high for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index(NonZeroU32);

impl Index {
    fn of(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    fn get(self) -> u32 {
        self.0.get() - 1
    }
}

impl Choice {
    /// Text that arrives before `index` is emitted for the choice at that position, because nothing can be held back.
    pub(super) fn index(&self) -> u32 {
        self.index.map_or_else(|| u32::from(self.ordinal), Index::get)
    }

    fn next_call(&mut self) {
        self.call = self.calls;
        self.calls = self.calls.saturating_add(1);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }
}

/// The state of the body and of the current event.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) choice: Choice,
    /// The facts of the event other than its texts.
    event: EventFacts,
    failures: u8,
    model_emitted: bool,
    error_emitted: bool,
    /// A tool was called, which the client has to execute.
    called: bool,
    /// The same for the current document or item, unless the server executes the tool.
    calling: bool,
    /// The input count in the placeholders of the stream.
    placeholder: Placeholder,
    /// The event had a choice.
    choices: bool,
    /// An item of reasoning is open, and the kind of an event comes after its text.
    reasoning_open: bool,
    /// The event has facts other than its texts, which another event with the same envelope would have to emit again.
    pub(super) has_facts: bool,
}

/// The facts of an event other than its texts.
#[derive(Debug, Default)]
struct EventFacts {
    anything: bool,
    /// The finish reason of the previous choice.
    finish: Option<(u32, FinishReason)>,
    counts: DocumentCounts,
    /// Loading, prefill and decoding, in nanoseconds.
    times: [Option<NonZeroU64>; 3],
    error: bool,
    error_type: Option<ErrorType>,
    error_code: Option<ErrorType>,
    loose_code: bool,
    loose_message: bool,
    done: bool,
    finality: Option<Finality>,
    status: Option<Status>,
    /// A model was loaded or unloaded, or the work was postponed: there is no answer.
    no_generation: bool,
    reasoning_item: bool,
    tool_calls_end: bool,
    hosted_tool: bool,
}

impl Facts {
    pub(super) fn begin_event(&mut self) {
        self.choice = Choice::default();
        self.choices = false;
        self.error_emitted = false;
        self.has_facts = false;
        if self.event.anything {
            self.event = EventFacts::default();
        }
    }

    pub(super) fn fail(&mut self, kind: InspectionFailure, sink: &mut impl Sink) {
        let bit = 1 << kind as u8;
        self.has_facts = true;
        if self.failures & bit == 0 {
            self.failures |= bit;
            sink.failure(kind);
        }
    }

    /// The event is an error, whatever its content.
    pub(super) fn mark_error(&mut self) {
        self.event_mut().error = true;
    }

    pub(super) fn plain_text(&mut self, sink: &mut impl Sink) {
        self.has_facts = true;
        if !std::mem::replace(&mut self.error_emitted, true) {
            sink.plain_text();
        }
    }

    /// Applies the fact that the kind of a document stands for.
    pub(super) fn tagged(&mut self, fact: Fact) {
        let event = self.event_mut();
        match fact {
            Fact::Done => event.done = true,
            Fact::Ended(status) => {
                event.done = true;
                event.status.get_or_insert(status);
            }
            Fact::Error => event.error = true,
            Fact::Provisional => event.finality = Some(Finality::SoFar),
            Fact::Final => event.finality = Some(Finality::Final),
            Fact::ToolCallsEnd => event.tool_calls_end = true,
            Fact::HostedTool => event.hosted_tool = true,
            _ => {}
        }
    }

    /// Decides whether the client or the server executes the tool calls of the current document or item.
    fn settle_call(&mut self) {
        self.called |= std::mem::take(&mut self.calling) && !self.event.hosted_tool;
    }

    fn event_mut(&mut self) -> &mut EventFacts {
        self.has_facts = true;
        self.event.anything = true;
        &mut self.event
    }

    /// Ends the current choice, if there is one.
    pub(super) fn end_choice(&mut self, sink: &mut impl Sink) {
        if !self.choice.open {
            return;
        }
        if self.event.no_generation {
            self.choice = Choice::default();
            return;
        }
        let index = self.choice.index();
        let emitted = self.choice.emitted_as.map(Index::get);
        self.has_facts |= emitted != Some(index);
        if let Some(place) = emitted.filter(|place| *place != index) {
            sink.moved(place, index);
        }
        self.emit_choice(sink);
        if let Some(reason) = self.choice.finish {
            self.event_mut().finish = Some((self.choice.index(), reason));
        }
        self.choice = Choice { ordinal: self.choice.ordinal.saturating_add(1), ..Choice::default() };
    }

    fn emit_choice(&mut self, sink: &mut impl Sink) {
        let index = self.choice.index();
        let emitted = Some(Index::of(index));
        if std::mem::replace(&mut self.choice.emitted_as, emitted) != emitted {
            self.choices = true;
            sink.choice(index);
        }
    }

    fn emit_finish(&mut self, sink: &mut impl Sink) {
        if let Some((choice, reason)) = self.event.finish.take() {
            sink.finish_reason(choice, reason);
        }
    }

    /// Emits the facts of the document when it is complete.
    fn emit(&mut self, whole_body: bool, sink: &mut impl Sink) {
        if !self.has_facts {
            return;
        }
        if self.event.tool_calls_end {
            sink.tool_calls_end();
        }
        self.emit_finish(sink);
        self.emit_status(whole_body, sink);
        match self.event.finality {
            Some(Finality::SoFar) => self.placeholder = self.event.counts.placeholder(),
            Some(Finality::Final) => self.event.counts.complete(self.placeholder),
            None => {}
        }
        let usage = self.event.counts.usage();
        if usage != Usage::new() {
            let is_last = whole_body || self.event.done || self.event.error || !self.choices;
            let finality = if is_last { Finality::Final } else { Finality::SoFar };
            sink.usage(usage, self.event.finality.unwrap_or(finality));
        }
        let [load, prefill, decode] = self.event.times.map(|time| time.map(|time| Duration::from_nanos(time.get())));
        let timings = Timings { load, prefill, decode, usage: self.event.counts.timed() };
        if timings != Timings::default() {
            sink.timings(timings);
        }
        if self.event.no_generation && !self.choices {
            sink.no_generation();
        }
        self.event.error |= self.event.loose_code && self.event.loose_message && !self.choices;
        self.emit_error(sink);
        if self.event.done {
            sink.done();
        }
    }

    /// An error is emitted even if the document is truncated.
    pub(super) fn emit_error(&mut self, sink: &mut impl Sink) {
        if self.event.error && !std::mem::replace(&mut self.error_emitted, true) {
            sink.error(self.event.error_code.or(self.event.error_type));
        }
    }

    fn count(&mut self, which: Count, value: Scalar<'_>, sink: &mut impl Sink) {
        // A count may occur in two places, and be null in one of them.
        let Some(tokens) = value.amount() else { return };
        let plausible = Some(tokens).filter(|tokens| *tokens <= MAX_PLAUSIBLE_TOKENS);
        if plausible.is_none() {
            self.fail(InspectionFailure::Implausible, sink);
        }
        self.event_mut().counts.set(which, plausible);
    }

    fn time(&mut self, which: Time, value: Scalar<'_>) {
        let Some(value) = value.float() else { return };
        let (place, nanoseconds) = match which {
            // With a shorter time, the model was already loaded.
            Time::LoadNanoseconds => (0, if value > 1e8 { value } else { 0.0 }),
            Time::PrefillMilliseconds => (1, value * 1e6),
            Time::PrefillNanoseconds => (1, value),
            Time::DecodeMilliseconds => (2, value * 1e6),
            Time::DecodeNanoseconds => (2, value),
        };
        // A value that is too large stays too large: about 584 years.
        self.event_mut().times[place] = NonZeroU64::new(nanoseconds.round() as u64);
    }

    /// Handles an answer whose status says how it ended. Other facts in it are not its end.
    fn emit_status(&mut self, whole_body: bool, sink: &mut impl Sink) {
        let is_last = whole_body || self.event.done || self.event.error;
        let Some(status) = self.event.status else { return };
        if !is_last {
            if status == Status::Pending {
                sink.pending();
            }
            return;
        }
        let reason = match status {
            Status::Completed if self.called => FinishReason::ToolCalls,
            Status::Completed => FinishReason::Stop,
            Status::Incomplete => self.choice.finish.unwrap_or(FinishReason::Other),
            Status::Failed => {
                self.event.error = true;
                FinishReason::Error
            }
            Status::Cancelled => {
                sink.cancelled();
                FinishReason::Abort
            }
            Status::Pending => {
                self.event.no_generation = true;
                return;
            }
        };
        self.emit_choice(sink);
        sink.finish_reason(self.choice.index(), reason);
    }
}

/// The state of an answer, in the words of OpenAI's Responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Completed,
    /// Cut; another value has the cause.
    Incomplete,
    Failed,
    Cancelled,
}

impl Status {
    fn named(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"queued" | b"in_progress" => Self::Pending,
            b"completed" => Self::Completed,
            b"incomplete" => Self::Incomplete,
            b"failed" => Self::Failed,
            b"cancelled" => Self::Cancelled,
            _ => return None,
        })
    }
}

/// A name for the label policy. A name that is too long is truncated to a length that is still too long.
pub(super) fn model_name(name: &[u8]) -> &str {
    let Ok(name) = std::str::from_utf8(name).or_else(|error| {
        let valid = name.get(..error.valid_up_to()).unwrap_or_default();
        if valid.len() > MAX_NAME_BYTES { std::str::from_utf8(valid) } else { Err(error) }
    }) else {
        return UNREADABLE;
    };
    let cut = (MAX_NAME_BYTES + 1..name.len()).find(|at| name.is_char_boundary(*at)).unwrap_or(name.len());
    &name[..cut]
}
