//! Checks that a linter of rules makes, on every rendered rule and alert.

#![allow(missing_docs)]

mod names;
mod series;

use std::{collections::BTreeSet, time::Duration};

use llm_metrics_monitoring::{
    alerts::{self, Alert, Severity},
    promql::{Expr, Names, Reader},
    recording::Recording,
    slo::Slo,
};
use names::Known;
use promql_parser::{
    parser,
    util::{ExprVisitor, walk_expr},
};

fn everything() -> (Recording, Vec<Alert>) {
    let slo = Slo::default();
    let recording = Recording::new(&slo);
    let alerts = alerts::topics(&slo, &recording).into_iter().flat_map(|topic| topic.alerts).collect();
    (recording, alerts)
}

fn text(expr: &Expr) -> String {
    expr.render(&Names::new(), Reader::Rules).unwrap()
}

fn texts() -> Vec<(String, String)> {
    let (recording, alerts) = everything();
    let rules = recording.all().map(|rule| (rule.name(&Names::new()), text(rule.expr())));
    let alerts = alerts
        .iter()
        .flat_map(|alert| alert.variants.iter().map(move |variant| (alert.name.to_owned(), text(&variant.expr))));
    rules.chain(alerts).collect()
}

#[test]
fn another_parser_reads_every_expression_and_knows_every_metric_and_label() {
    for names in [Names::new(), Names::new().prefix("qwen").unwrap().gpu_prefix("qwen_gpu").unwrap()] {
        let known = Known::new(&names);
        let (recording, alerts) = everything();
        let variants = alerts.iter().flat_map(|alert| &alert.variants).map(|variant| &variant.expr);
        for expr in recording.all().map(|rule| rule.expr()).chain(variants) {
            for text in [expr.render(&names, Reader::Rules).unwrap(), expr.render_lines(&names, Reader::Rules).unwrap()]
            {
                assert_eq!(known.wrong_with(&text), Vec::<String>::new());
            }
        }
    }
    let known = Known::new(&Names::new());
    assert!(!known.wrong_with("rate(llm_reqests_total[5m])").is_empty());
    assert!(!known.wrong_with("up{pod=\"a\"}").is_empty());
    assert!(!known.wrong_with("up +").is_empty());
}

#[test]
fn no_two_rules_record_the_same_and_every_rule_is_in_a_group() {
    let (recording, alerts) = everything();
    let series: BTreeSet<_> = recording.all().map(|rule| (rule.name(&Names::new()), rule.own_label())).collect();
    assert_eq!(series.len(), recording.all().count());
    let names: BTreeSet<_> = series.into_iter().map(|(name, _)| name).collect();
    let variants = alerts.iter().flat_map(|alert| &alert.variants).map(|variant| &variant.expr);
    for rule in recording.all().map(|rule| rule.expr()).chain(variants).flat_map(Expr::rules) {
        assert!(names.contains(&rule.name(&Names::new())), "{} is recorded by no group", rule.name(&Names::new()));
    }
    for name in &names {
        let parts: Vec<_> = name.split(':').collect();
        assert_eq!(parts.len(), 3, "{name} is not level:metric:operation");
    }
}

#[test]
fn alerts_are_unique_tested_and_described() {
    let (_, alerts) = everything();
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name).collect();
    assert_eq!(names.len(), alerts.len());
    for alert in &alerts {
        assert_eq!(alert.check(), Ok(()), "{}", alert.name);
        assert!(alert.name.starts_with("Llm"), "{}", alert.name);
        assert!(!alert.summary.contains('\n') && alert.summary.len() < 160, "{}", alert.name);
    }
    for severity in Severity::ALL {
        assert!(alerts.iter().any(|alert| alert.variants.iter().any(|variant| variant.severity == severity)));
    }
}

#[test]
fn windows_contain_enough_scrapes_and_rates_come_before_sums() {
    for (name, text) in texts() {
        for window in ["[1m]", "[30s]"] {
            assert!(!text.contains(window), "{name}: a window of four scrapes at 15 s is too short");
        }
        for wrong in ["rate(sum", "increase(sum", "or vector(0)", "=~\".*\"", "le=\"1\"", "le=\"5\""] {
            assert!(!text.contains(wrong), "{name}: {wrong}");
        }
    }
}

/// A hundred instances with twenty models have millions of samples per hour, but only a few recorded series.
#[test]
fn windows_longer_than_a_quarter_of_an_hour_are_read_from_recorded_series() {
    for (name, text) in texts() {
        for (series, window) in windows(&text) {
            assert!(series.contains(':') || window <= Duration::from_secs(15 * 60), "{name}: {series} over {window:?}");
        }
    }
    let raw = windows("sum(rate(a_total{b=\"c\"}[3d])) / max_over_time(a:b:c[1h] offset 1d)");
    assert_eq!(
        raw,
        [("a_total".to_owned(), Duration::from_secs(72 * 3600)), ("a:b:c".to_owned(), Duration::from_secs(3600))]
    );
}

/// The series that are read over a window, and the window.
fn windows(text: &str) -> Vec<(String, Duration)> {
    struct Windows(Vec<(String, Duration)>);
    impl ExprVisitor for Windows {
        type Error = std::convert::Infallible;

        fn pre_visit(&mut self, expr: &parser::Expr) -> Result<bool, Self::Error> {
            if let parser::Expr::MatrixSelector(node) = expr {
                self.0.push((node.vs.name.clone().unwrap_or_default(), node.range));
            }
            Ok(true)
        }
    }
    let mut windows = Windows(Vec::new());
    walk_expr(&mut windows, &parser::parse(text).unwrap()).unwrap();
    windows.0
}

/// The gauges of a lost GPU are NaN, or keep an old value.
#[test]
fn an_expression_with_a_gauge_of_a_gpu_requires_that_the_gpu_answers() {
    // These alerts are about lost GPUs, or about problems that can cause a loss.
    let exempt = ["LlmGpuXid", "LlmGpuLost", "LlmGpuCollectorStale"];
    for (name, text) in texts() {
        let gauges = llm_metrics_gpu::catalog::all().filter(|row| {
            row.label("gpu_uuid").is_some() && row.kind == llm_metrics::catalog::Kind::Gauge && row.name != "gpu_up"
        });
        let reads = gauges
            .filter(|row| text.contains(&format!("{}{{", row.name)) || text.contains(&format!("{} ", row.name)))
            .count();
        if reads > 0 && !exempt.contains(&name.as_str()) {
            assert!(text.contains("and on (job, instance, gpu_uuid) gpu_up == 1"), "{name}: {text}");
        }
    }
}
