//! Confidence intervals of rates.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figure;

/// A 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// `11.6 to 13.1 with 95 %`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} with 95 %", figure(self.low), figure(self.high))
    }
}

/// The number of parts for batch means.
const BATCHES: usize = 10;
/// The half width of the 95 % confidence interval of the mean of that many parts, in standard errors: Student's t with 9 degrees of freedom.
const T: f64 = 2.262;

impl Interval {
    /// The interval of the rate of events, by *batch means*. `times` are in seconds since the start of the measurement. The measurement is divided
    /// into parts, and the variation between the parts determines the standard error of their mean. This is valid for events in bursts, and for events
    /// that are more regular than a Poisson process, as the responses of a busy server are. (Law and Kelton, Simulation Modeling and Analysis, 9.5.3.)
    pub(crate) fn of_rate(times: impl Iterator<Item = f64>, seconds: f64) -> Option<Self> {
        let mut counts = [0.0; BATCHES];
        let mut any = false;
        for time in times {
            counts[((time / seconds * BATCHES as f64) as usize).min(BATCHES - 1)] += 1.0;
            any = true;
        }
        if !any || seconds <= 0.0 {
            return None;
        }
        let mean = counts.iter().sum::<f64>() / BATCHES as f64;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / (BATCHES - 1) as f64;
        let rate = |count: f64| count * BATCHES as f64 / seconds;
        // The exact start and end of the measurement can change the count by one.
        let half_width = T * rate((variance / BATCHES as f64).sqrt()) + 1.0 / seconds;
        Some(Self { low: (rate(mean) - half_width).max(0.0), high: rate(mean) + half_width })
    }

    /// The interval of the highest of several rates. Taking the highest selects some random error, which would need a wider interval. But short parts
    /// make each interval too wide, because a busy server that answers more in one part answers less in the next. In simulated queues the second effect
    /// is larger (see the tests).
    pub(crate) fn of_highest(intervals: impl Iterator<Item = Self>) -> Option<Self> {
        intervals.reduce(|a, b| Self { low: a.low.max(b.low), high: a.high.max(b.high) })
    }

    /// The standard error of `value`, as a share of it.
    pub(crate) fn relative_error(&self, value: f64) -> f64 {
        (self.high - self.low) / (2.0 * 1.96 * value)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BinaryHeap, time::Duration};

    use super::*;
    use crate::{
        baseline::{Step, StepEnded},
        observation::{End, Observation},
        search,
        step::StepSeen,
        testing, views,
    };

    /// A simulated step of a server with this many slots. Each request occupies a slot for a second, plus or minus a random jitter.
    fn simulated(rate: f64, slots: usize, jitter: f64, random: &mut fastrand::Rng) -> Step {
        const SECONDS: f64 = 25.0;
        let mut free: BinaryHeap<_> = (0..slots).map(|_| std::cmp::Reverse(Duration::ZERO)).collect();
        let mut seen = Vec::new();
        let mut at = 0.0;
        loop {
            at -= (1.0 - random.f64()).ln() / rate;
            if at > SECONDS {
                break;
            }
            let mut one = Observation::new(Duration::from_secs_f64(at));
            let begins = free.pop().unwrap().0.max(one.scheduled);
            one.ended = begins + Duration::from_secs_f64(1.0 + jitter * (2.0 * random.f64() - 1.0));
            one.end = End::Answered;
            free.push(std::cmp::Reverse(one.ended));
            seen.push(one);
        }
        let (from, to) = (Duration::from_secs(5), Duration::from_secs_f64(SECONDS));
        let seen = StepSeen { from, to, seen, not_sent: 0, in_flight_max: 0, ended: StepEnded::Time };
        let mut step = testing::step(rate, views::verdict(&seen, 20.0), 0.0);
        step.client = views::client_view(&seen);
        step
    }

    #[test]
    fn the_interval_of_the_knee_contains_the_true_capacity_in_95_percent_of_runs() {
        let mut random = fastrand::Rng::with_seed(11);
        for (slots, jitter) in [(16, 0.3), (16, 0.9), (4, 0.5)] {
            let capacity = slots as f64;
            let (mut held, mut width) = (0, 0.0);
            const RUNS: usize = 200;
            for _ in 0..RUNS {
                let rates = [0.7, 0.9, 1.05, 1.3, 2.0];
                let steps: Vec<_> =
                    rates.map(|rate| simulated(rate * capacity, slots, jitter, &mut random)).into_iter().collect();
                let knee = search::knee(&steps).expect("twice the capacity is too much");
                let interval = knee.interval.expect("there were answers");
                assert!(interval.low <= knee.rate && knee.rate <= interval.high, "{knee:?}");
                held += usize::from(interval.low <= capacity && capacity <= interval.high);
                width += (interval.high - interval.low) / capacity / RUNS as f64;
            }
            assert!(held * 100 >= 95 * RUNS, "{slots} slots, {jitter}: {held} of {RUNS}");
            assert!(width < 0.25, "{slots} slots, {jitter}: it says something: {width}");
        }
    }

    #[test]
    fn bursts_widen_the_interval_and_regular_events_narrow_it_to_one_event() {
        let of = |times: Vec<f64>| Interval::of_rate(times.into_iter(), 20.0).unwrap();
        let even = of((0..200).map(|n| f64::from(n) / 10.0).collect());
        assert!((even.low - 9.95).abs() < 1e-9 && (even.high - 10.05).abs() < 1e-9, "{even:?}");
        let bursts = of((0..200).map(|n| f64::from(n / 50) * 5.0 + 0.5).collect());
        assert!(bursts.low < 5.0 && bursts.high > 15.0, "{bursts:?}");
        assert_eq!(Interval::of_rate(std::iter::empty(), 20.0), None);
    }

    #[test]
    fn the_interval_contains_the_rate_of_a_poisson_process_in_95_percent_of_runs() {
        let mut random = fastrand::Rng::with_seed(3);
        let held = (0..1000).filter(|_| {
            let mut at = 0.0;
            let times = std::iter::repeat_with(|| {
                at -= (1.0 - random.f64()).ln() / 8.0;
                at
            });
            let interval = Interval::of_rate(times.take_while(|at| *at < 20.0), 20.0).unwrap();
            interval.low <= 8.0 && 8.0 <= interval.high
        });
        let held = held.count();
        assert!((935..=985).contains(&held), "{held} of 1000");
    }
}
