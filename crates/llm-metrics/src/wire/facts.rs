//! From values at their place to events for a [`Sink`]: the part that all protocols share.
//!
//! Texts are emitted as they flow. What an event says beside its texts (a finish reason, counts, times, an error, its end) is emitted when its
//! document is complete: one object may be a choice, usage and timings at once, and of a truncated one nothing is emitted.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use super::counts::{Count, DocumentCounts, Placeholder};
use super::error_words::error_type;
use super::json::{Broken, Place, SCRATCH, Scalar, Skipped, Visitor};
use super::learner::Learner;
use super::words::finish_reason;
use super::{Finality, Sink, TextKind, Timings};
use crate::vocabulary::{ErrorType, FinishReason, InspectionFailure, MAX_NAME_BYTES, MAX_PLAUSIBLE_TOKENS, Usage};

/// What stands for a model name that is no UTF-8: a name that the label policy refuses.
const UNREADABLE: &str = "\0";

/// What a value in an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// An object for each choice.
    Choice,
    ChoiceIndex,
    FinishReason,
    /// The whole answer's state, in the words of OpenAI's Responses.
    Status,
    /// By its place: it has ended so, unless it has a status that says otherwise.
    Ended(Status),
    /// `true`: it is made in the background, whether anybody reads it or not.
    Background,
    /// An object for each call of a tool, and which call it is.
    ToolCall,
    ToolCallIndex,
    /// The name of a tool that is called, where it bears no token.
    CalledTool,
    /// By its place: calls of tools that were open are complete.
    ToolCallsEnd,
    /// By its place: the server itself calls the tool, and goes on with what it says.
    HostedTool,
    /// `true`: the prompt was cut.
    InputTruncated,
    /// What an element of a list is: its texts are reasoning, if it says so before them.
    Item,
    /// What the texts of the events to come are, where they do not say it before.
    OpenItem,
    Count(Count),
    Time(Time),
    Model,
    /// An error, unless it is `false` or empty; a word or number in its place says what it is.
    Error,
    /// What the error is: its type. Its code, or status, which knows better.
    ErrorType,
    ErrorCode,
    /// A code and a message are an error where there are no choices.
    LooseCode,
    LooseMessage,
    /// `true`, or by its place: nothing comes after this.
    Done,
    /// The counts of this document are place-holders; or the last word on the request.
    Provisional,
    Final,
}

/// A time that an engine took, and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    PrefillMilliseconds,
    DecodeMilliseconds,
    LoadNanoseconds,
    PrefillNanoseconds,
    DecodeNanoseconds,
}

/// What is known of the choice at hand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice {
    /// Which one it is in its event, for those that do not say `index`.
    ordinal: u16,
    index: Option<Index>,
    /// The index under which it was last emitted.
    emitted_as: Option<Index>,
    open: bool,
    finish: Option<FinishReason>,
    /// The key under which reasoning came, plus one: some servers send it twice, under its old and its new name.
    reasoning: u8,
    /// Which call of a tool it is about, and how many it has shown in this event.
    call: u8,
    calls: u8,
}

/// An index in as little room as it needs; none is so high that it would not fit.
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
    /// What is emitted before `index` is known counts for the choice at that place: nothing can be held back.
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

/// What is known of the body and of the event at hand.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) choice: Choice,
    /// What the event says beside its texts.
    event: EventFacts,
    failures: u8,
    model_emitted: bool,
    error_emitted: bool,
    /// A tool was called, and it is for the client to answer.
    called: bool,
    /// The same of the document or item at hand, unless the server answers.
    calling: bool,
    /// What the place-holders of the stream said of its input.
    placeholder: Placeholder,
    /// The event has shown a choice.
    choices: bool,
    /// An item of reasoning is open, and events say what they are after their text.
    reasoning_open: bool,
    /// The event has facts beside its texts, which another event with the same envelope would have to report again.
    pub(super) has_facts: bool,
}

/// What an event says beside its texts.
#[derive(Debug, Default)]
struct EventFacts {
    anything: bool,
    /// Why the choice before this one finished.
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
    /// A model was loaded or unloaded, or the work is to be done later: there is no answer.
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

    /// The event is an error, whatever it holds.
    pub(super) fn mark_error(&mut self) {
        self.event_mut().error = true;
    }

    pub(super) fn plain_text(&mut self, sink: &mut impl Sink) {
        self.has_facts = true;
        if !std::mem::replace(&mut self.error_emitted, true) {
            sink.plain_text();
        }
    }

    /// What the word of a document's kind says.
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

    /// What the document or item at hand has called is called by its client, or by the server.
    fn settle_call(&mut self) {
        self.called |= std::mem::take(&mut self.calling) && !self.event.hosted_tool;
    }

    fn event_mut(&mut self) -> &mut EventFacts {
        self.has_facts = true;
        self.event.anything = true;
        &mut self.event
    }

    /// Ends the choice at hand, if there is one.
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

    /// Emits what the document says, now that it is complete.
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

    /// An error is emitted for a truncated document, too.
    pub(super) fn emit_error(&mut self, sink: &mut impl Sink) {
        if self.event.error && !std::mem::replace(&mut self.error_emitted, true) {
            sink.error(self.event.error_code.or(self.event.error_type));
        }
    }

    fn count(&mut self, which: Count, value: Scalar<'_>, sink: &mut impl Sink) {
        // A count may stand in two places, and be null in one.
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
            // Below that the model was there already.
            Time::LoadNanoseconds => (0, if value > 1e8 { value } else { 0.0 }),
            Time::PrefillMilliseconds => (1, value * 1e6),
            Time::PrefillNanoseconds => (1, value),
            Time::DecodeMilliseconds => (2, value * 1e6),
            Time::DecodeNanoseconds => (2, value),
        };
        // What is too large stays too large: some 584 years.
        self.event_mut().times[place] = NonZeroU64::new(nanoseconds.round() as u64);
    }

    /// Tells of an answer that says by its status how it ended; what it says before that is no end.
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

/// How far an answer is, in the words of OpenAI's Responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Completed,
    /// Cut; why is said elsewhere.
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

/// What is reasoning, by the type of an item or of a part of one.
fn is_reasoning(kind: Scalar<'_>) -> bool {
    matches!(kind.string(), Some(b"reasoning" | b"reasoning_text" | b"summary_text" | b"thinking"))
}

/// What the server itself calls, by the type of an item.
fn is_hosted_tool(kind: Scalar<'_>) -> bool {
    matches!(kind.string(), Some(b"mcp_call" | b"code_interpreter_call"))
}

/// Tells a sink what the scanner finds.
pub(super) struct Interpreter<'a, S> {
    pub(super) facts: &'a mut Facts,
    sink: &'a mut S,
    pub(super) learner: Learner,
    pub(super) complete: bool,
    /// The document is no event of a stream, but all there is.
    whole_body: bool,
}

impl<'a, S: Sink> Interpreter<'a, S> {
    pub(super) fn new(facts: &'a mut Facts, sink: &'a mut S) -> Self {
        Self { facts, sink, learner: Learner::new(), complete: false, whole_body: false }
    }

    /// For a document that is the whole body.
    pub(super) fn of_body(facts: &'a mut Facts, sink: &'a mut S) -> Self {
        Self { whole_body: true, ..Self::new(facts, sink) }
    }

    /// Goes on after the first text.
    pub(super) fn after_text(facts: &'a mut Facts, sink: &'a mut S) -> Self {
        Self { learner: Learner::after_text(), ..Self::new(facts, sink) }
    }
}

impl<S: Sink> Visitor for Interpreter<'_, S> {
    type Fact = Fact;

    fn enter(&mut self, object: Fact) {
        match object {
            Fact::Choice => {
                self.facts.emit_finish(self.sink);
                self.facts.choice.open = true;
            }
            Fact::Error => self.facts.event_mut().error = true,
            Fact::Item => {
                self.facts.event.reasoning_item = false;
                self.facts.event.hosted_tool = false;
                self.facts.choice.next_call();
            }
            Fact::ToolCall => self.facts.choice.next_call(),
            _ => {}
        }
    }

    fn leave(&mut self, object: Fact) {
        match object {
            Fact::Choice => self.facts.end_choice(self.sink),
            Fact::Item => self.facts.settle_call(),
            _ => {}
        }
    }

    fn scalar(&mut self, fact: Fact, value: Scalar<'_>) {
        let facts = &mut *self.facts;
        match fact {
            Fact::ChoiceIndex => {
                facts.choice.index = value.integer().and_then(|index| u32::try_from(index).ok()).map(Index::of);
            }
            Fact::FinishReason => match value.string() {
                // Ollama: what was asked for is that a model is there, or is gone.
                Some(b"load" | b"unload") => facts.event_mut().no_generation = true,
                word => facts.choice.finish = word.and_then(finish_reason).or(facts.choice.finish),
            },
            Fact::Status => {
                if let Some(status) = value.string().and_then(Status::named) {
                    facts.event_mut().status = Some(status);
                }
            }
            Fact::Background => {
                if value.boolean() == Some(true) {
                    facts.has_facts = true;
                    self.sink.in_background();
                }
            }
            Fact::Item => {
                if is_reasoning(value) != facts.event.reasoning_item {
                    facts.event_mut().reasoning_item = is_reasoning(value);
                }
                if is_hosted_tool(value) {
                    facts.event_mut().hosted_tool = true;
                }
            }
            Fact::OpenItem => facts.reasoning_open = is_reasoning(value),
            Fact::Count(which) => facts.count(which, value, self.sink),
            Fact::Time(which) => facts.time(which, value),
            Fact::Model => {
                if let Some(name) = value.string().filter(|name| !name.is_empty() && !facts.model_emitted) {
                    facts.model_emitted = true;
                    self.sink.model(model_name(name));
                }
            }
            Fact::Error => {
                let says_nothing = matches!(value, Scalar::Null | Scalar::Bool(false) | Scalar::String(b""));
                if !says_nothing && value.integer() != Some(0) {
                    let event = facts.event_mut();
                    event.error = true;
                    event.error_type = event.error_type.or_else(|| error_type(value));
                }
            }
            Fact::ErrorType => {
                if let Some(what) = error_type(value) {
                    facts.event_mut().error_type = Some(what);
                }
            }
            Fact::ErrorCode => {
                if let Some(what) = error_type(value) {
                    facts.event_mut().error_code = Some(what);
                }
            }
            Fact::LooseCode => {
                let is_code = value.string().is_some_and(|word| !word.is_empty()) || value.integer().is_some();
                if is_code && value.integer() != Some(0) {
                    let event = facts.event_mut();
                    event.loose_code = true;
                    event.error_code = event.error_code.or_else(|| error_type(value));
                }
            }
            Fact::LooseMessage => {
                if value.string().is_some_and(|word| !word.is_empty()) {
                    facts.event_mut().loose_message = true;
                }
            }
            Fact::Done => {
                if value.boolean() == Some(true) {
                    facts.event_mut().done = true;
                }
            }
            Fact::ToolCallIndex => {
                if let Some(index) = value.integer() {
                    facts.choice.call = u8::try_from(index).unwrap_or(u8::MAX);
                }
            }
            Fact::CalledTool => {
                // One that was cut would be another.
                if let Some(name) = value.string().filter(|name| !name.is_empty() && name.len() < SCRATCH) {
                    facts.has_facts = true;
                    self.sink.tool_named(name);
                }
            }
            Fact::InputTruncated => {
                if value.boolean() == Some(true) {
                    facts.has_facts = true;
                    self.sink.input_truncated();
                }
            }
            Fact::Choice
            | Fact::Ended(_)
            | Fact::Provisional
            | Fact::Final
            | Fact::ToolCall
            | Fact::ToolCallsEnd
            | Fact::HostedTool => {}
        }
    }

    fn present(&mut self, fact: Fact, _: usize) {
        self.facts.tagged(fact);
    }

    fn tagged(&mut self, fact: Option<Fact>) {
        self.learner.tagged();
        if let Some(fact) = fact {
            self.facts.tagged(fact);
        }
    }

    fn list_begins(&mut self, ends: usize, place: Place) {
        self.learner.list_begins(ends, place, &self.facts.choice, self.facts.has_facts);
    }

    fn text_begins(&mut self, begins: usize, place: Place) {
        self.learner.text_begins(begins, place, &self.facts.choice, self.facts.has_facts);
    }

    fn text(&mut self, kind: TextKind, key: u8, fragment: &[u8]) {
        let is_reasoning = self.facts.event.reasoning_item || self.facts.reasoning_open;
        let kind = if is_reasoning && kind == TextKind::Answer { TextKind::Reasoning } else { kind };
        if kind == TextKind::Reasoning {
            let choice = &mut self.facts.choice;
            if choice.reasoning == 0 {
                choice.reasoning = key + 1;
            } else if choice.reasoning != key + 1 {
                return self.learner.not_envelope();
            }
        }
        self.facts.calling |= kind.is_tool_call();
        let kind = kind.of_call(self.facts.choice.call);
        self.learner.text(kind);
        self.facts.emit_choice(self.sink);
        self.sink.text(self.facts.choice.index(), kind, fragment);
    }

    fn text_ends(&mut self, offset: usize) {
        self.learner.text_ends(offset);
    }

    fn skips(&mut self, from: usize, what: Skipped) {
        self.learner.skips(from, what);
    }

    fn skipped(&mut self, to: usize) {
        self.learner.skipped(to);
    }

    fn complete(&mut self) {
        self.complete = true;
        self.facts.settle_call();
        self.facts.emit(self.whole_body, self.sink);
        if self.whole_body {
            self.sink.event_end();
        }
    }

    fn broken(&mut self, why: Broken) {
        let kind = match why {
            Broken::Malformed => InspectionFailure::Malformed,
            Broken::TooLarge => InspectionFailure::TooLarge,
        };
        self.facts.fail(kind, self.sink);
    }
}

/// A name as the label policy is to see it: one that is too long stays too long, however it is cut.
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
