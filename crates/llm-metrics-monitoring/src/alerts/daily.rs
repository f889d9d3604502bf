//! Comparisons with the same hour of the day before: traffic differs between day and night, which a mean over a day hides.

use llm_metrics::catalog;

use super::{Alert, Case, Severity, TestSeries, Values, Variant};
use crate::{
    counter, gauge,
    promql::{Expr, Gauge, Window},
    recording::{Recording, SHORT},
    slo::Slo,
};

pub(crate) const THROUGHPUT_LOW: &str = "LlmTokenThroughputLow";
const DAY: u32 = 24 * 60;

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let mut all = vec![throughput(rules), no_traffic(slo, rules)];
    // No rate is below zero.
    all.extend((slo.alerts.requests_per_second_min > 0.0).then(|| too_few(slo, rules)));
    all
}

/// The value at this hour of the day before.
pub(super) fn yesterday(gauge: Gauge) -> Expr {
    gauge.offset(Window::days(1)).avg_over_time(Window::hours(1))
}

/// A day and its night: rises from nothing to `top` per minute at noon, and falls again, in steps of half an hour.
fn season(top: f64) -> impl Fn(u32) -> f64 {
    move |minute| {
        let of_day = f64::from(minute % DAY) / f64::from(DAY);
        top * (0.5 - 0.475 * (of_day * std::f64::consts::TAU).cos())
    }
}

/// A counter that rises at this rate.
fn follows(rate: impl Fn(u32) -> f64, minutes: u32) -> Values {
    let steps = (1..minutes.div_ceil(30)).map(|step| (step * 30, Values::rising(rate(step * 30 + 15))));
    steps.fold(Values::rising(rate(15)), |values, (from, next)| values.until(from, next))
}

/// A gauge with these values.
fn stands(value: impl Fn(u32) -> f64, minutes: u32) -> Values {
    let steps = (1..minutes.div_ceil(30)).map(|step| (step * 30, Values::flat(value(step * 30 + 15))));
    steps.fold(Values::flat(value(15)), |values, (from, next)| values.until(from, next))
}

/// Compares with the same hour of the day before, and only if as many requests are in flight as then: less traffic is not a fault.
fn throughput(rules: &Recording) -> Alert {
    let (tokens, load) = (|| rules.job_output_tokens.gauge(), || rules.job_in_flight.gauge());
    let expr = tokens().now().lt(yesterday(tokens()) * 0.5);
    let expr = expr.and(load().now().gt(0.0)).and(load().now().ge(yesterday(load()) * 0.8));
    let noon = DAY + DAY / 2;
    // From noon of the second day on, a share of the usual tokens, with a share of the usual load.
    let series = |tokens: f64, load: f64| {
        let (output, in_flight) = (season(6000.0), season(20.0));
        let produced = follows(|minute| output(minute) * if minute > noon { tokens } else { 1.0 }, noon + 120);
        let flying = stands(|minute| in_flight(minute) * if minute > noon { load } else { 1.0 }, noon + 120);
        vec![counter!(catalog::OUTPUT_TOKENS).series(produced), gauge!(catalog::REQUESTS_IN_FLIGHT).series(flying)]
    };
    let at = noon + 58;
    let warm_up = vec![
        counter!(catalog::OUTPUT_TOKENS).series(Values::rising(100.0)),
        gauge!(catalog::REQUESTS_IN_FLIGHT).series(Values::flat(4.0)),
    ];
    // On the second day, without seasons.
    let later = DAY + 200;
    let of = |tokens: Values, load: Values| {
        vec![counter!(catalog::OUTPUT_TOKENS).series(tokens), gauge!(catalog::REQUESTS_IN_FLIGHT).series(load)]
    };
    let fewer = || Values::rising(6000.0).until(DAY, Values::rising(1800.0));
    // Mean of the hour yesterday: 4000. Before that hour, and at its end, there was nothing.
    let forty_minutes = Values::rising(0.0)
        .until(140, Values::rising(6000.0))
        .until(180, Values::rising(0.0))
        .until(DAY, Values::rising(1800.0));
    // Of the hour yesterday, the first half had load, and its mean is still more than today's load allows.
    let half_an_hour =
        Values::flat(0.0).until(140, Values::flat(20.0)).until(170, Values::flat(0.0)).until(DAY, Values::flat(6.0));
    let stopped = Values::rising(6000.0).until(DAY, Values::rising(0.0));
    Alert::new(
        THROUGHPUT_LOW,
        "{{ $labels.job }}: {{ printf \"%.1f\" $value }} output tokens per second, less than half of yesterday's at this time",
        "As many requests are in flight as yesterday, so lower traffic is not the reason.",
    )
    .variant(Variant::new(Severity::Warning, Window::minutes(15), expr))
    .case(Case::fires("four in ten at noon, with the usual load", at, "38.6", series(0.4, 1.0)))
    .case(Case::quiet("six in ten", at, series(0.6, 1.0)))
    .case(Case::quiet("a quiet day", at, series(0.4, 0.4)))
    .case(Case::quiet("the night comes, as every night", noon + 10 * 60, series(1.0, 1.0)))
    .case(Case::quiet("nothing to do", at, series(0.0, 0.0)))
    .case(Case::quiet("no history", 4 * 60, warm_up))
    .case(Case::quiet("not yet for long enough", noon + 14, series(0.4, 1.0)))
    .case(Case::fires("less than half of the hour's mean", later, "30.0", of(forty_minutes, Values::flat(10.0))))
    .case(Case::quiet("seven in ten of the load", later, of(fewer(), Values::flat(10.0).until(DAY, Values::flat(7.0)))))
    .case(Case::quiet("less load than in the hour's mean", later + 5, of(fewer(), half_an_hour)))
    .case(Case::quiet("requests that no scrape sees in flight", later, of(stopped, Values::flat(0.0))))
}

/// A model without any finished request, at an hour with traffic on the day before: it is gone, unreachable, or hangs while clients wait.
fn no_traffic(slo: &Slo, rules: &Recording) -> Alert {
    let least = slo.alerts.least_events;
    let (ten, seconds) = (Window::minutes(10), f64::from(SHORT.as_seconds().unwrap_or(300)));
    let rate = || rules.requests.gauge();
    let yesterday = yesterday(rate()) * seconds;
    let just_now = rate().offset(ten).avg_over_time(Window::minutes(30)) * seconds;
    let expr = yesterday.ge(least).and(just_now.ge(least)).unless(rate().now().gt(0.0));
    let day = DAY;
    let served = |by: f64| ended(Values::rising(by).until(day + 120, Values::rising(0.0)));
    // These numbers of requests per minute in turn, each until its minute; none after two o'clock of the second day.
    let turns = |turns: &[(u32, f64)]| {
        let all = turns
            .windows(2)
            .fold(Values::rising(turns[0].1), |values, pair| values.until(pair[0].0, Values::rising(pair[1].1)));
        vec![ended(all.until(day + 120, Values::rising(0.0)))]
    };
    let then_and_now = |yesterday: f64, today: f64| turns(&[(day + 30, yesterday), (day + 120, today)]);
    // In parts of 1024 a counter is exact, and does not go back by a rounding error where it stops.
    let [enough, too_few, hardly_any] = [0.21, 0.19, 0.05].map(|part| (least * part * 1024.0).round() / 1024.0);
    let only_early_yesterday = turns(&[(100, least * 5.0), (day + 30, 0.0), (day + 120, least * 5.0)]);
    let hardly_any_at_last = turns(&[(day + 104, least * 5.0), (day + 120, hardly_any)]);
    Alert::new(
        "LlmNoTraffic",
        "{{ $labels.model }}: no request has ended for minutes; at this time yesterday it was {{ printf \"%.0f\" $value }} in five minutes",
        "There was traffic half an hour ago. The model is gone, callers cannot reach it, or it hangs and callers wait.",
    )
    .settings(&["alerts.least_events"])
    .variant(Variant::new(Severity::Critical, SHORT, expr))
    .case(Case::fires("it stopped", day + 132, "500", vec![served(100.0)]))
    .case(Case::fires(
        "its series have ended",
        day + 136,
        "500",
        vec![ended(Values::rising(100.0).until(day + 120, Values::absent()))],
    ))
    .case(Case::quiet("a load test ended", day + 132, vec![ended(Values::absent().until(day + 60, Values::rising(100.0)).until(day + 120, Values::rising(0.0)))]))
    .case(Case::quiet("it goes on", day + 132, vec![ended(Values::rising(100.0))]))
    .case(Case::quiet("there was hardly any", day + 132, vec![served(least * 0.19)]))
    .case(Case::quiet("not yet for long enough", day + 127, vec![served(100.0)]))
    .case(Case::quiet("long over", day + 190, vec![served(100.0)]))
    .case(Case::quiet("just enough yesterday", day + 132, then_and_now(enough, least * 5.0)).surely(0))
    .case(Case::quiet("too few yesterday", day + 132, then_and_now(too_few, least * 5.0)))
    .case(Case::quiet("just enough half an hour ago", day + 132, then_and_now(least * 5.0, enough)).surely(0))
    .case(Case::quiet("too few half an hour ago", day + 132, then_and_now(least * 5.0, too_few)))
    .case(Case::quiet("yesterday only early in the hour", day + 132, only_early_yesterday).surely(0))
    .case(Case::quiet("hardly any in the last minutes", day + 132, hardly_any_at_last).surely(0))
}

fn ended(values: Values) -> TestSeries {
    counter!(catalog::REQUESTS).series(values)
}

/// At this hour of the day before it was in the band. A model without series is also below the band.
fn too_few(slo: &Slo, rules: &Recording) -> Alert {
    let least = slo.alerts.requests_per_second_min;
    let rate = || rules.requests.gauge();
    let expr = yesterday(rate()).gt(least).unless(rate().now().ge(least));
    let (usual, change) = (least * 120.0, DAY + 120);
    let then = |by: f64| vec![ended(Values::rising(usual).until(change, Values::rising(by)))];
    let at = change + 46;
    let value = format!("{:.3}", usual / 60.0);
    // Yesterday, twenty minutes of the hour had requests: its mean is just above the limit. In parts of 1024, a counter is exact.
    let twenty_minutes = Values::rising(1.0)
        .until(10, Values::rising(0.0))
        .until(140, Values::rising((least * 1.12 * 180.0 * 1024.0).round() / 1024.0))
        .until(160, Values::rising(0.0))
        .until(DAY, Values::rising(least * 54.0));
    Alert::new(
        "LlmRequestRateLow",
        "{{ $labels.model }}: the request rate is too low; at this time yesterday it was {{ printf \"%.3f\" $value }} per second",
        format!("The lower limit is {least} per second. Callers may be unable to reach the service."),
    )
    .settings(&["alerts.requests_per_second_min"])
    .variant(Variant::new(Severity::Info, Window::minutes(30), expr))
    .case(Case::fires("below the band", at, value.clone(), then(least * 54.0)))
    .case(Case::fires(
        "its series have ended",
        at,
        value,
        vec![ended(Values::rising(usual).until(change, Values::absent()))],
    ))
    .case(Case::quiet("just above the limit in the hour's mean", DAY + 198, vec![ended(twenty_minutes)]).surely(0))
    .case(Case::quiet("in the band", at, then(least * 66.0)))
    .case(Case::quiet("not yet for long enough", change + 28, then(least * 54.0)))
    .case(Case::quiet("never more than that", at, vec![ended(Values::rising(least * 54.0))]))
    .case(Case::quiet(
        "after the first load test",
        at,
        vec![ended(Values::absent().until(change - 60, Values::rising(usual)).until(change, Values::rising(0.0)))],
    ))
}
