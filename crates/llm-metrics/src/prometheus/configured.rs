//! Settings of the underlying exporter that would be lost silently, because only its recorder is used.

use metrics_exporter_prometheus::PrometheusBuilder;

use super::ExporterError;

/// A setting of the underlying exporter that this crate does not use.
struct Unused {
    /// The fields of the setting.
    fields: &'static [&'static str],
    setting: &'static str,
    remedy: &'static str,
}

const UNUSED: [Unused; 3] = [
    Unused {
        fields: &["exporter_config", "allowed_addresses"],
        setting: "a listener, allowed addresses or a push gateway",
        remedy: "serve the page with `Exporter::serve` or `Exporter::service`; a job that ends before a scrape pushes `Exporter::render()`, or \
                 writes it with `Exporter::write_textfile`",
    },
    Unused {
        fields: &["upkeep_timeout"],
        setting: "an upkeep interval",
        remedy: "leave it out: the exporter's own thread does upkeep, every second",
    },
    Unused {
        fields: &["global_labels"],
        setting: "a global label",
        remedy: "use `ExporterBuilder::constant_label`, which adds it to every series",
    },
];

/// Changes the settings, and returns the first change that would be lost.
pub(super) fn change(
    before: PrometheusBuilder,
    change: impl FnOnce(PrometheusBuilder) -> PrometheusBuilder,
) -> (PrometheusBuilder, Option<ExporterError>) {
    let was = fields(&before);
    let after = change(before);
    let is = fields(&after);
    let changed = |name: &&str| value(&was, name) != value(&is, name);
    let unused = UNUSED.iter().find(|unused| unused.fields.iter().any(changed));
    let unused = unused.map(|Unused { setting, remedy, .. }| ExporterError::Unused { setting, remedy });
    (after, unused)
}

/// The settings of the underlying exporter after the embedder's changes.
#[derive(Debug)]
pub(super) struct Settings(String);

impl Settings {
    pub(super) fn of(builder: &PrometheusBuilder) -> Self {
        Self(format!("{builder:?}"))
    }

    /// Whether buckets, or native histograms, are set for a metric by its full name.
    pub(super) fn bind(&self, metric: &str) -> bool {
        self.0.contains(&format!("Full({metric:?})"))
    }
}

/// A builder has no getters. Its `Debug` output has each field at the same depth.
fn fields(builder: &PrometheusBuilder) -> String {
    format!("{builder:#?}")
}

fn value<'a>(fields: &'a str, name: &str) -> &'a str {
    let Some((_, rest)) = fields.split_once(&format!("\n    {name}: ")) else { return "" };
    let end = rest.match_indices("\n    ").find(|(at, _)| !rest[at + 5..].starts_with([' ', '}', ']', ')']));
    end.map_or(rest, |(at, _)| &rest[..at])
}
