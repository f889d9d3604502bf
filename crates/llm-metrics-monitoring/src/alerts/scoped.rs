//! Alerts for settings that differ by model or job: one expression per set of settings, restricted to its series.

use std::borrow::Cow;

use super::{Alert, Case, Variant, case::Context};
use crate::{
    promql::Expr,
    recording::Recording,
    slo::{Cell, OverrideScope, Region, Slo},
    vocabulary::{JOB, MODEL},
};

/// The label with the name of the override in `slo.yaml` that set a threshold.
pub(super) const OVERRIDE: &str = "override";

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
        merge(slo, cells.iter().map(|(alerts, cell)| (named(alerts, name), cell)))
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

/// A set of regions for which an alert is the same.
struct Group {
    alert: Alert,
    regions: Vec<Region>,
    names: Vec<String>,
}

fn merge<'a>(slo: &Slo, cells: impl Iterator<Item = (Option<&'a Alert>, &'a Cell)>) -> Option<Alert> {
    let (mut groups, mut everywhere): (Vec<Group>, bool) = (Vec::new(), true);
    for (alert, cell) in cells {
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
                group.regions.push(cell.region.clone());
                group.names.push(cell.name.clone());
            }
            None => groups.push(Group { alert, regions: vec![cell.region.clone()], names: vec![cell.name.clone()] }),
        }
    }
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
    let context = Context { job: region.jobs.one(&usual.job), model: region.models.one(&usual.model) };
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
