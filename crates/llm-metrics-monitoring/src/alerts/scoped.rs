//! Alerts for settings that differ by model or job: one expression per set of settings, restricted to its series.

use std::{borrow::Cow, sync::LazyLock};

use super::{Alert, Case, Variant, case::Context};
use crate::{
    promql::Expr,
    recording::Recording,
    slo::{Cell, OverrideScope, Region, Slo, Values},
    vocabulary::{JOB, MODEL, OVERRIDE},
};

/// The alerts that `make` builds, for all settings that apply somewhere.
pub(super) fn alerts(slo: &Slo, rules: &Recording, make: impl Fn(&Slo, &Recording) -> Vec<Alert>) -> Vec<Alert> {
    let by = |scope| {
        let each = |cell: Cell| (make(&cell.slo, rules), cell);
        slo.cells(scope).into_iter().map(each).collect::<Vec<_>>()
    };
    let [by_model, by_job, alike] = [OverrideScope::ByModel, OverrideScope::ByJob, OverrideScope::Alike].map(by);
    let mut names: Vec<&'static str> = Vec::new();
    for alert in by_model.iter().chain(&by_job).flat_map(|(alerts, _)| alerts) {
        if !names.contains(&alert.name) {
            names.push(alert.name);
        }
    }
    let merged = names.into_iter().filter_map(|name| {
        let example = by_model.iter().chain(&by_job).find_map(|(alerts, _)| named(alerts, name))?;
        let cells = match scope_of(example) {
            OverrideScope::ByModel => &by_model,
            OverrideScope::ByJob => &by_job,
            OverrideScope::Alike => &alike,
        };
        merge(slo, example, cells.iter().map(|(alerts, cell)| (named(alerts, name), cell)))
    });
    merged.collect()
}

fn named<'a>(alerts: &'a [Alert], name: &str) -> Option<&'a Alert> {
    alerts.iter().find(|alert| alert.name == name)
}

/// The labels by which this alert's settings can differ: those of its series.
fn scope_of(alert: &Alert) -> OverrideScope {
    let Some(variant) = alert.variants.first() else { return OverrideScope::Alike };
    let labels = variant.expr.labels();
    if labels.contains(MODEL) {
        OverrideScope::ByModel
    } else if labels.contains(JOB) && !variant.expr.is_absence() {
        OverrideScope::ByJob
    } else {
        OverrideScope::Alike
    }
}

/// Whether it selects series of the region.
fn can_fire_in(alert: &Alert, region: &Region) -> bool {
    alert.variants.iter().any(|variant| !variant.expr.clone().within(region).selects_nothing())
}

/// Where settings of an override have an effect, from nowhere to everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Nowhere: there is one value for all models and jobs.
    Nowhere,
    /// On the jobs in `service.jobs`, not by model.
    ServiceJobs,
    /// On any job, not by model.
    Jobs,
    /// On any model and job.
    Models,
}

/// The reach of each alert.
static REACH: LazyLock<Vec<(Alert, Reach)>> = LazyLock::new(|| {
    let slo = Slo::default();
    let foreign = slo.service.jobs.concat() + "-elsewhere";
    let elsewhere = Region { jobs: Values::Of([foreign].into()), models: Region::all().models };
    let alerts = super::topics(&slo, &Recording::new(&slo)).into_iter().flat_map(|topic| topic.alerts);
    let reach = |alert: &Alert| match scope_of(alert) {
        OverrideScope::Alike => Reach::Nowhere,
        OverrideScope::ByModel | OverrideScope::ByJob if !can_fire_in(alert, &elsewhere) => Reach::ServiceJobs,
        OverrideScope::ByModel => Reach::Models,
        OverrideScope::ByJob => Reach::Jobs,
    };
    alerts.map(|alert| (alert.clone(), reach(&alert))).collect()
});

impl Reach {
    /// The reach of an alert, if there is one of that name.
    pub(crate) fn of_alert(name: &str) -> Option<Self> {
        Self::widest(|alert| alert.name == name)
    }

    /// The reach of a threshold, such as `alerts.queue_requests`: that of the alerts that depend on it.
    pub(crate) fn of_threshold(setting: &str) -> Self {
        Self::widest(|alert| alert.settings.contains(&setting)).unwrap_or(Self::Nowhere)
    }

    fn widest(is_it: impl Fn(&Alert) -> bool) -> Option<Self> {
        REACH.iter().filter(|(alert, _)| is_it(alert)).map(|(_, reach)| *reach).max()
    }
}

/// A set of regions for which an alert is the same.
struct Group {
    alert: Alert,
    regions: Vec<Region>,
    names: Vec<String>,
}

fn merge<'a>(slo: &Slo, example: &Alert, cells: impl Iterator<Item = (Option<&'a Alert>, &'a Cell)>) -> Option<Alert> {
    let (mut groups, mut everywhere): (Vec<Group>, bool) = (Vec::new(), true);
    for (alert, cell) in cells {
        // An alert for the jobs of the service is not generated for other jobs. The settings without overrides are kept even without a region of their
        // own: an override that does not change them gets no label.
        let region = can_fire_in(example, &cell.region).then(|| cell.region.clone());
        if region.is_none() && !cell.name.is_empty() {
            continue;
        }
        let disabled = |alert: &&Alert| cell.slo.disable.iter().any(|name| name == alert.name);
        let Some(alert) = alert.filter(|alert| !disabled(alert)) else {
            everywhere = false;
            continue;
        };
        let mut alert = alert.clone();
        for variant in &mut alert.variants {
            let own = cell.slo.labels.iter().map(|(name, value)| (Cow::Owned(name.clone()), value.clone()));
            variant.labels.extend(own);
        }
        match groups.iter_mut().find(|group| group.alert.says_the_same(&alert)) {
            Some(group) => {
                group.regions.extend(region);
                group.names.push(cell.name.clone());
            }
            None => {
                let regions = region.into_iter().collect();
                groups.push(Group { alert, regions, names: vec![cell.name.clone()] });
            }
        }
    }
    groups.retain(|group| !group.regions.is_empty());
    let alone = groups.len() == 1 && everywhere;
    let mut groups = groups.into_iter().map(|group| scope(slo, group, alone));
    let first = groups.next()?;
    Some(groups.fold(first, join))
}

/// The alert, restricted to the series of its regions.
fn scope(slo: &Slo, group: Group, alone: bool) -> Alert {
    let Group { mut alert, regions, names } = group;
    let (summary, description) = (alert.summary.clone(), alert.description.clone());
    // Without an override, the alert is unchanged.
    let name = if names.contains(&String::new()) { String::new() } else { names.join(", ") };
    for variant in &mut alert.variants {
        if !alone {
            let parts = regions.iter().map(|region| variant.expr.clone().within(region));
            variant.expr = parts.reduce(Expr::or).unwrap_or_else(|| variant.expr.clone());
        }
        if !name.is_empty() {
            variant.labels.push((OVERRIDE.into(), name.clone()));
            variant.texts = Some((summary.clone(), description.clone()));
        }
    }
    let region = regions.first().cloned().unwrap_or_else(Region::all);
    let usual = Context::new(slo);
    // An alert for the jobs of the service only fires for one of these.
    let ours = slo.service.jobs.iter().find(|job| region.jobs.contains(job));
    let job = region.jobs.one(ours.unwrap_or(&usual.job));
    let context = Context { job, model: region.models.one(&usual.model) };
    for case in &mut alert.cases {
        if !name.is_empty() {
            case.name += &format!(" ({name})");
        }
        case.context = Some(context.clone());
    }
    alert
}

/// Merges two forms of an alert.
fn join(mut all: Alert, more: Alert) -> Alert {
    let before = all.variants.len();
    let shift = |mut case: Case| {
        case.firings.iter_mut().for_each(|firing| firing.variant += before);
        case.alone = case.alone.map(|(variant, fires)| (variant + before, fires));
        case
    };
    all.cases.extend(more.cases.into_iter().map(shift));
    all.variants.extend(more.variants.into_iter().map(|variant| Variant {
        texts: variant.texts.or_else(|| Some((more.summary.clone(), more.description.clone()))),
        ..variant
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::targets::TARGET_DOWN;

    fn down(settings: &str) -> Alert {
        let slo = Slo::parse(settings).unwrap();
        let alerts = crate::alerts::topics(&slo, &Recording::new(&slo)).into_iter().flat_map(|topic| topic.alerts);
        alerts.into_iter().find(|alert| alert.name == TARGET_DOWN).unwrap()
    }

    #[test]
    fn an_alert_for_the_jobs_of_the_service_is_unchanged_by_overrides_without_a_setting_for_it() {
        let plain = down("service: {jobs: [llm, canary]}");
        for one in [
            "{jobs: [llm, canary], gpu: {memory_ratio: 0.95}}",
            "{jobs: [canary], gpu: {memory_ratio: 0.95}}",
            "{jobs: [elsewhere], labels: {team: research}}",
        ] {
            let alert = down(&format!("service: {{jobs: [llm, canary]}}\noverrides: [{one}]"));
            assert_eq!(alert.variants, plain.variants, "{one}");
        }
    }

    #[test]
    fn cases_are_about_a_job_of_the_service_in_each_region() {
        let alert = down("service: {jobs: [llm, canary]}\noverrides: [{jobs: [llm], labels: {team: x}}]");
        let jobs = |name: &str| {
            let cases = alert.cases.iter().filter(|case| case.name.starts_with(name));
            cases.map(|case| case.context.as_ref().unwrap().job.clone()).collect::<Vec<_>>()
        };
        assert_eq!(jobs("down for two minutes"), ["canary", "llm"]);
        assert_eq!(alert.check(), Ok(()));
    }
}
