//! One rate, held until its 99th percentiles are stable.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    arrivals,
    baseline::StepEnded,
    client::Asker,
    latency::Latency,
    observation::{End, Observation},
    progress::{Progress, Running},
    settings::{Limits, StepLength},
    stop::Stop,
    workload::Draws,
};

/// The interval at which the end of the step is checked and progress is reported.
const TICK: Duration = Duration::from_millis(250);
/// With fewer requests it is not decided whether the server fails or falls behind.
const FEW: usize = 10;

/// The inputs of one step.
pub(crate) struct StepRun<'a> {
    pub(crate) asker: &'a Asker,
    pub(crate) model: Arc<str>,
    pub(crate) length: &'a StepLength,
    pub(crate) limits: &'a Limits,
    /// Requests that may still be sent in this run.
    pub(crate) requests_left: u64,
    /// When the run has to end.
    pub(crate) deadline: Instant,
    pub(crate) stop: Stop,
}

/// The observations of a step. Times are since its start.
pub(crate) struct StepSeen {
    /// The start of the measurement: requests that were due from here to `to` are measured.
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) seen: Vec<Observation>,
    pub(crate) not_sent: u64,
    pub(crate) in_flight_max: u64,
    pub(crate) ended: StepEnded,
}

impl StepSeen {
    /// The requests that are measured.
    pub(crate) fn measured(&self) -> impl Iterator<Item = &Observation> + Clone {
        self.seen.iter().filter(|seen| self.from <= seen.scheduled && seen.scheduled < self.to)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.to.saturating_sub(self.from).as_secs_f64()
    }

    /// The mean number of requests in flight during the measurement.
    pub(crate) fn in_flight(&self) -> f64 {
        let overlap = |seen: &Observation| seen.ended.min(self.to).saturating_sub(seen.scheduled.max(self.from));
        self.seen.iter().map(overlap).sum::<Duration>().as_secs_f64() / self.seconds().max(f64::MIN_POSITIVE)
    }

    /// The number of requests in flight at the end of the measurement, minus that at its beginning.
    pub(crate) fn backlog(&self) -> f64 {
        let at = |time: Duration| self.seen.iter().filter(|seen| seen.scheduled <= time && time < seen.ended).count();
        at(self.to) as f64 - at(self.from) as f64
    }
}

/// The state of a running step.
struct State {
    rate: f64,
    epoch: Instant,
    from: Option<Duration>,
    tasks: JoinSet<Observation>,
    /// When the requests in flight were due, by task.
    due: HashMap<tokio::task::Id, Duration>,
    seen: Vec<Observation>,
    longest: Duration,
    not_sent: u64,
    in_flight_max: u64,
}

impl StepRun<'_> {
    pub(crate) async fn hold(
        mut self,
        rate: f64,
        seed: u64,
        draws: &mut Draws,
        report: &mut dyn FnMut(Progress<'_>),
    ) -> StepSeen {
        let mut state = State {
            rate,
            epoch: Instant::now(),
            from: None,
            tasks: JoinSet::new(),
            due: HashMap::new(),
            seen: Vec::new(),
            longest: Duration::ZERO,
            not_sent: 0,
            in_flight_max: 0,
        };
        let mut due = arrivals::start(rate, seed, state.epoch);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = self.stop.clone();
        let ended = loop {
            tokio::select! {
                () = stop.set() => break StepEnded::RunEnded,
                Some(done) = state.tasks.join_next_with_id(), if !state.tasks.is_empty() => state.done(done),
                Some(at) = due.recv() => {
                    if self.requests_left == 0 {
                        break StepEnded::RunEnded;
                    }
                    if state.tasks.len() as u64 >= self.limits.in_flight {
                        state.not_sent += 1;
                    } else {
                        self.requests_left -= 1;
                        self.send(&mut state, at, draws);
                    }
                }
                _ = ticks.tick() => {
                    if let Some(ended) = self.enough(&mut state) {
                        break ended;
                    }
                    report(Progress::Running(state.figures(self.length)));
                }
            }
        };
        drop(due);
        let to = state.epoch.elapsed();
        self.drain(&mut state, report).await;
        // The step ended during the warm-up: its second half is measured, because the server was warmer then.
        let from = state.from.unwrap_or(to / 2);
        StepSeen { from, to, seen: state.seen, not_sent: state.not_sent, in_flight_max: state.in_flight_max, ended }
    }

    fn send(&self, state: &mut State, at: Instant, draws: &mut Draws) {
        let (asker, model, draw, epoch) = (self.asker.clone(), self.model.clone(), draws.draw(), state.epoch);
        let task =
            state.tasks.spawn(async move { asker.ask(&draw.question(&model), draw.hang_up_after, epoch, at).await });
        state.due.insert(task.id(), at - epoch);
        state.in_flight_max = state.in_flight_max.max(state.tasks.len() as u64);
    }

    /// Whether the step is over, and why.
    fn enough(&self, state: &mut State) -> Option<StepEnded> {
        let elapsed = state.epoch.elapsed();
        if most_fail(&state.seen, state.from.is_some()) {
            return Some(StepEnded::Failing);
        }
        if Instant::now() >= self.deadline {
            return Some(StepEnded::RunEnded);
        }
        let Some(from) = state.from else {
            // The warm-up lasts longer than the longest request so far: until then, the number of requests in flight grows even if the server
            // keeps up.
            let warm_up = self.length.warm_up_seconds;
            let warm = !state.seen.is_empty() && elapsed.as_secs_f64() >= 1.2 * state.longest.as_secs_f64();
            if elapsed.as_secs_f64() >= if warm { warm_up } else { warm_up + self.length.most_seconds / 3.0 } {
                state.from = Some(elapsed);
            }
            return None;
        };
        let measured = (elapsed - from).as_secs_f64();
        if measured < self.length.least_seconds {
            return None;
        }
        if state.not_sent > 0 {
            return Some(StepEnded::InFlightLimit);
        }
        if measured >= self.length.most_seconds {
            return Some(StepEnded::Time);
        }
        let after = |seen: &&Observation| from <= seen.scheduled;
        let waiting = state.due.values().filter(|due| from <= **due).count();
        let ended = state.seen.iter().filter(after).count();
        if waiting > 2 * FEW && waiting > ended / 2 {
            return Some(StepEnded::Behind);
        }
        let stable = |latency: fn(&Observation) -> Option<f64>| {
            let samples: Vec<_> = state.seen.iter().filter(after).filter_map(latency).collect();
            // Without samples (time to first token without streams), there is nothing to wait for.
            Latency::of(samples)
                .is_none_or(|latency| latency.p99.spread().is_some_and(|spread| spread <= self.length.stable))
        };
        let answered = ended as u64 >= self.length.least_requests.max(1);
        (answered && stable(Observation::duration) && stable(Observation::time_to_first_token))
            .then_some(StepEnded::Stable)
    }

    /// Waits for the last responses, for a limited time. Requests without a complete response then count as unfinished.
    async fn drain(&mut self, state: &mut State, report: &mut dyn FnMut(Progress<'_>)) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = if self.stop.is_set() { Duration::ZERO } else { left };
        let timeout = tokio::time::sleep(timeout.min(Duration::from_secs_f64(self.limits.drain_seconds)));
        tokio::pin!(timeout);
        let mut ticks = tokio::time::interval(TICK);
        while !state.tasks.is_empty() {
            tokio::select! {
                Some(done) = state.tasks.join_next_with_id() => state.done(done),
                () = &mut timeout => break,
                () = self.stop.set() => break,
                _ = ticks.tick() => report(Progress::Running(state.figures(self.length))),
            }
        }
        let ended = state.epoch.elapsed();
        state.tasks.abort_all();
        for (_, due) in state.due.drain() {
            state.seen.push(Observation { ended, ..Observation::new(due) });
        }
        state.seen.sort_by_key(|seen| seen.scheduled);
    }
}

/// Whether most requests fail. A server that rejects some requests because of overload is still measured, as long as it answers others: those show its
/// capacity. During warm-up rejections do not count, because a server rejects immediately, and its first responses take longer.
fn most_fail(seen: &[Observation], warm: bool) -> bool {
    let last = &seen[seen.len().saturating_sub(4 * FEW)..];
    let answers = !warm || last.iter().any(|seen| !matches!(seen.end, End::Failed(_)));
    let failed = |seen: &&Observation| matches!(seen.end, End::Failed(kind) if !(answers && kind.is_turned_away()));
    seen.len() >= FEW && seen.iter().filter(failed).count() * 2 >= seen.len()
}

impl State {
    fn done(&mut self, done: Result<(tokio::task::Id, Observation), tokio::task::JoinError>) {
        // The request of a task that panicked stays in `due`, and counts as unfinished.
        let Ok((task, seen)) = done else { return };
        self.due.remove(&task);
        if seen.end == End::Answered {
            self.longest = self.longest.max(seen.ended - seen.scheduled);
        }
        self.seen.push(seen);
    }

    fn figures(&self, length: &StepLength) -> Running {
        // The last ones are enough for the progress display.
        let last = &self.seen[self.seen.len().saturating_sub(1000)..];
        let latency = |of: fn(&Observation) -> Option<f64>| Latency::of(last.iter().filter_map(of).collect());
        Running {
            rate: self.rate,
            warm: self.from.is_some(),
            share: self
                .from
                .map_or(0.0, |from| ((self.epoch.elapsed() - from).as_secs_f64() / length.most_seconds).min(1.0)),
            ended: self.seen.len() as u64,
            failed: self.seen.iter().filter(|seen| matches!(seen.end, End::Failed(_))).count() as u64,
            in_flight: self.tasks.len() as u64,
            time_to_first_token_p50: latency(Observation::time_to_first_token).map(|latency| latency.p50.value),
            duration_p99: latency(Observation::duration).map(|latency| latency.p99.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::ErrorKind;

    #[test]
    fn a_server_that_rejects_some_requests_is_measured_and_one_that_answers_none_is_not() {
        let seen = |ends: &[(End, usize)]| -> Vec<Observation> {
            let ends = ends.iter().flat_map(|(end, count)| std::iter::repeat_n(*end, *count));
            ends.map(|end| Observation { end, ..Observation::new(Duration::ZERO) }).collect()
        };
        let (away, broken) = (End::Failed(ErrorKind::Overloaded), End::Failed(ErrorKind::Internal));
        assert!(!most_fail(&seen(&[(away, 90), (End::Answered, 10)]), true));
        assert!(!most_fail(&seen(&[(away, 200), (End::Answered, 1), (away, 39)]), true), "one of the last forty");
        assert!(most_fail(&seen(&[(End::Answered, 1), (away, 40)]), true), "that was long ago");
        assert!(!most_fail(&seen(&[(away, 40)]), false), "answers may be on their way");
        for warm in [false, true] {
            assert!(most_fail(&seen(&[(broken, 50), (End::Answered, 50)]), warm));
            assert!(!most_fail(&seen(&[(broken, 49), (End::Answered, 51)]), warm));
            assert!(!most_fail(&seen(&[(broken, 9)]), warm), "too few requests");
        }
    }
}
