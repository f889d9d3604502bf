//! Time per output token.

use std::time::Duration;

use super::timing::TokenTiming;

/// The measurements from which time per output token is computed.
pub(super) struct OutputTiming<'a> {
    pub(super) timing: &'a TokenTiming,
    /// Output tokens, if they are known.
    pub(super) tokens: Option<u64>,
    /// The number of these that were reasoning and not visible on the wire.
    pub(super) hidden: u64,
    /// The tokens were reported step by step, with their times.
    pub(super) manual: bool,
    /// The time after the first token, from the handle.
    pub(super) reported: Option<Duration>,
    /// The same from the engine's timings in the answer, with the tokens during and before that time.
    pub(super) measured: Option<(Duration, Option<u64>)>,
}

impl OutputTiming<'_> {
    /// The mean time per output token after the first, by the best measurement that is known:
    ///
    /// 1. the engine's own time for the tokens after the first;
    /// 2. the time from the first event with a token to the event with the finish reason, which arrives with the last token, divided by the tokens
    ///    after the first event. Engines also count invisible tokens: an end token arrives with the finish reason, and tokens *before* the first event
    ///    are subtracted if they are known (usage in that event, reasoning tokens). If they are not known, and there are far more tokens than events,
    ///    the result is unknown;
    /// 3. without a count, the same between events with a token, one token each.
    ///
    /// Several choices are generated concurrently, so neither their tokens nor their times can be separated. For them, only measurements with their
    /// own number of tokens count.
    pub(super) fn time_per_output_token(&self) -> Option<Duration> {
        let own = self.tokens.filter(|_| !self.timing.several());
        let engines = |time: Duration, tokens: Option<u64>| share(time, tokens?.checked_sub(1)?);
        self.reported
            .and_then(|time| engines(time, own))
            .or_else(|| self.measured.and_then(|(time, tokens)| engines(time, tokens.or(own))))
            .or_else(|| self.on_the_wire())
    }

    fn on_the_wire(&self) -> Option<Duration> {
        let timing = self.timing;
        let (first, last) = (timing.first?, timing.last?);
        if timing.several() {
            return None;
        }
        let Some(tokens) = self.tokens else {
            return share(last.since(first).duration(), (timing.events - timing.first_events).into());
        };
        let end = timing.finished.map_or(last, |finished| finished.max(last));
        let first_tokens = u64::from(timing.first_tokens);
        // A count in the first event includes all earlier tokens.
        let before = if timing.first_counted { first_tokens } else { first_tokens + self.hidden };
        let counted = timing.first_counted || self.manual;
        if !counted && 2 * tokens.saturating_sub(self.hidden) > 3 * u64::from(timing.events) {
            return None;
        }
        share(end.since(first).duration(), tokens.saturating_sub(before))
    }
}

/// The time per token, for `tokens` tokens. `None` if all tokens arrived together.
fn share(time: Duration, tokens: u64) -> Option<Duration> {
    (tokens > 0 && !time.is_zero()).then(|| time.div_f64(tokens as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::timing::Time;

    const STEP: Duration = Duration::from_millis(10);

    /// Eleven events of one token, 10 ms apart, and a finish reason 10 ms after the last.
    fn stream() -> TokenTiming {
        let mut timing = TokenTiming::default();
        timing.first = Some(Time::of(5 * STEP));
        timing.last = Some(Time::of(15 * STEP));
        timing.finished = Some(Time::of(16 * STEP));
        timing.events = 11;
        timing.first_tokens = 1;
        timing.first_events = 1;
        timing
    }

    /// The same, except for the fields that are set.
    fn but(set: impl FnOnce(&mut TokenTiming)) -> TokenTiming {
        let mut timing = stream();
        set(&mut timing);
        timing
    }

    fn output_timing(timing: &TokenTiming) -> OutputTiming<'_> {
        OutputTiming { timing, tokens: None, hidden: 0, manual: false, reported: None, measured: None }
    }

    #[track_caller]
    fn assert_each(output: &OutputTiming<'_>, expected: impl Into<Option<Duration>>) {
        assert_eq!(output.time_per_output_token(), expected.into());
    }

    #[test]
    fn without_a_count_it_is_the_time_between_events() {
        assert_each(&output_timing(&stream()), STEP);
        assert_each(&output_timing(&but(|timing| timing.first_events = 3)), (10 * STEP).div_f64(8.0));
        assert_each(&output_timing(&but(|timing| timing.first_events = 11)), None);
        assert_each(&output_timing(&but(|timing| timing.first = None)), None);
    }

    #[test]
    fn with_a_count_it_ends_at_the_finish_reason() {
        assert_each(&OutputTiming { tokens: Some(12), ..output_timing(&stream()) }, STEP);
        let early = but(|timing| timing.finished = timing.first);
        assert_each(&OutputTiming { tokens: Some(11), ..output_timing(&early) }, STEP);
        let none = but(|timing| timing.finished = None);
        assert_each(&OutputTiming { tokens: Some(11), ..output_timing(&none) }, STEP);
    }

    #[test]
    fn tokens_before_the_first_event_are_subtracted() {
        let counted = but(|timing| (timing.first_tokens, timing.first_counted) = (90, true));
        assert_each(&OutputTiming { tokens: Some(101), ..output_timing(&counted) }, STEP);
        assert_each(&OutputTiming { tokens: Some(112), hidden: 100, ..output_timing(&stream()) }, STEP);
        assert_each(&OutputTiming { tokens: Some(101), hidden: 80, ..output_timing(&counted) }, STEP);
    }

    #[test]
    fn with_far_more_tokens_than_events_the_time_is_unknown() {
        assert_each(&OutputTiming { tokens: Some(16), ..output_timing(&stream()) }, (11 * STEP).div_f64(15.0));
        assert_each(&OutputTiming { tokens: Some(17), ..output_timing(&stream()) }, None);
        assert_each(&OutputTiming { tokens: Some(23), hidden: 6, ..output_timing(&stream()) }, None);
        assert_each(&OutputTiming { tokens: Some(23), manual: true, ..output_timing(&stream()) }, (11 * STEP) / 22);
    }

    #[test]
    fn the_engine_knows_best() {
        let measured = Some((30 * STEP, Some(4)));
        assert_each(&OutputTiming { measured, ..output_timing(&stream()) }, 10 * STEP);
        assert_each(
            &OutputTiming { measured: Some((30 * STEP, None)), tokens: Some(11), ..output_timing(&stream()) },
            3 * STEP,
        );
        let reported = Some(20 * STEP);
        assert_each(&OutputTiming { reported, measured, tokens: Some(11), ..output_timing(&stream()) }, 2 * STEP);
        assert_each(&OutputTiming { reported, measured, ..output_timing(&stream()) }, 10 * STEP);
        assert_each(
            &OutputTiming { measured: Some((STEP, Some(1))), tokens: Some(12), ..output_timing(&stream()) },
            STEP,
        );
    }

    #[test]
    fn several_choices_have_only_times_that_were_measured_for_one() {
        let mut several = stream();
        several.make_room(1, 0);
        let reported = Some(20 * STEP);
        assert_each(&OutputTiming { reported, tokens: Some(12), ..output_timing(&several) }, None);
        assert_each(
            &OutputTiming { measured: Some((30 * STEP, Some(4))), tokens: Some(12), ..output_timing(&several) },
            10 * STEP,
        );
        assert_each(
            &OutputTiming { measured: Some((30 * STEP, None)), tokens: Some(12), ..output_timing(&several) },
            None,
        );
    }

    #[test]
    fn one_token_or_no_time_has_no_time_per_token() {
        assert_each(&OutputTiming { tokens: Some(1), ..output_timing(&stream()) }, None);
        let at_once = but(|timing| (timing.last, timing.finished) = (timing.first, None));
        assert_each(&OutputTiming { tokens: Some(11), ..output_timing(&at_once) }, None);
    }
}
