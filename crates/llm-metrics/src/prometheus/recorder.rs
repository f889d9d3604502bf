use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusHandle, PrometheusRecorder};

use super::{
    counter::Counters,
    gauge::Gauges,
    histogram::Histograms,
    unknown_prefix::UnknownPrefix,
    views::{Spelling, Views},
};

/// The recorder of an [`Exporter`](super::Exporter): that of `metrics-exporter-prometheus`, except for the metrics of the catalogues, which are
/// counted and rendered here.
#[derive(Debug)]
pub struct ExporterRecorder {
    others: PrometheusRecorder,
    handle: PrometheusHandle,
    counted: Counted,
    constant: Vec<Label>,
    unknown_prefix: UnknownPrefix,
}

/// The metrics of the catalogues, and the other dialects that show them.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) counters: Counters,
    pub(super) gauges: Gauges,
    pub(super) histograms: Histograms,
    pub(super) views: Views,
}

impl ExporterRecorder {
    pub(super) fn new(
        others: PrometheusRecorder,
        counted: Counted,
        constant: Vec<Label>,
        unknown_prefix: UnknownPrefix,
    ) -> Self {
        Self { handle: others.handle(), others, counted, constant, unknown_prefix }
    }

    /// Moves the samples that the underlying exporter has stored into buckets.
    pub(super) fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The names of the labels that dialects give to their series.
    pub(super) fn labels_of_dialects(&self) -> impl Iterator<Item = String> + '_ {
        self.counted.views.labels()
    }

    /// Whether a page with UTF-8 names differs from a page without.
    pub(super) fn has_dots(&self) -> bool {
        self.counted.views.have_dots()
    }

    /// Renders the page. Counters are read first, in the order of registration, so that everything recorded before a counter was incremented is on
    /// the page.
    pub(super) fn render(&self, spelling: Spelling) -> String {
        let Counted { counters, gauges, histograms, views } = &self.counted;
        let mut page = String::new();
        counters.render(&mut page);
        views.render_counters(counters, spelling, &mut page);
        page.push_str(&self.handle.render());
        gauges.render(&mut page);
        views.render_gauges(gauges, spelling, &mut page);
        histograms.render(&mut page);
        views.render_histograms(histograms, spelling, &mut page);
        page
    }
}

impl Recorder for ExporterRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        if !self.counted.counters.describe(name.as_str(), &help) {
            self.others.describe_counter(name, unit, help);
        }
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        if !self.counted.gauges.describe(name.as_str(), &help) {
            self.others.describe_gauge(name, unit, help);
        }
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        if !self.counted.histograms.describe(name.as_str(), &help) {
            self.others.describe_histogram(name, unit, help);
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let own = self.counted.counters.register(key, &self.constant);
        own.map_or_else(|| self.others.register_counter(key, metadata), Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let own = self.counted.gauges.register(key, &self.constant);
        own.map_or_else(|| self.others.register_gauge(key, metadata), Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        if let Some(own) = self.counted.histograms.register(key, &self.constant) {
            return Histogram::from_arc(own);
        }
        self.unknown_prefix.check(key);
        self.others.register_histogram(key, metadata)
    }
}
