//! What of an event may become its template: watches the scanner, and notes where the first text stands and what is
//! around it.

use super::TextKind;
use super::facts::Choice;
use super::json::{Place, Skipped};

/// A text that may become the varying part of a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextSpan {
    pub(super) kind: TextKind,
    pub(super) begins: usize,
    pub(super) place: Place,
    pub(super) choice: Choice,
    pub(super) ends: usize,
    /// The first value before it that may differ the next time.
    pub(super) varying: Option<ValueSpan>,
}

/// Where the choices begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListPrefix {
    pub(super) ends: usize,
    pub(super) place: Place,
}

/// A value that was passed over and may differ the next time.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValueSpan {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) what: Skipped,
}

#[derive(Debug)]
pub(super) struct Learner {
    phase: Phase,
    /// Nothing but envelope was seen so far.
    only_envelope: bool,
    /// The first list, if only envelope came before it.
    pub(super) list_prefix: Option<ListPrefix>,
    candidate: Option<TextSpan>,
    /// The first text that is not empty, if only envelope came before it.
    pub(super) text_span: Option<TextSpan>,
    /// Only envelope came after it, but for the varying value.
    pub(super) only_envelope_after: bool,
    /// The one value after it that was passed over.
    pub(super) varying: Option<ValueSpan>,
    /// The first value before it that was.
    varying_before: Option<ValueSpan>,
}

/// Where the scanner is, seen from the first text that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Inside,
    After,
}

impl Learner {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Before,
            only_envelope: true,
            list_prefix: None,
            candidate: None,
            text_span: None,
            only_envelope_after: true,
            varying: None,
            varying_before: None,
        }
    }

    /// Goes on after the first text.
    pub(super) fn after_text() -> Self {
        Self { phase: Phase::After, ..Self::new() }
    }

    /// This is not envelope.
    pub(super) fn not_envelope(&mut self) {
        self.only_envelope = false;
        self.only_envelope_after &= self.phase == Phase::Before;
    }

    /// The document says what it is: a text before that was read as something else.
    pub(super) fn tagged(&mut self) {
        if self.phase != Phase::Before {
            self.text_span = None;
            self.not_envelope();
        }
        self.list_prefix = None;
    }

    /// A list begins; `has_facts`: the event has facts beside its texts.
    pub(super) fn list_begins(&mut self, ends: usize, place: Place, choice: &Choice, has_facts: bool) {
        let is_first = self.phase == Phase::Before && self.list_prefix.is_none() && !choice.is_open();
        if is_first && self.only_envelope && !has_facts {
            self.list_prefix = Some(ListPrefix { ends, place });
        }
    }

    pub(super) fn text_begins(&mut self, begins: usize, place: Place, choice: &Choice, has_facts: bool) {
        if self.phase == Phase::Before {
            let only_envelope = self.only_envelope && !has_facts;
            let (kind, choice, varying) = (TextKind::Answer, *choice, self.varying_before);
            self.candidate = only_envelope.then_some(TextSpan { kind, begins, place, choice, ends: 0, varying });
        }
    }

    #[inline]
    pub(super) fn text(&mut self, kind: TextKind) {
        match self.phase {
            Phase::Before => {
                self.text_span = self.candidate.map(|text_span| TextSpan { kind, ..text_span });
                self.phase = Phase::Inside;
            }
            Phase::Inside => {}
            Phase::After => self.only_envelope_after = false,
        }
    }

    pub(super) fn text_ends(&mut self, offset: usize) {
        if self.phase == Phase::Inside {
            self.phase = Phase::After;
            if let Some(text_span) = &mut self.text_span {
                text_span.ends = offset;
            }
        }
    }

    pub(super) fn skips(&mut self, from: usize, what: Skipped) {
        let span = ValueSpan { from, to: from, what };
        match (self.phase, what) {
            // One may differ; those that come after it have to be the same.
            (Phase::Before, Skipped::Padding | Skipped::Number) => {
                self.varying_before.get_or_insert(span);
            }
            (Phase::After, Skipped::Object | Skipped::Padding | Skipped::Number) if self.varying.is_none() => {
                self.varying = Some(span);
            }
            _ => self.not_envelope(),
        }
    }

    pub(super) fn skipped(&mut self, to: usize) {
        let varying = if self.phase == Phase::Before { &mut self.varying_before } else { &mut self.varying };
        if let Some(varying) = varying.as_mut().filter(|varying| varying.to == varying.from) {
            varying.to = to;
        }
    }
}
