//! `slo.yaml`: objectives and alert thresholds, for all models and jobs and for some of them.
//!
//! Every line is optional. The file is checked as a whole: a threshold on a histogram must be one of its bucket bounds, because Prometheus
//! interpolates between two bounds, and knows nothing above the last one.
//!
//! [`Override`]s set different values for some models or jobs. If several match, all of them apply; later ones take precedence.
//!
//! ```
//! use llm_metrics_monitoring::slo::Slo;
//!
//! let slo = Slo::parse("objectives:\n  availability: 0.999\n")?;
//! assert_eq!(slo.objectives.availability, 0.999);
//! assert_eq!(slo.objectives.time_to_first_token.seconds, 2.5);
//!
//! let error = Slo::parse("objectives:\n  time_to_first_token:\n    seconds: 3.5\n").unwrap_err();
//! assert!(error.to_string().contains("the nearest are 3 and 4"));
//!
//! let slo = Slo::parse("overrides:\n  - models: [qwen3-32b]\n    objectives: {availability: 0.99}\n")?;
//! assert_eq!(slo.effective("llm", "qwen3-32b").objectives.availability, 0.99);
//! assert_eq!(slo.effective("llm", "qwen3-4b").objectives.availability, 0.995);
//! # Ok::<(), llm_metrics_monitoring::slo::InvalidSlo>(())
//! ```

mod check;
mod effect;
mod overrides;
mod settings;

use std::collections::BTreeMap;

use llm_metrics::catalog::{self, Kind, MetricDef};
use serde::{Deserialize, Serialize};
use serde_saphyr::UserMessageFormatter;

pub use crate::file::InvalidSlo;
use check::{CheckedSlo, Findings, Section, distinct, job, label};
pub use overrides::Override;
pub(crate) use overrides::{Cell, OverrideScope, Region, Values};
pub use settings::{
    Alerts, Gpu, InterTokenLatency, Objectives, PartialAlerts, PartialGpu, PartialInterTokenLatency, PartialObjectives,
    PartialScaling, PartialTimeToFirstToken, Scaling, TimeToFirstToken,
};

/// The settings, with a default for everything.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Slo {
    /// The origin of the metrics.
    pub service: Service,
    /// The objectives.
    pub objectives: Objectives,
    /// Thresholds of the other alerts.
    pub alerts: Alerts,
    /// Settings for GPUs.
    pub gpu: Gpu,
    /// Settings for autoscaling.
    pub scaling: Scaling,
    /// Bucket bounds of histograms whose bounds the service has changed (`Builder::buckets`), by the default name of the metric.
    pub buckets: BTreeMap<String, Vec<f64>>,
    /// Labels that every alert gets, such as `team`.
    pub labels: BTreeMap<String, String>,
    /// Alerts that are not generated, by name.
    pub disable: Vec<String>,
    /// Different settings for some models or jobs. If several match, all of them apply; later ones take precedence.
    pub overrides: Vec<Override>,
}

impl Section for Slo {
    fn check(&self, findings: &mut Findings<'_>) {
        let Self { service, objectives, alerts, gpu, scaling, buckets, labels, disable, overrides } = self;
        findings.section("service", service);
        findings.section("objectives", objectives);
        findings.section("alerts", alerts);
        findings.section("gpu", gpu);
        findings.section("scaling", scaling);
        findings.field("buckets", check::buckets(buckets, findings.bounds));
        findings.field("labels", check::alert_labels(labels, findings.bounds));
        findings.field("disable", check::alert_names(disable, findings.bounds));
        findings.field("overrides", overrides::check_all(self, findings.bounds));
        findings.sections("overrides", overrides);
    }
}

/// The origin of the metrics.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Service {
    /// The name of the service, in exported objectives and in manifests.
    pub name: String,
    /// The scrape jobs of the servers. Alerts about missing targets use them.
    pub jobs: Vec<String>,
    /// Labels that distinguish deployments of the same job, such as `cluster` and `namespace`. The scrape configuration sets them on the targets.
    /// Everything that is aggregated by `job` is also aggregated by them.
    pub by: Vec<String>,
    /// The location of the runbooks: the URL of a folder, to which alerts and dashboards link (`runbook_url`), or a folder, which alerts name
    /// (`runbook`).
    pub runbooks: String,
    /// The URL of Alertmanager, for links that silence an alert.
    pub alertmanager: String,
    /// The URL of Prometheus in the cluster, from which KEDA reads the recommended number of replicas.
    pub prometheus: String,
}

impl Section for Service {
    fn check(&self, findings: &mut Findings<'_>) {
        let Self { name, jobs, by, runbooks, alertmanager, prometheus } = self;
        findings.field("name", check::service_name(name, findings.bounds));
        findings.field("jobs", check::not_empty(jobs, findings.bounds));
        findings.field("jobs", distinct(jobs, findings.bounds));
        findings.items("jobs", jobs, job);
        findings.field("by", check::by_labels(by, findings.bounds));
        findings.items("by", by, label);
        findings.field("runbooks", check::runbooks(runbooks, findings.bounds));
        findings.field("alertmanager", check::runbooks(alertmanager, findings.bounds));
        findings.field("prometheus", check::server_url(prometheus, findings.bounds));
    }
}

impl Service {
    /// The location of an alert's runbook.
    pub(crate) fn runbook(&self, alert: &str) -> String {
        format!("{}/{alert}.md", self.runbooks)
    }

    /// Whether a browser can open it.
    pub(crate) fn serves_runbooks(&self) -> bool {
        ["http://", "https://"].iter().any(|scheme| self.runbooks.starts_with(scheme))
    }
}

impl Default for Service {
    fn default() -> Self {
        Self {
            name: "llm".to_owned(),
            jobs: vec!["llm".to_owned()],
            by: Vec::new(),
            runbooks: "runbooks".to_owned(),
            alertmanager: "http://127.0.0.1:9093".to_owned(),
            prometheus: "http://prometheus-operated.monitoring.svc:9090".to_owned(),
        }
    }
}

/// The bucket bounds for checking thresholds: the catalogue's, or those that the service has set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds(BTreeMap<String, Vec<f64>>);

impl Bounds {
    pub(crate) fn of<'a>(&'a self, row: &'a MetricDef) -> &'a [f64] {
        self.0.get(row.name).map_or(row.buckets, Vec::as_slice)
    }
}

impl Slo {
    /// Reads the text of a `slo.yaml` and checks it.
    ///
    /// # Errors
    /// If it is not YAML, has an unknown field, or an invalid value.
    pub fn parse(text: &str) -> Result<Self, InvalidSlo> {
        // The second parse below reports errors of this one.
        let own = serde_saphyr::from_str_with_options::<Option<Self>>(text, options()).ok().flatten();
        let bounds = own.map(|slo| slo.bounds()).unwrap_or_default();
        // A file with only comments is an empty document.
        match serde_saphyr::from_str_with_options_context_valid::<Option<CheckedSlo>>(text, options(), &bounds) {
            Ok(slo) => {
                let slo = slo.map(|checked| checked.0).unwrap_or_default();
                slo.validate_overrides()?;
                Ok(slo)
            }
            Err(error) => {
                let message = error.render_with_formatter(&UserMessageFormatter);
                let field = stopped_at(text).map(|field| format!("{field}: "));
                Err(InvalidSlo::new(field.unwrap_or_default() + &message))
            }
        }
    }

    /// The settings for a model of a job: these, with every override that matches.
    #[must_use]
    pub fn effective(&self, job: &str, model: &str) -> Self {
        let mut slo = Self { overrides: Vec::new(), ..self.clone() };
        for one in self.overrides.iter().filter(|one| one.fits(job, Some(model))) {
            one.apply(&mut slo);
        }
        slo
    }

    /// The settings for a job, whatever its models: these, with every matching override that only names jobs.
    #[must_use]
    pub fn of_job(&self, job: &str) -> Self {
        let mut slo = Self { overrides: Vec::new(), ..self.clone() };
        for one in self.overrides.iter().filter(|one| one.fits(job, None)) {
            one.apply(&mut slo);
        }
        slo
    }

    /// The bucket bounds of a histogram in the service.
    #[must_use]
    pub fn bounds_of<'a>(&'a self, row: &'a MetricDef) -> &'a [f64] {
        self.buckets.get(row.name).map_or(row.buckets, Vec::as_slice)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds(self.buckets.clone())
    }

    /// Checks values that may have been changed after reading.
    pub(crate) fn validate(&self) -> Result<(), InvalidSlo> {
        InvalidSlo::of("", &self.findings(&self.bounds()))?;
        self.validate_overrides()
    }

    /// Checks the resulting settings of each override, for fields that depend on each other.
    fn validate_overrides(&self) -> Result<(), InvalidSlo> {
        for (index, one) in self.overrides.iter().enumerate() {
            let mut slo = Self { overrides: Vec::new(), ..self.clone() };
            one.apply(&mut slo);
            InvalidSlo::of(&format!("overrides[{index}]."), &slo.findings(&self.bounds()))?;
        }
        Ok(())
    }

    /// The text of a `slo.yaml` with these settings.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_default()
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { with_snippet: false }
}

/// The field that cannot be read. The message already has the path of fields that can be read but are invalid.
fn stopped_at(text: &str) -> Option<String> {
    let mut field = None;
    let _ = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        serde_path_to_error::deserialize::<_, Option<Slo>>(yaml).map_err(|error| {
            // The message has this end if a key cannot be read.
            field = Some(error.path().to_string().trim_end_matches(".?").to_owned());
            error.into_inner()
        })
    });
    field.filter(|field| field != "." && field != "?")
}

/// The histograms of the catalogue whose bounds a service may change.
pub(crate) fn histogram_of(name: &str) -> Option<&'static MetricDef> {
    catalog::all().find(|row| row.kind == Kind::Histogram && row.name == name)
}
