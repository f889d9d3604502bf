//! From rows and labels to the handles of a recorder.

use llm_metrics::catalog::{MetricDef, Naming};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};

use crate::{catalog, source::ErrorKind};

const METADATA: Metadata<'static> = Metadata::new("llm_metrics_gpu", Level::INFO, Some("llm_metrics_gpu"));

/// Where series are registered: a recorder that was handed in, or the global one.
///
/// Handles are registered anew from time to time: one from before a recorder was installed, or of a series that the
/// recorder has thrown out as idle, is dead and does not say so.
pub(crate) struct Sink {
    pub(crate) recorder: Option<Box<dyn Recorder + Send + Sync>>,
    pub(crate) naming: Naming,
    pub(crate) constant_labels: Vec<Label>,
}

impl Sink {
    pub(crate) fn describe(&self) {
        self.with(|recorder| catalog::all().for_each(|row| row.describe(&self.naming, recorder)));
    }

    pub(crate) fn gauge(&self, row: &MetricDef, labels: &[Label]) -> Gauge {
        self.with(|recorder| recorder.register_gauge(&self.key(row, labels), &METADATA))
    }

    pub(crate) fn counter(&self, row: &MetricDef, labels: &[Label]) -> Counter {
        self.with(|recorder| recorder.register_counter(&self.key(row, labels), &METADATA))
    }

    fn histogram(&self, row: &MetricDef) -> Histogram {
        self.with(|recorder| recorder.register_histogram(&self.key(row, &[]), &METADATA))
    }

    fn key(&self, row: &MetricDef, labels: &[Label]) -> Key {
        let name = KeyName::from(self.naming.name(row));
        Key::from_parts(name, [&self.constant_labels, labels].concat())
    }

    fn with<T>(&self, body: impl FnOnce(&dyn Recorder) -> T) -> T {
        match &self.recorder {
            Some(recorder) => body(recorder),
            None => metrics::with_recorder(body),
        }
    }
}

/// The collector's metrics about itself.
pub(crate) struct Own {
    pub(crate) up: Gauge,
    pub(crate) last_success: Gauge,
    pub(crate) tick: Histogram,
    pub(crate) reinits: Counter,
    errors: Vec<Counter>,
}

impl Own {
    /// Registers all of them, each counter at 0.
    pub(crate) fn register(sink: &Sink) -> Self {
        let errors = ErrorKind::ALL.iter().map(|kind| {
            let counter = sink.counter(&catalog::ERRORS, &[Label::from_static_parts("kind", kind.as_str())]);
            counter.increment(0);
            counter
        });
        let own = Self {
            up: sink.gauge(&catalog::COLLECTOR_UP, &[]),
            last_success: sink.gauge(&catalog::LAST_SUCCESS, &[]),
            tick: sink.histogram(&catalog::TICK),
            reinits: sink.counter(&catalog::REINITS, &[]),
            errors: errors.collect(),
        };
        own.reinits.increment(0);
        own
    }

    pub(crate) fn error(&self, kind: ErrorKind, times: u64) {
        if let Some(counter) = ErrorKind::ALL.iter().position(|known| *known == kind).and_then(|at| self.errors.get(at))
        {
            counter.increment(times);
        }
    }
}
