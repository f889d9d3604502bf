//! Expressions that are rejected, and how expressions are rendered.

use llm_metrics::catalog::{self, Naming, Unit};
use llm_metrics_gpu::catalog as gpu;

use super::{Expr, InvalidExpression, Names, Reader, Window};
use crate::vocabulary::{MODEL, OUTCOME};
use crate::{Level, Rule, RuleMetric, counter, external, gauge, histogram};

const M5: Window = Window::minutes(5);

fn rendered(expr: &Expr) -> String {
    expr.render(&Names::new(), Reader::Rules).unwrap()
}

fn rejected(expr: &Expr) -> InvalidExpression {
    let faults = expr.render(&Names::new(), Reader::Rules).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.into_iter().next().unwrap()
}

fn requests() -> Expr {
    counter!(catalog::REQUESTS).rate(M5).sum_by([MODEL])
}

#[test]
fn a_label_that_the_row_does_not_have_is_rejected() {
    let expr = counter!(catalog::REQUESTS_STARTED).with(MODEL, "qwen").rate(M5);
    assert!(matches!(rejected(&expr), InvalidExpression::NoSuchLabel { label, .. } if label == MODEL));
    let expr = counter!(catalog::REQUESTS_STARTED).rate(M5).sum_by([MODEL]);
    assert!(matches!(rejected(&expr), InvalidExpression::NoSuchLabel { label, .. } if label == MODEL));
    let lost = requests().sum_by([OUTCOME]);
    assert!(matches!(rejected(&lost), InvalidExpression::NoSuchLabel { label, .. } if label == OUTCOME));
}

#[test]
fn a_value_that_is_not_in_a_closed_set_is_rejected_and_any_value_of_an_open_set_is_accepted() {
    let expr = gauge!(gpu::CLOCK_EVENT).with("reason", "hot").now();
    assert!(matches!(rejected(&expr), InvalidExpression::NoSuchValue { value, .. } if value == "hot"));
    assert!(gauge!(external::UP).with("job", "anything").now().faults().is_empty());
    let expr = counter!(catalog::REQUESTS).with_any(OUTCOME, ["error", "failed"]).rate(M5);
    assert!(matches!(rejected(&expr), InvalidExpression::NoSuchValue { value, .. } if value == "failed"));
}

/// The label of which no value is left.
fn emptied(expr: &Expr) -> String {
    match rejected(expr) {
        InvalidExpression::NoValueLeft { label, .. } => label.into_owned(),
        other => panic!("{other}"),
    }
}

#[test]
fn matchers_of_a_label_that_no_value_fits_are_rejected() {
    let up = || gauge!(external::UP);
    assert_eq!(emptied(&up().with("job", "x").with("job", "y").now()), "job");
    assert_eq!(emptied(&up().with("job", "x").without("job", "x").now()), "job");
    assert_eq!(emptied(&up().with_any("job", ["x", "y"]).with_any("job", ["z"]).now()), "job");
    assert_eq!(emptied(&up().without_any("job", ["x", "y"]).with_any("job", ["y", "x"]).now()), "job");
    assert_eq!(emptied(&up().with("job", "x").with("job", "y").absent()), "job");
    let told = up().with("job", "x").with("job", "y").now().faults()[0].to_string();
    assert!(told.contains("`job` on up") && told.contains("remove one"), "{told}");

    for fits in [
        up().with("job", "x").with("job", "x"),
        up().with_any("job", ["x", "y"]).without("job", "x"),
        up().with("job", "x").with("instance", "y"),
        up().without("job", "x").without("job", "y"),
    ] {
        assert_eq!(fits.now().faults(), []);
    }
}

#[test]
fn excluding_every_value_of_a_closed_set_is_rejected() {
    let events = || counter!(catalog::SLO_REQUESTS);
    assert_eq!(emptied(&events().without_any("result", ["met", "missed"]).total()), "result");
    assert_eq!(emptied(&events().without("result", "met").without("result", "missed").total()), "result");
    assert_eq!(events().without_any("result", ["met"]).total().faults(), []);
    // Of an open set, there are always others.
    assert_eq!(events().without_any("slo", ["a", "b"]).total().faults(), []);
}

#[test]
fn the_variable_of_a_dashboard_is_not_a_value() {
    let reader = Reader::Dashboard(&[]);
    let chosen = || counter!(catalog::REQUESTS).of_variable(OUTCOME, "outcome");
    let text = |expr: Expr| expr.render(&Names::new(), reader);
    assert_eq!(text(chosen().total()).unwrap(), r#"llm_requests_total{outcome=~"$outcome"}"#);
    assert!(text(chosen().without(OUTCOME, "error").total()).is_ok(), "its values are not known");
    assert!(text(chosen().with(OUTCOME, "error").without(OUTCOME, "error").total()).is_err());
    assert!(text(counter!(catalog::REQUESTS_STARTED).of_variable(MODEL, "model").total()).is_err(), "no such label");
    assert_eq!(
        rejected(&chosen().total()),
        InvalidExpression::VariableMatcherInRule { label: OUTCOME.into(), variable: "$outcome".to_owned() }
    );
}

#[test]
fn the_values_of_a_label_are_known_for_buckets_and_recorded_rules_too() {
    let buckets = |le: &str| histogram!(catalog::TIME_TO_FIRST_TOKEN).buckets().with("le", le).rate(M5);
    assert!(matches!(rejected(&buckets("3.5")), InvalidExpression::NoSuchValue { value, .. } if value == "3.5"));
    assert!(["5", "5.0", "+Inf"].iter().all(|le| buckets(le).faults().is_empty()));
    let within = histogram!(catalog::TIME_TO_FIRST_TOKEN).within(2.5);
    assert_eq!(within.clone().with("le", "2.5").total().faults(), []);
    assert!(matches!(rejected(&within.with("le", "5").total()), InvalidExpression::NoSuchValue { .. }));

    let by_outcome = |expr| Rule::new(Level::JobModelOutcome, RuleMetric::Core("requests"), "r", Unit::Count, expr);
    let rate = || counter!(catalog::REQUESTS).rate(M5).sum_by(Level::JobModelOutcome.labels());
    let failed = || counter!(catalog::REQUESTS).with(OUTCOME, "error").rate(M5).sum_by(Level::JobModelOutcome.labels());
    let has = |rule: &Rule, outcome: &str| rule.gauge().with(OUTCOME, outcome).now().faults().is_empty();
    assert!(has(&by_outcome(rate()), "success") && !has(&by_outcome(rate()), "failed"));
    assert!(has(&by_outcome(failed()), "error") && !has(&by_outcome(failed()), "success"), "it only has errors");
    assert!(has(&by_outcome(failed().or(rate())), "success"), "one side has it");
    assert!(has(&by_outcome(rate().and(rate().gt(1.0)) * 2.0), "success"));
    assert!(!has(&by_outcome(2.0 * failed()), "success"), "the number has no labels");
    let slo = Rule::labelled(
        Level::Slo,
        RuleMetric::Plain("objective"),
        "ratio",
        Unit::Ratio,
        counter!(catalog::REQUESTS).rate(M5).sum_by(Level::JobModel.labels()),
        ("slo", "availability"),
    );
    assert!(slo.gauge().with("slo", "availability").now().faults().is_empty());
    assert!(matches!(rejected(&slo.gauge().with("slo", "latency").now()), InvalidExpression::NoSuchValue { .. }));
}

#[test]
fn sides_whose_label_is_never_equal_are_rejected() {
    let of = |outcome: &str| counter!(catalog::REQUESTS).with(OUTCOME, outcome).rate(M5);
    let told = rejected(&(of("error") / of("success"))).to_string();
    assert!(told.contains(r#"`outcome` is {"error"} on the left side and {"success"} on the right"#), "{told}");
    assert!(matches!(rejected(&of("error").and_on([OUTCOME], of("success"))), InvalidExpression::NeverEqual { .. }));
    assert!(matches!(rejected(&of("error").unless(of("success"))), InvalidExpression::NeverEqual { .. }));
    let first = |bound| histogram!(catalog::TIME_TO_FIRST_TOKEN).within(bound).rate(M5);
    assert!(matches!(rejected(&(first(1.0) / first(2.5))), InvalidExpression::NeverEqual { .. }));

    assert_eq!((of("error").sum_by([MODEL]) / of("success").sum_by([MODEL])).faults(), []);
    assert_eq!(of("error").or(of("success")).faults(), []);
    assert_eq!((of("error") / counter!(catalog::REQUESTS).rate(M5)).faults(), []);
    assert_eq!((of("error") / 2.0).faults(), []);
    assert_eq!(of("error").and_on([MODEL], of("success")).faults(), []);
    let named = |gauge| gauge!(gpu::UP).now().copy_label("kind", "gpu").with_labels_of(gauge, ["gpu"], ["kind"]);
    let limits = |kind: &str| gauge!(gpu::POWER_LIMIT).with("kind", kind);
    let both = named(limits("max")).and_on(["kind"], limits("default").now());
    assert!(matches!(rejected(&both), InvalidExpression::NeverEqual { .. }), "a label that is taken from the right");
    let copied = |kind| limits(kind).now().copy_label("gpu", "kind");
    assert!(matches!(
        rejected(&copied("max").and_on(["gpu"], copied("default"))),
        InvalidExpression::NeverEqual { .. }
    ));
}

#[test]
fn a_bound_that_is_not_a_bucket_bound_is_rejected() {
    let expr = histogram!(catalog::TIME_TO_FIRST_TOKEN).share_within(3.5, M5, [MODEL]);
    assert_eq!(rejected(&expr), InvalidExpression::NoSuchBucket { bound: 3.5, of: "llm_time_to_first_token_seconds" });
}

#[test]
fn sides_that_never_match_are_rejected() {
    let by_operation = counter!(catalog::OUTPUT_TOKENS).rate(M5).sum_by(["operation"]);
    assert!(matches!(rejected(&requests().and(by_operation.clone())), InvalidExpression::NeverMatches { .. }));
    assert!(matches!(rejected(&requests().and_on([MODEL], by_operation)), InvalidExpression::NoSuchLabel { .. }));
    let (up, version) = (gauge!(external::UP).now(), gauge!(catalog::BUILD_INFO).now());
    assert!(matches!(rejected(&up.clone().unless(version.clone())), InvalidExpression::NeverMatches { .. }));
    assert!(up.unless_on(["instance"], version).faults().is_empty());
}

#[test]
fn numbers_in_place_of_series_are_rejected() {
    assert_eq!(rejected(&requests().and(1.0)), InvalidExpression::NoSeries { op: "and" });
    assert_eq!(rejected(&Expr::time().gt(1.0)), InvalidExpression::NoSeries { op: ">" });
    assert!(matches!(rejected(&Expr::from(1.0).sum()), InvalidExpression::WrongOperand { .. }));
    assert!(matches!(rejected(&Expr::from(1.0).abs()), InvalidExpression::WrongOperand { .. }));
}

#[test]
fn a_window_of_dashboards_is_rejected_in_a_rule() {
    let expr = counter!(catalog::REQUESTS).rate(Window::RATE).sum_by([MODEL]);
    assert_eq!(rejected(&expr), InvalidExpression::VariableInRule { window: Window::RATE });
    assert!(expr.render(&Names::new(), Reader::Dashboard(&[])).is_ok());
    let rule = Rule::new(Level::JobModel, RuleMetric::Core("requests"), "rate", Unit::Count, expr);
    let reads = rule.now().render(&Names::new(), Reader::Dashboard(&[])).unwrap_err();
    assert!(reads.contains(&InvalidExpression::VariableInRule { window: Window::RATE }));
}

#[test]
fn a_rule_must_have_the_labels_of_its_level() {
    let rule = Rule::new(Level::JobModel, RuleMetric::Core("requests"), "rate5m", Unit::Count, requests());
    assert!(
        matches!(&rejected(&rule.now()), InvalidExpression::WrongLevel { rule, .. } if rule == "job_model:llm_requests:rate5m")
    );
}

#[test]
fn parentheses_are_rendered_only_if_they_are_needed() {
    let (a, b) = (requests, requests);
    let text = "sum by (model) (rate(llm_requests_total[5m]))";
    assert_eq!(rendered(&((a() + b()) / b())), format!("({text} + {text}) / {text}"));
    assert_eq!(rendered(&(a() + b() / b())), format!("{text} + {text} / {text}"));
    assert_eq!(rendered(&(1.0 - (a() - b()))), format!("1 - ({text} - {text})"));
    assert_eq!(rendered(&a().gt(0.5).and(b().lt(2.0))), format!("{text} > 0.5 and {text} < 2"));
    assert_eq!(rendered(&a().and(b().or(b()))), format!("{text} and ({text} or {text})"));
    assert_eq!(rendered(&(a() - -1.0)), format!("{text} - (-1)"));
}

#[test]
fn joins_offsets_and_predictions_are_rendered_as_prometheus_parses_them() {
    let total = gauge!(gpu::MEMORY_TOTAL).now();
    let soon = gauge!(gpu::MEMORY_USED).predict_linear(Window::hours(1), Window::hours(4)).gt(total);
    let alive = gauge!(gpu::UP).now().equals(1.0);
    assert_eq!(
        rendered(&soon.and_on(["instance", "gpu_uuid"], alive)),
        "predict_linear(gpu_memory_used_bytes[1h], 14400) > gpu_memory_total_bytes \
         and on (instance, gpu_uuid) gpu_up == 1"
    );
    let named = gauge!(gpu::UTILIZATION).now().with_labels_of(gauge!(gpu::INFO), ["instance", "gpu_uuid"], ["name"]);
    assert_eq!(rendered(&named), "gpu_utilization_ratio * on (instance, gpu_uuid) group_left (name) gpu_info");
    assert_eq!(rendered(&gauge!(gpu::UP).offset(M5).with("gpu", "a\"b\\").now()), r#"gpu_up{gpu="a\"b\\"} offset 5m"#);
    assert_eq!(rendered(&gauge!(external::UP).with("job", "llm").absent()), r#"absent(up{job="llm"})"#);
}

#[test]
fn a_long_expression_is_broken_at_its_operators() {
    let text = (requests() / requests()).gt(0.5).and(requests().gt(0.01));
    let lines = text.render_lines(&Names::new(), Reader::Rules).unwrap();
    assert_eq!(
        lines,
        "sum by (model) (rate(llm_requests_total[5m])) / sum by (model) (rate(llm_requests_total[5m])) > 0.5\nand\n\
         sum by (model) (rate(llm_requests_total[5m])) > 0.01"
    );
}

#[test]
fn variables_of_a_dashboard_are_added_to_series_with_the_label_unless_it_is_matched() {
    let reader = Reader::Dashboard(&[("job", "job"), ("instance", "instance"), ("model", "model")]);
    let named = counter!(catalog::OUTPUT_TOKENS).with(MODEL, "qwen").rate(Window::RATE).sum();
    assert_eq!(
        named.render(&Names::new(), reader).unwrap(),
        r#"sum(rate(llm_output_tokens_total{job=~"$job",instance=~"$instance",model="qwen"}[$__rate_interval]))"#
    );
    let expr = counter!(catalog::REQUESTS).rate(M5).sum_by(Level::JobModel.labels());
    let rule = Rule::new(Level::JobModel, RuleMetric::Core("requests"), "rate5m", Unit::Count, expr);
    assert_eq!(
        rule.now().render(&Names::new(), reader).unwrap(),
        r#"job_model:llm_requests:rate5m{job=~"$job",model=~"$model"}"#
    );
}

#[test]
fn labels_that_are_used_together_with_the_job_are_in_every_aggregation_and_join_by_it() {
    let names = Names::new().by(["cluster"]);
    let expr = counter!(catalog::REQUESTS).rate(M5).sum_by(Level::JobModel.labels());
    let up = gauge!(external::UP).now().unless_on(["job", "instance"], gauge!(catalog::BUILD_INFO).now());
    let text = |expr: &Expr| expr.render(&names, Reader::Rules).unwrap();
    assert_eq!(text(&expr), "sum by (cluster, job, model) (rate(llm_requests_total[5m]))");
    assert_eq!(text(&up), "up unless on (cluster, job, instance) llm_metrics_build_info");
    assert_eq!(text(&requests()), "sum by (model) (rate(llm_requests_total[5m]))");
    let reader = Reader::Dashboard(&[("cluster", "cluster")]);
    assert_eq!(gauge!(external::UP).now().render(&names, reader).unwrap(), r#"up{cluster=~"$cluster"}"#);
}

#[test]
fn bounds_that_the_service_has_set_replace_those_of_the_catalogue() {
    let first = histogram!(catalog::TIME_TO_FIRST_TOKEN).with_bounds(&[3.5]);
    assert!(first.clone().within(3.5).rate(M5).faults().is_empty());
    assert_eq!(
        rejected(&first.within(2.5).rate(M5)),
        InvalidExpression::NoSuchBucket { bound: 2.5, of: "llm_time_to_first_token_seconds" }
    );
}

mod desk {
    llm_metrics::labels! {
        /// How the ticket was closed.
        RESULT = "result": &["solved", "given_up"];
    }
    llm_metrics::catalogue! {
        "Tickets" {
            /// Tickets that were closed.
            TICKETS_CLOSED = counter("desk_tickets_closed_total", Count)[RESULT];
        }
    }
}

#[test]
fn a_catalogue_of_the_service_is_checked_and_has_its_own_prefix() {
    let closed = |result: &str| counter!(desk::TICKETS_CLOSED).with(desk::RESULT, result).total();
    let reasons = closed("lost").render(&Names::new(), Reader::Rules).unwrap_err();
    assert_eq!(reasons[0].to_string(), "the label `result` of desk_tickets_closed_total is never \"lost\"");

    let unknown = Names::new().prefix("qwen").unwrap();
    let known = unknown.clone().catalogue(desk::SECTIONS, Naming::new().prefix("support").unwrap());
    let text = |names: &Names| closed("solved").render(names, Reader::Rules).unwrap();
    assert_eq!(text(&unknown), r#"desk_tickets_closed_total{result="solved"}"#, "the prefix of another catalogue");
    assert_eq!(text(&known), r#"support_tickets_closed_total{result="solved"}"#);
}
