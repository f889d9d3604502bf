//! Which choices of a request are open, and why the others stopped.

use crate::vocabulary::FinishReason;

/// Choices beyond this index are counted when they finish, and not followed.
const FOLLOWED: u32 = 64;

/// A bit a choice: however many a response claims to have, this stays as it is.
#[derive(Debug, Default)]
pub(super) struct Choices {
    seen: u64,
    finished: u64,
    reasons: [u16; FinishReason::ALL.len()],
}

impl Choices {
    pub(super) fn seen(&mut self, index: u32) {
        self.seen |= bit(index);
    }

    /// Servers repeat a reason in a later event; it counts once.
    pub(super) fn finished(&mut self, index: u32, reason: FinishReason) {
        let bit = bit(index);
        if bit != 0 && self.finished & bit != 0 {
            return;
        }
        self.seen |= bit;
        self.finished |= bit;
        let count = &mut self.reasons[reason as usize];
        *count = count.saturating_add(1);
    }

    /// At least one choice finished, and none is open.
    pub(super) fn all_finished(&self) -> bool {
        self.finished != 0 && self.open() == 0
    }

    pub(super) fn open(&self) -> u64 {
        u64::from((self.seen & !self.finished).count_ones())
    }

    pub(super) fn reasons(&self) -> impl Iterator<Item = (FinishReason, u64)> {
        FinishReason::ALL.iter().zip(&self.reasons).filter(|(_, count)| **count > 0).map(|(r, n)| (*r, u64::from(*n)))
    }
}

fn bit(index: u32) -> u64 {
    if index < FOLLOWED { 1 << index } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_complete_when_every_choice_that_was_seen_has_finished() {
        let mut choices = Choices::default();
        assert!(!choices.all_finished());
        choices.seen(0);
        choices.seen(1);
        choices.finished(0, FinishReason::Stop);
        assert!(!choices.all_finished());
        choices.finished(1, FinishReason::Length);
        assert!(choices.all_finished());
    }

    #[test]
    fn a_repeated_reason_counts_once() {
        let mut choices = Choices::default();
        choices.finished(0, FinishReason::Stop);
        choices.seen(0);
        choices.finished(0, FinishReason::Stop);
        assert_eq!(choices.reasons().collect::<Vec<_>>(), [(FinishReason::Stop, 1)]);
    }

    #[test]
    fn choices_beyond_the_followed_ones_are_counted() {
        let mut choices = Choices::default();
        for index in 0..200 {
            choices.finished(index, FinishReason::Stop);
        }
        assert_eq!(choices.reasons().collect::<Vec<_>>(), [(FinishReason::Stop, 200)]);
        assert!(choices.all_finished());
    }
}
