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
    // Data exists for some hours before.
    let known = p95.gauge().offset(Window::hours(3)).max_over_time(Window::hours(1)).gt(0.0);
    let expr = p95.now().gt(usual.now() * 2.0).and(known).and(streams).unless(as_yesterday);
    // The number of streams per minute that begin between these bounds, until these minutes in turn; none without bounds.
    let series = |by: f64, turns: &[(u32, &str, &str)]| {
        let bounds = ["0.1", "0.25", "0.3", "0.5", "0.75", "1", "2.5", "+Inf"];
        let index = |name: &str| bounds.iter().position(|bound| *bound == name).unwrap_or(0);
        let by_turns = |le: &str| {
            let of = |(_, _, upper): &(u32, &str, &str)| match *upper {
                "" => Values::absent(),
                upper => Values::rising(if index(le) >= index(upper) { by } else { 0.0 }),
            };
            turns.windows(2).fold(of(&turns[0]), |values, pair| values.until(pair[0].0, of(&pair[1])))
        };
        let first = || histogram!(catalog::TIME_TO_FIRST_TOKEN);
        let mut series: Vec<_> = bounds.iter().map(|le| first().bucket_series(le, by_turns(le))).collect();
        series.push(first().count().series(by_turns("+Inf")));
        series
    };
    let plenty = least.max(600.0);
    let (fast, slow, at) = ((7 * 60, "0.25", "0.5"), (0, "0.75", "2.5"), 7 * 60 + 26);
    // Slow from that minute of the first day on until eight o'clock, and from seven o'clock of the second.
    let two_days = |from: u32| {
        let turns = [(from, "0.25", "0.5"), (8 * 60, "0.75", "2.5"), (31 * 60, "0.25", "0.5"), slow];
        series(plenty, &turns)
    };
    let tomorrow = 31 * 60 + 26;
    // No requests between these two minutes.
    let gap = |from: u32, again: u32| {
        series(plenty, &[(from, "0.25", "0.5"), (again, "", ""), (5 * 60, "0.25", "0.5"), slow])
    };
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
    .case(Case::fires("just enough to say something", at, "2.4", series(least * 0.21, &[fast, slow])))
    .case(Case::quiet("not yet for long enough", 7 * 60 + 13, series(plenty, &[fast, slow])))
    .case(Case::fires("just above twice as long", at, "1.0", series(plenty, &[fast, (0, "0.75", "1")])))
    .case(Case::quiet(
        "just below twice as long",
        at,
        series(plenty, &[(7 * 60, "0.25", "0.3"), (0, "0.3", "0.5")]),
    ))
    .case(Case::quiet("as slow yesterday, for most of the hour", tomorrow, two_days(7 * 60)))
    .case(Case::fires("slow yesterday, for a part of the hour", tomorrow, "2.4", two_days(7 * 60 + 5)))
    .case(Case::fires("known three and a half hours ago alone", 5 * 60 + 26, "2.4", gap(116, 160)))
    .case(Case::quiet("known five hours ago alone", 5 * 60 + 26, gap(60, 160)))
}
