//! Learns a template from an event: records where the scanner finds the first text, and what surrounds it.

use super::TextKind;
use super::facts::Choice;
use super::json::{Place, Skipped};

/// A text that may become the variable part of a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextSpan {
    pub(super) kind: TextKind,
    pub(super) begins: usize,
    pub(super) place: Place,
    pub(super) choice: Choice,
    pub(super) ends: usize,
    /// The first value before it that may differ next time.
    pub(super) varying: Option<ValueSpan>,
}

/// The start of the choices.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListPrefix {
    pub(super) ends: usize,
    pub(super) place: Place,
}

/// A skipped value that may differ next time.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueSpan {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) what: Skipped,
}

#[derive(Debug)]
pub(super) struct Learner {
    state: LearnState,
    /// Only envelope so far.
    only_envelope: bool,
    /// The first list, if only envelope came before it.
    pub(super) list_prefix: Option<ListPrefix>,
    candidate: Option<TextSpan>,
    /// The first non-empty text, if only envelope came before it.
    pub(super) text_span: Option<TextSpan>,
    /// Only envelope came after it, except for the variable value.
    pub(super) only_envelope_after: bool,
    /// The only skipped value after it.
    pub(super) varying: Option<ValueSpan>,
    /// The first skipped value before it.
    varying_before: Option<ValueSpan>,
}

/// The scanner's position relative to the first non-empty text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LearnState {
    Before,
    Inside,
    After,
}

impl Learner {
    pub(super) fn new() -> Self {
        Self {
            state: LearnState::Before,
            only_envelope: true,
            list_prefix: None,
            candidate: None,
            text_span: None,
            only_envelope_after: true,
            varying: None,
            varying_before: None,
        }
    }

    /// Continues after the first text.
    pub(super) fn after_text() -> Self {
        Self { state: LearnState::After, ..Self::new() }
    }

    /// A value that is not envelope.
    pub(super) fn not_envelope(&mut self) {
        self.only_envelope = false;
        self.only_envelope_after &= self.state == LearnState::Before;
    }

    /// The kind of the document is known only now: a text before it was interpreted differently.
    pub(super) fn tagged(&mut self) {
        if self.state != LearnState::Before {
            self.text_span = None;
            self.not_envelope();
        }
        self.list_prefix = None;
    }

    /// A list begins. `has_facts`: the event has facts other than its texts.
    pub(super) fn list_begins(&mut self, ends: usize, place: Place, choice: &Choice, has_facts: bool) {
        let is_first = self.state == LearnState::Before && self.list_prefix.is_none() && !choice.is_open();
        if is_first && self.only_envelope && !has_facts {
            self.list_prefix = Some(ListPrefix { ends, place });
        }
    }

    pub(super) fn text_begins(&mut self, begins: usize, place: Place, choice: &Choice, has_facts: bool) {
        if self.state == LearnState::Before {
            let only_envelope = self.only_envelope && !has_facts;
            let (kind, choice, varying) = (TextKind::Answer, *choice, self.varying_before);
            self.candidate = only_envelope.then_some(TextSpan { kind, begins, place, choice, ends: 0, varying });
        }
    }

    #[inline]
    pub(super) fn text(&mut self, kind: TextKind) {
        match self.state {
            LearnState::Before => {
                self.text_span = self.candidate.map(|text_span| TextSpan { kind, ..text_span });
                self.state = LearnState::Inside;
            }
            LearnState::Inside => {}
            LearnState::After => self.only_envelope_after = false,
        }
    }

    pub(super) fn text_ends(&mut self, offset: usize) {
        if self.state == LearnState::Inside {
            self.state = LearnState::After;
            if let Some(text_span) = &mut self.text_span {
                text_span.ends = offset;
            }
        }
    }

    pub(super) fn skips(&mut self, from: usize, what: Skipped) {
        let span = ValueSpan { from, to: from, what };
        match (self.state, what) {
            // One value may differ; those after it must be equal.
            (LearnState::Before, Skipped::Padding | Skipped::Number) => {
                self.varying_before.get_or_insert(span);
            }
            (LearnState::After, Skipped::Object | Skipped::Padding | Skipped::Number) if self.varying.is_none() => {
                self.varying = Some(span);
            }
            _ => self.not_envelope(),
        }
    }

    pub(super) fn skipped(&mut self, to: usize) {
        let varying = if self.state == LearnState::Before { &mut self.varying_before } else { &mut self.varying };
        if let Some(varying) = varying.as_mut().filter(|varying| varying.to == varying.from) {
            varying.to = to;
        }
    }
}
