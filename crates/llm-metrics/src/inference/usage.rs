//! Token counts in the answer, event by event.

use super::timing::EachChoice;
use crate::{
    vocabulary::Usage,
    wire::{Counts, Finality},
};

/// The counts so far. A count never decreases, and a placeholder is not a count.
#[derive(Debug, Default)]
pub(super) struct ReportedUsage {
    counts: Counts,
    /// The number of events with a token when output tokens were last reported.
    as_of: u32,
    /// The protocol defines these counts as final.
    is_final: bool,
    /// In an event about one choice, the count is that of this choice (vLLM's `continuous_usage_stats`).
    by_choice: bool,
}

/// The reliability of a count of output tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// None was reported, or only a placeholder.
    Unknown,
    Tokens(u64),
    /// It is lower than the number of tokens seen.
    Implausible,
}

/// An event with counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsageUpdate {
    pub(super) counts: Counts,
    pub(super) finality: Finality,
    /// The slot of the choice that the event is about, if there is one.
    pub(super) choice: Option<usize>,
    pub(super) has_token: bool,
    /// It may be the last event about its choice: it has a finish reason, or no text.
    pub(super) may_be_last: bool,
    /// The number of events with a token so far, including this one.
    pub(super) events: u32,
}

impl ReportedUsage {
    /// Stores the counts of an event. `each` has the counts of each choice, and is empty if there is only one.
    pub(super) fn update(&mut self, update: UsageUpdate, each: &mut [EachChoice]) {
        let (before, mut all) = (Usage::from(self.counts), Usage::from(update.counts));
        let replaces = update.finality == Finality::Final && !self.is_final;
        if let Some(tokens) = all.output.take() {
            let own =
                update.choice.filter(|_| update.finality == Finality::SoFar).filter(|choice| *choice < each.len());
            self.by_choice |= own.is_some() && !self.may_be_over_all(tokens, update.events, each);
            match own {
                Some(choice)
                    if !(self.by_choice && update.may_be_last && is_sum(tokens, choice, each, update.has_token)) =>
                {
                    let own = &mut each[choice].tokens;
                    *own = (*own).max(u32::try_from(tokens).unwrap_or(u32::MAX));
                }
                _ => all.output = Some(tokens),
            }
            self.as_of = update.events;
            self.is_final |= update.finality == Finality::Final;
        }
        let known = highest(before, all);
        // An earlier input count may have been an estimate: the last one counts, even if it is lower.
        let input = if replaces { all.input.or(before.input) } else { known.input };
        self.counts = Counts::from(Usage { input, ..known });
    }

    /// Whether a count can be one over all choices: it increases with every token of any choice.
    fn may_be_over_all(&self, tokens: u64, events: u32, each: &[EachChoice]) -> bool {
        let since = u64::from(events.saturating_sub(self.as_of));
        tokens >= u64::from(events) && tokens >= self.total(each).unwrap_or(0) + since
    }

    /// The output tokens over all choices, as reported.
    #[inline]
    pub(super) fn total(&self, each: &[EachChoice]) -> Option<u64> {
        if each.is_empty() {
            return self.counts.output();
        }
        let tokens = each.iter().map(|choice| u64::from(choice.tokens)).filter(|tokens| *tokens > 0);
        let each = if self.by_choice { tokens.reduce(|a, b| a + b) } else { tokens.max() };
        self.counts.output().max(each)
    }

    /// The output tokens over all choices, as far as they are plausible after `events` events with a token. `complete`: nothing follows.
    ///
    /// With one choice, a count lower than the number of events is accepted, because proxies may split text differently; unless tokens came after it,
    /// because then it was not final. With several choices it is the count of one of them (llama-server).
    #[inline]
    pub(super) fn output(&self, each: &[EachChoice], events: u32, complete: bool) -> Count {
        let Some(tokens) = self.total(each) else { return Count::Unknown };
        let up_to_date = self.is_final || (self.as_of == events && (events > 0 || complete));
        let before_all = self.as_of == 0 && !up_to_date;
        match tokens {
            0 if events > 0 => Count::Unknown,
            _ if before_all => Count::Unknown,
            _ if tokens >= u64::from(events) => Count::Tokens(tokens),
            _ if !up_to_date => Count::Unknown,
            _ if each.is_empty() => Count::Tokens(tokens),
            _ => Count::Implausible,
        }
    }

    /// The other counts. A part that is larger than its whole was counted in addition to it (xAI's reasoning).
    pub(super) fn usage(&self, output: Option<u64>) -> Usage {
        let reported = Usage::from(self.counts);
        whole(Usage { input: reported.input.filter(|tokens| *tokens > 0), output, ..reported })
    }
}

/// The higher count of each kind.
pub(super) fn highest(a: Usage, b: Usage) -> Usage {
    Usage {
        input: a.input.max(b.input),
        cached_input: a.cached_input.max(b.cached_input),
        cache_write: a.cache_write.max(b.cache_write),
        output: a.output.max(b.output),
        reasoning: a.reasoning.max(b.reasoning),
    }
}

/// `usage` with parts that are not larger than their wholes.
pub(super) fn whole(usage: Usage) -> Usage {
    let beside = |whole: Option<u64>, part: Option<u64>| match (whole, part) {
        (Some(whole), Some(part)) if part > whole => Some(whole + part),
        _ => whole,
    };
    Usage { input: beside(usage.input, usage.cached_input), output: beside(usage.output, usage.reasoning), ..usage }
}

/// Whether a count in an event about one choice is over all of them: at least the sum of the counts of the others, and of this one's own counts or
/// events.
fn is_sum(tokens: u64, choice: usize, each: &[EachChoice], has_token: bool) -> bool {
    let own = each[choice];
    let others: u64 = each.iter().map(|choice| u64::from(choice.tokens)).sum::<u64>() - u64::from(own.tokens);
    others > 0 && tokens >= others + u64::from(own.events.max(own.tokens)) + u64::from(has_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The call of a reader: output tokens, of one choice or all, in an event with text, with a finish reason, or neither.
    #[derive(Clone, Copy)]
    struct Event(u64, Option<usize>, &'static str);

    /// Output tokens of two choices after these events, each of which follows one more event with text.
    fn total(events: &[Event]) -> Option<u64> {
        let (mut usage, mut each) = (ReportedUsage::default(), [EachChoice::default(); 2]);
        for (&Event(tokens, choice, content), seen) in events.iter().zip(1..) {
            let update = UsageUpdate {
                counts: Counts::from(Usage::new().output(tokens)),
                finality: Finality::SoFar,
                choice,
                has_token: content.contains("text"),
                may_be_last: content != "text",
                events: seen,
            };
            usage.update(update, &mut each);
            if let Some(choice) = choice.filter(|_| content.contains("text")) {
                each[choice].events += 1;
            }
        }
        usage.total(&each)
    }

    #[test]
    fn counts_are_of_each_choice_once_one_of_them_cannot_be_over_all() {
        for (events, expected) in [
            // Over all: it increases with every token.
            (&[Event(1, Some(0), "text"), Event(2, Some(1), "text"), Event(3, Some(0), "text")][..], 3),
            (&[Event(5, Some(0), "text"), Event(6, Some(1), "text"), Event(7, Some(0), "text and reason")], 7),
            // Not lower than the events, but lower than an earlier count.
            (&[Event(9, Some(0), "text"), Event(4, Some(1), "text")], 13),
            // Equal to an earlier count, although a token arrived since.
            (&[Event(9, Some(0), "text"), Event(9, Some(1), "text")], 18),
            // Lower than the events.
            (&[Event(1, Some(0), "text"), Event(1, Some(1), "text")], 2),
            // A sum that arrives with the last token, or after it, of the last choice to finish.
            (&[Event(3, Some(0), "text"), Event(1, Some(1), "text"), Event(5, Some(1), "text and reason")], 5),
            (&[Event(3, Some(0), "text"), Event(1, Some(1), "text"), Event(4, Some(1), "reason")], 4),
            // A count that is too low to be a sum is the choice's own.
            (&[Event(3, Some(0), "text"), Event(1, Some(1), "text"), Event(4, Some(1), "text and reason")], 7),
            // A count that looks like a sum and arrives with text is the choice's own, too.
            (&[Event(3, Some(0), "text"), Event(1, Some(1), "text"), Event(7, Some(1), "text")], 10),
        ] {
            let shown: Vec<_> = events.iter().map(|Event(tokens, choice, content)| (tokens, choice, content)).collect();
            assert_eq!(total(events), Some(expected), "{shown:?}");
        }
    }

    #[test]
    fn a_final_count_is_kept_whatever_follows() {
        let mut usage = ReportedUsage::default();
        let update = |usage: &mut ReportedUsage, tokens, finality, events| {
            let counts = Counts::from(Usage::new().output(tokens));
            let update = UsageUpdate { counts, finality, choice: None, has_token: false, may_be_last: true, events };
            usage.update(update, &mut []);
        };
        update(&mut usage, 2, Finality::SoFar, 2);
        assert_eq!(usage.output(&[], 2, false), Count::Tokens(2));
        assert_eq!(usage.output(&[], 3, true), Count::Unknown, "a token came after it");
        update(&mut usage, 2, Finality::Final, 3);
        update(&mut usage, 2, Finality::SoFar, 3);
        assert_eq!(usage.output(&[], 4, true), Count::Tokens(2));
    }

    #[test]
    fn a_count_below_the_events_is_kept_if_no_token_follows() {
        let mut usage = ReportedUsage::default();
        let counts = Counts::from(Usage::new().output(1));
        let update = UsageUpdate {
            counts,
            finality: Finality::SoFar,
            choice: None,
            has_token: true,
            may_be_last: false,
            events: 2,
        };
        usage.update(update, &mut []);
        for complete in [false, true] {
            assert_eq!(usage.output(&[], 2, complete), Count::Tokens(1), "{complete}");
            assert_eq!(usage.output(&[], 3, complete), Count::Unknown, "{complete}");
        }
    }

    #[test]
    fn choices_without_a_report_have_no_count() {
        let usage = ReportedUsage { by_choice: true, ..ReportedUsage::default() };
        assert_eq!(usage.total(&[EachChoice::default(); 2]), None);
    }

    #[test]
    fn a_part_is_added_to_its_whole_only_if_it_is_larger() {
        let usage = |output, reasoning| Usage::new().output(output).reasoning(reasoning);
        assert_eq!(whole(usage(5, 5)), usage(5, 5));
        assert_eq!(whole(usage(5, 6)), usage(11, 6));
    }
}
