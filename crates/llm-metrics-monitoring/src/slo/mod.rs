//! `slo.yaml`: objectives and alert thresholds, for all models and jobs and for some of them.
//!
//! Every line is optional. What is given is checked as a whole: a threshold on a histogram has to be the bound of one of its
//! buckets, because between two bounds Prometheus interpolates, and above the last one it cannot see.
//!
//! [`Override`]s say what is different for some models or jobs. Where several fit, all of them apply, later ones over earlier
//! ones.
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
mod overrides;
mod settings;

use std::collections::BTreeMap;

use llm_metrics::catalog::{self, Kind, MetricDef};
use serde::{Deserialize, Serialize};
use serde_saphyr::UserMessageFormatter;

use check::{CheckedSlo, Findings, Section, distinct, job, label};
pub use overrides::Override;
pub(crate) use overrides::{Cell, Region, Told};
pub use settings::{
    Alerts, Gpu, InterTokenLatency, Objectives, PartialAlerts, PartialGpu, PartialInterTokenLatency, PartialObjectives,
    PartialScaling, PartialTimeToFirstToken, Scaling, TimeToFirstToken,
};

/// The settings, with a default for everything.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Slo {
    /// Where the metrics come from.
    pub service: Service,
    /// What is promised.
    pub objectives: Objectives,
    /// Alert thresholds, beside the objectives.
    pub alerts: Alerts,
    /// What is particular to the GPUs.
    pub gpu: Gpu,
    /// How many replicas are wanted.
    pub scaling: Scaling,
    /// Bucket bounds of histograms whose bounds the service has changed (`Builder::buckets`), by the default name of the metric.
    pub buckets: BTreeMap<String, Vec<f64>>,
    /// Labels that every alert gets, such as `team`.
    pub labels: BTreeMap<String, String>,
    /// Alerts that are not generated, by name.
    pub disable: Vec<String>,
    /// What is different for some models or jobs. Where several fit, all apply, later ones over earlier ones.
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
        findings.field("overrides", overrides::check_all(overrides, findings.bounds));
        findings.sections("overrides", overrides);
    }
}

/// Where the metrics come from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Service {
    /// What the service is called, in exported objectives and in manifests.
    pub name: String,
    /// The scrape jobs of the servers. Alerts about missing targets look at these.
    pub jobs: Vec<String>,
    /// Labels that tell deployments of the same job apart, such as `cluster` and `namespace`: the scrape configuration gives them
    /// to the targets. Everything that is aggregated by `job` is aggregated by them, too.
    pub by: Vec<String>,
    /// Where the runbooks are: the address of a folder, of which alerts and dashboards have links (`runbook_url`), or a folder, which
    /// alerts name (`runbook`).
    pub runbooks: String,
    /// The address of Alertmanager, for links that silence an alert.
    pub alertmanager: String,
}

impl Section for Service {
    fn check(&self, findings: &mut Findings<'_>) {
        let Self { name, jobs, by, runbooks, alertmanager } = self;
        findings.field("name", check::service_name(name, findings.bounds));
        findings.field("jobs", check::not_empty(jobs, findings.bounds));
        findings.field("jobs", distinct(jobs, findings.bounds));
        findings.items("jobs", jobs, job);
        findings.field("by", check::by_labels(by, findings.bounds));
        findings.items("by", by, label);
        findings.field("runbooks", check::runbooks(runbooks, findings.bounds));
        findings.field("alertmanager", check::runbooks(alertmanager, findings.bounds));
    }
}

impl Service {
    /// Where the runbook of an alert is.
    pub(crate) fn runbook(&self, alert: &str) -> String {
        format!("{}/{alert}.md", self.runbooks)
    }

    /// Whether that can be opened in a browser.
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
            runbooks: "docs/runbooks".to_owned(),
            alertmanager: "http://127.0.0.1:9093".to_owned(),
        }
    }
}

/// The bucket bounds that thresholds are checked against: the catalogue's, or those that the service has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds(BTreeMap<String, Vec<f64>>);

impl Bounds {
    pub(crate) fn of<'a>(&'a self, row: &'a MetricDef) -> &'a [f64] {
        self.0.get(row.name).map_or(row.buckets, Vec::as_slice)
    }
}

/// What is wrong with a `slo.yaml`, with the line and the field.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct InvalidSlo {
    message: String,
}

impl Slo {
    /// Reads the text of a `slo.yaml` and checks it.
    ///
    /// # Errors
    /// When it is no YAML, has a field that is not known, or a value that cannot be.
    pub fn parse(text: &str) -> Result<Self, InvalidSlo> {
        // What cannot be read is told by the reading below.
        let own = serde_saphyr::from_str_with_options::<Option<Self>>(text, options()).ok().flatten();
        let bounds = own.map(|slo| slo.bounds()).unwrap_or_default();
        // A file of comments alone is a document of nothing.
        match serde_saphyr::from_str_with_options_context_valid::<Option<CheckedSlo>>(text, options(), &bounds) {
            Ok(slo) => {
                let slo = slo.map(|checked| checked.0).unwrap_or_default();
                slo.check_overrides().map_err(|message| InvalidSlo { message })?;
                Ok(slo)
            }
            Err(error) => {
                let message = error.render_with_formatter(&UserMessageFormatter);
                let field = stopped_at(text).map(|field| format!("{field}: "));
                Err(InvalidSlo { message: field.unwrap_or_default() + &message })
            }
        }
    }

    /// The settings that hold for a model of a job: these, with every override that fits.
    #[must_use]
    pub fn effective(&self, job: &str, model: &str) -> Self {
        let mut slo = Self { overrides: Vec::new(), ..self.clone() };
        for one in self.overrides.iter().filter(|one| one.fits(job, Some(model))) {
            one.apply(&mut slo);
        }
        slo
    }

    /// The settings that hold for a job, whatever its models: these, with every override for jobs alone that fits.
    #[must_use]
    pub fn of_job(&self, job: &str) -> Self {
        let mut slo = Self { overrides: Vec::new(), ..self.clone() };
        for one in self.overrides.iter().filter(|one| one.fits(job, None)) {
            one.apply(&mut slo);
        }
        slo
    }

    /// The bucket bounds of a histogram, as the service has them.
    #[must_use]
    pub fn bounds_of<'a>(&'a self, row: &'a MetricDef) -> &'a [f64] {
        self.buckets.get(row.name).map_or(row.buckets, Vec::as_slice)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds(self.buckets.clone())
    }

    /// Each override's settings as they hold in the end: what two fields have to do with each other.
    fn check_overrides(&self) -> Result<(), String> {
        for (index, one) in self.overrides.iter().enumerate() {
            let mut slo = Self { overrides: Vec::new(), ..self.clone() };
            one.apply(&mut slo);
            let report = slo.findings(&self.bounds());
            if !report.is_empty() {
                let lines = report.iter().map(|(path, error)| format!("overrides[{index}].{path}: {error}"));
                return Err(lines.collect::<Vec<_>>().join("\n"));
            }
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

/// The field that cannot be read. Those that can be read and are wrong are in the message already.
fn stopped_at(text: &str) -> Option<String> {
    let mut field = None;
    let _ = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        serde_path_to_error::deserialize::<_, Option<Slo>>(yaml).map_err(|error| {
            // It ends so where it is the key that cannot be read.
            field = Some(error.path().to_string().trim_end_matches(".?").to_owned());
            error.into_inner()
        })
    });
    field.filter(|field| field != "." && field != "?")
}

/// The histograms of the catalogue, whose bounds can be another service's own.
pub(crate) fn histogram_of(name: &str) -> Option<&'static MetricDef> {
    catalog::all().find(|row| row.kind == Kind::Histogram && row.name == name)
}
