//! When tokens arrived, and how many.

use std::{num::NonZeroU64, time::Duration};

/// A time in little memory: nanoseconds plus one, or 0 if it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(NonZeroU64);

impl Time {
    pub(super) const fn of(time: Duration) -> Self {
        let nanoseconds = time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos() as u64);
        Self(NonZeroU64::MIN.saturating_add(nanoseconds))
    }

    pub(super) const fn duration(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }

    /// The time since an earlier one.
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self(NonZeroU64::MIN.saturating_add(self.0.get().saturating_sub(earlier.0.get())))
    }

    pub(super) fn seconds(self) -> f64 {
        (self.0.get() - 1) as f64 / 1e9
    }
}

/// The times of one answer's tokens, on the wire or as reported; all relative to the arrival of the request.
#[derive(Debug, Default)]
pub(super) struct TokenTiming {
    pub(super) first: Option<Time>,
    pub(super) last: Option<Time>,
    /// The first text of the answer, unless a later tag shows that it was reasoning.
    pub(super) answer: Option<Time>,
    /// The finish reason of the last choice to finish. It arrives with its last token, which may have no text.
    pub(super) finished: Option<Time>,
    pub(super) max_gap: Option<Time>,
    /// `None` while there is only one choice.
    #[allow(clippy::box_collection, reason = "a third of a vector's size, in the state of every request")]
    each: Option<Box<Vec<EachChoice>>>,
    /// `None` while no engine reports its tokens live.
    engine: Option<Box<EngineSteps>>,
    /// Events with a token.
    pub(super) events: u32,
    /// The number of tokens and events at `first`, and whether the tokens were counted or assumed to be one per event.
    pub(super) first_tokens: u32,
    pub(super) first_events: u32,
    pub(super) first_counted: bool,
    /// Text of the answer arrived in this frame, whose time is not known yet.
    pub(super) answered: bool,
    /// The output tokens that the last of these events reported, if it did. Otherwise, the next count says nothing about its own event alone.
    counted: bool,
    usage_tokens: u32,
}

/// One choice of several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EachChoice {
    /// Its output tokens, from usage for this choice.
    pub(super) tokens: u32,
    /// Its events with a token.
    pub(super) events: u32,
    /// Tokens arrived in this frame, whose time is not known yet.
    pending: u32,
    last: Option<Time>,
}

/// The number of tokens, and the time per token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Samples {
    pub(super) seconds: f64,
    pub(super) count: u64,
}

impl TokenTiming {
    /// Makes room for a choice, when there is a second one. `own` tokens of the first choice were reported so far.
    pub(super) fn make_room(&mut self, place: usize, own: u32) {
        if place == 0 || self.each().len() > place {
            return;
        }
        let Self { last, events, .. } = *self;
        let first = EachChoice { tokens: own, events, pending: 0, last };
        self.each.get_or_insert_with(|| Box::new(vec![first])).resize(place + 1, EachChoice::default());
    }

    /// The state of each choice; empty while there is only one.
    pub(super) fn each(&self) -> &[EachChoice] {
        self.each.as_deref().map_or(&[], Vec::as_slice)
    }

    pub(super) fn each_mut(&mut self) -> &mut [EachChoice] {
        self.each.as_deref_mut().map_or(&mut [], Vec::as_mut_slice)
    }

    /// Whether there is more than one choice.
    pub(super) fn several(&self) -> bool {
        self.each.is_some()
    }

    /// Call it at the end of an event with tokens, in the choices `texts` (one bit each). `total` output tokens were reported in it. Returns its
    /// number of tokens.
    #[inline]
    pub(super) fn event(&mut self, texts: u32, total: Option<u64>) -> u64 {
        self.events = self.events.saturating_add(1);
        let mut tokens = 1;
        let counted_before = std::mem::replace(&mut self.counted, total.is_some());
        if let Some(total) = total {
            let total = u32::try_from(total).unwrap_or(u32::MAX);
            let before = std::mem::replace(&mut self.usage_tokens, total);
            if counted_before {
                tokens = total.saturating_sub(before).max(1);
            } else if self.events == 1 {
                tokens = total.max(1);
            }
        }
        if self.several() {
            self.event_of_several(texts, tokens);
        }
        tokens.into()
    }

    #[cold]
    fn event_of_several(&mut self, texts: u32, tokens: u32) {
        let tokens = if texts.is_power_of_two() { tokens } else { 1 };
        for (at, choice) in self.each_mut().iter_mut().enumerate() {
            if texts >> at & 1 != 0 {
                choice.pending = choice.pending.saturating_add(tokens);
                choice.events = choice.events.saturating_add(1);
            }
        }
    }

    /// The first tokens arrived, in `events` events.
    pub(super) fn begin(&mut self, now: Time, tokens: u64, events: u64) {
        self.first = Some(now);
        self.first_events = u32::try_from(events).unwrap_or(u32::MAX);
        self.first_counted = self.counted;
        let tokens = if self.counted { self.usage_tokens.into() } else { tokens };
        self.first_tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.each_sampled(now, now, |_| {});
    }

    /// The time since the last token.
    pub(super) fn gap(&mut self, gap: Time) {
        self.max_gap = self.max_gap.max(Some(gap));
    }

    /// The number of inter-token samples for these events, if an engine reports its tokens live: `tokens` in `steps` steps so far.
    pub(super) fn live(&mut self, tokens: u64, steps: u32, events: u64) -> u64 {
        let first = self.first.is_none();
        self.engine.get_or_insert_default().tokens_of(tokens, steps, events, first)
    }

    /// Tokens arrived after others: the time per token.
    pub(super) fn sample(&mut self, gap: Time, tokens: u64) -> Option<Samples> {
        let mut seconds = gap.seconds();
        if let Some(engine) = &mut self.engine {
            seconds += engine.unsampled;
            engine.unsampled = if tokens == 0 { seconds } else { 0.0 };
        }
        match tokens {
            0 => None,
            1 => Some(Samples { seconds, count: 1 }),
            _ => Some(Samples { seconds: seconds / tokens as f64, count: tokens }),
        }
    }

    /// The same for each choice with tokens: since its last ones, or, if it had none yet, since `before`, the last tokens of any choice.
    pub(super) fn each_sampled(&mut self, now: Time, before: Time, mut sample: impl FnMut(Samples)) {
        for choice in self.each_mut() {
            let count = std::mem::take(&mut choice.pending);
            if count > 0 {
                let gap = now.since(choice.last.replace(now).unwrap_or(before));
                sample(Samples { seconds: gap.seconds() / f64::from(count), count: count.into() });
            }
        }
    }
}

/// The state of an engine's live reports when tokens arrived on the wire.
#[derive(Debug, Default)]
struct EngineSteps {
    /// Tokens and steps so far, both modulo 2³², and the tokens per step.
    tokens: u32,
    steps: u32,
    step: u32,
    /// Tokens with a sample of inter-token latency.
    sampled: u32,
    /// The time of events without a newly reported token, in seconds: it is carried over to the next sample.
    unsampled: f64,
}

impl EngineSteps {
    /// The number of samples for these events. The engine may be ahead of the wire, so the steps since the last event are not those of the event: its
    /// tokens *per step* are used, and no token is sampled twice. The `first` tokens have no gap.
    fn tokens_of(&mut self, tokens: u64, steps: u32, events: u64, first: bool) -> u64 {
        let new_tokens = (tokens as u32).wrapping_sub(std::mem::replace(&mut self.tokens, tokens as u32));
        let new_steps = steps.wrapping_sub(std::mem::replace(&mut self.steps, steps));
        self.step = new_tokens.checked_div(new_steps).unwrap_or(self.step).max(1);
        if first {
            return 0;
        }
        let unsampled = tokens.saturating_sub(1 + u64::from(self.sampled));
        let sampled = (u64::from(self.step) * events).min(unsampled);
        self.sampled = self.sampled.saturating_add(sampled as u32);
        sampled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_duration_that_it_was_made_of() {
        let day = Duration::from_secs(86_400);
        for duration in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(250), day] {
            assert_eq!(Time::of(duration).duration(), duration);
        }
    }

    #[test]
    fn room_for_choices_grows_in_any_order_and_keeps_known_counts() {
        let known = |timing: &TokenTiming| timing.each().iter().map(|choice| choice.tokens).collect::<Vec<_>>();
        let mut timing = TokenTiming::default();
        timing.make_room(0, 3);
        assert!(!timing.several(), "the first choice alone takes no room");

        timing.make_room(2, 3);
        assert_eq!(known(&timing), [3, 0, 0], "the first choice has what was reported so far");
        timing.each_mut()[2].tokens = 7;
        for place in [0, 1, 2] {
            timing.make_room(place, 9);
            assert_eq!(known(&timing), [3, 0, 7], "there is room for {place} already");
        }
        timing.make_room(3, 9);
        assert_eq!(known(&timing), [3, 0, 7, 0]);
    }

    #[test]
    fn samples_are_the_tokens_of_a_step_for_each_event_and_no_token_has_two() {
        // Tokens and steps that the engine has reported, events that arrived, and the samples for them.
        let one_token_a_step = [(1, 1, 1, 0), (2, 2, 1, 1), (3, 3, 1, 1)];
        let drafts = [(4, 1, 1, 0), (8, 2, 1, 4), (12, 3, 1, 4)];
        let ahead = [(1, 1, 1, 0), (6, 6, 1, 1), (6, 6, 1, 1), (6, 6, 3, 3), (6, 6, 1, 0)];
        let behind = [(1, 1, 1, 0), (1, 1, 1, 0), (3, 3, 1, 1)];
        let joined = [(1, 1, 1, 0), (4, 4, 3, 3)];
        let cases: [&[(u64, u32, u64, u64)]; 5] = [&one_token_a_step, &drafts, &ahead, &behind, &joined];
        for case in cases {
            let mut engine = EngineSteps::default();
            for (at, (tokens, steps, events, samples)) in case.iter().copied().enumerate() {
                assert_eq!(engine.tokens_of(tokens, steps, events, at == 0), samples, "{at} of {case:?}");
            }
        }
    }

    #[test]
    fn counts_of_steps_may_wrap() {
        let mut engine = EngineSteps { tokens: u32::MAX, steps: u32::MAX, ..EngineSteps::default() };
        let tokens = u64::from(u32::MAX) + 4;
        assert_eq!(engine.tokens_of(tokens, 1, 1, false), 2, "four tokens in two steps");
    }
}
