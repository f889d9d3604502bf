//! Alerts and their cases as Prometheus and promtool read them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Alert, Case, Firing, Topic, Variant, case::usual};
use crate::{
    generate::GenerateError,
    promql::{Names, Window},
    recording::{INTERVAL, Recording},
    rule_file::{Group, RuleEntry, RuleFile, spell, yaml},
    slo::Slo,
};

/// The name of a file of recording rules.
pub(crate) fn recording_file(name: &str) -> String {
    format!("{name}.rules.yml")
}

/// The name of a file of alerts.
pub(crate) fn alert_file(topic: &Topic) -> String {
    format!("{}.alerts.yml", topic.name)
}

fn group_name(topic: &Topic) -> String {
    format!("llm-{}-alerts", topic.name)
}

/// The file of the alerts.
pub(crate) fn rules(topic: &Topic, slo: &Slo, names: &Names) -> Result<String, GenerateError> {
    let mut rules = Vec::new();
    for alert in &topic.alerts {
        alert.check().map_err(|faults| GenerateError::Alert { alert: alert.name, faults })?;
        for variant in &alert.variants {
            rules.push(RuleEntry::Alert {
                alert: alert.name,
                expr: spell(alert.name, &variant.expr, names)?,
                hold: some_time(variant.hold),
                keep_firing_for: variant.keep.and_then(some_time),
                labels: labels(variant),
                annotations: annotations(alert, variant, slo),
            });
        }
    }
    yaml(&RuleFile { groups: vec![Group { name: group_name(topic), interval: INTERVAL.to_string(), rules }] })
}

fn some_time(window: Window) -> Option<String> {
    (window.as_seconds() != Some(0)).then(|| window.to_string())
}

fn labels(variant: &Variant) -> BTreeMap<String, String> {
    variant.all_labels().map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
}

fn annotations(alert: &Alert, variant: &Variant, slo: &Slo) -> BTreeMap<&'static str, String> {
    // To Prometheus `$labels` are those of the expression: what the rule adds is filled in here.
    let filled = |text: &str| {
        let fill = |text: String, (label, value)| text.replace(&format!("{{{{ $labels.{label} }}}}"), value);
        variant.all_labels().fold(text.to_owned(), fill)
    };
    [
        ("summary", filled(&alert.summary)),
        ("description", filled(&alert.description)),
        ("runbook_url", format!("{}/{}.md", slo.service.runbooks, alert.name)),
    ]
    .into()
}

#[derive(Serialize)]
struct TestFile {
    rule_files: Vec<String>,
    evaluation_interval: &'static str,
    /// Otherwise promtool takes the groups in any order, and an alert may read what was recorded a minute ago.
    group_eval_order: Vec<String>,
    tests: Vec<Test>,
}

#[derive(Serialize)]
struct Test {
    name: String,
    interval: &'static str,
    input_series: Vec<InputSeries>,
    alert_rule_test: Vec<AlertTest>,
}

#[derive(Serialize)]
struct InputSeries {
    series: String,
    values: String,
}

#[derive(Serialize)]
struct AlertTest {
    eval_time: String,
    alertname: &'static str,
    exp_alerts: Vec<Expected>,
}

#[derive(Default, Serialize)]
struct Expected {
    exp_labels: BTreeMap<String, String>,
    exp_annotations: BTreeMap<&'static str, String>,
}

/// The file of the unit tests.
pub(crate) fn tests(topic: &Topic, recording: &Recording, slo: &Slo, names: &Names) -> Result<String, GenerateError> {
    let cases = topic.alerts.iter().flat_map(|alert| alert.cases.iter().map(move |case| (alert, case)));
    let tests = cases.map(|(alert, case)| test(alert, case, slo, names)).collect::<Result<_, _>>()?;
    let exprs = topic.alerts.iter().flat_map(|alert| &alert.variants).map(|variant| &variant.expr);
    let files = recording.files_of(exprs);
    let groups = recording.groups().into_iter().filter(|group| files.contains(&group.file));
    let mut group_eval_order: Vec<_> = groups.map(|group| group.name.to_owned()).collect();
    group_eval_order.push(group_name(topic));
    let mut rule_files: Vec<_> = files.into_iter().map(recording_file).collect();
    rule_files.push(alert_file(topic));
    yaml(&TestFile { rule_files, evaluation_interval: "1m", group_eval_order, tests })
}

fn test(alert: &Alert, case: &Case, slo: &Slo, names: &Names) -> Result<Test, GenerateError> {
    let name = format!("{}: {}", alert.name, case.name);
    let faults: Vec<_> = case.series.iter().flat_map(|series| series.faults()).collect();
    if !faults.is_empty() {
        return Err(GenerateError::Expression { what: name, faults });
    }
    let job = slo.service.jobs.first().map_or("", String::as_str);
    let series = case.series.iter();
    let input_series =
        series.map(|series| InputSeries { series: series.name(names, job), values: series.values(case.at) });
    let expected = case.firings.iter().map(|firing| expected(alert, firing, slo, job));
    let expectation =
        AlertTest { eval_time: format!("{}m", case.at), alertname: alert.name, exp_alerts: expected.collect() };
    Ok(Test { name, interval: "1m", input_series: input_series.collect(), alert_rule_test: vec![expectation] })
}

fn expected(alert: &Alert, firing: &Firing, slo: &Slo, job: &str) -> Expected {
    let Some(variant) = alert.variants.get(firing.variant) else { return Expected::default() };
    let of_series = variant.expr.labels().into_iter().map(|label| (label.to_string(), usual(&label, job)));
    let mut exp_labels: BTreeMap<_, _> = of_series.collect();
    exp_labels.extend(firing.labels.iter().map(|(label, value)| ((*label).to_owned(), value.clone())));
    exp_labels.extend(labels(variant));
    let told = |text: String| told(&text, &exp_labels, &firing.value);
    let texts = annotations(alert, variant, slo).into_iter();
    Expected { exp_annotations: texts.map(|(name, text)| (name, told(text))).collect(), exp_labels }
}

/// A text with its templates filled in.
fn told(text: &str, labels: &BTreeMap<String, String>, value: &str) -> String {
    let mut pieces = text.split("{{");
    let mut told = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (template, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        match template.trim().strip_prefix("$labels.") {
            Some(label) => told += labels.get(label).map_or("", String::as_str),
            None => told += value,
        }
        told += rest;
    }
    told
}
