//! The names of labels: those of scrapes, those of the catalogues, whose values their rows have, and those of alerts.

use llm_metrics::catalog::{self, MetricDef, labels};
use llm_metrics_gateway::catalog::labels as gateway;
use llm_metrics_gpu::catalog::labels as gpu;

use crate::external;

/// The job that a target was scraped for.
pub const JOB: &str = "job";
/// The host and port that a target was scraped at.
pub const INSTANCE: &str = "instance";

/// The labels that every scraped series has.
pub const TARGET_LABELS: [&str; 2] = [JOB, INSTANCE];

macro_rules! names {
    ($($name:ident = $label:path;)+) => {
        $(#[doc = concat!("The name of `", stringify!($label), "`.")]
        pub const $name: &str = $label.name;)+
    };
}

names! {
    CAUSE = labels::CAUSE;
    ERROR_TYPE = labels::ERROR_TYPE;
    EVIDENCE = labels::EVIDENCE;
    FINISH_REASON = labels::FINISH_REASON;
    FORMAT = labels::FORMAT;
    GPU = gpu::GPU;
    GPU_UUID = gpu::GPU_UUID;
    KIND = labels::ANOMALY_KIND;
    LABEL = labels::LABEL;
    MODEL = labels::MODEL;
    OPERATION = labels::OPERATION;
    OUTCOME = labels::OUTCOME;
    PHASE = labels::PHASE;
    PROTOCOL = labels::PROTOCOL;
    REASON = labels::DISCARD_REASON;
    RESULT = labels::SLO_RESULT;
    SOURCE = labels::SOURCE;
    STAT = labels::STAT;
    STATUS = labels::STATUS;
    STREAM = labels::STREAM;
    THINKING = labels::THINKING;
    UPSTREAM = gateway::UPSTREAM;
}

/// The severity of an alert, by which Alertmanager routes.
pub const SEVERITY: &str = "severity";
/// The override in `slo.yaml` that set a threshold of an alert.
pub const OVERRIDE: &str = "override";
/// The long window of the burn rate of an error budget.
pub const WINDOW: &str = "window";
/// The burn rate of an error budget, as a multiple.
pub const BURN: &str = "burn";
/// The queue that an alert is about.
pub const QUEUE: &str = "queue";
/// What an alert was seen by.
pub const SEEN: &str = "seen";
/// Why an alert fires.
pub const WHY: &str = "why";

/// The labels that alerts have in addition to those of their series.
pub const ALERT_LABELS: [&str; 7] = [SEVERITY, OVERRIDE, WINDOW, BURN, QUEUE, SEEN, WHY];

/// Whether series of llm-metrics, its GPU collector or its gateway have a label of this name.
pub(crate) fn is_of_our_series(label: &str) -> bool {
    let rows = catalog::all().chain(llm_metrics_gpu::catalog::all()).chain(llm_metrics_gateway::catalog::all());
    has_label(rows, label) || ["le", "quantile"].contains(&label)
}

/// Whether a series, a recording rule or an alert has a label of this name.
pub(crate) fn is_taken(label: &str) -> bool {
    is_of_our_series(label)
        || has_label(external::all(), label)
        || TARGET_LABELS.contains(&label)
        || ALERT_LABELS.contains(&label)
}

fn has_label(mut rows: impl Iterator<Item = &'static MetricDef>, label: &str) -> bool {
    rows.any(|row| row.label(label).is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{alerts, recording::Recording, slo::Slo};

    #[test]
    fn every_label_of_rules_and_alerts_is_taken() {
        let slo = Slo::parse("overrides: [{jobs: [a], alerts: {error_ratio: 0.1}}]\n").unwrap();
        let recording = Recording::new(&slo);
        let alerts: Vec<_> = alerts::topics(&slo, &recording).into_iter().flat_map(|topic| topic.alerts).collect();
        let variants = || alerts.iter().flat_map(|alert| &alert.variants);
        let of_series = variants().flat_map(|variant| variant.expr.labels()).map(|label| label.to_string());
        let of_rules = recording.all().flat_map(|rule| rule.labels()).map(|label| label.to_string());
        let added: BTreeSet<_> = variants().flat_map(|variant| variant.all_labels()).map(|(label, _)| label).collect();
        for label in of_series.chain(of_rules).chain(added.iter().map(|label| (*label).to_owned())) {
            assert!(is_taken(&label), "{label}");
        }
        assert_eq!(added, ALERT_LABELS.into(), "exactly these labels");
    }
}
