//! Passes the scanner's findings to a sink. The [`Facts`] are emitted at the end of the document.

use super::{Fact, Facts, Index, Status, model_name};
use crate::{
    vocabulary::InspectionFailure,
    wire::{
        Sink, TextKind,
        error_words::error_type,
        json::{Broken, Place, SCRATCH, Scalar, Skipped, Visitor},
        learner::Learner,
        words::finish_reason,
    },
};

/// The types of items, or parts of items, that are reasoning.
fn is_reasoning(kind: Scalar<'_>) -> bool {
    matches!(kind.string(), Some(b"reasoning" | b"reasoning_text" | b"summary_text" | b"thinking"))
}

/// The types of items for tools that the server itself calls.
fn is_hosted_tool(kind: Scalar<'_>) -> bool {
    matches!(kind.string(), Some(b"mcp_call" | b"code_interpreter_call"))
}

/// Passes the scanner's findings to a sink.
pub(in crate::wire) struct Interpreter<'a, S> {
    pub(in crate::wire) facts: &'a mut Facts,
    sink: &'a mut S,
    pub(in crate::wire) learner: Learner,
    pub(in crate::wire) complete: bool,
    /// The document is the whole answer, not an event of a stream.
    whole_body: bool,
}

impl<'a, S: Sink> Interpreter<'a, S> {
    pub(in crate::wire) fn new(facts: &'a mut Facts, sink: &'a mut S) -> Self {
        Self { facts, sink, learner: Learner::new(), complete: false, whole_body: false }
    }

    /// For a document that is the whole body.
    pub(in crate::wire) fn of_body(facts: &'a mut Facts, sink: &'a mut S) -> Self {
        Self { whole_body: true, ..Self::new(facts, sink) }
    }

    /// Continues after the first text.
    pub(in crate::wire) fn after_text(facts: &'a mut Facts, sink: &'a mut S) -> Self {
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
                // Ollama: the request only loads or unloads a model.
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
                // A truncated value would be a different one.
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
