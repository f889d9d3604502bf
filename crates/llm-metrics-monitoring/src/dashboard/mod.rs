//! Grafana's dashboards.
//!
//! A panel's queries are expressions over the rows of a catalogue, so a dashboard cannot query a metric that does not exist. Thresholds come from
//! `slo.yaml`. [`files`] makes two builds of each: one for provisioning from a folder (`grafana/dashboards/`), one for importing in the user
//! interface (`grafana/import/`).
//!
//! ```
//! use llm_metrics_monitoring::{dashboard, promql::Names, slo::Slo};
//!
//! let files = dashboard::files(&Slo::default(), &Names::new())?;
//! assert!(files[0].path.ends_with("grafana/dashboards/llm-overview.json"));
//! # Ok::<(), llm_metrics_monitoring::generate::GenerateError>(())
//! ```

mod compare;
mod errors;
mod gateway;
mod gpu;
mod host;
mod json;
mod latency;
mod model;
mod overview;
mod parts;
mod quality;
mod telemetry;
mod thinking;
mod tokens;

use json::Build;
use model::Dashboard;

use crate::{
    file::{File, GenerateError},
    promql::Names,
    recording::Recording,
    slo::Slo,
};

/// Every dashboard, the main one first.
fn all(slo: &Slo) -> Vec<Dashboard> {
    let rules = Recording::new(slo);
    vec![
        overview::dashboard(slo, &rules),
        latency::dashboard(slo),
        tokens::dashboard(&rules),
        errors::dashboard(slo, &rules),
        thinking::dashboard(),
        compare::dashboard(),
        quality::dashboard(&rules),
        gateway::dashboard(),
        gpu::dashboard(slo, &rules),
        host::dashboard(),
        telemetry::dashboard(slo),
    ]
}

/// Every dashboard in both builds, the main one first.
///
/// # Errors
/// If an expression is invalid with these settings.
pub fn files(slo: &Slo, names: &Names) -> Result<Vec<File>, GenerateError> {
    let names = &names.clone().by(slo.service.by.iter().cloned());
    let (dashboards, annotations) = (all(slo), parts::annotations());
    let builds = [(Build::Provisioning, "dashboards"), (Build::Import, "import")];
    let all = builds.iter().flat_map(|build| dashboards.iter().map(move |dashboard| (build, dashboard)));
    all.map(|((build, folder), dashboard)| {
        let text = json::render(dashboard, &annotations, names, *build)?;
        Ok(File::new(format!("grafana/{folder}/{}.json", dashboard.uid), text))
    })
    .collect()
}
