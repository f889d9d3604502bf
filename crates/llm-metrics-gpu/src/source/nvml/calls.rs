//! The calls that are made for a device, some of which it may not support.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// The first and the longest pause before a refused call is tried again: MIG may be turned off, a fabric may become ready.
const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));
/// A call that never succeeded counts as refused after this many failures in a row, whatever the code.
const FAILURES: u8 = 3;

/// Calls that a device may not support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Utilization,
    Samples,
    MemoryV2,
    MemoryV1,
    Fields,
    PowerUsage,
    SmClock,
    MemoryClock,
    ClockEvents,
    Gpm,
    Temperature,
    PowerLimit,
    LinkGeneration,
    LinkWidth,
    Encoder,
    Decoder,
    PcieThroughput,
    Processes,
    MpsProcesses,
    /// Read once in any case. Must be the last.
    Static,
}

/// Why a call is not made for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// This device or driver does not support it.
    Unsupported,
    /// This process has no permission.
    Denied,
    /// It never succeeded.
    Failing,
}

/// A pause after a refused call.
pub(super) const fn until_it_is_asked_again() -> Backoff {
    Backoff::new(PAUSES.0, PAUSES.1)
}

#[derive(Clone, Copy, Debug)]
struct State {
    refusal: Option<Refusal>,
    again: Backoff,
    worked: bool,
    failures: u8,
}

/// The state of each call.
#[derive(Debug, Default)]
pub(super) struct Calls {
    states: [State; Call::Static as usize],
    /// One refused call is made again in this tick: the others must wait, so that a tick is not much longer.
    tried_again: bool,
    answered: bool,
    failed: bool,
}

impl Calls {
    pub(super) const fn begin_tick(&mut self) {
        (self.tried_again, self.answered, self.failed) = (false, false, false);
    }

    /// Whether every call in this tick has failed.
    pub(super) const fn only_failed(&self) -> bool {
        self.failed && !self.answered
    }

    /// Whether to make a call now.
    pub(super) fn may(&mut self, call: Call, now: Instant) -> bool {
        let Some(state) = self.states.get(call as usize) else { return true };
        state.refusal.is_none() || (state.again.is_due(now) && self.may_try_again())
    }

    /// Whether a refused call should be tried in this tick. At most once.
    pub(super) const fn may_try_again(&mut self) -> bool {
        !std::mem::replace(&mut self.tried_again, true)
    }

    pub(super) fn answered(&mut self, call: Call) {
        self.answered = true;
        if let Some(state) = self.states.get_mut(call as usize) {
            *state = State { worked: true, ..State::default() };
        }
    }

    /// The device is present, but refuses this call. Returns whether that is new.
    pub(super) fn refused(&mut self, call: Call, refusal: Refusal, now: Instant) -> bool {
        self.answered = true;
        self.states.get_mut(call as usize).is_none_or(|state| {
            state.again.postpone(now);
            state.refusal.replace(refusal) != Some(refusal)
        })
    }

    pub(super) fn failed(&mut self, call: Call, now: Instant) {
        self.failed = true;
        if let Some(state) = self.states.get_mut(call as usize).filter(|state| !state.worked) {
            state.failures = state.failures.saturating_add(1);
            if state.failures >= FAILURES {
                state.refusal = Some(Refusal::Failing);
                state.again.postpone(now);
            }
        }
    }

    /// Whether a call is not made at the moment, for any reason.
    pub(super) fn is_refused(&self, call: Call) -> bool {
        self.refusal(call).is_some()
    }

    /// Whether a device does not support a call.
    pub(super) fn is_unsupported(&self, call: Call) -> bool {
        self.refusal(call) == Some(Refusal::Unsupported)
    }

    pub(super) fn has_worked(&self, call: Call) -> bool {
        self.states.get(call as usize).is_some_and(|state| state.worked)
    }

    fn refusal(&self, call: Call) -> Option<Refusal> {
        self.states.get(call as usize)?.refusal
    }
}

impl Default for State {
    fn default() -> Self {
        Self { refusal: None, again: until_it_is_asked_again(), worked: false, failures: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_refused_call_is_tried_again_after_ten_seconds_then_twenty_up_to_an_hour() {
        let (mut calls, start) = (Calls::default(), Instant::now());
        let mut asked = Vec::new();
        for second in 0..20_000 {
            let now = start + SECOND * second;
            calls.begin_tick();
            if calls.may(Call::Encoder, now) {
                asked.push(second);
                calls.refused(Call::Encoder, Refusal::Unsupported, now);
            }
        }
        assert_eq!(asked, [0, 10, 30, 70, 150, 310, 630, 1270, 2550, 5110, 8710, 12310, 15910, 19510]);
    }

    #[test]
    fn an_answer_resets_an_earlier_refusal() {
        let (mut calls, now) = (Calls::default(), Instant::now());
        calls.refused(Call::Gpm, Refusal::Unsupported, now);
        assert!(!calls.may(Call::Gpm, now + SECOND * 9) && calls.is_unsupported(Call::Gpm));
        assert!(calls.may(Call::Gpm, now + SECOND * 10));
        calls.answered(Call::Gpm);
        assert!(calls.may(Call::Gpm, now) && !calls.is_refused(Call::Gpm) && calls.has_worked(Call::Gpm));
    }

    #[test]
    fn a_tick_tries_one_refused_call_again_and_no_more() {
        let (mut calls, start) = (Calls::default(), Instant::now());
        let all = [Call::Encoder, Call::Decoder, Call::Gpm];
        for call in all {
            calls.refused(call, Refusal::Unsupported, start);
        }
        for tick in 0..3 {
            calls.begin_tick();
            let now = start + SECOND * (10 + tick);
            let made: Vec<_> = all.into_iter().filter(|call| calls.may(*call, now)).collect();
            assert_eq!(made, [all[tick as usize]]);
            calls.refused(made[0], Refusal::Unsupported, now);
        }
    }

    #[test]
    fn a_call_that_never_worked_is_given_up_at_the_third_failure_and_one_that_did_is_not() {
        let (mut calls, now) = (Calls::default(), Instant::now());
        calls.answered(Call::SmClock);
        for failures in 1..=10 {
            calls.failed(Call::SmClock, now);
            calls.failed(Call::MemoryClock, now);
            assert!(calls.may(Call::SmClock, now));
            assert_eq!(calls.may(Call::MemoryClock, now), failures < 3);
        }
        assert!(calls.is_refused(Call::MemoryClock) && !calls.is_unsupported(Call::MemoryClock));
    }

    #[test]
    fn a_refusal_is_reported_once() {
        let (mut calls, now) = (Calls::default(), Instant::now());
        assert!(calls.refused(Call::Processes, Refusal::Denied, now));
        assert!(!calls.refused(Call::Processes, Refusal::Denied, now + SECOND * 10));
        calls.answered(Call::Processes);
        assert!(calls.refused(Call::Processes, Refusal::Denied, now));
    }

    #[test]
    fn a_device_that_refuses_is_present_and_one_that_only_fails_may_be_absent() {
        let (mut calls, now) = (Calls::default(), Instant::now());
        calls.begin_tick();
        assert!(!calls.only_failed(), "nothing was asked");
        calls.failed(Call::Static, now);
        assert!(calls.only_failed());
        calls.refused(Call::Static, Refusal::Unsupported, now);
        assert!(!calls.only_failed() && calls.may(Call::Static, now), "a constant value is always requested");
    }
}
