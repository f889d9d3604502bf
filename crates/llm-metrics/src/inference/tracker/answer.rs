//! The state of the answer, as far as it was read: its choices, the current event, and its progress. Independent of metrics and time.

use super::super::{
    choices::{Choices, bit},
    tags::ThinkTags,
    verdict::AnswerState,
};
use crate::{
    vocabulary::{ErrorType, FinishReason},
    wire::{Finality, Framing},
};

/// The state of an answer.
///
/// ```text
///   Open ──last event──────────────► Complete      (a stream says itself that it is complete, a document by its end)
///     ├──text where an event is due─► Suspect      until an event shows that the stream goes on
///     ├──error, or a failed choice──► Failed
///     ├──cancelled by its caller────► Cancelled
///     └──to be made in background───► Deferred
/// ```
#[derive(Default)]
pub(in crate::inference) struct Answer {
    /// The framing of the body that is read. `None`: nothing is read, and the transport decides.
    pub(super) framing: Option<Framing>,
    tags: ThinkTags,
    /// Reasoning was seen.
    pub(super) reasoned: bool,
    /// Output of any kind was seen.
    pub(super) produced: bool,
    pub(super) choices: Choices,
    /// The number of choices that the request asked for; 0 if it is unknown or high.
    pub(super) requested_choices: u8,
    /// One choice was requested and no other was seen, so an index is not that of a choice (some servers count tokens in it).
    pub(super) one_choice: bool,
    /// The problem that the answer reports.
    fault: Option<Fault>,
    /// Plain text arrived, and nothing after it shows that the stream continues.
    pub(in crate::inference) plain_text: bool,
    /// The terminal event of the protocol arrived.
    pub(in crate::inference) done: bool,
    /// The answer said that there was nothing to generate.
    pub(in crate::inference) no_generation: bool,
    deferral: Deferral,
    /// Part of the answer could not be read.
    pub(in crate::inference) unreadable: bool,
    /// Everything has arrived, and the last event is complete: only then can a client read it.
    pub(super) terminal: bool,
    pub(super) event: Event,
}

/// The state of an answer that is not available yet.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Deferral {
    #[default]
    None,
    Pending,
    /// It is generated in the background.
    Background,
}

/// Why an answer is not a success.
#[derive(Clone, Copy)]
enum Fault {
    /// It contains an error, with a type if it has one.
    Error(Option<ErrorType>),
    /// Its caller has cancelled it with another request.
    Cancelled,
}

/// The state of the current event.
pub(super) struct Event {
    pub(super) has_token: bool,
    pub(super) answers: bool,
    pub(super) finishes: bool,
    /// It has counts.
    pub(super) counted: Option<Finality>,
    /// Its choices, and those that have text or a finish reason in it, one bit each.
    pub(super) choices: u32,
    pub(super) texts: u32,
    pub(super) reasons: u32,
    /// The indices of the first text and the first finish reason.
    text_index: u32,
    finish_index: u32,
}

/// Not an index of a choice.
const NONE: u32 = u32::MAX;

impl Default for Event {
    fn default() -> Self {
        Self {
            has_token: false,
            answers: false,
            finishes: false,
            counted: None,
            choices: 0,
            texts: 0,
            reasons: 0,
            text_index: NONE,
            finish_index: NONE,
        }
    }
}

impl Answer {
    /// A choice was seen; returns its index.
    #[inline]
    pub(in crate::inference) fn choice(&mut self, index: u32) -> u32 {
        let index = self.index(index);
        self.event.choices |= bit(index);
        index
    }

    /// A choice has text; returns its index.
    pub(in crate::inference) fn text(&mut self, index: u32) -> u32 {
        let index = self.index_in(index, |event| &mut event.text_index);
        self.event.texts |= bit(index);
        index
    }

    /// What this event has shown of one choice belongs to another.
    pub(in crate::inference) fn moved(&mut self, from: u32, to: u32) {
        let (from, to) = (bit(self.index(from)), bit(self.index(to)));
        for choices in [&mut self.event.choices, &mut self.event.texts] {
            if *choices & from != 0 {
                *choices = *choices & !from | to;
            }
        }
    }

    pub(in crate::inference) fn finish_reason(&mut self, index: u32, reason: FinishReason) -> u32 {
        let index = self.index_in(index, |event| &mut event.finish_index);
        self.event.reasons |= bit(index);
        self.event.finishes |= self.choices.finished(index, reason) || self.event.texts & bit(index) != 0;
        index
    }

    /// The current event consists of a text of this choice; returns its index.
    #[inline]
    pub(in crate::inference) fn lone_text(&mut self, index: u32) -> u32 {
        self.plain_text = false;
        self.index(index)
    }

    /// Text, including tags. Returns whether a closing tag shows that the text before it was reasoning.
    #[inline]
    pub(super) fn answer_text(&mut self, choice: u32, fragment: &[u8]) -> bool {
        self.produce();
        if choice > 0 {
            return false;
        }
        let found = self.tags.read(fragment);
        self.reasoned |= found.reasoning;
        if found.reclassified {
            self.event.answers = false;
        }
        self.event.answers |= found.answer;
        found.reclassified
    }

    pub(in crate::inference) fn reasoning_text(&mut self, fragment: &[u8]) {
        self.produce();
        self.tags.sent_apart();
        self.reasoned = self.reasoned || !fragment.iter().all(u8::is_ascii_whitespace);
    }

    /// Reasoning was reported without a wire.
    pub(super) fn reasoned(&mut self) {
        self.produce();
        self.reasoned = true;
    }

    /// A tool call, or a refusal.
    pub(in crate::inference) fn part(&mut self) {
        self.produce();
        self.event.answers = true;
    }

    pub(in crate::inference) fn in_band_error(&mut self, kind: Option<ErrorType>) {
        let known = if let Some(Fault::Error(known)) = self.fault { known } else { None };
        self.fault = Some(Fault::Error(known.or(kind)));
    }

    pub(in crate::inference) fn cancelled(&mut self) {
        self.fault.get_or_insert(Fault::Cancelled);
    }

    /// The answer is not available yet.
    pub(in crate::inference) fn pending(&mut self) {
        self.deferral = self.deferral.max(Deferral::Pending);
    }

    /// It is generated in the background.
    pub(in crate::inference) fn in_background(&mut self) {
        self.deferral = Deferral::Background;
    }

    /// The body ended: a document is complete then, while a stream has its own terminal event.
    pub(in crate::inference) fn broken_off(&mut self) {
        if self.framing == Some(Framing::Document) {
            self.in_band_error(None);
        }
    }

    /// Ends an event that consisted of a text of this choice. Returns whether it had text of the answer.
    #[inline]
    pub(super) fn end_lone_text(&mut self, choice: u32) -> bool {
        self.choices.text(choice);
        // The choice is open: only the terminal event ends the answer.
        self.terminal = self.done;
        self.event.has_token = false;
        std::mem::take(&mut self.event.answers)
    }

    /// Ends the current event, and returns its content.
    #[inline]
    pub(super) fn end_event(&mut self) -> Event {
        let event = std::mem::take(&mut self.event);
        for index in indices(event.choices & !event.reasons) {
            if event.texts & bit(index) != 0 { self.choices.text(index) } else { self.choices.seen(index) }
        }
        self.done |= self.framing == Some(Framing::Document);
        self.terminal = self.done || self.choices.all_finished(self.requested_choices);
        event
    }

    /// The progress of the answer. `in_background`: the request asked for an answer in the background.
    pub(super) fn state(&self, in_background: impl FnOnce() -> bool) -> AnswerState {
        if let Some(fault) = self.fault {
            match fault {
                Fault::Error(kind) => AnswerState::Failed(kind),
                Fault::Cancelled => AnswerState::Cancelled,
            }
        } else if self.choices.failed() {
            AnswerState::Failed(None)
        } else if self.is_suspect() {
            AnswerState::Suspect
        } else if self.terminal {
            AnswerState::Complete
        } else if self.is_deferred(in_background) {
            AnswerState::Deferred
        } else {
            AnswerState::Open
        }
    }

    /// Whether the answer is generated in the background, and only the announcement of that was to be read.
    fn is_deferred(&self, in_background: impl FnOnce() -> bool) -> bool {
        match self.deferral {
            _ if self.produced => false,
            Deferral::None => false,
            Deferral::Pending => in_background(),
            Deferral::Background => true,
        }
    }

    fn is_suspect(&self) -> bool {
        self.plain_text
            && self.framing.is_some_and(Framing::is_stream)
            && !self.choices.all_finished(self.requested_choices)
    }

    fn produce(&mut self) {
        self.produced = true;
        self.event.has_token = true;
    }

    /// Two texts, or two finish reasons, in one event belong to two choices.
    fn index_in(&mut self, index: u32, first: impl FnOnce(&mut Event) -> &mut u32) -> u32 {
        let first = first(&mut self.event);
        if *first == NONE {
            *first = index;
        }
        self.one_choice &= *first == index;
        self.plain_text = false;
        let index = self.index(index);
        self.event.choices |= bit(index);
        index
    }

    fn index(&self, index: u32) -> u32 {
        if self.one_choice { 0 } else { index }
    }
}

/// The choices in a set.
fn indices(mut choices: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let index = (choices != 0).then(|| choices.trailing_zeros())?;
        choices &= choices - 1;
        Some(index)
    })
}
