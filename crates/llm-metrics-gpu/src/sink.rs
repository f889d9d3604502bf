//! From rows and labels to the handles of a recorder.

use std::cell::Cell;

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

/// A counter of our own. Its total outlives the recorder that it was told to, so that one that is installed later gets it.
pub(crate) struct Tally {
    handle: Counter,
    total: Cell<u64>,
}

impl Tally {
    /// One that is at 0, and shows.
    pub(crate) fn new(handle: Counter) -> Self {
        handle.increment(0);
        Self { handle, total: Cell::new(0) }
    }

    pub(crate) fn add(&self, times: u64) {
        self.total.set(self.total.get().saturating_add(times));
        self.handle.increment(times);
    }

    /// Goes on with another handle. Where that is of the same series as before this changes nothing.
    pub(crate) fn renew(&mut self, handle: Counter) {
        handle.absolute(self.total.get());
        self.handle = handle;
    }
}

/// The collector's metrics about itself.
pub(crate) struct Own {
    pub(crate) up: Gauge,
    /// Nothing until there was a first success: a time of 0 would be fifty years ago.
    last_success: Option<(Gauge, f64)>,
    pub(crate) tick: Histogram,
    pub(crate) reinits: Tally,
    errors: Vec<Tally>,
}

impl Own {
    /// Registers all of them, each counter at 0.
    pub(crate) fn register(sink: &Sink) -> Self {
        Self {
            up: sink.gauge(&catalog::COLLECTOR_UP, &[]),
            last_success: None,
            tick: sink.histogram(&catalog::TICK),
            reinits: Tally::new(sink.counter(&catalog::REINITS, &[])),
            errors: ErrorKind::ALL.iter().map(|kind| Tally::new(errors_of(*kind, sink))).collect(),
        }
    }

    /// Registers all of them anew, and says again what each said.
    pub(crate) fn renew(&mut self, up: bool, sink: &Sink) {
        self.up = sink.gauge(&catalog::COLLECTOR_UP, &[]);
        self.up.set(if up { 1.0 } else { 0.0 });
        if let Some((gauge, at)) = &mut self.last_success {
            *gauge = sink.gauge(&catalog::LAST_SUCCESS, &[]);
            gauge.set(*at);
        }
        self.tick = sink.histogram(&catalog::TICK);
        self.reinits.renew(sink.counter(&catalog::REINITS, &[]));
        for (kind, tally) in ErrorKind::ALL.iter().zip(&mut self.errors) {
            tally.renew(errors_of(*kind, sink));
        }
    }

    /// Devices were read at this time.
    pub(crate) fn succeeded(&mut self, at: f64, sink: &Sink) {
        let (gauge, last) = self.last_success.get_or_insert_with(|| (sink.gauge(&catalog::LAST_SUCCESS, &[]), at));
        *last = at;
        gauge.set(at);
    }

    pub(crate) fn error(&self, kind: ErrorKind, times: u64) {
        if let Some(tally) = ErrorKind::ALL.iter().position(|known| *known == kind).and_then(|at| self.errors.get(at)) {
            tally.add(times);
        }
    }
}

fn errors_of(kind: ErrorKind, sink: &Sink) -> Counter {
    sink.counter(&catalog::ERRORS, &[Label::from_static_parts("kind", kind.as_str())])
}
