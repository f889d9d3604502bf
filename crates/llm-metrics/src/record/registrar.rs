//! Where handles come from: a recorder, under names and with constant labels.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

use crate::catalog::{MetricDef, Naming};

static METADATA: Metadata<'static> = Metadata::new("llm_metrics", Level::INFO, Some("llm_metrics"));

/// Registers rows of the catalogue with the recorder in use.
///
/// A handle that is resolved before a global recorder is installed does nothing for ever, hence nothing here is resolved
/// before it is used.
pub(crate) struct Registrar {
    /// The recorder that was handed in; the global one otherwise.
    pub(crate) recorder: Option<Arc<dyn Recorder + Send + Sync>>,
    pub(crate) naming: Naming,
    pub(crate) constant: Vec<Label>,
}

impl Registrar {
    pub(crate) fn with_recorder<T>(&self, use_it: impl FnOnce(&dyn Recorder) -> T) -> T {
        match &self.recorder {
            Some(recorder) => use_it(recorder.as_ref()),
            None => metrics::with_recorder(use_it),
        }
    }

    pub(crate) fn describe(&self, rows: &[MetricDef]) {
        self.with_recorder(|recorder| rows.iter().for_each(|row| row.describe(&self.naming, recorder)));
    }

    pub(crate) fn counter(&self, row: &MetricDef, labels: Vec<Label>) -> Counter {
        let key = self.key(row, labels);
        self.with_recorder(|recorder| recorder.register_counter(&key, &METADATA))
    }

    pub(crate) fn gauge(&self, row: &MetricDef, labels: Vec<Label>) -> Gauge {
        let key = self.key(row, labels);
        self.with_recorder(|recorder| recorder.register_gauge(&key, &METADATA))
    }

    pub(crate) fn histogram(&self, row: &MetricDef, labels: Vec<Label>) -> Histogram {
        let key = self.key(row, labels);
        self.with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
    }

    fn key(&self, row: &MetricDef, mut labels: Vec<Label>) -> Key {
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

/// A histogram that exists from its first sample on: an empty one would be twenty lines that say nothing.
#[derive(Default)]
pub(crate) struct LazyHistogram(OnceLock<Histogram>);

impl LazyHistogram {
    pub(crate) fn resolve(&self, register: impl FnOnce() -> Histogram) -> &Histogram {
        self.0.get_or_init(register)
    }
}
