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

/// All measurements of a request that has ended. They are computed once, then recorded and added to the span.
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
#[derive(Clone, Copy)]
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
        let (usage, output) = self.count(count, &engine, live, stream);
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

    /// Token counts from the most trusted source, and the source of the count of output tokens.
    fn count(&self, count: Count, engine: &EngineReport, live: u64, stream: bool) -> (Usage, Output) {
        let reported = match count {
            Count::Tokens(tokens) => self.usage.usage(Some(tokens)),
            Count::Unknown | Count::Implausible => self.usage.usage(None),
        };
        let measured = self.measured_usage();
        let live = Some(live).filter(|tokens| *tokens > 0);
        let stepwise = Some(engine.reasoning_steps).filter(|tokens| *tokens > 0);
        let engine = whole(Usage {
            output: engine.usage.output.or(live),
            reasoning: engine.usage.reasoning.or(stepwise),
            ..engine.usage
        });
        let events = u64::from(self.timing.events);
        let output = if let Some(tokens) = engine.output {
            Output { tokens, source: UsageSource::Engine }
        } else if let Some(tokens) = reported.output {
            Output { tokens, source: UsageSource::Upstream }
        } else if let Some(tokens) = measured.output {
            Output { tokens, source: UsageSource::Timings }
        } else if stream && events > 0 {
            Output { tokens: events, source: UsageSource::Estimated }
        } else {
            Output { tokens: 0, source: UsageSource::Missing }
        };
        let mut usage = engine.or(reported).or(measured);
        // The parts may be known from another source than the whole.
        usage.reasoning = part_of(usage.reasoning, usage.output);
        usage.cached_input = part_of(usage.cached_input, usage.input);
        usage.cache_write = part_of(usage.cache_write, usage.input);
        if !self.shared.route.operation.generates() {
            // Some servers report 0.
            (usage.output, usage.reasoning) = (None, None);
        }
        (usage, output)
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

/// A part that is not larger than its whole.
fn part_of(part: Option<u64>, whole: Option<u64>) -> Option<u64> {
    part.map(|part| whole.map_or(part, |whole| part.min(whole)))
}
