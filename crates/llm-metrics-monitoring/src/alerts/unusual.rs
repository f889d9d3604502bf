//! Values that differ from the service's own past.

use llm_metrics::catalog;

use super::{Alert, Case, Severity, Values, Variant, daily::yesterday};
use crate::{
    histogram,
    promql::Window,
    recording::{Recording, SHORT},
    slo::Slo,
};

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    vec![first_token(slo, rules)]
}

fn first_token(slo: &Slo, rules: &Recording) -> Alert {
    let (p95, usual, least) = (&rules.first_token.p95, &rules.first_token_usual, slo.alerts.least_events);
    let seconds = f64::from(SHORT.as_seconds().unwrap_or(300));
    let streams = (rules.streams.now() * seconds).ge(least);
    // A rush hour that comes every day is not unusual.
    let as_yesterday = p95.now().le(yesterday(p95.gauge()) * 2.0);
    // There is data for some hours before.
    let known = p95.gauge().offset(Window::hours(3)).max_over_time(Window::hours(1)).gt(0.0);
    let expr = p95.now().gt(usual.now() * 2.0).and(known).and(streams).unless(as_yesterday);
    // The number of streams per minute that begin between these bounds, alternating.
    let series = |by: f64, turns: &[(u32, &str, &str)]| {
        let bounds = ["0.1", "0.25", "0.5", "0.75", "2.5", "+Inf"];
        let within = |le: &str, turn: &(u32, &str, &str)| {
            let index = |name: &str| bounds.iter().position(|bound| *bound == name).unwrap_or(0);
            if index(le) >= index(turn.2) { by } else { 0.0 }
        };
        let bucket = |le: &&str| {
            let mut values = Values::rising(within(le, &turns[0]));
            for pair in turns.windows(2) {
                values = values.until(pair[0].0, Values::rising(within(le, &pair[1])));
            }
            histogram!(catalog::TIME_TO_FIRST_TOKEN).bucket_series(le, values)
        };
        let mut series: Vec<_> = bounds.iter().map(bucket).collect();
        series.push(histogram!(catalog::TIME_TO_FIRST_TOKEN).count().series(Values::rising(by)));
        series
    };
    let plenty = least.max(600.0);
    let (fast, slow, at) = ((7 * 60, "0.25", "0.5"), (0, "0.75", "2.5"), 7 * 60 + 26);
    Alert::new(
        "LlmTimeToFirstTokenUnusual",
        "{{ $labels.model }}: 95 % of streams begin within {{ printf \"%.1f\" $value }} s, usually in less than half of that",
        "This is compared with the median of the last day, and with the same hour of the day before. The objective may still be met.",
    )
    .settings(&["alerts.least_events"])
    .variant(Variant::new(Severity::Info, Window::minutes(15), expr))
    .case(Case::fires("0.75 to 2.5 s instead of 0.25 to 0.5 s", at, "2.4", series(plenty, &[fast, slow])))
    .case(Case::quiet("0.5 to 0.75 s instead", at, series(plenty, &[fast, (0, "0.5", "0.75")])))
    .case(Case::quiet("no history", 2 * 60 + 26, series(plenty, &[(2 * 60, "0.25", "0.5"), slow])))
    .case(Case::quiet("too few to say anything", at, series(least * 0.19, &[fast, slow])))
}
