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

/// How often is looked at whether it is enough.
const TICK: Duration = Duration::from_millis(250);
/// Fewer requests say nothing about failing, or about falling behind.
const FEW: usize = 10;

/// All that one step needs.
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

/// What a step saw. Times are since its start.
pub(crate) struct StepSeen {
    /// What is measured: requests that were due in here.
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

    /// Requests in flight, on average over the time measured.
    pub(crate) fn in_flight(&self) -> f64 {
        let overlap = |seen: &Observation| seen.ended.min(self.to).saturating_sub(seen.scheduled.max(self.from));
        self.seen.iter().map(overlap).sum::<Duration>().as_secs_f64() / self.seconds().max(f64::MIN_POSITIVE)
    }

    /// How many more requests were in flight at the end of the time measured than at its beginning.
    pub(crate) fn backlog(&self) -> f64 {
        let at = |time: Duration| self.seen.iter().filter(|seen| seen.scheduled <= time && time < seen.ended).count();
        at(self.to) as f64 - at(self.from) as f64
    }
}

/// A step on its way.
struct Now {
    rate: f64,
    epoch: Instant,
    from: Option<Duration>,
    flying: JoinSet<Observation>,
    /// When those in flight were due, by task.
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
        tell: &mut dyn FnMut(Progress<'_>),
    ) -> StepSeen {
        let mut now = Now {
            rate,
            epoch: Instant::now(),
            from: None,
            flying: JoinSet::new(),
            due: HashMap::new(),
            seen: Vec::new(),
            longest: Duration::ZERO,
            not_sent: 0,
            in_flight_max: 0,
        };
        let mut due = arrivals::start(rate, seed, now.epoch);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = self.stop.clone();
        let ended = loop {
            tokio::select! {
                () = stop.set() => break StepEnded::RunEnded,
                Some(done) = now.flying.join_next_with_id(), if !now.flying.is_empty() => now.done(done),
                Some(at) = due.recv() => {
                    if self.requests_left == 0 {
                        break StepEnded::RunEnded;
                    }
                    if now.flying.len() as u64 >= self.limits.in_flight {
                        now.not_sent += 1;
                    } else {
                        self.requests_left -= 1;
                        self.send(&mut now, at, draws);
                    }
                }
                _ = ticks.tick() => {
                    if let Some(ended) = self.enough(&mut now) {
                        break ended;
                    }
                    tell(Progress::Running(now.figures(self.length)));
                }
            }
        };
        drop(due);
        let to = now.epoch.elapsed();
        self.drain(&mut now, tell).await;
        // Cut short before it was warm: the second half is warmer than the first.
        let from = now.from.unwrap_or(to / 2);
        StepSeen { from, to, seen: now.seen, not_sent: now.not_sent, in_flight_max: now.in_flight_max, ended }
    }

    fn send(&self, now: &mut Now, at: Instant, draws: &mut Draws) {
        let (asker, model, draw, epoch) = (self.asker.clone(), self.model.clone(), draws.draw(), now.epoch);
        let task =
            now.flying.spawn(async move { asker.ask(&draw.question(&model), draw.hang_up_after, epoch, at).await });
        now.due.insert(task.id(), at - epoch);
        now.in_flight_max = now.in_flight_max.max(now.flying.len() as u64);
    }

    /// Whether the step is over, and why.
    fn enough(&self, now: &mut Now) -> Option<StepEnded> {
        let elapsed = now.epoch.elapsed();
        if most_fail(&now.seen, now.from.is_some()) {
            return Some(StepEnded::Failing);
        }
        if Instant::now() >= self.deadline {
            return Some(StepEnded::RunEnded);
        }
        let Some(from) = now.from else {
            // It is warm when requests that began in it have ended in it, and then some: before, those in flight become more
            // whatever the server does.
            let warm_up = self.length.warm_up_seconds;
            let warm = !now.seen.is_empty() && elapsed.as_secs_f64() >= 1.2 * now.longest.as_secs_f64();
            if elapsed.as_secs_f64() >= if warm { warm_up } else { warm_up + self.length.most_seconds / 3.0 } {
                now.from = Some(elapsed);
            }
            return None;
        };
        let measured = (elapsed - from).as_secs_f64();
        if measured < self.length.least_seconds {
            return None;
        }
        if now.not_sent > 0 {
            return Some(StepEnded::InFlightLimit);
        }
        if measured >= self.length.most_seconds {
            return Some(StepEnded::Time);
        }
        let after = |seen: &&Observation| from <= seen.scheduled;
        let waiting = now.due.values().filter(|due| from <= **due).count();
        let ended = now.seen.iter().filter(after).count();
        if waiting > 2 * FEW && waiting > ended / 2 {
            return Some(StepEnded::Behind);
        }
        let stable = |latency: fn(&Observation) -> Option<f64>| {
            let samples: Vec<_> = now.seen.iter().filter(after).filter_map(latency).collect();
            // What is not measured at all (no streams) does not have to be stable.
            Latency::of(samples)
                .is_none_or(|latency| latency.p99.spread().is_some_and(|spread| spread <= self.length.stable))
        };
        let answered = ended as u64 >= self.length.least_requests.max(1);
        (answered && stable(Observation::duration) && stable(Observation::time_to_first_token))
            .then_some(StepEnded::Stable)
    }

    /// Waits for the last answers, but not for ever; those that do not come are unfinished.
    async fn drain(&mut self, now: &mut Now, tell: &mut dyn FnMut(Progress<'_>)) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let patience = if self.stop.is_set() { Duration::ZERO } else { left };
        let patience = tokio::time::sleep(patience.min(Duration::from_secs_f64(self.limits.drain_seconds)));
        tokio::pin!(patience);
        let mut ticks = tokio::time::interval(TICK);
        while !now.flying.is_empty() {
            tokio::select! {
                Some(done) = now.flying.join_next_with_id() => now.done(done),
                () = &mut patience => break,
                () = self.stop.set() => break,
                _ = ticks.tick() => tell(Progress::Running(now.figures(self.length))),
            }
        }
        let ended = now.epoch.elapsed();
        now.flying.abort_all();
        for (_, due) in now.due.drain() {
            now.seen.push(Observation { ended, ..Observation::new(due) });
        }
        now.seen.sort_by_key(|seen| seen.scheduled);
    }
}

/// Turning some away is how a server keeps up with the others: what it answers then is what it can, as long as there are others. It
/// turns away at once, and its first answers take their time.
fn most_fail(seen: &[Observation], warm: bool) -> bool {
    let last = &seen[seen.len().saturating_sub(4 * FEW)..];
    let answers = !warm || last.iter().any(|seen| !matches!(seen.end, End::Failed(_)));
    let failed = |seen: &&Observation| matches!(seen.end, End::Failed(kind) if !(answers && kind.is_turned_away()));
    seen.len() >= FEW && seen.iter().filter(failed).count() * 2 >= seen.len()
}

impl Now {
    fn done(&mut self, done: Result<(tokio::task::Id, Observation), tokio::task::JoinError>) {
        // A task that did not end well stays among those that are due, and ends as unfinished.
        let Ok((task, seen)) = done else { return };
        self.due.remove(&task);
        if seen.end == End::Answered {
            self.longest = self.longest.max(seen.ended - seen.scheduled);
        }
        self.seen.push(seen);
    }

    fn figures(&self, length: &StepLength) -> Running {
        // The last ones are enough for a look.
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
            in_flight: self.flying.len() as u64,
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
    fn a_server_that_turns_some_away_is_measured_and_one_that_answers_nobody_is_not() {
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
            assert!(!most_fail(&seen(&[(broken, 9)]), warm), "too few to tell");
        }
    }
}
