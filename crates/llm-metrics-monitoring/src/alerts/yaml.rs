//! Alerts and their cases in the formats of Prometheus and promtool.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Alert, Case, Firing, Topic, Variant,
    case::{Context, usual},
};
use crate::{
    file::GenerateError,
    promql::{Names, Window, select::quote},
    recording::{INTERVAL, Recording},
    rule_file::{Group, RuleEntry, RuleFile, spell, yaml},
    slo::Slo,
    vocabulary::BURN,
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
pub(crate) fn rules(topic: &Topic, slo: &Slo, names: &Names) -> Result<RuleFile, GenerateError> {
    let mut rules = Vec::new();
    for alert in &topic.alerts {
        alert.check().map_err(|faults| GenerateError::alert(alert.name, faults))?;
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
    Ok(RuleFile { groups: vec![Group { name: group_name(topic), interval: INTERVAL.to_string(), rules }] })
}

fn some_time(window: Window) -> Option<String> {
    (window.as_seconds() != Some(0)).then(|| window.to_string())
}

fn labels(variant: &Variant) -> BTreeMap<String, String> {
    variant.all_labels().map(|(label, value)| (label.to_owned(), value.to_owned())).collect()
}

fn annotations(alert: &Alert, variant: &Variant, slo: &Slo) -> BTreeMap<&'static str, String> {
    // Prometheus's `$labels` are those of the expression, so the rule's own labels are filled in here.
    let (summary, description) = variant.texts(alert);
    let filled = |text: &str| {
        let fill = |text: String, (label, value)| text.replace(&format!("{{{{ $labels.{label} }}}}"), value);
        variant.all_labels().fold(text.to_owned(), fill)
    };
    [
        ("summary", filled(summary)),
        ("description", filled(description)),
        // Readers of `runbook_url` show it as a link, which a path is not.
        (if slo.service.serves_runbooks() { "runbook_url" } else { "runbook" }, slo.service.runbook(alert.name)),
    ]
    .into()
}

#[derive(Serialize)]
struct TestFile {
    rule_files: Vec<String>,
    evaluation_interval: String,
    /// Otherwise promtool evaluates the groups in any order, and an alert may use a recorded value that is a minute old.
    group_eval_order: Vec<String>,
    tests: Vec<Test>,
}

#[derive(Serialize)]
struct Test {
    name: String,
    interval: &'static str,
    input_series: Vec<InputSeries>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alert_rule_test: Vec<AlertTest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    promql_expr_test: Vec<ExprTest>,
}

#[derive(Serialize)]
struct ExprTest {
    expr: String,
    eval_time: String,
    exp_samples: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    labels: &'static str,
    value: f64,
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

/// Minutes of a day.
const DAY: u32 = 24 * 60;

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
    yaml(&TestFile { rule_files, evaluation_interval: topic.evaluation_interval(), group_eval_order, tests })
}

fn test(alert: &Alert, case: &Case, slo: &Slo, names: &Names) -> Result<Test, GenerateError> {
    let name = format!("{}: {}", alert.name, case.name);
    let faults: Vec<_> = case.series.iter().flat_map(|series| series.faults()).collect();
    if !faults.is_empty() {
        return Err(GenerateError::expression(name, faults));
    }
    let context = case.context.clone().unwrap_or_else(|| Context::new(slo));
    // Budgets have many cases over hours and days, so their series are in one piece.
    let of_budget = alert.variants.iter().any(|variant| variant.all_labels().any(|(label, _)| label == BURN));
    let is_used = |label: &str| alert.variants.iter().any(|variant| variant.expr.labels().contains(label));
    let series = case
        .series
        .iter()
        .flat_map(|series| if of_budget || case.at > DAY { vec![series.clone()] } else { series.parts(is_used) });
    let input_series =
        series.map(|series| InputSeries { series: series.name(names, &context), values: series.values(case.at) });
    let expected = case.firings.iter().map(|firing| expected(alert, firing, slo, names, &context));
    let expectation =
        AlertTest { eval_time: format!("{}m", case.at), alertname: alert.name, exp_alerts: expected.collect() };
    let alone = case.alone.and_then(|(variant, fires)| Some((alert.variants.get(variant)?, fires)));
    let (alerts, exprs) = match alone {
        None => (vec![expectation], Vec::new()),
        Some((variant, fires)) => {
            let exp_samples = fires.then_some(Sample { labels: "{}", value: 1.0 }).into_iter().collect();
            (Vec::new(), vec![ExprTest { expr: firing(alert, variant), eval_time: expectation.eval_time, exp_samples }])
        }
    };
    let input_series = input_series.collect();
    Ok(Test { name, interval: "1m", input_series, alert_rule_test: alerts, promql_expr_test: exprs })
}

/// The number of series of a variant that fires.
fn firing(alert: &Alert, variant: &Variant) -> String {
    let labels = variant.all_labels().map(|(label, value)| format!(",{label}={}", quote(value)));
    format!("count(ALERTS{{alertname=\"{}\",alertstate=\"firing\"{}}})", alert.name, labels.collect::<String>())
}

fn expected(alert: &Alert, firing: &Firing, slo: &Slo, names: &Names, context: &Context) -> Expected {
    let Some(variant) = alert.variants.get(firing.variant) else { return Expected::default() };
    let mut of_series = variant.expr.labels();
    if !variant.expr.is_absence() {
        names.extend_by(&mut of_series);
    }
    let of_series = of_series.into_iter().map(|label| (label.to_string(), usual(&label, context)));
    let mut exp_labels: BTreeMap<_, _> = of_series.collect();
    exp_labels.extend(firing.labels.iter().map(|(label, value)| ((*label).to_owned(), value.clone())));
    exp_labels.extend(labels(variant));
    let filled = |text: String| fill_in(&text, &exp_labels, &firing.value);
    let texts = annotations(alert, variant, slo).into_iter();
    Expected { exp_annotations: texts.map(|(name, text)| (name, filled(text))).collect(), exp_labels }
}

/// Fills in the templates of a text.
fn fill_in(text: &str, labels: &BTreeMap<String, String>, value: &str) -> String {
    let mut pieces = text.split("{{");
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (template, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        match template.trim().strip_prefix("$labels.") {
            Some(label) => filled += labels.get(label).map_or("", String::as_str),
            None => filled += value,
        }
        filled += rest;
    }
    filled
}
