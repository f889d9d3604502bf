use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};

use super::histogram::Histograms;

/// The recorder of an [`Exporter`](super::Exporter): `metrics-exporter-prometheus`, but for the histograms whose buckets the
/// exporter knows, which are counted at once.
#[derive(Debug)]
pub struct ExporterRecorder {
    others: PrometheusRecorder,
    histograms: Histograms,
    constant: Vec<Label>,
}

impl ExporterRecorder {
    pub(super) fn new(others: PrometheusRecorder, histograms: Histograms, constant: Vec<Label>) -> Self {
        Self { others, histograms, constant }
    }

    pub(super) fn handle(&self) -> PrometheusHandle {
        self.others.handle()
    }

    /// The page, of which `others` has rendered the rest.
    pub(super) fn complete(&self, mut others: String) -> String {
        self.histograms.render(&mut others);
        others
    }
}

impl Recorder for ExporterRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.others.describe_counter(name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.others.describe_gauge(name, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        if !self.histograms.describe(name.as_str(), &help) {
            self.others.describe_histogram(name, unit, help);
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.others.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.others.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let own = self.histograms.register(key, &self.constant);
        own.unwrap_or_else(|| self.others.register_histogram(key, metadata))
    }
}
