//! The choices of a request: which are open, and why the others stopped.

use crate::vocabulary::FinishReason;

/// Choices from this index on share a slot: their finish reasons are counted, and one of them represents all when only their openness matters.
pub(super) const SHARED: u32 = 31;

/// The bits of a finish reason, if 0 means none.
const PLANES: usize = 4;
const _: () = assert!(FinishReason::ALL.len() < 1 << PLANES);

/// The state of each choice. Nearly all requests have one choice, which takes almost no memory.
///
/// ```text
///   (unseen) ──seen, text──► open ──reason──► finished ──reason──► finished, for that reason
///                             ▲                  │
///                             └──────text────────┘
/// ```
///
/// A reason ends a choice, but text after it shows that it was not the end. The last reason counts.
#[derive(Debug)]
pub(super) enum Choices {
    One { open: bool, reason: Option<FinishReason> },
    Many(Box<Many>),
}

/// A few bits per choice. The size does not grow with the number of choices.
#[derive(Debug, Default)]
pub(super) struct Many {
    open: u32,
    /// The last reason of each choice plus one, one bit per plane.
    reasons: [u32; PLANES],
    /// Finish reasons of the choices that share a slot.
    shared: [u16; FinishReason::ALL.len()],
}

impl Default for Choices {
    fn default() -> Self {
        Self::One { open: false, reason: None }
    }
}

impl Choices {
    /// Marks the choice as seen. That does not open a finished one.
    #[inline]
    pub(super) fn seen(&mut self, index: u32) {
        match self.with(index) {
            Self::One { open, reason } => *open |= reason.is_none(),
            Self::Many(many) => many.open |= bit(index) & !many.reasoned(),
        }
    }

    /// Marks that the choice has text.
    #[inline]
    pub(super) fn text(&mut self, index: u32) {
        match self.with(index) {
            Self::One { open, .. } => *open = true,
            Self::Many(many) => many.open |= bit(index),
        }
    }

    /// Marks the choice as finished. Returns whether it was open before.
    pub(super) fn finished(&mut self, index: u32, reason: FinishReason) -> bool {
        match self.with(index) {
            Self::One { open, reason: last } => {
                let before = last.replace(reason);
                std::mem::take(open) || before.is_none()
            }
            Self::Many(many) => many.finished(index, reason),
        }
    }

    /// Whether at least one choice, and as many as were `asked` for, have finished, and none is open.
    #[inline]
    pub(super) fn all_finished(&self, asked: u8) -> bool {
        if self.open(false) > 0 {
            return false;
        }
        let finished = match self {
            Self::One { reason, .. } => reason.iter().count() as u32,
            Self::Many(many) => many.count_finished(),
        };
        finished >= u32::from(asked).clamp(1, SHARED)
    }

    /// Whether any choice was seen.
    pub(super) fn any(&self) -> bool {
        match self {
            Self::One { open, reason } => *open || reason.is_some(),
            Self::Many(_) => true,
        }
    }

    /// The number of open choices. With `reasonless`, only those that never had a reason.
    #[inline]
    pub(super) fn open(&self, reasonless: bool) -> u64 {
        match self {
            Self::One { open, reason } => u64::from(*open && !(reasonless && reason.is_some())),
            Self::Many(many) => {
                let reasoned = if reasonless { many.reasoned() } else { 0 };
                u64::from((many.open & !reasoned).count_ones())
            }
        }
    }

    /// The number of choices per finish reason. With `open`, including those that had text after it.
    pub(super) fn reasons(&self, open: bool) -> impl Iterator<Item = (FinishReason, u64)> {
        FinishReason::ALL.iter().filter_map(move |reason| {
            let count = match self {
                Self::One { open: is_open, reason: last } => u64::from(*last == Some(*reason) && (open || !is_open)),
                Self::Many(many) => many.count(*reason, open),
            };
            (count > 0).then_some((*reason, count))
        })
    }

    /// Whether the engine aborted one of them.
    pub(super) fn failed(&self) -> bool {
        self.reasons(false).any(|(reason, _)| matches!(reason, FinishReason::Error | FinishReason::Abort))
    }

    /// The same choices, with room for this index.
    #[inline]
    fn with(&mut self, index: u32) -> &mut Self {
        if index > 0 {
            self.make_many();
        }
        self
    }

    #[cold]
    fn make_many(&mut self) {
        if let Self::One { open, reason } = *self {
            let mut many = Many::default();
            if let Some(reason) = reason {
                many.finished(0, reason);
            }
            many.open |= u32::from(open);
            *self = Self::Many(Box::new(many));
        }
    }
}

impl Many {
    fn finished(&mut self, index: u32, reason: FinishReason) -> bool {
        let bit = bit(index);
        let newly = (self.open | !self.reasoned()) & bit != 0;
        self.open &= !bit;
        for (at, plane) in self.reasons.iter_mut().enumerate() {
            let set = (reason as usize + 1) >> at & 1 != 0;
            *plane = if set { *plane | bit } else { *plane & !bit };
        }
        if index >= SHARED {
            let count = &mut self.shared[reason as usize];
            *count = count.saturating_add(1);
        }
        newly
    }

    fn count_finished(&self) -> u32 {
        let shared: u32 = self.shared.iter().map(|count| u32::from(*count)).sum();
        (self.reasoned() & !bit(SHARED)).count_ones() + shared
    }

    fn count(&self, reason: FinishReason, open: bool) -> u64 {
        let code = reason as usize + 1;
        let matching = |(at, plane): (usize, &u32)| if code >> at & 1 != 0 { *plane } else { !plane };
        let with = self.reasons.iter().enumerate().map(matching).fold(!bit(SHARED), |all, plane| all & plane);
        let counted = if open { with } else { with & !self.open };
        u64::from(counted.count_ones()) + u64::from(self.shared[reason as usize])
    }

    fn reasoned(&self) -> u32 {
        self.reasons.iter().fold(0, |any, plane| any | plane)
    }
}

/// The bit of a choice in a set.
pub(super) fn bit(index: u32) -> u32 {
    1 << index.min(SHARED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use FinishReason::{Error, Length, Stop};

    fn reasons(choices: &Choices) -> Vec<(FinishReason, u64)> {
        choices.reasons(true).collect()
    }

    #[test]
    fn a_request_is_complete_when_every_choice_that_was_seen_has_finished() {
        let mut choices = Choices::default();
        assert!(!choices.all_finished(1));
        choices.seen(0);
        choices.seen(1);
        choices.finished(0, Stop);
        assert!(!choices.all_finished(1));
        choices.finished(1, Length);
        assert!(choices.all_finished(1));
    }

    #[test]
    fn a_request_is_complete_when_as_many_as_it_asked_for_have_finished() {
        for [one, other] in [[0, 1], [1, 0], [1, 2]] {
            let mut choices = Choices::default();
            choices.finished(one, Stop);
            assert!(choices.all_finished(0));
            assert!(choices.all_finished(1));
            assert!(!choices.all_finished(2));
            choices.finished(other, Stop);
            assert!(choices.all_finished(2));
            for index in 2..200 {
                choices.finished(index, Stop);
            }
            assert!(choices.all_finished(u8::MAX), "more than can be followed are not waited for");
        }
    }

    #[test]
    fn a_choice_that_was_only_seen_is_open() {
        for index in [0, 1] {
            let mut choices = Choices::default();
            choices.seen(index);
            assert_eq!((choices.open(false), choices.open(true)), (1, 1), "{index}");
            choices.finished(index, Stop);
            choices.seen(index);
            assert_eq!(choices.open(false), 0, "{index}");
        }
    }

    #[test]
    fn the_first_choice_alone_needs_no_memory_and_each_other_has_a_slot() {
        let mut choices = Choices::default();
        choices.text(0);
        choices.finished(0, Stop);
        assert!(matches!(choices, Choices::One { .. }));
        let mut choices = Choices::default();
        choices.finished(1, Stop);
        choices.finished(2, Length);
        assert_eq!(reasons(&choices), [(Stop, 1), (Length, 1)]);
    }

    #[test]
    fn a_repeated_reason_counts_once_and_the_last_one_counts() {
        for index in [0, 5] {
            let mut choices = Choices::default();
            assert!(choices.finished(index, Stop));
            choices.seen(index);
            assert!(!choices.finished(index, Stop), "it was finished before");
            assert_eq!(reasons(&choices), [(Stop, 1)]);
            choices.finished(index, Length);
            assert_eq!(reasons(&choices), [(Length, 1)]);

            let mut choices = Choices::default();
            choices.text(index);
            assert!(choices.finished(index, Stop), "it was open");
            choices.text(index);
            assert!(choices.finished(index, Stop), "it was open again");
        }
    }

    #[test]
    fn text_after_a_reason_opens_the_choice_again() {
        for index in [0, 5] {
            text_after_a_reason_opens(index);
        }
    }

    fn text_after_a_reason_opens(index: u32) {
        let mut choices = Choices::default();
        choices.finished(index, Error);
        assert!(choices.failed());
        choices.text(index);
        assert!(!choices.failed());
        assert!(!choices.all_finished(1));
        assert_eq!((choices.open(false), choices.open(true)), (1, 0));
        assert_eq!((choices.reasons(false).count(), choices.reasons(true).count()), (0, 1));
        assert!(choices.finished(index, Stop), "it was open");
        assert_eq!(reasons(&choices), [(Stop, 1)]);
    }

    #[test]
    fn counts_of_the_first_choice_stay_when_there_is_another() {
        for (open, reason) in [(true, None), (false, Some(Length)), (true, Some(Length))] {
            let mut choices = Choices::default();
            if let Some(reason) = reason {
                choices.finished(0, reason);
            }
            if open {
                choices.text(0);
            }
            choices.finished(1, Stop);
            assert_eq!(choices.open(false), u64::from(open), "{reason:?}");
            assert_eq!(choices.open(true), u64::from(open && reason.is_none()), "{reason:?}");
            assert_eq!(choices.reasons(true).count(), 1 + reason.iter().count());
        }
    }

    #[test]
    fn each_reason_differs_from_all_others() {
        for (reason, index) in FinishReason::ALL.iter().flat_map(|reason| [(reason, 0), (reason, 3), (reason, 70)]) {
            let mut choices = Choices::default();
            choices.finished(index, *reason);
            assert_eq!(reasons(&choices), [(*reason, 1)]);
            assert_eq!(choices.failed(), matches!(reason, Error | FinishReason::Abort), "{reason:?}");
        }
    }

    #[test]
    fn choices_beyond_the_followed_ones_are_counted() {
        let mut choices = Choices::default();
        for index in 0..200 {
            choices.finished(index, Stop);
        }
        assert_eq!(reasons(&choices), [(Stop, 200)]);
        assert!(choices.all_finished(1));
    }

    #[test]
    fn the_only_choice_may_have_a_high_index() {
        let mut choices = Choices::default();
        assert!(!choices.any());
        choices.text(70);
        assert!(choices.any() && !choices.all_finished(1));
        choices.finished(70, Stop);
        assert!(choices.any() && choices.all_finished(1));
    }
}
