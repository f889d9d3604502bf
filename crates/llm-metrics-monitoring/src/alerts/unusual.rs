//! What is unlike the service's own past.

use llm_metrics::catalog;

use super::{
    Alert, Case, Severity, Values, Variant,
    traffic::{busy, enough, plenty},
};
use crate::{
    counter, gauge, histogram,
    promql::{Expr, Window},
    recording::{INTERVAL, Recording},
    rule::Rule,
    slo::Slo,
    vocabulary::JOB,
};

/// What has to be known of a day before something can be unusual.
const HISTORY: Window = Window::hours(3);

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    vec![throughput(rules), first_token(slo, rules)]
}

/// Whether there is a history of it.
fn known(rule: &Rule) -> Expr {
    let samples = HISTORY.as_seconds().unwrap_or(0) / INTERVAL.as_seconds().unwrap_or(1);
    rule.gauge().count_over_time(Window::days(1)).gt(f64::from(samples))
}

fn throughput(rules: &Recording) -> Alert {
    let (rate, usual) = (&rules.output_tokens, &rules.output_tokens_avg);
    let deviates = ((rate.now() - usual.now()) / rules.output_tokens_stddev.now()).lt(-3.0);
    let works = rules.job_in_flight.now().gt(0.0);
    let expr = rate.now().lt(usual.now() * 0.5).and(deviates).and(known(rate)).and_on([JOB], works);
    let series = |by: f64, hours: u32, in_flight: f64| {
        let tokens = Values::rising(6000.0).until(hours * 60, Values::rising(by));
        vec![
            counter!(catalog::OUTPUT_TOKENS).series(tokens),
            gauge!(catalog::REQUESTS_IN_FLIGHT).series(Values::flat(in_flight)),
        ]
    };
    Alert::new(
        "LlmTokenThroughputLow",
        "{{ $labels.model }}: {{ printf \"%.1f\" $value }} output tokens a second, less than half of what is usual",
        "It is also three standard deviations below the mean of a day, and requests are in flight: it is not just less traffic.",
    )
    .variant(Variant::new(Severity::Warning, Window::minutes(15), expr))
    .case(Case::fires("a tenth of what was usual", 7 * 60 + 25, "10.0", series(600.0, 7, 2.0)))
    .case(Case::quiet("somewhat more than half", 7 * 60 + 25, series(3300.0, 7, 2.0)))
    .case(Case::quiet("nothing to do", 7 * 60 + 25, series(600.0, 7, 0.0)))
    .case(Case::quiet("no history", 3 * 60 + 25, series(600.0, 3, 2.0)))
}

fn first_token(slo: &Slo, rules: &Recording) -> Alert {
    let (p95, usual) = (&rules.first_token.p95, &rules.first_token_usual);
    let expr = p95.now().gt(usual.now() * 2.0).and(known(p95)).and(enough(slo, rules));
    // So many hours between 0.25 and 0.5 s, then between `low` and `high`.
    let series = |low: &str, high: &str, hours: u32| {
        let change = hours * 60;
        let bucket = |le: &str, before: f64, after: f64| {
            let values = Values::rising(before).until(change, Values::rising(after));
            histogram!(catalog::TIME_TO_FIRST_TOKEN).bucket_series(le, values)
        };
        let mut series = vec![
            bucket("0.25", 0.0, 0.0),
            bucket("0.5", 600.0, 0.0),
            bucket(high, 600.0, 600.0),
            bucket("+Inf", 600.0, 600.0),
        ];
        series.extend((low != "0.5").then(|| bucket(low, 600.0, 0.0)));
        series.extend(busy(plenty(slo, 600.0)));
        series
    };
    Alert::new(
        "LlmTimeToFirstTokenUnusual",
        "{{ $labels.model }}: 95 % of streams begin within {{ printf \"%.1f\" $value }} s, usually in less than half of that",
        "Compared with the median of the same figure over a day. The objective may still be met.",
    )
    .settings(&["alerts.least_traffic"])
    .variant(Variant::new(Severity::Info, Window::minutes(15), expr))
    .case(Case::fires("1 to 2.5 s instead of 0.25 to 0.5 s", 7 * 60 + 25, "2.4", series("0.75", "2.5", 7)))
    .case(Case::quiet("0.5 to 0.75 s instead", 7 * 60 + 25, series("0.5", "0.75", 7)))
    .case(Case::quiet("no history", 3 * 60 + 25, series("0.75", "2.5", 3)))
}
