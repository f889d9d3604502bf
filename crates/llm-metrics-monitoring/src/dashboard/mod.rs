//! Grafana's dashboards.
//!
//! A panel's queries are expressions over the catalogue's rows, so a dashboard cannot ask for what is not exported. Thresholds
//! come from `slo.yaml`. [`files`] makes two builds of each: one for a folder that Grafana reads (`grafana/dashboards/`), one
//! to be imported by hand (`grafana/import/`).
//!
//! ```
//! use llm_metrics_monitoring::{dashboard, slo::Slo};
//!
//! let dashboards = dashboard::all(&Slo::default());
//! assert_eq!(dashboards[0].title, "LLM overview");
//! ```

mod errors;
mod gpu;
mod host;
mod json;
mod latency;
mod model;
mod overview;
mod parts;
mod telemetry;
mod thinking;
mod tokens;

pub use model::{Dashboard, Kind, Panel, Row, Scope, Target, Variable};

use json::Build;

use crate::{
    generate::{File, GenerateError},
    promql::Names,
    recording::Recording,
    slo::Slo,
};

/// Every dashboard, the one to begin with first.
#[must_use]
pub fn all(slo: &Slo) -> Vec<Dashboard> {
    let rules = Recording::new(slo);
    vec![
        overview::dashboard(slo, &rules),
        latency::dashboard(slo),
        tokens::dashboard(&rules),
        errors::dashboard(slo, &rules),
        thinking::dashboard(),
        gpu::dashboard(slo, &rules),
        host::dashboard(),
        telemetry::dashboard(slo),
    ]
}

/// Every dashboard in both builds.
///
/// # Errors
/// When an expression is wrong with these settings.
pub fn files(slo: &Slo, names: &Names) -> Result<Vec<File>, GenerateError> {
    let (dashboards, annotation) = (all(slo), parts::model_switches());
    let builds = [(Build::Provisioning, "dashboards"), (Build::Import, "import")];
    let all = builds.iter().flat_map(|build| dashboards.iter().map(move |dashboard| (build, dashboard)));
    all.map(|((build, folder), dashboard)| {
        let text = json::render(dashboard, &annotation, names, *build)?;
        Ok(File::new(format!("grafana/{folder}/{}.json", dashboard.uid), text))
    })
    .collect()
}
