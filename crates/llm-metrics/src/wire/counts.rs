//! Token counts, and how they combine.

use crate::vocabulary::Usage;

/// Token counts in little memory: no stored count is over 2³⁰.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts([u32; 5]);

const UNKNOWN: u32 = u32::MAX;

impl Default for Counts {
    fn default() -> Self {
        Self([UNKNOWN; 5])
    }
}

impl Counts {
    pub(crate) fn output(self) -> Option<u64> {
        let [_, _, _, output, _] = self.0;
        wide(output)
    }
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self([usage.input, usage.cached_input, usage.cache_write, usage.output, usage.reasoning].map(narrow))
    }
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        let [input, cached_input, cache_write, output, reasoning] = counts.0.map(wide);
        Self { input, cached_input, cache_write, output, reasoning }
    }
}

/// A token count of an answer, under the names of all protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// The prompt, cached tokens included.
    Input,
    /// The prompt without the tokens that were read from a cache or written to one: Anthropic's `input_tokens`.
    UncachedInput,
    CachedInput,
    CacheWrite,
    Output,
    Reasoning,
    /// Input and output together. Shows whether reasoning is part of the output or counted separately.
    Total,
    /// The counts in llama.cpp's `timings`: the prompt without its cached tokens.
    TimedInput,
    TimedCachedInput,
    TimedOutput,
}

/// All counts of one document.
#[derive(Clone, Copy, Debug)]
pub(super) struct DocumentCounts([u32; 10]);

impl Default for DocumentCounts {
    fn default() -> Self {
        Self([UNKNOWN; 10])
    }
}

impl DocumentCounts {
    /// A count may occur in two places. The larger one wins, because placeholders are small. `None` removes it.
    pub(super) fn set(&mut self, which: Count, count: Option<u64>) {
        let known = &mut self.0[which as usize];
        *known = match (wide(*known), count) {
            (Some(before), Some(count)) => narrow(Some(before.max(count))),
            (_, count) => narrow(count),
        };
    }

    fn get(&self, which: Count) -> Option<u64> {
        wide(self.0[which as usize])
    }

    /// The input tokens in a document of placeholders.
    pub(super) fn placeholder(&self) -> Placeholder {
        Placeholder(Placeholder::OF.map(|which| self.0[which as usize]))
    }

    /// The final input count replaces earlier ones, but need not repeat the cached tokens. A zero is not a count.
    pub(super) fn complete(&mut self, before: Placeholder) {
        let [uncached, cached, written] = before.0.map(wide);
        match self.get(Count::UncachedInput) {
            None => return,
            Some(0) => self.set(Count::UncachedInput, uncached.or(Some(0))),
            Some(_) => {}
        }
        self.set(Count::CachedInput, cached.or_else(|| self.get(Count::CachedInput)));
        self.set(Count::CacheWrite, written.or_else(|| self.get(Count::CacheWrite)));
    }

    /// The counts in the usage objects.
    pub(super) fn usage(&self) -> Usage {
        let (cached_input, cache_write) = (self.get(Count::CachedInput), self.get(Count::CacheWrite));
        let beside = cached_input.unwrap_or(0) + cache_write.unwrap_or(0);
        let input = match (self.get(Count::UncachedInput), self.get(Count::Input)) {
            (Some(uncached), _) => Some(uncached + beside),
            // A part cannot be larger than the whole.
            (None, Some(input)) if cached_input.is_some_and(|cached| cached > input) => Some(input + beside),
            (None, input) => input,
        };
        let (output, reasoning) = (self.get(Count::Output), self.get(Count::Reasoning));
        let output = match (output, reasoning) {
            (Some(output), Some(reasoning)) if self.has_reasoning_beside(input, output, reasoning) => {
                Some(output + reasoning)
            }
            _ => output,
        };
        believable(Usage { input, cached_input, cache_write, output, reasoning })
    }

    /// xAI counts reasoning in addition to the output, OpenAI as a part of it.
    fn has_reasoning_beside(&self, input: Option<u64>, output: u64, reasoning: u64) -> bool {
        let sum = self
            .get(Count::Total)
            .filter(|total| *total > 0)
            .zip(input)
            .map(|(total, input)| total.saturating_sub(input));
        sum == Some(output + reasoning) || (reasoning > output && sum != Some(output))
    }

    /// The counts that belong to the engine's timings.
    pub(super) fn timed(&self) -> Usage {
        let cached_input = self.get(Count::TimedCachedInput);
        let input = self.get(Count::TimedInput).map(|input| input + cached_input.unwrap_or(0));
        believable(Usage { input, cached_input, output: self.get(Count::TimedOutput), ..Usage::new() })
    }
}

/// An early input count: Anthropic's `message_start`, which proxies fill with an estimate or with zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placeholder([u32; 3]);

impl Placeholder {
    const OF: [Count; 3] = [Count::UncachedInput, Count::CachedInput, Count::CacheWrite];
}

impl Default for Placeholder {
    fn default() -> Self {
        Self([UNKNOWN; 3])
    }
}

/// Some servers write zeros for unknown counts. No prompt is empty, so a usage with only zeros is unknown.
fn believable(mut usage: Usage) -> Usage {
    usage.input = usage.input.filter(|input| *input > 0);
    if usage.input.is_none() {
        usage.output = usage.output.filter(|output| *output > 0);
    }
    if usage.input.is_none() && usage.output.is_none() {
        let some = |count: &u64| *count > 0;
        usage.cached_input = usage.cached_input.filter(some);
        usage.cache_write = usage.cache_write.filter(some);
        usage.reasoning = usage.reasoning.filter(some);
    }
    usage
}

fn narrow(count: Option<u64>) -> u32 {
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(UNKNOWN)
}

fn wide(count: u32) -> Option<u64> {
    (count != UNKNOWN).then_some(u64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(counts: &[(Count, u64)]) -> Usage {
        let mut document = DocumentCounts::default();
        counts.iter().for_each(|(which, count)| document.set(*which, Some(*count)));
        document.usage()
    }

    #[test]
    fn reasoning_that_was_counted_separately_is_added_to_the_output() {
        use Count::{Input, Output, Reasoning, Total};
        let output = |counts: &[(Count, u64)]| usage(counts).output;
        assert_eq!(output(&[(Input, 12), (Output, 2), (Reasoning, 317), (Total, 331)]), Some(319));
        assert_eq!(output(&[(Input, 12), (Output, 319), (Reasoning, 317), (Total, 331)]), Some(319));
        // More than the output, so it is counted separately.
        assert_eq!(output(&[(Input, 12), (Output, 2), (Reasoning, 317)]), Some(319));
        assert_eq!(output(&[(Input, 12), (Output, 20), (Reasoning, 10)]), Some(20));
        assert_eq!(output(&[(Input, 12), (Output, 20), (Reasoning, 10), (Total, 42)]), Some(30));
        assert_eq!(output(&[(Input, 12), (Output, 5), (Reasoning, 0), (Total, 17)]), Some(5));
        // An answer that was cut during reasoning consists of reasoning only.
        assert_eq!(output(&[(Input, 12), (Output, 5), (Reasoning, 5)]), Some(5));
        // A total of 0 is unknown, and does not contradict the parts.
        assert_eq!(output(&[(Input, 12), (Output, 0), (Reasoning, 5), (Total, 0)]), Some(5));
    }

    #[test]
    fn cached_tokens_that_were_counted_separately_are_added_to_the_input() {
        use Count::{CacheWrite, CachedInput, Input, UncachedInput};
        assert_eq!(usage(&[(UncachedInput, 25), (CachedInput, 1000), (CacheWrite, 7)]).input, Some(1032));
        assert_eq!(usage(&[(UncachedInput, 0), (CachedInput, 9)]).input, Some(9));
        assert_eq!(usage(&[(Input, 25), (CachedInput, 20)]).input, Some(25));
        assert_eq!(usage(&[(Input, 25), (CachedInput, 1000)]).input, Some(1025));
    }

    #[test]
    fn zeros_are_not_usage() {
        use Count::{CachedInput, Input, Output};
        assert_eq!(usage(&[(Input, 0), (Output, 0), (CachedInput, 0)]), Usage::new());
        assert_eq!(usage(&[(Input, 9), (Output, 0)]), Usage::new().input(9).output(0));
        assert_eq!(usage(&[(Input, 0), (Output, 3)]), Usage::new().output(3));
        // Of a known input, none was cached.
        assert_eq!(usage(&[(Input, 9), (CachedInput, 0)]), Usage::new().input(9).cached_input(0));
    }

    #[test]
    fn the_larger_of_two_counts_wins() {
        assert_eq!(usage(&[(Count::Output, 0), (Count::Output, 7), (Count::Output, 1)]).output, Some(7));
    }
}
