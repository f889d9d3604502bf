//! Utilisation over time: the integral and the maximum of the driver's own samples.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::source::{Ring, Sample};

/// How long the ring may have no new samples before the gauge is used instead: the ring of an idle device stops.
const GRACE: Duration = Duration::from_secs(2);
/// After this time, the ring's clock is assumed to have been set back, which makes all samples look old.
const RESYNC: Duration = Duration::from_secs(30);
/// Two samples are never further apart; a larger step means that the driver's clock was set.
const STEP: u64 = 4_000_000;

/// The result of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// The mean since the last tick; `None` without any reading.
    pub(crate) mean: Option<f64>,
    /// The maximum within the window.
    pub(crate) max: Option<f64>,
    /// Whole seconds of busy time to publish now.
    pub(crate) busy_seconds: u64,
    /// Implausible samples.
    pub(crate) implausible: usize,
}

/// Tracks one device.
///
/// Busy time is the sum over the samples of utilisation times the time since the previous sample. Fractions of a second are carried over to the next
/// tick, so that nothing is lost between two scrapes.
#[derive(Debug)]
pub(crate) struct LoadMeter {
    window: Duration,
    last_sample: u64,
    last_tick: Option<Instant>,
    /// How long the ring has had no new samples, and how much of that time is not accounted for.
    silent: Duration,
    uncounted: Duration,
    /// Whether the whole ring is read, and for how long it had been silent when that was last done.
    read_whole_ring: bool,
    whole_ring_read_at: Duration,
    /// Microseconds that the gauge has accounted for while the ring was silent: must not be counted again.
    covered: u64,
    busy_micros: f64,
    /// The maxima of the window, in descending order: the first one is the window's.
    maxima: VecDeque<(Instant, f64)>,
}

impl LoadMeter {
    pub(crate) const fn new(window: Duration) -> Self {
        Self {
            window,
            last_sample: 0,
            last_tick: None,
            silent: Duration::ZERO,
            uncounted: Duration::ZERO,
            read_whole_ring: false,
            whole_ring_read_at: Duration::ZERO,
            covered: 0,
            busy_micros: 0.0,
            maxima: VecDeque::new(),
        }
    }

    /// The timestamp after which samples are needed: that of the last one, or 0 for all.
    pub(crate) const fn since(&self) -> u64 {
        if self.read_whole_ring { 0 } else { self.last_sample }
    }

    /// The device was away: this time cannot be measured.
    pub(crate) fn interrupt(&mut self) {
        (self.last_sample, self.last_tick) = (0, None);
        self.heard();
        self.maxima.clear();
    }

    /// Adds the readings of a tick.
    pub(crate) fn apply(&mut self, now: Instant, gauge: Option<f64>, ring: &Ring) -> Load {
        let elapsed = self.last_tick.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last_tick = Some(now);
        let plausible = gauge.filter(|ratio| (0.0..=1.0).contains(ratio));
        let mut load = Load { implausible: usize::from(gauge != plausible), ..Load::default() };
        let mean = match ring {
            Ring::New(samples) if !self.is_known(samples) => self.take_samples(now, samples, &mut load),
            Ring::New(_) | Ring::Empty => {
                self.wait(elapsed, plausible);
                None
            }
            Ring::Unsupported => {
                self.busy_micros += plausible.unwrap_or(0.0) * micros(elapsed) as f64;
                None
            }
        };
        if let Some(ratio) = plausible {
            self.remember(now, ratio);
        }
        load.mean = mean.or(plausible);
        while self.maxima.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.window) {
            self.maxima.pop_front();
        }
        load.max = self.maxima.front().map(|(_, ratio)| *ratio);
        let whole = (self.busy_micros / 1e6).floor();
        self.busy_micros -= whole * 1e6;
        load.busy_seconds = whole as u64;
        load
    }

    /// Whether the ring, when read completely, still has the same end: the device is idle, and its clock was not set.
    fn is_known(&mut self, samples: &[Sample]) -> bool {
        let newest = samples.iter().map(|sample| sample.timestamp).max();
        let known = self.read_whole_ring && newest == Some(self.last_sample);
        if known {
            self.read_whole_ring = false;
        } else if self.read_whole_ring && newest.is_some_and(|newest| newest < self.last_sample) {
            // The clock was set back.
            self.last_sample = 0;
        }
        known
    }

    fn take_samples(&mut self, now: Instant, samples: &[Sample], load: &mut Load) -> Option<f64> {
        let (mut weighted, mut total) = (0.0, 0.0);
        let mut samples = samples.to_vec();
        samples.sort_by_key(|sample| sample.timestamp);
        // The first batch is from before this collector, and only used as a start.
        let first = self.last_sample == 0;
        for sample in &samples {
            let step = sample.timestamp.saturating_sub(self.last_sample);
            if step == 0 {
                continue;
            }
            self.last_sample = sample.timestamp;
            if !(0.0..=1.0).contains(&sample.utilization) {
                load.implausible += 1;
                continue;
            }
            if first {
                continue;
            }
            let covered = self.covered.min(step);
            self.covered -= covered;
            self.busy_micros += sample.utilization * (step - covered).min(STEP) as f64;
            self.remember(now, sample.utilization);
            let weight = step.min(STEP) as f64;
            weighted += sample.utilization * weight;
            total += weight;
        }
        self.heard();
        (total > 0.0).then(|| weighted / total)
    }

    /// The ring has no new samples: soon the gauge replaces it, and after a while the ring is read completely.
    fn wait(&mut self, elapsed: Duration, gauge: Option<f64>) {
        self.silent += elapsed;
        self.uncounted += elapsed;
        if self.silent > GRACE {
            let due = micros(std::mem::take(&mut self.uncounted));
            self.busy_micros += gauge.unwrap_or(0.0) * due as f64;
            self.covered += due;
        }
        if self.silent - self.whole_ring_read_at > RESYNC {
            (self.read_whole_ring, self.whole_ring_read_at) = (true, self.silent);
        }
    }

    fn heard(&mut self) {
        (self.silent, self.uncounted, self.covered) = (Duration::ZERO, Duration::ZERO, 0);
        (self.read_whole_ring, self.whole_ring_read_at) = (false, Duration::ZERO);
    }

    fn remember(&mut self, now: Instant, ratio: f64) {
        while self.maxima.back().is_some_and(|(_, smaller)| *smaller <= ratio) {
            self.maxima.pop_back();
        }
        self.maxima.push_back((now, ratio));
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Samples every 200 ms, in percent, that end at `last`.
    fn ring(last: u64, percent: &[u32]) -> Ring {
        let first = last - (percent.len() as u64 - 1) * 200_000;
        let samples = percent.iter().zip(0..).map(|(p, n)| Sample::new(first + n * 200_000, f64::from(*p) / 100.0));
        Ring::New(samples.collect())
    }

    /// A meter that has seen one sample at 10 s, and the time of that.
    fn begun() -> (LoadMeter, Instant) {
        let (mut meter, now) = (LoadMeter::new(SECOND * 60), Instant::now());
        let load = meter.apply(now, Some(0.0), &ring(10_000_000, &[100]));
        assert_eq!((load.busy_seconds, load.mean), (0, Some(0.0)), "history does not count");
        (meter, now)
    }

    #[test]
    fn a_spike_between_two_ticks_shows_in_the_maximum_and_in_busy_time() {
        let (mut meter, start) = begun();
        let load = meter.apply(start + SECOND, Some(0.0), &ring(11_000_000, &[0, 0, 100, 0, 0]));
        assert_eq!((load.max, load.mean), (Some(1.0), Some(0.2)));
        assert_eq!((meter.busy_micros, load.busy_seconds), (200_000.0, 0));
    }

    #[test]
    fn whole_seconds_are_published_and_the_rest_is_carried() {
        let (mut meter, start) = begun();
        let mut published = 0;
        for second in 1..=10 {
            let now = start + SECOND * second;
            let ring = ring(10_000_000 + u64::from(second) * 1_000_000, &[70; 5]);
            published += meter.apply(now, Some(0.7), &ring).busy_seconds;
        }
        let total = published as f64 + meter.busy_micros / 1e6;
        assert_eq!((published, (total * 1000.0).round()), (7, 7000.0));
    }

    #[test]
    fn the_maximum_is_held_for_the_window_and_then_forgotten() {
        let (mut meter, start) = begun();
        meter.apply(start + SECOND, Some(0.0), &ring(11_000_000, &[0, 90, 0, 0, 0]));
        let at = |meter: &mut LoadMeter, seconds| meter.apply(start + SECOND * seconds, Some(0.1), &Ring::Empty).max;
        assert_eq!(at(&mut meter, 60), Some(0.9));
        assert_eq!(at(&mut meter, 61), Some(0.1));
    }

    #[test]
    fn the_gauge_stands_in_for_a_silent_ring_and_is_not_counted_twice() {
        let (mut meter, start) = begun();
        let mut busy = 0;
        for second in 1..=10 {
            busy += meter.apply(start + SECOND * second, Some(0.5), &Ring::Empty).busy_seconds;
        }
        assert_eq!(busy, 5);
        // The ring wakes up and its first sample spans the silence.
        let samples = Ring::New(vec![Sample::new(20_200_000, 1.0)]);
        let load = meter.apply(start + SECOND * 11, Some(0.5), &samples);
        assert_eq!((load.busy_seconds, meter.busy_micros), (0, 200_000.0));
    }

    #[test]
    fn the_gauge_stands_in_for_all_of_a_silence_that_is_longer_than_two_seconds() {
        let (mut meter, start) = begun();
        let busy = [1, 2, 3].map(|second| {
            let load = meter.apply(start + SECOND * second, Some(0.5), &Ring::Empty);
            (load.busy_seconds, meter.busy_micros)
        });
        assert_eq!(busy, [(0, 0.0), (0, 0.0), (1, 500_000.0)]);
    }

    #[test]
    fn a_sample_without_a_time_is_ignored() {
        let (mut meter, start) = begun();
        let mut samples = vec![Sample::new(0, 1.0)];
        assert_eq!(meter.apply(start + SECOND, Some(0.0), &Ring::New(samples.clone())).mean, Some(0.0));
        samples.push(Sample::new(10_200_000, 1.0));
        meter.apply(start + SECOND * 2, Some(0.0), &Ring::New(samples));
        assert_eq!(meter.busy_micros, 200_000.0);
    }

    #[test]
    fn the_time_that_the_gauge_stood_in_for_is_subtracted_once() {
        let (mut meter, start) = begun();
        for second in 1..=10 {
            meter.apply(start + SECOND * second, Some(0.0), &Ring::Empty);
        }
        let samples = vec![Sample::new(20_200_000, 1.0), Sample::new(20_400_000, 1.0)];
        meter.apply(start + SECOND * 11, Some(0.0), &Ring::New(samples));
        assert_eq!(meter.busy_micros, 400_000.0, "of both, the time after the silence");
    }

    #[test]
    fn after_thirty_seconds_of_silence_the_whole_ring_is_requested_once() {
        let (mut meter, start) = begun();
        let mut asked = Vec::new();
        for second in 1..=100 {
            let whole = meter.since() == 0;
            let ring = if whole { ring(10_000_000, &[0; 5]) } else { Ring::Empty };
            meter.apply(start + SECOND * second, Some(0.0), &ring);
            if meter.since() == 0 {
                asked.push(second);
            }
        }
        assert_eq!(asked, [31, 62, 93]);
    }

    #[test]
    fn a_ring_that_comes_in_late_batches_is_counted_in_full() {
        let (mut meter, start) = begun();
        meter.apply(start + SECOND, Some(0.0), &Ring::Empty);
        meter.apply(start + SECOND * 2, Some(0.0), &ring(12_000_000, &[0, 0, 0, 0, 0, 0, 0, 100, 0, 0]));
        assert_eq!(meter.busy_micros, 200_000.0);
    }

    #[test]
    fn a_ring_that_wakes_after_a_long_silence_adds_only_its_own_time() {
        let (mut meter, start) = begun();
        for second in 1..=100 {
            // A driver that is asked for the whole ring gives the whole ring.
            let ring = if meter.since() == 0 { ring(10_000_000, &[0; 50]) } else { Ring::Empty };
            meter.apply(start + SECOND * second, Some(0.0), &ring);
        }
        let load = meter.apply(start + SECOND * 101, Some(0.0), &Ring::New(vec![Sample::new(110_200_000, 1.0)]));
        assert_eq!((load.busy_seconds, meter.busy_micros, load.max), (0, 200_000.0, Some(1.0)));
    }

    #[test]
    fn a_ring_that_wakes_when_it_is_read_completely_is_not_a_new_clock() {
        let (mut meter, start) = begun();
        let mut second = 1;
        while meter.since() != 0 {
            meter.apply(start + SECOND * second, Some(0.0), &Ring::Empty);
            second += 1;
        }
        let last = 10_000_000 + u64::from(second - 1) * 1_000_000 + 200_000;
        let mut samples = vec![Sample::new(9_800_000, 1.0), Sample::new(10_000_000, 1.0)];
        samples.push(Sample::new(last, 1.0));
        meter.apply(start + SECOND * second, Some(0.0), &Ring::New(samples));
        assert_eq!(meter.busy_micros, 200_000.0);
    }

    #[test]
    fn samples_out_of_order_are_counted_in_order() {
        let (mut meter, start) = begun();
        let samples = [5, 6, 1, 2, 3, 4].map(|n| Sample::new(10_000_000 + n * 100_000, (n % 2) as f64));
        meter.apply(start + SECOND, Some(0.0), &Ring::New(samples.to_vec()));
        assert_eq!(meter.busy_micros, 300_000.0);
    }

    #[test]
    fn a_clock_that_is_set_back_costs_seconds_not_hours() {
        let (mut meter, start) = begun();
        for second in 1..=31 {
            meter.apply(start + SECOND * second, Some(0.0), &Ring::Empty);
        }
        assert_eq!(meter.since(), 0, "asks for everything again");
        meter.apply(start + SECOND * 32, Some(0.0), &ring(5_000_000, &[100]));
        let load = meter.apply(start + SECOND * 33, Some(0.0), &ring(6_000_000, &[100; 5]));
        assert_eq!((load.busy_seconds, meter.busy_micros), (1, 0.0));
    }

    #[test]
    fn a_clock_that_is_set_forward_adds_no_hours() {
        let (mut meter, start) = begun();
        let load = meter.apply(start + SECOND, Some(1.0), &Ring::New(vec![Sample::new(3_600_000_000, 1.0)]));
        assert!(load.busy_seconds <= 4, "{load:?}");
    }

    #[test]
    fn figures_that_no_device_can_have_are_dropped_and_counted() {
        let (mut meter, start) = begun();
        let load = meter.apply(start + SECOND, Some(42_949_672.95), &ring(11_000_000, &[0, 180, 0, 0, 0]));
        assert_eq!((load.implausible, load.max), (2, Some(0.0)));
    }

    #[test]
    fn without_a_ring_the_gauge_is_integrated_over_time() {
        let mut meter = LoadMeter::new(SECOND * 60);
        let start = Instant::now();
        let busy: u64 =
            (0..=10).map(|n| meter.apply(start + SECOND * n, Some(0.5), &Ring::Unsupported).busy_seconds).sum();
        assert_eq!(busy, 5);
    }
}
