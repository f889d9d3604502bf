//! The values that a source reports for one device.

use std::{
    hash::{Hash, Hasher},
    time::Instant,
};

use llm_metrics::catalog::MetricDef;

use super::ErrorKind;

/// One series of a device: a row of the catalogue, and its labels other than those of the device. A [`GpuSession`](super::GpuSession) names with it
/// what it reports.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Series {
    /// The row of [`catalog`](crate::catalog).
    pub row: &'static MetricDef,
    /// The labels other than `gpu` and `gpu_uuid`.
    pub labels: &'static [(&'static str, &'static str)],
}

impl Series {
    /// A series with these labels.
    ///
    /// # Panics
    /// In builds with debug assertions, if the row has no such label, or the label never has this value. In a constant, it does not compile then.
    #[must_use]
    pub const fn new(row: &'static MetricDef, labels: &'static [(&'static str, &'static str)]) -> Self {
        debug_assert!(are_declared(row, labels), "the row has no such label, or the label never has this value");
        Self { row, labels }
    }
}

/// Whether the row has these labels, and they can have these values. Loops, because iterators and comparisons of texts are not `const`.
const fn are_declared(row: &MetricDef, labels: &[(&str, &str)]) -> bool {
    let mut known = 0;
    let mut at = 0;
    while at < labels.len() {
        let (name, value) = labels[at];
        let mut of_row = 0;
        while of_row < row.labels.len() {
            let declared = row.labels[of_row];
            if is_same(declared.name, name) && (declared.values.is_empty() || is_one_of(value, declared.values)) {
                known += 1;
            }
            of_row += 1;
        }
        at += 1;
    }
    known == labels.len()
}

const fn is_one_of(value: &str, values: &[&str]) -> bool {
    let mut at = 0;
    while at < values.len() {
        if is_same(values[at], value) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut at = 0;
    while at < left.len() && at < right.len() && left[at] == right[at] {
        at += 1;
    }
    at == left.len() && at == right.len()
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

/// A part of a device's values; each part has its own period. The collector passes it to [`GpuSession::read`](super::GpuSession::read).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Constant values: read once.
    Static,
    /// Values that change fast: read in every tick.
    Fast,
    /// A part of the slow values. The parts are spread over the slow period, so that no tick reads all of them.
    Slow(usize),
}

/// One entry of the driver's ring of utilisation samples.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// When it was taken, in microseconds of the driver's clock: only differences have a meaning.
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

/// The content of the driver's ring of samples, for [`Readings::utilization`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Ring {
    /// This device has no ring.
    #[default]
    Unsupported,
    /// No samples after [`Readings::since`].
    Empty,
    /// The samples after [`Readings::since`], oldest first.
    New(Vec<Sample>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Gauge(f64),
    Count { count: u64, per_unit: u64 },
}

/// When a tick began, by its own clock and by the machine's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    now: Instant,
    began: Instant,
}

impl Tick {
    /// The current time, which is later than that of the tick by the reads before.
    pub(crate) fn clock(self) -> Instant {
        self.now + self.began.elapsed()
    }
}

/// Collects the values of one device in one tick.
///
/// A source reports the values that it has and leaves out the others: a gauge that is missing from a part that had it before becomes NaN, and one
/// that was never reported does not exist.
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

    /// The timestamp of the last utilisation sample that was used; 0 if there was none.
    #[must_use]
    pub const fn since(&self) -> u64 {
        self.since
    }

    /// Reports a gauge, in the unit of its row. An implausible value is dropped and counted.
    pub fn gauge(&mut self, series: Series, value: f64) {
        self.values.push((series, Value::Gauge(value)));
    }

    /// Reports the driver's own count, of which `per_unit` are one unit of the row: 1,000 for millijoules.
    ///
    /// It may decrease, for example when a driver is loaded again: the published counter never does.
    pub fn count(&mut self, series: Series, count: u64, per_unit: u64) {
        self.values.push((series, Value::Count { count, per_unit: per_unit.max(1) }));
    }

    /// Reports the load: the driver's gauge (a ratio), if it has one, and its ring of samples.
    pub fn utilization(&mut self, gauge: Option<f64>, ring: Ring) {
        self.utilization = Some((gauge, ring));
    }

    /// Counts a value that could not be read.
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
