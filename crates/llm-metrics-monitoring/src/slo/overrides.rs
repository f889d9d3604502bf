//! Overrides for some models or jobs, and the regions of models and jobs with one set of settings each.

use std::collections::{BTreeMap, BTreeSet};

use garde::Error;
use serde::{Deserialize, Serialize};

use super::{
    Bounds, PartialAlerts, PartialGpu, PartialObjectives, PartialScaling, Slo,
    check::{self, Checked, Findings, Section, distinct, job},
    effect,
};
use crate::promql::select::{Compare, Matcher};

/// Settings of some models or jobs. Fields that are not set keep their general value.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Override {
    /// Its name in the alerts' label `override`; by default its models or jobs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The models, by their value of the label `model`; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// The scrape jobs; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
    /// Their objectives.
    #[serde(skip_serializing_if = "PartialObjectives::is_empty")]
    pub objectives: PartialObjectives,
    /// Their alert thresholds.
    #[serde(skip_serializing_if = "PartialAlerts::is_empty")]
    pub alerts: PartialAlerts,
    /// Their GPU settings: only by job, because GPUs have no models.
    #[serde(skip_serializing_if = "PartialGpu::is_empty")]
    pub gpu: PartialGpu,
    /// Their replicas: only by job.
    #[serde(skip_serializing_if = "PartialScaling::is_empty")]
    pub scaling: PartialScaling,
    /// Additional labels of their alerts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Alerts that are not generated for them, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disable: Vec<String>,
}

impl Section for Override {
    fn check(&self, findings: &mut Findings<'_>) {
        let Self { name, models, jobs, objectives, alerts, gpu, scaling, labels, disable } = self;
        findings.field("name", check::override_name(name, findings.bounds));
        findings.field("models", distinct(models, findings.bounds));
        findings.items("models", models, job);
        findings.field("jobs", distinct(jobs, findings.bounds));
        findings.items("jobs", jobs, job);
        findings.section("objectives", objectives);
        findings.section("alerts", alerts);
        findings.section("gpu", gpu);
        findings.section("scaling", scaling);
        findings.field("labels", check::alert_labels(labels, findings.bounds));
        findings.field("disable", check::alert_names(disable, findings.bounds));
    }
}

impl Override {
    /// An override for these models, whatever their job.
    #[must_use]
    pub fn of_models(models: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { models: models.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// An override for these jobs, whatever their models.
    #[must_use]
    pub fn of_jobs(jobs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { jobs: jobs.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Whether it applies. Overrides with models do not apply to series without a model.
    pub(crate) fn fits(&self, job: &str, model: Option<&str>) -> bool {
        let among = |list: &[String], value: Option<&str>| {
            list.is_empty() || value.is_some_and(|value| list.iter().any(|one| one == value))
        };
        among(&self.jobs, Some(job)) && among(&self.models, model)
    }

    pub(crate) fn apply(&self, to: &mut Slo) {
        self.objectives.apply(&mut to.objectives);
        self.alerts.apply(&mut to.alerts);
        self.gpu.apply(&mut to.gpu);
        self.scaling.apply(&mut to.scaling);
        to.labels.extend(self.labels.clone());
        to.disable.extend(self.disable.iter().filter(|name| !to.disable.contains(name)).cloned().collect::<Vec<_>>());
    }

    fn label(&self) -> String {
        let names = if self.models.is_empty() { &self.jobs } else { &self.models };
        if self.name.is_empty() { names.join(",") } else { self.name.clone() }
    }
}

/// Checks that need the other overrides.
pub(super) fn check_all(slo: &Slo, _: &Bounds) -> Checked {
    let overrides = &slo.overrides;
    for (index, one) in overrides.iter().enumerate() {
        let wrong = |message: String| Err(Error::new(format!("[{index}]: {message}")));
        if one.models.is_empty() && one.jobs.is_empty() {
            return wrong("set `models` or `jobs`; settings for everything belong at the top of the file".to_owned());
        }
        if let Some(message) = effect::missing(one, slo) {
            return wrong(message);
        }
        if overrides[..index].iter().any(|other| other.label() == one.label()) {
            return wrong(format!("the name {:?} is already in use; choose another `name`", one.label()));
        }
    }
    Ok(())
}

/// The labels by which overrides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverrideScope {
    /// Job and model.
    ByModel,
    /// Only the job.
    ByJob,
    /// None: there is one set of settings.
    Alike,
}

/// A set of label values: the listed ones, or all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    Of(BTreeSet<String>),
    AllBut(BTreeSet<String>),
}

/// Series, by their job and model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) jobs: Values,
    pub(crate) models: Values,
}

/// A region with one set of settings.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) region: Region,
    /// The names of its overrides.
    pub(crate) name: String,
    /// Its settings, without further overrides.
    pub(crate) slo: Slo,
}

impl Values {
    const fn all() -> Self {
        Self::AllBut(BTreeSet::new())
    }

    fn of(list: &[String]) -> Self {
        if list.is_empty() { Self::all() } else { Self::Of(list.iter().cloned().collect()) }
    }

    pub(crate) fn contains(&self, value: &str) -> bool {
        match self {
            Self::Of(values) => values.contains(value),
            Self::AllBut(values) => !values.contains(value),
        }
    }

    /// The intersection, unless it is empty.
    fn and(&self, other: &Self) -> Option<Self> {
        let both = match (self, other) {
            (Self::Of(a), Self::Of(b)) => Self::Of(a & b),
            (Self::Of(a), Self::AllBut(b)) | (Self::AllBut(b), Self::Of(a)) => Self::Of(a - b),
            (Self::AllBut(a), Self::AllBut(b)) => Self::AllBut(a | b),
        };
        (both != Self::Of(BTreeSet::new())).then_some(both)
    }

    fn not(&self) -> Option<Self> {
        match self {
            Self::Of(values) => Some(Self::AllBut(values.clone())),
            Self::AllBut(values) => (!values.is_empty()).then(|| Self::Of(values.clone())),
        }
    }

    /// The matchers that select them; none if it contains everything.
    pub(crate) fn matcher(&self, label: &'static str) -> Option<Matcher> {
        let (one, more, values) = match self {
            Self::Of(values) => (Compare::Equal, Compare::OneOf, values),
            Self::AllBut(values) => (Compare::NotEqual, Compare::NoneOf, values),
        };
        let compare = if values.len() == 1 { one } else { more };
        (!values.is_empty()).then(|| Matcher::new(label, compare, values.iter().cloned()))
    }

    /// One of its values: `usual`, if it contains that.
    pub(crate) fn one(&self, usual: &str) -> String {
        match self {
            _ if self.contains(usual) => usual.to_owned(),
            Self::Of(values) => values.first().cloned().unwrap_or_default(),
            Self::AllBut(values) => {
                let other = |n: u32| format!("{usual}-{n}");
                (2..).map(other).find(|name| !values.contains(name)).unwrap_or_default()
            }
        }
    }
}

impl Region {
    pub(crate) const fn all() -> Self {
        Self { jobs: Values::all(), models: Values::all() }
    }

    fn and(&self, other: &Self) -> Option<Self> {
        Some(Self { jobs: self.jobs.and(&other.jobs)?, models: self.models.and(&other.models)? })
    }

    /// The values that are in it and not in the other.
    fn without(&self, other: &Self) -> Vec<Self> {
        let Some(both) = self.and(other) else { return vec![self.clone()] };
        let other_models = other.models.not().and_then(|rest| self.models.and(&rest));
        let other_models = other_models.map(|models| Self { jobs: self.jobs.clone(), models });
        let other_jobs = other.jobs.not().and_then(|rest| self.jobs.and(&rest));
        let other_jobs = other_jobs.map(|jobs| Self { jobs, models: both.models });
        other_models.into_iter().chain(other_jobs).collect()
    }
}

impl Slo {
    /// The regions with different settings; first the one without overrides.
    pub(crate) fn cells(&self, scope: OverrideScope) -> Vec<Cell> {
        let base = Self { overrides: Vec::new(), ..self.clone() };
        let mut cells = vec![Cell { region: Region::all(), name: String::new(), slo: base }];
        for one in &self.overrides {
            if scope == OverrideScope::Alike || (scope == OverrideScope::ByJob && !one.models.is_empty()) {
                continue;
            }
            let of = Region { jobs: Values::of(&one.jobs), models: Values::of(&one.models) };
            let mut next = Vec::new();
            let mut inside = Vec::new();
            for cell in cells {
                next.extend(cell.region.without(&of).into_iter().map(|region| Cell { region, ..cell.clone() }));
                if let Some(region) = cell.region.and(&of) {
                    let mut slo = cell.slo.clone();
                    one.apply(&mut slo);
                    let name =
                        if cell.name.is_empty() { one.label() } else { format!("{}+{}", cell.name, one.label()) };
                    inside.push(Cell { region, name, slo });
                }
            }
            cells = next;
            cells.extend(inside);
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str, scope: OverrideScope) -> Vec<Cell> {
        Slo::parse(text).unwrap().cells(scope)
    }

    fn holds(region: &Region, job: &str, model: &str) -> bool {
        region.jobs.contains(job) && region.models.contains(model)
    }

    #[test]
    fn every_series_is_in_exactly_one_region_with_its_settings() {
        let text = "\
overrides:
  - {jobs: [batch], objectives: {availability: 0.9}}
  - {models: [a, b], alerts: {error_ratio: 0.1}}
  - {models: [b], jobs: [batch, chat], objectives: {availability: 0.8}}
";
        let slo = Slo::parse(text).unwrap();
        let cells = slo.cells(OverrideScope::ByModel);
        for job in ["batch", "chat", "other"] {
            for model in ["a", "b", "c"] {
                let found: Vec<_> = cells.iter().filter(|cell| holds(&cell.region, job, model)).collect();
                assert_eq!(found.len(), 1, "{job} {model}: {found:?}");
                assert_eq!(found[0].slo, slo.effective(job, model), "{job} {model}");
            }
        }
        assert!(cells[0].name.is_empty());
    }

    #[test]
    fn series_without_a_model_are_distinguished_by_job_alone() {
        let text =
            "overrides:\n  - {models: [a], alerts: {error_ratio: 0.1}}\n  - {jobs: [b], gpu: {memory_ratio: 0.99}}\n";
        assert_eq!(cells(text, OverrideScope::ByJob).len(), 2);
        assert_eq!(cells(text, OverrideScope::ByModel).len(), 4);
        assert_eq!(cells(text, OverrideScope::Alike).len(), 1);
    }

    #[test]
    fn the_name_for_all_others_is_not_a_listed_one() {
        let but = |names: &[&str]| Values::AllBut(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(but(&[]).one("a"), "a");
        assert_eq!(but(&["a", "a-2"]).one("a"), "a-3");
        assert_eq!(Values::of(&["b".to_owned()]).one("a"), "b");
    }
}
