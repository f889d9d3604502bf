//! Where handles come from: a recorder, under names and with constant labels.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, Label, Level, Metadata, Recorder};

use super::catch_panic;
use crate::catalog::{MetricDef, Naming};

static METADATA: Metadata<'static> = Metadata::new("llm_metrics", Level::INFO, Some("llm_metrics"));

/// Registers rows of the catalogue with the recorder.
///
/// A handle that is resolved before a global recorder is installed never records anything, so every handle is resolved at its first use.
pub(crate) struct Registrar {
    /// The given recorder; the global one if `None`.
    pub(crate) recorder: Option<Arc<dyn Recorder + Send + Sync>>,
    pub(crate) naming: Naming,
    pub(crate) constant: Vec<Label>,
}

impl Registrar {
    pub(crate) fn describe<'a>(&self, rows: impl IntoIterator<Item = &'a MetricDef>) {
        for row in rows {
            let _ = self.with_recorder(|recorder| row.describe(&self.naming, recorder));
        }
    }

    pub(crate) fn counter(&self, row: &MetricDef, labels: Vec<Label>) -> Counter {
        let key = self.key(row, labels);
        let counter = self.with_recorder(|recorder| recorder.register_counter(&key, &METADATA));
        counter.map_or_else(Counter::noop, |counter| Counter::from_arc(Arc::new(Caught(counter))))
    }

    pub(crate) fn gauge(&self, row: &MetricDef, labels: Vec<Label>) -> Gauge {
        let key = self.key(row, labels);
        let gauge = self.with_recorder(|recorder| recorder.register_gauge(&key, &METADATA));
        gauge.map_or_else(Gauge::noop, |gauge| Gauge::from_arc(Arc::new(Caught(gauge))))
    }

    pub(crate) fn histogram(&self, row: &MetricDef, labels: Vec<Label>) -> Histogram {
        let key = self.key(row, labels);
        let histogram = self.with_recorder(|recorder| recorder.register_histogram(&key, &METADATA));
        histogram.map_or_else(Histogram::noop, |histogram| Histogram::from_arc(Arc::new(Caught(histogram))))
    }

    /// Whether no recorder is installed, so that handles resolved now never record anything. The no-op recorder has no state.
    pub(crate) fn records_nothing(&self) -> bool {
        self.recorder.is_none() && metrics::with_recorder(|recorder| size_of_val(recorder) == 0)
    }

    /// `None` where the recorder panics.
    fn with_recorder<T>(&self, use_it: impl FnOnce(&dyn Recorder) -> T) -> Option<T> {
        catch_panic(|| match &self.recorder {
            Some(recorder) => use_it(recorder.as_ref()),
            None => metrics::with_recorder(use_it),
        })
    }

    /// The key of a series of this row.
    pub(crate) fn key(&self, row: &MetricDef, mut labels: Vec<Label>) -> Key {
        debug_assert!(
            row.labels.iter().all(|declared| labels.iter().any(|label| label.key() == *declared)),
            "{} lacks a label that the catalogue declares",
            row.name
        );
        labels.extend_from_slice(&self.constant);
        Key::from_parts(self.naming.key_name(row), labels)
    }
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("naming", &self.naming).field("constant", &self.constant).finish()
    }
}

/// A handle of a recorder that catches panics of the recorder, so that they do not reach the request.
struct Caught<T>(T);

impl CounterFn for Caught<Counter> {
    fn increment(&self, value: u64) {
        let _ = catch_panic(|| self.0.increment(value));
    }

    fn absolute(&self, value: u64) {
        let _ = catch_panic(|| self.0.absolute(value));
    }
}

impl GaugeFn for Caught<Gauge> {
    fn increment(&self, value: f64) {
        let _ = catch_panic(|| self.0.increment(value));
    }

    fn decrement(&self, value: f64) {
        let _ = catch_panic(|| self.0.decrement(value));
    }

    fn set(&self, value: f64) {
        let _ = catch_panic(|| self.0.set(value));
    }
}

impl HistogramFn for Caught<Histogram> {
    fn record(&self, value: f64) {
        let _ = catch_panic(|| self.0.record(value));
    }

    fn record_many(&self, value: f64, count: usize) {
        let _ = catch_panic(|| self.0.record_many(value, count));
    }
}

/// A histogram that exists from its first sample on: an empty one would be twenty lines without information.
#[derive(Default)]
pub(crate) struct LazyHistogram(OnceLock<Histogram>);

impl LazyHistogram {
    pub(crate) fn resolve(&self, register: impl FnOnce() -> Histogram) -> &Histogram {
        self.0.get_or_init(register)
    }
}
