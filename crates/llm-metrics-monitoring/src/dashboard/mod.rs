//! Grafana's dashboards.
//!
//! A panel's queries are expressions over the catalogue's rows, so a dashboard cannot ask for what is not exported. Thresholds
//! come from `slo.yaml`. [`files`] makes two builds of each: one for a folder that Grafana reads (`grafana/dashboards/`), one
//! to be imported by hand (`grafana/import/`).
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

/// Every dashboard, the one to begin with first.
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

/// Every dashboard in both builds, the one to begin with first.
///
/// # Errors
/// When an expression is wrong with these settings.
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
