//! Tokens as they arrive: their times, and their number.

use std::time::Instant;

use super::{
    super::{
        shared::LONGEST_PLAUSIBLE_TIME,
        timing::{Samples, Time},
        usage::{Count, UsageUpdate, highest, whole},
    },
    RequestTracker,
    answer::Event,
};
use crate::{
    recent::Latency,
    vocabulary::{InspectionFailure, Phase, Usage},
    wire::{Counts, Finality, Timings},
};

/// The maximum number of inter-token samples per event.
const MAX_SAMPLES_AN_EVENT: u64 = 64;

impl RequestTracker {
    /// Tokens arrived: `tokens` of them in `events` events that arrived together.
    pub(in crate::inference) fn on_tokens(&mut self, now: Instant, tokens: u64, events: u64) {
        let time = self.since_arrival(now);
        if std::mem::take(&mut self.timing.answered) {
            self.timing.answer.get_or_insert(time);
        }
        let before = self.timing.last.replace(time);
        if self.stream != Some(true) {
            return;
        }
        let live = if self.manual { None } else { self.reported(events) };
        let Some(before) = before else {
            self.timing.begin(time, tokens, events);
            self.enter(Phase::Streaming);
            let (series, time) = (self.series(), time.duration());
            series.time_to_first_token().record(time.as_secs_f64());
            series.recent.record(now, [(Latency::FirstToken, time)]);
            self.span.first_chunk(time);
            return self.publish_live();
        };
        let gap = time.since(before);
        self.gap(gap);
        if self.shared.metrics.0.options.inter_token_latency {
            let histogram = self.shared.series(self.answered_by(), self.accepted).inter_token_latency();
            let record = |Samples { seconds, count }| match count {
                1 => histogram.record(seconds),
                _ => histogram.record_many(seconds, count.min(MAX_SAMPLES_AN_EVENT * events) as usize),
            };
            if self.timing.several() {
                self.timing.each_sampled(time, before, record);
            } else if let Some(samples) = self.timing.sample(gap, live.unwrap_or(tokens)) {
                record(samples);
            }
        }
        self.publish_live();
    }

    /// The time since the last token.
    pub(super) fn gap(&mut self, gap: Time) {
        self.timing.gap(gap);
        if gap > Time::of(self.shared.metrics.0.options.stall) {
            self.stalled();
        }
    }

    #[cold]
    fn stalled(&self) {
        self.series().stalls.increment(1);
    }

    /// The number of samples for these events, if the engine reports its tokens live.
    fn reported(&mut self, events: u64) -> Option<u64> {
        let (tokens, steps) = (self.shared.tokens(), self.shared.steps());
        (tokens > 0).then(|| self.timing.live(tokens, steps, events))
    }

    /// The last choice to finish has finished now.
    pub(in crate::inference) fn finished_at(&mut self, now: Instant) {
        self.timing.finished = Some(self.since_arrival(now));
    }

    /// Makes room for the last of several choices.
    #[cold]
    pub(super) fn make_room(&mut self, choices: u32) {
        let own = u32::try_from(self.usage.total(&[]).unwrap_or(0)).unwrap_or(u32::MAX);
        self.timing.make_room(choices.ilog2() as usize, own);
    }

    /// The token counts on the wire so far.
    pub(in crate::inference) fn wire_usage(&mut self, usage: Usage, finality: Finality) {
        self.counts = Counts::from(highest(self.counts.into(), usage));
        self.answer.event.counted = Some(finality);
    }

    /// Stores counts. Returns the output tokens so far, if the event reports them.
    pub(super) fn event_usage(&mut self, event: &Event, finality: Finality) -> Option<u64> {
        let counts = std::mem::take(&mut self.counts);
        let update = UsageUpdate {
            counts,
            finality,
            choice: event.choices.is_power_of_two().then(|| event.choices.ilog2() as usize),
            has_token: event.has_token,
            may_be_last: event.reasons != 0 || !event.has_token,
            events: self.timing.events.saturating_add(event.has_token.into()),
        };
        self.usage.update(update, self.timing.each_mut());
        counts.output().and_then(|_| self.usage.total(self.timing.each()))
    }

    /// Discards times above a day, and the decode time of an output without a second token.
    pub(in crate::inference) fn timings(&mut self, mut timings: Timings) {
        let mut implausible = false;
        for time in [&mut timings.load, &mut timings.prefill, &mut timings.decode] {
            if time.is_some_and(|time| time > LONGEST_PLAUSIBLE_TIME) {
                *time = None;
                implausible = true;
            }
        }
        if implausible {
            self.failure(InspectionFailure::Implausible);
        }
        if timings.usage.output.is_some_and(|tokens| tokens < 2) {
            timings.decode = None;
        }
        **self.timings.get_or_insert_default() = timings;
    }

    /// Output tokens from the answer's usage, or from the engine's timings, as far as they are plausible.
    pub(super) fn wire_output(&self) -> (Count, Option<u64>) {
        let count = self.usage.output(self.timing.each(), self.timing.events, self.answer.terminal);
        let reported = match count {
            Count::Tokens(tokens) => Some(tokens),
            Count::Unknown | Count::Implausible => self.timings.as_ref().and_then(|_| self.measured_usage().output),
        };
        (count, reported)
    }

    /// Tokens from the engine's timings. With several choices, they belong to one of them.
    pub(super) fn measured_usage(&self) -> Usage {
        let Some(timings) = &self.timings else { return Usage::new() };
        let seen = u64::from(self.timing.events);
        let believed = |tokens: &u64| *tokens > 0 && (*tokens >= seen || !self.timing.several());
        whole(Usage {
            input: timings.usage.input.filter(|tokens| *tokens > 0),
            output: timings.usage.output.filter(believed),
            ..timings.usage
        })
    }

    /// Publishes output tokens when they become known.
    #[inline]
    pub(in crate::inference) fn publish_live(&mut self) {
        let is_reported = self.timings.is_some() || self.usage.total(self.timing.each()).is_some();
        // Usually nothing is known before the end.
        if is_reported || self.shared.tokens() > 0 || self.shared.metrics.0.options.live_tokens {
            self.publish_known(is_reported);
        }
    }

    fn publish_known(&mut self, is_reported: bool) {
        let wire = if is_reported { self.wire_output().1 } else { None };
        let total = if self.shared.tokens() > 0 {
            self.shared.tokens()
        } else if let Some(output) = wire {
            output
        } else if self.shared.metrics.0.options.live_tokens {
            u64::from(self.timing.events)
        } else {
            return;
        };
        self.shared.publish(self.series(), total);
    }
}
