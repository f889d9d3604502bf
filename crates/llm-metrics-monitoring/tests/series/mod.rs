//! All series that can exist: those of the catalogues, of other exporters, and of recording rules.

use std::collections::{BTreeMap, BTreeSet};

use llm_metrics::catalog::{self, Kind, MetricDef};
use llm_metrics_monitoring::{external, promql::Names, recording::Recording, slo::Slo};

/// The labels of each series, by its name.
pub(crate) fn known(names: &Names) -> BTreeMap<String, BTreeSet<String>> {
    let mut known = BTreeMap::new();
    let rows = catalog::all()
        .chain(llm_metrics_gpu::catalog::all())
        .chain(llm_metrics_gateway::catalog::all())
        .chain(external::all());
    for row in rows {
        let name = names.row(row);
        let suffixes: &[&str] = if row.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        for suffix in suffixes {
            known.insert(format!("{name}{suffix}"), labels(row, suffix));
        }
    }
    for rule in Recording::new(&Slo::default()).all() {
        known.insert(rule.name(names), rule.labels().iter().map(ToString::to_string).collect());
    }
    known
}

fn labels(row: &MetricDef, suffix: &str) -> BTreeSet<String> {
    let le = (suffix == "_bucket").then_some("le");
    row.labels.iter().map(|label| label.name).chain(["job", "instance"]).chain(le).map(str::to_owned).collect()
}
