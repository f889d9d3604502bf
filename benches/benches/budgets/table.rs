//! Figures, budgets, and whether they are met.

use std::fmt::Write;

use llm_metrics_benches::measure::{Measured, Spread};

const UNITS: &str = "units";

/// A line of the table.
pub(crate) struct Row {
    what: &'static str,
    figure: f64,
    /// The middle half of all rounds, or the confidence interval.
    middle: [f64; 2],
    unit: &'static str,
    nanoseconds: Option<f64>,
    budget: Option<Budget>,
}

#[derive(Clone, Copy)]
enum Budget {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    /// A figure of any kind.
    pub(crate) fn new(what: &'static str, figure: f64, rounds: &Spread, unit: &'static str) -> Self {
        let middle = [rounds.quantile(0.25), rounds.quantile(0.75)];
        Self { what, figure, middle, unit, nanoseconds: None, budget: None }
    }

    /// A cost in units: `time` chooses the best round or all rounds.
    pub(crate) fn units(what: &'static str, measured: &Measured, time: impl Fn(&dyn Fn(&str) -> f64) -> f64) -> Self {
        let best = time(&|name| measured.times(name).best());
        let unit = measured.times("unit");
        let rounds =
            (0..unit.len()).map(|round| time(&|name| measured.times(name).at(round)) / unit.at(round)).collect();
        Self { nanoseconds: Some(best), ..Self::new(what, best / unit.best(), &Spread::new(rounds), UNITS) }
    }

    /// A cost as a share of that of another case in the same rounds.
    pub(crate) fn share(
        what: &'static str,
        measured: &Measured,
        time: impl Fn(&dyn Fn(&str) -> f64) -> f64,
        peer: impl Fn(&dyn Fn(&str) -> f64) -> f64,
        unit: &'static str,
    ) -> Self {
        let share = |of: &dyn Fn(&str) -> f64| time(of) / peer(of);
        let rounds = (0..measured.times("unit").len()).map(|round| share(&|name| measured.times(name).at(round)));
        Self::new(what, share(&|name| measured.times(name).best()), &Spread::new(rounds.collect()), unit)
    }

    /// The median of independent rounds, with its 95 % confidence interval.
    pub(crate) fn median(what: &'static str, rounds: &Spread, unit: &'static str) -> Self {
        Self { middle: rounds.interval(), ..Self::new(what, rounds.quantile(0.5), rounds, unit) }
    }

    pub(crate) fn at_most(self, budget: f64) -> Self {
        Self { budget: Some(Budget::AtMost(budget)), ..self }
    }

    pub(crate) fn at_least(self, budget: f64) -> Self {
        Self { budget: Some(Budget::AtLeast(budget)), ..self }
    }

    /// Whether the budget is met; `None` without a budget.
    pub(crate) fn kept(&self) -> Option<bool> {
        Some(match self.budget? {
            Budget::AtMost(budget) => self.figure <= budget,
            Budget::AtLeast(budget) => self.figure >= budget,
        })
    }
}

/// The table, in Markdown.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut page =
        String::from("| what | ns | figure | middle half | | budget | |\n|---|---:|---:|---:|---|---:|---|\n");
    for row in rows {
        let nanoseconds = row.nanoseconds.map_or_else(String::new, |time| format!("{time:.1}"));
        let (best, [low, high]) = (row.figure, row.middle);
        let budget = match row.budget {
            Some(Budget::AtMost(budget)) => format!("≤ {budget}"),
            Some(Budget::AtLeast(budget)) => format!("≥ {budget}"),
            None => String::new(),
        };
        let kept = match row.kept() {
            Some(true) => "ok",
            Some(false) => "**missed**",
            None => "",
        };
        let digits = if best.abs() >= 100.0 { 0 } else { 2 };
        let _ = writeln!(
            page,
            "| {} | {nanoseconds} | {best:.digits$} | {low:.digits$}–{high:.digits$} | {} | {budget} | {kept} |",
            row.what, row.unit
        );
    }
    page
}
