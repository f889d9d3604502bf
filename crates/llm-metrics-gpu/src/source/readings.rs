//! What a source reports of one device.

use std::{
    hash::{Hash, Hasher},
    time::Instant,
};

use llm_metrics::catalog::MetricDef;

use super::ErrorKind;

/// One series of a device: a row of the catalogue, and the labels that it has beside the device's own.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Series {
    /// The row of [`catalog`](crate::catalog).
    pub row: &'static MetricDef,
    /// The labels beside `gpu` and `gpu_uuid`.
    pub labels: &'static [(&'static str, &'static str)],
}

impl Series {
    /// A series with labels of its own.
    #[must_use]
    pub const fn new(row: &'static MetricDef, labels: &'static [(&'static str, &'static str)]) -> Self {
        Self { row, labels }
    }
}

impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        self.row.name == other.row.name && self.labels == other.labels
    }
}

impl Eq for Series {}

impl Hash for Series {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.row.name.hash(state);
        self.labels.hash(state);
    }
}

/// A part of what is known of a device; each has its own rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// What does not change while the device is there: read once.
    Static,
    /// What changes all the time: read in every tick.
    Fast,
    /// A share of what changes slowly. The shares are spread over the slow period, so that no tick has to read them all.
    Slow(usize),
}

/// One entry of the driver's ring of utilisation samples.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// When it was taken, in microseconds of a clock of the driver's choosing: only differences mean something.
    pub timestamp: u64,
    /// Share of time in which a kernel ran.
    pub utilization: f64,
}

impl Sample {
    /// A sample.
    #[must_use]
    pub const fn new(timestamp: u64, utilization: f64) -> Self {
        Self { timestamp, utilization }
    }
}

/// What the driver's ring of samples had to say.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Ring {
    /// This device has none.
    #[default]
    Unsupported,
    /// Nothing that is newer than [`Readings::since`].
    Empty,
    /// What is newer than [`Readings::since`], oldest first.
    New(Vec<Sample>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Gauge(f64),
    Count { count: u64, per_unit: u64 },
}

/// When a tick began, by its own time and by the machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    now: Instant,
    began: Instant,
}

impl Tick {
    /// The time of this moment, which is later than that of the tick by what was read in it before.
    pub(crate) fn clock(self) -> Instant {
        self.now + self.began.elapsed()
    }
}

/// Collects what a source reads of one device in one tick.
///
/// A source reports what it has and leaves out what it has not: a gauge that is left out of a part that had it before
/// becomes NaN, and one that never was reported never exists.
#[derive(Debug)]
#[non_exhaustive]
pub struct Readings {
    now: Instant,
    tick: Tick,
    since: u64,
    pub(crate) values: Vec<(Series, Value)>,
    pub(crate) utilization: Option<(Option<f64>, Ring)>,
    pub(crate) failures: Vec<ErrorKind>,
}

impl Readings {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now,
            tick: Tick { now, began: Instant::now() },
            since: 0,
            values: Vec::new(),
            utilization: None,
            failures: Vec::new(),
        }
    }

    pub(crate) fn begin_tick(&mut self, now: Instant) {
        self.tick = Tick { now, began: Instant::now() };
    }

    pub(crate) fn start(&mut self, now: Instant, since: u64) {
        (self.now, self.since, self.utilization) = (now, since, None);
        self.values.clear();
        self.failures.clear();
    }

    /// The time of this tick.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    pub(crate) const fn tick(&self) -> Tick {
        self.tick
    }

    /// The timestamp of the last utilisation sample that was taken in; 0 if there was none.
    #[must_use]
    pub const fn since(&self) -> u64 {
        self.since
    }

    /// Reports a gauge, in the unit of its row. A value that no device can have is dropped and counted.
    pub fn gauge(&mut self, series: Series, value: f64) {
        self.values.push((series, Value::Gauge(value)));
    }

    /// Reports the driver's own count, of which `per_unit` make one of the row's unit: 1,000 for millijoules.
    ///
    /// It may fall back, as it does when a driver is loaded anew: what is published only rises.
    pub fn count(&mut self, series: Series, count: u64, per_unit: u64) {
        self.values.push((series, Value::Count { count, per_unit: per_unit.max(1) }));
    }

    /// Reports the load: the driver's gauge (a ratio), where it has one, and its ring of samples.
    pub fn utilization(&mut self, gauge: Option<f64>, ring: Ring) {
        self.utilization = Some((gauge, ring));
    }

    /// Counts something that could not be read.
    pub fn failed(&mut self, kind: ErrorKind) {
        self.failures.push(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_read_from_its_own_last_sample_on() {
        let now = Instant::now();
        let mut readings = Readings::new(now);
        assert_eq!(readings.since(), 0);
        for last in [7, 0, 9] {
            readings.start(now, last);
            assert_eq!(readings.since(), last);
        }
    }
}
