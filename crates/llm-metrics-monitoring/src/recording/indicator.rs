//! Shares of bad events over the windows of burn-rate alerts, and the error budgets that are made of them.

use llm_metrics::catalog::Unit;

use super::{
    INTERVAL, SHORT,
    expressions::{recorded, recorded_number},
};
use crate::{
    promql::{Expr, Window},
    rule::{Level, Rule},
    slo::{Region, Slo, Told},
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

/// The share of bad events over all [`BURN_WINDOWS`], and how many bad ones there were.
///
/// Only the shortest window is read from raw series. The others are sums over what that records, one series a model instead of
/// dozens an instance: three days of a hundred instances are read in a moment.
#[derive(Clone, Debug)]
pub struct Indicator {
    ratio: Vec<(Window, Rule)>,
    bad: Vec<(Window, Rule)>,
}

/// What an indicator is made of: recorded rates of bad events and of all, over [`SHORT`].
pub(super) struct Events<'a> {
    pub(super) level: Level,
    pub(super) stem: &'static str,
    /// What the bad events are called in names of rules: `errors`, `slow`.
    pub(super) bad_word: &'static str,
    pub(super) ratio_word: &'static str,
    pub(super) bad: &'a dyn Fn(Option<Window>) -> Expr,
    pub(super) all: &'a dyn Fn(Option<Window>) -> Expr,
}

impl Indicator {
    pub(super) fn new(events: &Events<'_>) -> Self {
        let Events { level, stem, bad_word, ratio_word, bad, all } = events;
        let seconds = f64::from(SHORT.as_seconds().unwrap_or(300));
        let (mut ratios, mut increases) = (Vec::new(), Vec::new());
        for window in BURN_WINDOWS {
            let (bad, all) = if window == SHORT {
                (bad(None) * seconds, all(None) * seconds)
            } else {
                let step = f64::from(INTERVAL.as_seconds().unwrap_or(30));
                (bad(Some(window)) * step, all(Some(window)) * step)
            };
            let named = |operation: String, unit, expr| Rule::new(level.clone(), stem, operation, unit, expr);
            let increase = named(format!("{bad_word}_increase{window}"), Unit::Count, bad);
            let ratio = named(format!("{ratio_word}_rate{window}"), Unit::Ratio, recorded(increase.now() / all));
            increases.push((window, increase));
            ratios.push((window, ratio));
        }
        Self { ratio: ratios, bad: increases }
    }

    /// Bad events before the shares that are made of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &(Window, Rule)> {
        self.bad.iter().chain(&self.ratio)
    }

    /// The share over `window`, which is one of [`BURN_WINDOWS`]; the one over the longest for any other.
    #[must_use]
    pub fn over(&self, window: Window) -> &Rule {
        of_window(&self.ratio, window)
    }

    /// How many bad events there were in `window`.
    #[must_use]
    pub fn bad_over(&self, window: Window) -> &Rule {
        of_window(&self.bad, window)
    }
}

pub(super) fn of_window(rules: &[(Window, Rule)], window: Window) -> &Rule {
    let found = rules.iter().find(|(known, _)| *known == window);
    &found.unwrap_or_else(|| &rules[rules.len() - 1]).1
}

/// What is promised, how much of the budget is left, how fast it goes: series under the names that Sloth made usual, with the
/// label `slo`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Budget {
    /// The objective, a share.
    pub objective: Rule,
    /// What may be bad: one minus the objective.
    pub budget: Rule,
    /// How many times as fast as it may the budget goes, over five minutes.
    pub burn_rate: Rule,
    /// The share of the budget that is left over the objectives' window; below 0 where more was bad than promised.
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
        let rule = |operation: &'static str, of: &'static str, expr| {
            Rule::labelled(Level::Slo, operation, of, Unit::Ratio, expr, ("slo", name))
        };
        let share = by_cell(slo, Told::ByModel, |slo| all(None) * 0.0 + objective(slo));
        let may_fail = by_cell(slo, Told::ByModel, |slo| all(None) * 0.0 + budget_of(objective(slo)));
        let burn = by_cell(slo, Told::ByModel, |slo| ratio.now() / budget_of(objective(slo)));
        let left = by_cell(slo, Told::ByModel, |slo| {
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

/// What a share of 0.995 leaves, without the dust of binary fractions.
pub(crate) fn budget_of(objective: f64) -> f64 {
    ((1.0 - objective) * 1e9).round() / 1e9
}

/// The expression for each set of settings, of the series that they are for.
pub(crate) fn by_cell(slo: &Slo, told: Told, make: impl Fn(&Slo) -> Expr) -> Expr {
    let mut groups: Vec<(Expr, Vec<Region>)> = Vec::new();
    for cell in slo.cells(told) {
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
