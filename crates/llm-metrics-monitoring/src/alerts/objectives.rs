//! Error budgets: burn rates, over a long window for significance and a short one so that the alert resolves soon.

use llm_metrics::catalog::{self};

use super::{
    Alert, Case, Severity, TestSeries, Values, Variant,
    case::{Flow, percent},
};
use crate::vocabulary::{BURN, OUTCOME, RESULT, SOURCE, STREAM, WINDOW};
use crate::{
    counter, histogram,
    promql::{Expr, Histogram, Window, select},
    recording::{Indicator, Recording, SHORT, budget_of},
    rule::Rule,
    slo::Slo,
};

/// (severity, long window, short window, consumed share of the budget, for): the windows of the SRE workbook, "Alerting on SLOs". For 30 days, the
/// burn rates are 14.4, 6, 3 and 1.
const BURNS: [(Severity, Window, Window, f64, u32); 4] = [
    (Severity::Critical, Window::hours(1), Window::minutes(5), 0.02, 2),
    (Severity::Critical, Window::hours(6), Window::minutes(30), 0.05, 15),
    (Severity::Warning, Window::days(1), Window::hours(2), 0.1, 60),
    (Severity::Warning, Window::days(3), Window::hours(6), 0.1, 180),
];
/// Minutes until an alert with a `for` certainly fires, counted from the first sample of the first rule.
const SETTLED: u32 = 6;
/// Minutes until a window of recorded rates reflects a change: each rate is over five minutes.
const LAG: u32 = 8;
/// Events per minute in the cases.
const EVENTS: f64 = 10_000.0;

pub(crate) const ERROR_BUDGET_BURN: &str = "LlmErrorBudgetBurn";
pub(crate) const FIRST_TOKEN_BUDGET_BURN: &str = "LlmTimeToFirstTokenBudgetBurn";
pub(crate) const GAPS_BUDGET_BURN: &str = "LlmInterTokenLatencyBudgetBurn";
pub(crate) const ATTAINMENT_LOW: &str = "LlmAttainmentLow";

pub(super) fn availability(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let burn = Burn {
        name: ERROR_BUDGET_BURN,
        bad: "of requests fail",
        objective: slo.objectives.availability,
        indicator: &rules.errors,
        guard: &|window| rules.errors.bad_over(window).clone(),
        settings: &["objectives.availability", "objectives.window_days", "alerts.least_failures"],
        highest_severity: Severity::Critical,
    };
    let requests = |flow: &Flow| {
        let of = |outcome: &str, values| counter!(catalog::REQUESTS).with(OUTCOME, outcome).series(values);
        // The ratio includes neither cancelled nor rejected requests.
        let [good, bad] = [flow.good(), flow.bad()];
        vec![of("success", good), of("error", bad), of("cancelled", flow.all()), of("rejected", flow.all())]
    };
    vec![burn.alert(slo, &[&requests])]
}

pub(super) fn first_token(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let objective = &slo.objectives.time_to_first_token;
    let seconds = objective.seconds;
    let never = if objective.count_tokenless { ", or never get one" } else { "" };
    let burn = Burn {
        name: FIRST_TOKEN_BUDGET_BURN,
        bad: &format!("of streams wait longer than {seconds} s for their first token{never}"),
        objective: objective.objective,
        indicator: &rules.slow_first_token,
        guard: &|window| rules.slow_first_token.bad_over(window).clone(),
        settings: &["objectives.time_to_first_token", "objectives.window_days", "alerts.least_failures"],
        highest_severity: Severity::Critical,
    };
    let first = histogram!(catalog::TIME_TO_FIRST_TOKEN).with_bounds(slo.bounds_of(&catalog::TIME_TO_FIRST_TOKEN));
    let slow = slow(&first, seconds, &|_| Vec::new());
    let mut ways = by_spelling(&slow);
    // None of the bad ones ever has a token; clients give up.
    let hung = |flow: &Flow| {
        let spelled = select::spellings(seconds).into_iter().take(1);
        let mut series: Vec<_> = spelled.map(|le| first.clone().bucket_series(&le, flow.good())).collect();
        series.push(first.clone().count().series(flow.good()));
        let ended = counter!(catalog::USAGE_REPORTS).with(STREAM, "true");
        series.push(ended.clone().with(SOURCE, "missing").series(flow.bad()));
        series.push(ended.with(SOURCE, "upstream").series(flow.good()));
        series
    };
    if objective.count_tokenless {
        ways.push(&hung);
    }
    vec![burn.alert(slo, &ways)]
}

pub(super) fn gaps(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let objective = &slo.objectives.inter_token_latency;
    let seconds = objective.seconds;
    let burn = Burn {
        name: GAPS_BUDGET_BURN,
        bad: &format!("of gaps between tokens are longer than {seconds} s"),
        objective: objective.objective,
        indicator: &rules.slow_gaps,
        // A stream has many gaps, so the events are the streams with long gaps.
        guard: &|window| rules.gapped_over(window).clone(),
        settings: &["objectives.inter_token_latency", "objectives.window_days", "alerts.least_failures"],
        highest_severity: Severity::Critical,
    };
    let gaps = histogram!(catalog::INTER_TOKEN_LATENCY).with_bounds(slo.bounds_of(&catalog::INTER_TOKEN_LATENCY));
    // Each stream has ten gaps. If some gaps are bad, every stream has a bad one.
    let beside = |flow: &Flow| [vec![longest().count().series(flow.bad())], short_gaps(slo, seconds)].concat();
    let slow_gaps = slow(&gaps, seconds, &beside);
    let mut alert = burn.alert(slo, &by_spelling(&slow_gaps));
    // All the gaps of one stream are long, for two streams per hour.
    let one = Flow::steady(1000.0, 100.0);
    let beside = |_: &Flow| {
        [vec![longest().count().series(Values::rising(slo.alerts.least_failures * 0.02))], short_gaps(slo, seconds)]
            .concat()
    };
    for way in slow(&gaps, seconds, &beside) {
        alert.cases.push(Case::quiet("long gaps, all in the same few streams", 40, way(&one)));
    }
    vec![alert]
}

pub(super) fn attainment(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let burn = Burn {
        name: ATTAINMENT_LOW,
        bad: "of requests miss the objective {{ $labels.slo }}",
        objective: slo.objectives.attainment,
        indicator: &rules.misses,
        guard: &|window| rules.misses.bad_over(window).clone(),
        settings: &["objectives.attainment", "objectives.window_days", "alerts.least_failures"],
        highest_severity: Severity::Warning,
    };
    let judged = |flow: &Flow| {
        let of = |result, values| counter!(catalog::SLO_REQUESTS).with(RESULT, result).series(values);
        vec![of("met", flow.good()), of("missed", flow.bad())]
    };
    vec![burn.alert(slo, &[&judged])]
}

fn longest() -> Histogram {
    histogram!(catalog::STREAM_MAX_GAP)
}

/// The bucket of the streams' longest gaps that is used: no long gap is shorter.
fn short_gaps(slo: &Slo, limit: f64) -> Vec<TestSeries> {
    let bounds = slo.bounds_of(&catalog::STREAM_MAX_GAP);
    let bound = bounds.iter().rev().find(|bound| **bound <= limit);
    let spelled = bound.into_iter().flat_map(|bound| select::spellings(*bound).into_iter().take(1));
    spelled.map(|le| longest().bucket_series(&le, Values::rising(0.0))).collect()
}

struct Burn<'a> {
    name: &'static str,
    bad: &'a str,
    objective: f64,
    indicator: &'a Indicator,
    /// The counter of the events of which a few are needed.
    guard: &'a dyn Fn(Window) -> Rule,
    settings: &'static [&'static str],
    highest_severity: Severity,
}

type Make<'a> = &'a dyn Fn(&Flow) -> Vec<TestSeries>;

impl Burn<'_> {
    /// `ways` are different kinds of such events.
    fn alert(&self, slo: &Slo, ways: &[Make<'_>]) -> Alert {
        let budget = budget_of(self.objective);
        let (days, least) = (slo.objectives.window_days, slo.alerts.least_failures);
        let summary = format!(
            "{{{{ $labels.model }}}}: {{{{ $value | humanizePercentage }}}} {} over {{{{ $labels.window }}}}",
            self.bad
        );
        let description = format!(
            "The objective is {}, so the error budget is {}. At {{{{ $labels.burn }}}} times that rate it will not last for {days} days.",
            percent(self.objective),
            percent(budget)
        );
        let mut alert = Alert::new(self.name, summary, description).settings(self.settings);
        // A threshold above 100 % can never be reached.
        let times_of = |long: Window, share: f64| {
            let hours = f64::from(long.as_seconds().unwrap_or(3600)) / 3600.0;
            ((share * f64::from(days) * 24.0 / hours * 100.0).round() / 100.0).max(1.0)
        };
        let burns =
            BURNS.map(|(severity, long, short, share, hold)| (severity, long, short, times_of(long, share), hold));
        // With few days, the longest windows have equal thresholds. The longest of them is the steadiest.
        let alike =
            |index: usize, times: f64| burns[index + 1..].iter().any(|(.., other, _)| (other - times).abs() < 1e-9);
        let apart = burns.into_iter().enumerate().filter(|(index, (.., times, _))| !alike(*index, *times));
        let possible = apart.map(|(_, burn)| burn).filter(|(.., times, _)| times * budget * 1.01 < 1.0);
        for (index, (severity, long, short, times, hold)) in possible.enumerate() {
            let severity = if self.highest_severity == Severity::Warning { Severity::Warning } else { severity };
            let limit = || Expr::from(times) * budget;
            let burning = |window| self.indicator.over(window).now().gt(limit());
            let mut expr = burning(long).and(burning(short));
            if long == Window::hours(6) {
                // No page for an incident that ended half an hour ago.
                expr = expr.and(self.indicator.over(SHORT).now().gt(budget));
            }
            let expr = expr.and((self.guard)(long).now().ge(least));
            alert = alert.variant(
                Variant::new(severity, Window::minutes(hold), expr)
                    .label(WINDOW, long.to_string())
                    .label(BURN, times.to_string()),
            );
            let (above, below) = (times * budget * 1.01, times * budget * 0.99);
            for make in ways {
                let (name, at) = (self.name, hold + SETTLED);
                let steady = |share: f64| make(&Flow::steady(share * EVENTS, (1.0 - share) * EVENTS));
                let over = Case::quiet(format!("{name} above {times} times the budget"), at, steady(above));
                alert = alert.case(over.firing(index, percent(above), &[]));
                alert = alert.case(Case::quiet(format!("{name} below {times} times the budget"), at, steady(below)));
                let soon = format!("{name} above {times} times the budget, not yet for long enough");
                alert = alert.case(Case::quiet(soon, hold.saturating_sub(1).max(1), steady(above)));
            }
            // The result is the same for every kind of event.
            let windows = Windows { long, short, hold, limit: times * budget };
            if let Some(make) = ways.first() {
                alert.cases.extend(windows.cases(index, make));
                if long == Window::hours(6) {
                    alert.cases.extend(windows.cases_of_now(index, budget, make));
                }
                alert.cases.extend(windows.cases_of_few(index, least, make));
            }
        }
        alert
    }
}

/// The windows that decide, and the share that is their threshold.
struct Windows {
    long: Window,
    short: Window,
    hold: u32,
    limit: f64,
}

impl Windows {
    /// The share of bad events over time, relative to the limit; with the minute at which each phase ends.
    fn flow(&self, (first, until, then): (f64, u32, f64)) -> Flow {
        let of = |part: f64| Flow::steady(part * self.limit * EVENTS, (1.0 - part * self.limit) * EVENTS);
        of(first).until(until, of(then))
    }

    /// Both windows must be above the limit: one alone is a short spike, or an incident that is over.
    fn cases(&self, variant: usize, make: Make<'_>) -> Vec<Case> {
        let [long, short] = [self.long, self.short].map(minutes);
        let mut cases = Vec::new();
        // Slightly above the limit until the short window has been above it for long enough.
        let spike = short * 2 / 3 + self.hold + LAG;
        let calm = spike * 6 / 5;
        if calm + spike <= long && self.limit * 1.06 < 1.0 {
            let series = make(&self.flow((0.88, calm, 1.06)));
            cases.push(Case::quiet(format!("a spike: over {} alone", self.short), calm + spike, series).not(variant));
        }
        // Far above the limit, then slightly below it for the length of the short window.
        let (much, after) = (self.at_most(5.0), short + LAG);
        if much > 1.2 {
            let before = (f64::from(after) * 0.25 / (much - 1.1)).ceil().max(15.0) as u32;
            let series = make(&self.flow((much, before, 0.85)));
            cases.push(Case::quiet(format!("over {} it is less", self.short), before + after, series).not(variant));
        }
        cases
    }

    /// Whether it continues: the last five minutes must be above what the objective allows.
    fn cases_of_now(&self, variant: usize, budget: f64, make: Make<'_>) -> Vec<Case> {
        let (much, before) = (self.at_most(2.0), minutes(self.short) + 10);
        let now = |what: &str, budgets: f64| {
            let series = make(&self.flow((much, before, budgets * budget / self.limit)));
            Case::quiet(what, before + 6, series)
        };
        if much < 1.3 {
            return Vec::new();
        }
        vec![
            now("it stopped five minutes ago", 0.9).not(variant),
            now("it has become less, and goes on", 1.1).surely(variant),
        ]
    }

    /// All events are bad, with just enough of them, and with slightly too few.
    fn cases_of_few(&self, variant: usize, least: f64, make: Make<'_>) -> Vec<Case> {
        let known = 50;
        let slowly = |what: &str, part: f64| {
            let series = make(&Flow::steady(least * part / f64::from(known), 0.0));
            Case::quiet(format!("{what}, over {}", self.long), known + self.hold, series)
        };
        vec![
            slowly("just enough to say something", 1.12).surely(variant),
            slowly("too few to say anything", 0.9).not(variant),
        ]
    }

    /// This multiple of the limit, but at most 1.
    fn at_most(&self, times: f64) -> f64 {
        times.min(0.95 / self.limit)
    }
}

fn minutes(window: Window) -> u32 {
    window.as_seconds().unwrap_or(0) / 60
}

type Owned<'a> = Box<dyn Fn(&Flow) -> Vec<TestSeries> + 'a>;

fn by_spelling<'a>(ways: &'a [Owned<'_>]) -> Vec<Make<'a>> {
    ways.iter().map(|way| &**way as Make<'a>).collect()
}

/// A histogram whose bad observations are above `bound`, in the spelling of Prometheus 2 and 3.
fn slow<'a>(histogram: &'a Histogram, bound: f64, beside: &'a dyn Fn(&Flow) -> Vec<TestSeries>) -> Vec<Owned<'a>> {
    let ways = select::spellings(bound).into_iter().map(|le| {
        Box::new(move |flow: &Flow| {
            let mut series = vec![
                histogram.clone().bucket_series(&le, flow.good()),
                histogram.clone().bucket_series("+Inf", flow.all()),
                histogram.clone().count().series(flow.all()),
            ];
            series.extend(beside(flow));
            series
        }) as Owned<'a>
    });
    ways.collect()
}
