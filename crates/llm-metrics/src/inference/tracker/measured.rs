//! The measurements of a request that has ended, computed from all that was seen and reported.

use std::time::Instant;

use super::RequestTracker;
use crate::{
    inference::{
        per_token::OutputTiming,
        shared::{EngineReport, RequestParams},
        timing::Time,
        usage::{Count, whole},
        verdict::Verdict,
    },
    record::Times,
    vocabulary::{Thinking, Usage, UsageSource},
};

/// The measurements of a request that has ended and that need several sources. They are computed once, then recorded and added to the span. What the
/// tracker has measured itself (token times, gaps, finish reasons) is recorded from there.
pub(super) struct Measured {
    pub(super) verdict: Verdict,
    pub(super) stream: bool,
    pub(super) thinking: Thinking,
    /// Token counts from the most trusted source, with the output if it is known.
    pub(super) usage: Usage,
    pub(super) output: Output,
    /// The answer reported fewer output tokens than were seen.
    pub(super) implausible: bool,
    pub(super) times: Times,
    pub(super) params: RequestParams,
    pub(super) engine: EngineReport,
}

/// The number of output tokens, and its source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Output {
    pub(super) tokens: u64,
    pub(super) source: UsageSource,
}

impl RequestTracker {
    /// Computes the measurements, and records nothing.
    pub(super) fn measure(
        &self,
        now: Instant,
        verdict: Verdict,
        live: u64,
        params: RequestParams,
        engine: EngineReport,
    ) -> Measured {
        let stream = self.stream.or(params.stream).unwrap_or(self.shared.route.streams_by_default);
        let (count, _) = self.wire_output();
        let (mut usage, output) = self.counts(count, &engine, live, stream).most_trusted();
        if !self.shared.route.operation.generates() {
            // Some servers report 0.
            (usage.output, usage.reasoning) = (None, None);
        }
        Measured {
            verdict,
            stream,
            thinking: self.thinking(usage, params.thinking),
            usage,
            output,
            implausible: count == Count::Implausible,
            times: self.times(now, &engine, usage),
            params,
            engine,
        }
    }

    /// The counts of tokens by their sources.
    fn counts(&self, wire_output: Count, engine: &EngineReport, live: u64, stream: bool) -> Counts {
        let reported = match wire_output {
            Count::Tokens(tokens) => self.usage.usage(Some(tokens)),
            Count::Unknown | Count::Implausible => self.usage.usage(None),
        };
        let live = Some(live).filter(|tokens| *tokens > 0);
        let stepwise = Some(engine.reasoning_steps).filter(|tokens| *tokens > 0);
        let engine = whole(Usage {
            output: engine.usage.output.or(live),
            reasoning: engine.usage.reasoning.or(stepwise),
            ..engine.usage
        });
        let events = u64::from(self.timing.events);
        Counts { engine, reported, timings: self.measured_usage(), events: if stream { events } else { 0 } }
    }

    fn thinking(&self, usage: Usage, asked: Option<bool>) -> Thinking {
        if self.answer.reasoned || usage.reasoning.is_some_and(|tokens| tokens > 0) {
            return Thinking::True;
        }
        let produced = self.answer.produced || usage.output.is_some_and(|tokens| tokens > 0);
        match asked {
            _ if produced => Thinking::False,
            Some(true) => Thinking::True,
            Some(false) => Thinking::False,
            None => Thinking::Unknown,
        }
    }

    /// The durations of the request, as far as they are known.
    fn times(&self, now: Instant, engine: &EngineReport, usage: Usage) -> Times {
        let measured = self.timings.as_ref().and_then(|timings| Some((timings.decode?, timings.usage.output)));
        let output = OutputTiming {
            timing: &self.timing,
            tokens: usage.output,
            hidden: usage.reasoning.filter(|_| !self.answer.reasoned).unwrap_or(0),
            manual: self.manual,
            reported: engine.decode,
            measured,
        };
        Times {
            duration: now - self.started,
            time_to_first_token: self.timing.first.map(Time::duration),
            time_per_output_token: output.time_per_output_token(),
        }
    }
}

/// Counts of tokens, by their source.
#[derive(Clone, Copy, Default)]
struct Counts {
    /// From the request's handle.
    engine: Usage,
    /// From the usage in the answer.
    reported: Usage,
    /// From the engine's timings in the answer.
    timings: Usage,
    /// The number of events with tokens, of a stream.
    events: u64,
}

impl Counts {
    /// Each count from the most trusted source that has it, and the source of the output tokens.
    fn most_trusted(self) -> (Usage, Output) {
        let Self { engine, reported, timings, events } = self;
        let output = if let Some(tokens) = engine.output {
            Output { tokens, source: UsageSource::Engine }
        } else if let Some(tokens) = reported.output {
            Output { tokens, source: UsageSource::Upstream }
        } else if let Some(tokens) = timings.output {
            Output { tokens, source: UsageSource::Timings }
        } else if events > 0 {
            Output { tokens: events, source: UsageSource::Estimated }
        } else {
            Output { tokens: 0, source: UsageSource::Missing }
        };
        let mut usage = engine.or(reported).or(timings);
        // The parts may be known from another source than the whole.
        usage.reasoning = part_of(usage.reasoning, usage.output);
        usage.cached_input = part_of(usage.cached_input, usage.input);
        usage.cache_write = part_of(usage.cache_write, usage.input);
        (usage, output)
    }
}

/// A part that is not larger than its whole.
fn part_of(part: Option<u64>, whole: Option<u64>) -> Option<u64> {
    part.map(|part| whole.map_or(part, |whole| part.min(whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(tokens: u64) -> Usage {
        Usage { output: Some(tokens), ..Usage::default() }
    }

    #[test]
    fn the_most_trusted_source_counts_the_output() {
        let all = Counts { engine: output(1), reported: output(2), timings: output(3), events: 4 };
        let none = Usage::default();
        let cases = [
            (all, 1, UsageSource::Engine),
            (Counts { engine: none, ..all }, 2, UsageSource::Upstream),
            (Counts { engine: none, reported: none, ..all }, 3, UsageSource::Timings),
            (Counts { events: 4, ..Counts::default() }, 4, UsageSource::Estimated),
            (Counts::default(), 0, UsageSource::Missing),
        ];
        for (counts, tokens, source) in cases {
            let (usage, found) = counts.most_trusted();
            assert_eq!(found, Output { tokens, source });
            // Estimated tokens are not in the usage.
            let known = !matches!(source, UsageSource::Estimated | UsageSource::Missing);
            assert_eq!(usage.output, known.then_some(tokens));
        }
    }

    #[test]
    fn counts_of_several_sources_complete_each_other_and_no_part_is_larger_than_its_whole() {
        let engine = Usage { input: Some(10), reasoning: Some(7), ..Usage::default() };
        let reported = Usage {
            input: Some(99),
            cached_input: Some(12),
            cache_write: Some(11),
            output: Some(5),
            reasoning: Some(1),
        };
        let (usage, _) = Counts { engine, reported, ..Counts::default() }.most_trusted();
        let expected = Usage {
            input: Some(10),
            cached_input: Some(10),
            cache_write: Some(10),
            output: Some(5),
            reasoning: Some(5),
        };
        assert_eq!(usage, expected);
    }
}
