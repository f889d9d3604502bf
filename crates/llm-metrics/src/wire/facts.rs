//! From values at their place to what a [`Sink`] is told: the part that all protocols share.

use std::time::Duration;

use super::json::{Broken, Place, Scalar, Skipped, Visitor};
use super::{Counts, Sink, TextKind};
use crate::vocabulary::{FinishReason, InspectionFailure, Usage};

/// Names over this many bytes are refused by the label policy.
const LONGEST_NAME: usize = 128;
/// More tokens than any model could have read or written. The counters are u64, and wrap.
const IMPLAUSIBLE: u64 = 1 << 30;
/// What stands for a model name that is no UTF-8: a name that the label policy refuses.
const UNREADABLE: &str = "\0";

/// What a value in an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// An object for each choice.
    Choice,
    ChoiceIndex,
    FinishReason,
    /// The object with token counts.
    Usage,
    InputTokens,
    CachedInputTokens,
    OutputTokens,
    ReasoningTokens,
    Model,
    Error,
    /// The object with the engine's own times.
    Timings,
    PrefillMilliseconds,
    DecodeMilliseconds,
}

/// What is known of the choice at hand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice {
    /// Which one it is in its event, for those that do not say `index`.
    ordinal: u32,
    index: Option<u32>,
    /// The index under which it was told last.
    told: Option<u32>,
    open: bool,
    finish: Option<FinishReason>,
    /// The key under which reasoning came, plus one: some servers send it twice, under its old and its new name.
    reasoning: u8,
}

impl Choice {
    /// What is told before `index` is known counts for the choice at that place: nothing can be held back.
    pub(super) fn index(&self) -> u32 {
        self.index.unwrap_or(self.ordinal)
    }
}

/// What is known of the body and of the event at hand.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) choice: Choice,
    counts: Counts,
    times: [Option<Duration>; 2],
    failures: u8,
    model_told: bool,
    error_told: bool,
    /// The event told of something that another event with the same envelope would have to tell again.
    pub(super) noteworthy: bool,
}

impl Facts {
    pub(super) fn begin_event(&mut self) {
        self.choice = Choice::default();
        self.error_told = false;
        self.noteworthy = false;
    }

    pub(super) fn fail(&mut self, kind: InspectionFailure, sink: &mut impl Sink) {
        let bit = 1 << kind as u8;
        self.noteworthy = true;
        if self.failures & bit == 0 {
            self.failures |= bit;
            sink.failure(kind);
        }
    }

    pub(super) fn error(&mut self, sink: &mut impl Sink) {
        self.noteworthy = true;
        if !std::mem::replace(&mut self.error_told, true) {
            sink.error();
        }
    }

    /// Ends the choice at hand, if there is one.
    pub(super) fn end_choice(&mut self, sink: &mut impl Sink) {
        if !self.choice.open {
            return;
        }
        self.noteworthy |= self.choice.told != Some(self.choice_index());
        self.tell_choice(sink);
        if let Some(reason) = self.choice.finish {
            self.noteworthy = true;
            sink.finish_reason(self.choice_index(), reason);
        }
        self.choice = Choice { ordinal: self.choice.ordinal + 1, ..Choice::default() };
    }

    fn choice_index(&self) -> u32 {
        self.choice.index()
    }

    fn tell_choice(&mut self, sink: &mut impl Sink) {
        let index = self.choice_index();
        if self.choice.told.replace(index) != Some(index) {
            sink.choice(index);
        }
    }

    fn count(&mut self, which: usize, value: Scalar<'_>, sink: &mut impl Sink) {
        match value.integer() {
            Some(tokens) if tokens > IMPLAUSIBLE => {
                self.fail(InspectionFailure::Implausible, sink);
                self.counts.set(which, None);
            }
            Some(tokens) => self.counts.set(which, Some(tokens)),
            // A count may stand in two places, and be null in one.
            None => {}
        }
    }
}

/// A text that may become the varying part of a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) kind: TextKind,
    pub(super) begins: usize,
    pub(super) place: Place,
    pub(super) choice: Choice,
    pub(super) ends: usize,
}

/// Where the choices begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stem {
    pub(super) ends: usize,
    pub(super) place: Place,
}

/// A value after that text which was passed over and may differ the next time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) what: Skipped,
}

/// Tells a sink what the scanner finds, and notes what the template needs to know.
pub(super) struct Interpreter<'a, S> {
    pub(super) facts: &'a mut Facts,
    sink: &'a mut S,
    phase: Phase,
    /// Nothing but envelope was seen so far.
    plain: bool,
    /// The first list, if only envelope came before it.
    pub(super) stem: Option<Stem>,
    candidate: Option<Mark>,
    /// The first text that is not empty, if only envelope came before it.
    pub(super) mark: Option<Mark>,
    /// Only envelope came after it, but for the gap.
    pub(super) plain_tail: bool,
    /// The one value after it that was passed over.
    pub(super) gap: Option<Gap>,
    pub(super) complete: bool,
    /// The document is no event of a stream, but all there is.
    whole_body: bool,
}

/// Where the scanner is, seen from the first text that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Inside,
    After,
}

impl<'a, S: Sink> Interpreter<'a, S> {
    pub(super) fn new(facts: &'a mut Facts, sink: &'a mut S) -> Self {
        Self {
            facts,
            sink,
            phase: Phase::Before,
            plain: true,
            stem: None,
            candidate: None,
            mark: None,
            plain_tail: true,
            gap: None,
            complete: false,
            whole_body: false,
        }
    }

    /// For a document that is the whole body.
    pub(super) fn of_body(facts: &'a mut Facts, sink: &'a mut S) -> Self {
        Self { whole_body: true, ..Self::new(facts, sink) }
    }

    /// Goes on after the first text.
    pub(super) fn after_text(facts: &'a mut Facts, sink: &'a mut S) -> Self {
        Self { phase: Phase::After, ..Self::new(facts, sink) }
    }

    /// This is not envelope.
    fn not_plain(&mut self) {
        self.plain = false;
        self.plain_tail &= self.phase == Phase::Before;
    }
}

impl<S: Sink> Visitor for Interpreter<'_, S> {
    type Fact = Fact;

    fn enter(&mut self, object: Fact) {
        match object {
            Fact::Choice => self.facts.choice.open = true,
            Fact::Usage => self.facts.counts = Counts::default(),
            Fact::Timings => self.facts.times = [None; 2],
            _ => {}
        }
    }

    fn leave(&mut self, object: Fact) {
        match object {
            Fact::Choice => self.facts.end_choice(self.sink),
            Fact::Usage => {
                let usage = Usage::from(self.facts.counts);
                if usage != Usage::new() {
                    self.facts.noteworthy = true;
                    self.sink.usage(usage);
                }
            }
            Fact::Timings => {
                let [prefill, decode] = self.facts.times;
                if prefill.is_some() || decode.is_some() {
                    self.facts.noteworthy = true;
                    self.sink.timings(prefill, decode);
                }
            }
            _ => {}
        }
    }

    fn scalar(&mut self, fact: Fact, value: Scalar<'_>) {
        let facts = &mut *self.facts;
        match fact {
            Fact::ChoiceIndex => {
                facts.choice.index = value.integer().and_then(|index| u32::try_from(index).ok());
            }
            Fact::FinishReason => facts.choice.finish = value.string().and_then(finish_reason),
            Fact::InputTokens => facts.count(0, value, self.sink),
            Fact::CachedInputTokens => facts.count(1, value, self.sink),
            Fact::OutputTokens => facts.count(2, value, self.sink),
            Fact::ReasoningTokens => facts.count(3, value, self.sink),
            Fact::PrefillMilliseconds => facts.times[0] = milliseconds(value),
            Fact::DecodeMilliseconds => facts.times[1] = milliseconds(value),
            Fact::Model => {
                if let Some(name) = value.string().filter(|name| !name.is_empty() && !facts.model_told) {
                    facts.model_told = true;
                    self.sink.model(model_name(name));
                }
            }
            _ => {}
        }
    }

    fn present(&mut self, fact: Fact) {
        if fact == Fact::Error {
            self.facts.error(self.sink);
        }
    }

    fn list_begins(&mut self, ends: usize, place: Place) {
        let is_first = self.phase == Phase::Before && self.stem.is_none() && !self.facts.choice.open;
        if is_first && self.plain && !self.facts.noteworthy {
            self.stem = Some(Stem { ends, place });
        }
    }

    fn text_begins(&mut self, begins: usize, place: Place) {
        if self.phase == Phase::Before {
            let plain = self.plain && !self.facts.noteworthy;
            self.candidate =
                plain.then_some(Mark { kind: TextKind::Answer, begins, place, choice: self.facts.choice, ends: 0 });
        }
    }

    fn text(&mut self, kind: TextKind, key: u8, fragment: &[u8]) {
        if kind == TextKind::Reasoning {
            let choice = &mut self.facts.choice;
            if choice.reasoning == 0 {
                choice.reasoning = key + 1;
            } else if choice.reasoning != key + 1 {
                return self.not_plain();
            }
        }
        match self.phase {
            Phase::Before => {
                self.mark = self.candidate.map(|mark| Mark { kind, ..mark });
                self.phase = Phase::Inside;
            }
            Phase::Inside => {}
            Phase::After => self.plain_tail = false,
        }
        self.facts.tell_choice(self.sink);
        self.sink.text(self.facts.choice_index(), kind, fragment);
    }

    fn text_ends(&mut self, offset: usize) {
        if self.phase == Phase::Inside {
            self.phase = Phase::After;
            if let Some(mark) = &mut self.mark {
                mark.ends = offset;
            }
        }
    }

    fn skips(&mut self, from: usize, what: Skipped) {
        match (self.phase, what) {
            (Phase::Before, Skipped::Padding) => {}
            (Phase::After, Skipped::Object | Skipped::Padding) if self.gap.is_none() => {
                self.gap = Some(Gap { from, to: from, what });
            }
            _ => self.not_plain(),
        }
    }

    fn skipped(&mut self, to: usize) {
        if let Some(gap) = self.gap.as_mut().filter(|gap| gap.to == gap.from) {
            gap.to = to;
        }
    }

    fn complete(&mut self) {
        self.complete = true;
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

/// The words of all protocols; nothing said is nothing finished.
fn finish_reason(word: &[u8]) -> Option<FinishReason> {
    Some(match word {
        b"" => return None,
        b"stop" | b"end_turn" | b"stop_sequence" | b"eos" | b"eos_token" => FinishReason::Stop,
        b"length" | b"max_tokens" => FinishReason::Length,
        b"tool_calls" | b"function_call" | b"tool_use" => FinishReason::ToolCalls,
        b"content_filter" => FinishReason::ContentFilter,
        b"refusal" => FinishReason::Refusal,
        b"repetition" => FinishReason::Repetition,
        b"pause" | b"pause_turn" => FinishReason::Pause,
        b"abort" | b"canceled" | b"cancelled" => FinishReason::Abort,
        b"error" => FinishReason::Error,
        _ => FinishReason::Other,
    })
}

/// A name as the label policy is to see it: one that is too long stays too long, however it is cut.
pub(super) fn model_name(name: &[u8]) -> &str {
    let Ok(name) = std::str::from_utf8(name).or_else(|error| {
        let valid = name.get(..error.valid_up_to()).unwrap_or_default();
        if valid.len() > LONGEST_NAME { std::str::from_utf8(valid) } else { Err(error) }
    }) else {
        return UNREADABLE;
    };
    let cut = (LONGEST_NAME + 1..name.len()).find(|at| name.is_char_boundary(*at)).unwrap_or(name.len());
    &name[..cut]
}

fn milliseconds(value: Scalar<'_>) -> Option<Duration> {
    Duration::try_from_secs_f64(value.float()? / 1000.0).ok()
}
