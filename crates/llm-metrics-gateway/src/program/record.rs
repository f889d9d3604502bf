//! Handles of the gateway's own metrics, one set per upstream.

use std::{sync::Arc, time::Duration};

use llm_metrics::{
    catalog::{MetricDef, Naming},
    prometheus::ExporterRecorder,
};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

use crate::catalog::{self, values};

const METADATA: Metadata<'static> = Metadata::new("llm_metrics_gateway", Level::INFO, Some("llm_metrics_gateway"));

/// Registers rows of the gateway's catalogue with the exporter.
#[derive(Clone, Debug)]
pub(crate) struct Registrar {
    recorder: Arc<ExporterRecorder>,
}

impl Registrar {
    pub(crate) fn new(recorder: Arc<ExporterRecorder>) -> Self {
        catalog::all().for_each(|row| row.describe(&Naming::new(), &recorder));
        Self { recorder }
    }

    pub(crate) fn gauge(&self, row: &MetricDef, labels: Vec<Label>) -> Gauge {
        self.recorder.register_gauge(&key(row, labels), &METADATA)
    }

    fn counter(&self, row: &MetricDef, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&key(row, labels), &METADATA)
    }

    fn histogram(&self, row: &MetricDef, labels: Vec<Label>) -> Histogram {
        self.recorder.register_histogram(&key(row, labels), &METADATA)
    }
}

fn key(row: &MetricDef, labels: Vec<Label>) -> Key {
    debug_assert!(labels.iter().map(Label::key).eq(row.labels.iter().copied()), "{} has other labels", row.name);
    Key::from_parts(row.name, labels)
}

/// The end of an attempt, in the order of [`values::RESULT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Answered,
    Refused,
    Reset,
    Timeout,
    Cancelled,
}

/// The reason in a response with status 429, in the order of [`values::THROTTLED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttled {
    Quota,
    Overload,
    Unknown,
}

/// The unit of a quota, in the order of [`values::QUOTA`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quota {
    Requests,
    Tokens,
}

impl Quota {
    pub(crate) const ALL: [Self; 2] = [Self::Requests, Self::Tokens];
}

/// The metrics of one upstream. Counters exist at 0 from the start; gauges and histograms from their first value on.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    registrar: Registrar,
    upstream: Label,
    overhead: Histogram,
    attempts: [Counter; values::RESULT.len()],
    throttled: [Counter; values::THROTTLED.len()],
    poll_failures: Counter,
}

impl UpstreamMetrics {
    pub(crate) fn new(registrar: &Registrar, name: &str) -> Self {
        let upstream = Label::new("upstream", name.to_owned());
        let counters = |row: &MetricDef, label: &'static str, word: &'static str| {
            registrar.counter(row, vec![upstream.clone(), Label::from_static_parts(label, word)])
        };
        Self {
            overhead: registrar.histogram(&catalog::OVERHEAD, vec![upstream.clone()]),
            attempts: values::RESULT.map(|word| counters(&catalog::ATTEMPTS, "result", word)),
            throttled: values::THROTTLED.map(|word| counters(&catalog::THROTTLED, "kind", word)),
            poll_failures: registrar.counter(&catalog::POLL_FAILURES, vec![upstream.clone()]),
            registrar: registrar.clone(),
            upstream,
        }
    }

    pub(crate) fn attempt(&self, attempt: Attempt) {
        self.attempts[attempt as usize].increment(1);
    }

    pub(crate) fn throttled(&self, kind: Throttled) {
        self.throttled[kind as usize].increment(1);
    }

    pub(crate) fn overhead(&self, spent: Duration) {
        self.overhead.record(spent.as_secs_f64());
    }

    pub(crate) fn poll_failed(&self) {
        self.poll_failures.increment(1);
    }

    pub(crate) fn retry_after(&self, wait: Duration) {
        self.registrar.histogram(&catalog::RETRY_AFTER, vec![self.upstream.clone()]).record(wait.as_secs_f64());
    }

    pub(crate) fn quota_remaining(&self, kind: Quota, ratio: f64) {
        let labels = vec![self.upstream.clone(), Label::from_static_parts("kind", values::QUOTA[kind as usize])];
        self.registrar.gauge(&catalog::QUOTA_REMAINING, labels).set(ratio);
    }

    pub(crate) fn up(&self, up: bool) {
        self.registrar.gauge(&catalog::UPSTREAM_UP, vec![self.upstream.clone()]).set(if up { 1.0 } else { 0.0 });
    }

    pub(crate) fn loaded_models(&self, count: f64) {
        self.registrar.gauge(&catalog::LOADED_MODELS, vec![self.upstream.clone()]).set(count);
    }

    /// All memory, and the part on GPUs.
    pub(crate) fn model_memory(&self, model: &str, bytes: [f64; values::MEMORY.len()]) {
        for (kind, bytes) in values::MEMORY.into_iter().zip(bytes) {
            let labels = vec![self.upstream.clone(), model_label(model), Label::from_static_parts("kind", kind)];
            self.registrar.gauge(&catalog::MODEL_MEMORY, labels).set(bytes);
        }
    }

    pub(crate) fn model_expiry(&self, model: &str, at: f64) {
        self.registrar.gauge(&catalog::MODEL_EXPIRY, vec![self.upstream.clone(), model_label(model)]).set(at);
    }
}

fn model_label(model: &str) -> Label {
    Label::new("model", model.to_owned())
}
