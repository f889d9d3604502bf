//! Histograms of a catalogue under an unknown prefix, which the exporter exports as summaries.

use std::sync::atomic::{AtomicBool, Ordering};

use metrics::Key;

use super::configured::Settings;
use crate::catalog::{LabelDef, MetricDef};

/// Logs the first one.
#[derive(Debug)]
pub(super) struct UnknownPrefix {
    settings: Settings,
    histograms: Vec<&'static MetricDef>,
    logged: AtomicBool,
}

impl UnknownPrefix {
    pub(super) const fn new(settings: Settings, histograms: Vec<&'static MetricDef>) -> Self {
        Self { settings, histograms, logged: AtomicBool::new(false) }
    }

    /// Call it for each histogram that is in no catalogue.
    pub(super) fn check(&self, key: &Key) {
        if self.logged.load(Ordering::Relaxed) || !self.histograms.iter().any(|row| is_row_but_for_prefix(row, key)) {
            return;
        }
        if !self.settings.bind(key.name()) && !self.logged.swap(true, Ordering::Relaxed) {
            #[cfg(feature = "tracing")]
            let _ = crate::catch::catch_panic(|| {
                tracing::warn!(
                    target: crate::spans::HINTS,
                    "`{}` is exported as a summary, which rules and dashboards cannot use: it looks like a histogram of the catalogue under a prefix that \
                     the exporter does not know. Build the metrics with `Builder::exporter`, or pass their naming to `ExporterBuilder::naming`; for another catalogue than that of \
                     llm-metrics, pass it with its naming to `ExporterBuilder::catalogue`",
                    key.name()
                );
            });
        }
    }
}

/// Whether the name differs only in its prefix, and the row's labels are present.
fn is_row_but_for_prefix(row: &MetricDef, key: &Key) -> bool {
    let rest = row.name.find('_').map_or(row.name, |at| &row.name[at..]);
    let has = |label: &LabelDef| key.labels().any(|own| own.key() == label.name);
    key.name().ends_with(rest) && row.labels.iter().all(has)
}
