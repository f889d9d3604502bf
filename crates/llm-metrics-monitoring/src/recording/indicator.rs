//! Shares of bad events over the windows of burn-rate alerts, and the error budgets built from them.

use llm_metrics::catalog::Unit;

use super::{
    INTERVAL, SHORT,
    expressions::{recorded, recorded_number},
};
use crate::{
    promql::{Expr, Window},
    rule::{Level, Rule, RuleMetric},
    slo::{OverrideScope, Region, Slo},
};

/// The windows of the burn-rate alerts.
pub const BURN_WINDOWS: [Window; 7] = [
    SHORT,
    Window::minutes(30),
    Window::hours(1),
    Window::hours(2),
    Window::hours(6),
    Window::days(1),
    Window::days(3),
];

/// The share of bad events over all [`BURN_WINDOWS`], and the number of bad events.
///
/// Only the shortest window reads raw series. The others are sums over its recorded values, one series per model instead of dozens per instance,
/// which makes three days of a hundred instances fast.
#[derive(Clone, Debug)]
pub struct Indicator {
    ratio: Vec<(Window, Rule)>,
    bad: Vec<(Window, Rule)>,
}

/// The inputs of an indicator: recorded rates of bad events and of all events, over [`SHORT`].
pub(super) struct Events<'a> {
    pub(super) level: Level,
    pub(super) metric: RuleMetric,
    /// The word for bad events in names of rules: `errors`, `slow`.
    pub(super) bad_word: &'static str,
    pub(super) ratio_word: &'static str,
    pub(super) bad: &'a dyn Fn(Option<Window>) -> Expr,
    pub(super) all: &'a dyn Fn(Option<Window>) -> Expr,
}

impl Indicator {
    pub(super) fn new(events: &Events<'_>) -> Self {
        let Events { level, metric, bad_word, ratio_word, bad, all } = events;
        let seconds = f64::from(SHORT.as_seconds().unwrap_or(300));
        let (mut ratios, mut increases) = (Vec::new(), Vec::new());
        for window in BURN_WINDOWS {
            let (bad, all) = if window == SHORT {
                (bad(None) * seconds, all(None) * seconds)
            } else {
                let step = f64::from(INTERVAL.as_seconds().unwrap_or(30));
                (bad(Some(window)) * step, all(Some(window)) * step)
            };
            let named = |operation: String, unit, expr| Rule::new(level.clone(), *metric, operation, unit, expr);
            let increase = named(format!("{bad_word}_increase{window}"), Unit::Count, bad);
            let ratio = named(format!("{ratio_word}_rate{window}"), Unit::Ratio, recorded(increase.now() / all));
            increases.push((window, increase));
            ratios.push((window, ratio));
        }
        Self { ratio: ratios, bad: increases }
    }

    /// Bad events come before the shares built from them.
    pub(super) fn all(&self) -> impl Iterator<Item = &(Window, Rule)> {
        self.bad.iter().chain(&self.ratio)
    }

    /// The share over `window`, which must be one of [`BURN_WINDOWS`]; for any other, the share over the longest.
    #[must_use]
    pub fn over(&self, window: Window) -> &Rule {
        of_window(&self.ratio, window)
    }

    /// The number of bad events in `window`.
    #[must_use]
    pub fn bad_over(&self, window: Window) -> &Rule {
        of_window(&self.bad, window)
    }
}

pub(super) fn of_window(rules: &[(Window, Rule)], window: Window) -> &Rule {
    let found = rules.iter().find(|(known, _)| *known == window);
    &found.unwrap_or_else(|| &rules[rules.len() - 1]).1
}

/// The objective, the remaining budget and the burn rate: series with the names that Sloth introduced, with the label `slo`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Budget {
    /// The objective, a ratio.
    pub objective: Rule,
    /// The error budget: one minus the objective.
    pub budget: Rule,
    /// The burn rate: how many times faster than allowed the budget is consumed, over five minutes.
    pub burn_rate: Rule,
    /// The remaining share of the budget over the period of the objectives; negative if the objective is missed.
    pub left: Rule,
}

impl Budget {
    pub(super) fn new(
        slo: &Slo,
        name: &'static str,
        indicator: &Indicator,
        objective: impl Fn(&Slo) -> f64,
        bad: &dyn Fn(Option<Window>) -> Expr,
        all: &dyn Fn(Option<Window>) -> Expr,
    ) -> Self {
        let window = Window::days(slo.objectives.window_days);
        let ratio = indicator.over(SHORT);
        let rule = |metric: &'static str, operation: &'static str, expr| {
            Rule::labelled(Level::Slo, RuleMetric::Plain(metric), operation, Unit::Ratio, expr, ("slo", name))
        };
        let share = by_cell(slo, OverrideScope::ByModel, |slo| all(None) * 0.0 + objective(slo));
        let may_fail = by_cell(slo, OverrideScope::ByModel, |slo| all(None) * 0.0 + budget_of(objective(slo)));
        let burn = by_cell(slo, OverrideScope::ByModel, |slo| ratio.now() / budget_of(objective(slo)));
        let left = by_cell(slo, OverrideScope::ByModel, |slo| {
            recorded_number(1.0 - bad(Some(window)) / all(Some(window)) / budget_of(objective(slo)))
        });
        Self {
            objective: rule("objective", "ratio", share),
            budget: rule("error_budget", "ratio", may_fail),
            burn_rate: rule("current_burn_rate", "ratio", burn),
            left: rule("period_error_budget_remaining", "ratio", left),
        }
    }

    pub(super) fn rules(&self) -> [&Rule; 4] {
        [&self.objective, &self.budget, &self.burn_rate, &self.left]
    }
}

/// One minus the objective, rounded so that it has no binary fractions.
pub(crate) fn budget_of(objective: f64) -> f64 {
    ((1.0 - objective) * 1e9).round() / 1e9
}

/// The expression for each set of settings, restricted to its series.
pub(crate) fn by_cell(slo: &Slo, scope: OverrideScope, make: impl Fn(&Slo) -> Expr) -> Expr {
    let mut groups: Vec<(Expr, Vec<Region>)> = Vec::new();
    for cell in slo.cells(scope) {
        let expr = make(&cell.slo);
        match groups.iter_mut().find(|(known, _)| *known == expr) {
            Some((_, regions)) => regions.push(cell.region),
            None => groups.push((expr, vec![cell.region])),
        }
    }
    match &groups[..] {
        [(expr, _)] => expr.clone(),
        _ => {
            let parts =
                groups.iter().flat_map(|(expr, regions)| regions.iter().map(|region| expr.clone().within(region)));
            parts.reduce(|all, part| all.or(part)).unwrap_or_else(|| make(slo))
        }
    }
}
