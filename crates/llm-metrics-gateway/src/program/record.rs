//! Handles of the gateway's own metrics, one set per upstream.

use std::{array, sync::Arc, time::Duration};

use llm_metrics::{
    catalog::{LabelDef, MetricDef, Registrar},
    prometheus::ExporterRecorder,
};
use metrics::{Counter, Gauge, Histogram, Label};

use crate::catalog::{
    self,
    labels::{ATTEMPT_RESULT, MEMORY_KIND, MODEL, QUOTA_KIND, THROTTLED_KIND, UPSTREAM},
};

/// Registers rows of the gateway's catalogue with the exporter.
pub(crate) fn registrar(recorder: Arc<ExporterRecorder>) -> Registrar {
    let registrar = Registrar::new(catalog::SECTIONS).recorder(recorder);
    registrar.describe();
    registrar
}

/// The end of an attempt, in the order of [`ATTEMPT_RESULT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Answered,
    Refused,
    Reset,
    Timeout,
    Cancelled,
}

/// The reason in a response with status 429, in the order of [`THROTTLED_KIND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttled {
    Quota,
    Overload,
    Unknown,
}

/// The unit of a quota, in the order of [`QUOTA_KIND`].
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
    attempts: [Counter; ATTEMPT_RESULT.values.len()],
    throttled: [Counter; THROTTLED_KIND.values.len()],
    poll_failures: Counter,
}

impl UpstreamMetrics {
    pub(crate) fn new(registrar: &Registrar, name: &str) -> Self {
        let upstream = UPSTREAM.label(name.to_owned());
        let counter = |row: &MetricDef, label: LabelDef, value: usize| {
            registrar.counter(row, [upstream.clone(), label.label(label.values[value])])
        };
        Self {
            overhead: registrar.histogram(&catalog::OVERHEAD, [upstream.clone()]),
            attempts: array::from_fn(|end| counter(&catalog::ATTEMPTS, ATTEMPT_RESULT, end)),
            throttled: array::from_fn(|kind| counter(&catalog::THROTTLED, THROTTLED_KIND, kind)),
            poll_failures: registrar.counter(&catalog::POLL_FAILURES, [upstream.clone()]),
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
        self.registrar.histogram(&catalog::RETRY_AFTER, [self.upstream.clone()]).record(wait.as_secs_f64());
    }

    pub(crate) fn quota_remaining(&self, kind: Quota, ratio: f64) {
        let labels = [self.upstream.clone(), QUOTA_KIND.label(QUOTA_KIND.values[kind as usize])];
        self.registrar.gauge(&catalog::QUOTA_REMAINING, labels).set(ratio);
    }

    pub(crate) fn up(&self, up: bool) {
        self.registrar.gauge(&catalog::UPSTREAM_UP, [self.upstream.clone()]).set(if up { 1.0 } else { 0.0 });
    }

    /// `None` if it is not known.
    pub(crate) fn loaded_models(&self, count: Option<usize>) {
        let count = count.map_or(f64::NAN, |count| count as f64);
        self.registrar.gauge(&catalog::LOADED_MODELS, [self.upstream.clone()]).set(count);
    }

    pub(crate) fn loaded_model(&self, model: &str) -> LoadedModelMetrics {
        LoadedModelMetrics {
            registrar: self.registrar.clone(),
            upstream: self.upstream.clone(),
            model: MODEL.label(model.to_owned()),
            memory: [const { None }; MEMORY_KIND.values.len()],
            expiry: None,
        }
    }
}

/// The gauges of a loaded model. Each exists from its first value on, and is NaN while its value is not known any more.
#[derive(Debug)]
pub(crate) struct LoadedModelMetrics {
    registrar: Registrar,
    upstream: Label,
    model: Label,
    /// In the order of [`MEMORY_KIND`].
    memory: [Option<Gauge>; MEMORY_KIND.values.len()],
    expiry: Option<Gauge>,
}

impl LoadedModelMetrics {
    /// All memory, and the part on GPUs.
    pub(crate) fn memory(&mut self, bytes: [Option<u64>; MEMORY_KIND.values.len()]) {
        for ((gauge, bytes), kind) in self.memory.iter_mut().zip(bytes).zip(MEMORY_KIND.values) {
            let labels = || [self.upstream.clone(), self.model.clone(), MEMORY_KIND.label(*kind)];
            set(gauge, bytes.map(|bytes| bytes as f64), || self.registrar.gauge(&catalog::MODEL_MEMORY, labels()));
        }
    }

    /// In Unix seconds.
    pub(crate) fn expiry(&mut self, at: Option<f64>) {
        let labels = || [self.upstream.clone(), self.model.clone()];
        set(&mut self.expiry, at, || self.registrar.gauge(&catalog::MODEL_EXPIRY, labels()));
    }

    pub(crate) fn unloaded(&mut self) {
        self.memory([None; MEMORY_KIND.values.len()]);
        self.expiry(None);
    }
}

fn set(gauge: &mut Option<Gauge>, value: Option<f64>, new: impl FnOnce() -> Gauge) {
    match (value, gauge) {
        (Some(value), gauge) => gauge.get_or_insert_with(new).set(value),
        (None, Some(gauge)) => gauge.set(f64::NAN),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use llm_metrics::{catalog::Naming, prometheus::Exporter};

    use super::*;

    #[test]
    fn a_value_of_a_loaded_model_is_absent_until_it_is_known_and_nan_after_that() {
        let (recorder, exporter) = Exporter::builder().catalogue(catalog::SECTIONS, Naming::new()).build().unwrap();
        let upstream = UpstreamMetrics::new(&registrar(recorder), "up");
        let mut model = upstream.loaded_model("m");
        let values = |name: &str| {
            let page = exporter.render();
            let lines = page.lines().filter(|line| line.starts_with(&format!("llm_gateway_{name}{{")));
            let mut values: Vec<_> = lines.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
            values.sort();
            values
        };
        model.unloaded();
        assert_eq!((values("model_memory_bytes"), values("model_expiry_timestamp_seconds")), (vec![], vec![]));
        model.memory([Some(4000), None]);
        assert_eq!(values("model_memory_bytes"), ["4000"]);
        model.memory([Some(4000), Some(3000)]);
        model.expiry(Some(1_795_867_200.5));
        assert_eq!(values("model_memory_bytes"), ["3000", "4000"]);
        assert_eq!(values("model_expiry_timestamp_seconds"), ["1795867200.5"]);
        model.unloaded();
        assert_eq!(values("model_memory_bytes"), ["NaN", "NaN"]);
        assert_eq!(values("model_expiry_timestamp_seconds"), ["NaN"]);
        upstream.loaded_models(Some(2));
        assert_eq!(values("loaded_models"), ["2"]);
        upstream.loaded_models(None);
        assert_eq!(values("loaded_models"), ["NaN"]);
    }
}
