//! Error budgets: how fast they burn, over a long window so that it matters and a short one so that it still does.

use llm_metrics::catalog::{
    self,
    labels::{MODEL, OUTCOME, RESULT},
};

use super::{Alert, Case, Series, Severity, Values, Variant, case::percent, traffic::busy};
use crate::{
    counter, histogram,
    promql::{Expr, Histogram, Window, select},
    recording::{Indicator, Recording},
    slo::Slo,
    vocabulary::JOB,
};

/// (severity, long window, short window, times too fast, for): the windows of the SRE workbook, "Alerting on SLOs".
const BURNS: [(Severity, Window, Window, f64, u32); 4] = [
    (Severity::Critical, Window::hours(1), Window::minutes(5), 14.4, 2),
    (Severity::Critical, Window::hours(6), Window::minutes(30), 6.0, 15),
    (Severity::Warning, Window::days(1), Window::hours(2), 3.0, 60),
    (Severity::Warning, Window::days(3), Window::hours(6), 1.0, 180),
];
/// Minutes until what fires for a time after the first rule had its first sample certainly fires.
const SETTLED: u32 = 6;

/// Events a minute in the cases: enough, too, in the first minutes of a window of hours.
fn events(slo: &Slo) -> f64 {
    (slo.alerts.least_traffic * 12_000.0).max(10_000.0)
}

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let (objectives, events) = (&slo.objectives, events(slo));
    let first_token = objectives.time_to_first_token.seconds;
    let gap = objectives.inter_token_latency.seconds;
    let available = Burn {
        name: "LlmErrorBudgetBurn",
        bad: "of requests fail",
        objective: objectives.availability,
        indicator: &rules.error_ratio,
        settings: &["objectives.availability", "alerts.least_traffic"],
    };
    let begins = Burn {
        name: "LlmTimeToFirstTokenBudgetBurn",
        bad: &format!("of streams wait longer than {first_token} s for their first token"),
        objective: objectives.time_to_first_token.objective,
        indicator: &rules.slow_first_token,
        settings: &["objectives.time_to_first_token", "alerts.least_traffic"],
    };
    let flows = Burn {
        name: "LlmInterTokenLatencyBudgetBurn",
        bad: &format!("of gaps between tokens are longer than {gap} s"),
        objective: objectives.inter_token_latency.objective,
        indicator: &rules.slow_gaps,
        settings: &["objectives.inter_token_latency", "alerts.least_traffic"],
    };
    vec![
        available.alert(
            slo,
            rules,
            &[|bad| {
                let requests =
                    |outcome: &str, by| counter!(catalog::REQUESTS).with(OUTCOME, outcome).series(Values::rising(by));
                vec![requests("success", events - bad), requests("error", bad)]
            }],
        ),
        begins.alert(slo, rules, &slow(&histogram!(catalog::TIME_TO_FIRST_TOKEN), first_token, events)),
        flows.alert(slo, rules, &slow(&histogram!(catalog::INTER_TOKEN_LATENCY), gap, events)),
        attainment(slo, rules),
    ]
}

struct Burn<'a> {
    name: &'static str,
    bad: &'a str,
    objective: f64,
    indicator: &'a Indicator,
    settings: &'static [&'static str],
}

impl Burn<'_> {
    /// `series` are ways to have so many bad events a minute of [`events`].
    fn alert(&self, slo: &Slo, rules: &Recording, series: &[impl Fn(f64) -> Vec<Series>]) -> Alert {
        let events = events(slo);
        // What a share of 0.995 leaves, without the dust of binary fractions.
        let budget = ((1.0 - self.objective) * 1e9).round() / 1e9;
        let summary = format!(
            "{{{{ $labels.model }}}}: {{{{ $value | humanizePercentage }}}} {} over {{{{ $labels.window }}}}",
            self.bad
        );
        let description = format!(
            "The objective is {}, so that {} may. At {{{{ $labels.burn }}}} times that the budget of 30 days does not last.",
            percent(self.objective),
            percent(budget)
        );
        let mut alert = Alert::new(self.name, summary, description).settings(self.settings);
        // A rate that needs more bad events than there are events can never be.
        let possible = BURNS.into_iter().filter(|(.., times, _)| times * budget * 1.01 < 1.0);
        for (index, (severity, long, short, times, hold)) in possible.enumerate() {
            let limit = || Expr::from(times) * budget;
            let burning = |window| self.indicator.over(window).now().gt(limit());
            let traffic = rules.requests.over(short).now().gt(slo.alerts.least_traffic);
            let expr = burning(long).and(burning(short)).and(traffic);
            alert = alert.variant(
                Variant::new(severity, Window::minutes(hold), expr)
                    .label("window", long.to_string())
                    .label("burn", times.to_string()),
            );
            for series in series {
                let (above, below) = (times * budget * 1.01, times * budget * 0.99);
                let (name, at) = (self.name, hold + SETTLED);
                let over = Case::quiet(format!("{name} above {times} times the budget"), at, series(above * events));
                alert = alert.case(over.firing(index, percent(above), &[]));
                let under = format!("{name} below {times} times the budget");
                alert = alert.case(Case::quiet(under, at, series(below * events)));
            }
        }
        let idle = series.iter().map(|series| {
            let mut series = series(events);
            series.iter_mut().for_each(|series| series.slow_down(slo.alerts.least_traffic * 0.5 * 60.0 / events));
            Case::quiet(format!("{} with next to no traffic", self.name), 240, series)
        });
        alert.cases.extend(idle.filter(|_| slo.alerts.least_traffic > 0.0));
        alert
    }
}

/// A histogram of which so many observations a minute are above `bound`, in the spelling of Prometheus 2 and 3.
fn slow(histogram: &Histogram, bound: f64, events: f64) -> Vec<impl Fn(f64) -> Vec<Series>> {
    let spellings = select::spellings(bound).into_iter();
    let ways = spellings.map(|le| {
        let histogram = histogram.clone();
        move |bad: f64| {
            let mut series = histogram.clone().series(&[(le.as_str(), events - bad)], events);
            series.extend(busy(events));
            series
        }
    });
    ways.collect()
}

fn attainment(slo: &Slo, rules: &Recording) -> Alert {
    let (objective, events) = (slo.objectives.attainment, events(slo));
    let [now, hour] = &rules.attainment;
    let traffic = rules.requests_5m.now().gt(slo.alerts.least_traffic);
    let expr = hour.now().lt(objective).and(now.now().lt(objective)).and_on([JOB, MODEL], traffic);
    let series = |met: f64| {
        let of = |result, by| counter!(catalog::SLO_REQUESTS).with(RESULT, result).series(Values::rising(by));
        let mut series = vec![of("met", met * events), of("missed", (1.0 - met) * events)];
        series.extend(busy(events));
        series
    };
    Alert::new(
        "LlmAttainmentLow",
        "{{ $labels.model }}: only {{ $value | humanizePercentage }} of requests meet the objective {{ $labels.slo }}",
        format!("At least {} should, over the last hour as over the last five minutes.", percent(objective)),
    )
    .settings(&["objectives.attainment", "alerts.least_traffic"])
    .variant(Variant::new(Severity::Warning, Window::minutes(15), expr).keep(Window::minutes(5)))
    .case(Case::fires("just below", 20, percent(objective - 0.01), series(objective - 0.01)))
    .case(Case::quiet("just above", 20, series(objective + 0.001)))
    .case(Case::quiet("not yet for long enough", 14, series(objective - 0.01)))
}
