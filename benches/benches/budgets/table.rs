//! Figures, budgets, and whether they are kept.

use std::fmt::Write;

use llm_metrics_benches::measure::Spread;

/// How far over its budget a figure may be before it counts as missed: what remains of the noise.
const TOLERANCE: f64 = 1.10;

/// A line of the table.
pub(crate) struct Row {
    what: &'static str,
    figure: Spread,
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
    pub(crate) fn new(what: &'static str, figure: Spread, unit: &'static str) -> Self {
        Self { what, figure, unit, nanoseconds: None, budget: None }
    }

    /// Times of a thing and of the unit, both in nanoseconds.
    pub(crate) fn units(what: &'static str, times: &Spread, unit: &Spread) -> Self {
        Self { nanoseconds: Some(times.median()), ..Self::new(what, times.in_terms_of(unit), "units") }
    }

    pub(crate) fn at_most(self, budget: f64) -> Self {
        Self { budget: Some(Budget::AtMost(budget)), ..self }
    }

    pub(crate) fn at_least(self, budget: f64) -> Self {
        Self { budget: Some(Budget::AtLeast(budget)), ..self }
    }

    /// Whether the median keeps the budget, give or take the tolerance; `None` without a budget.
    pub(crate) fn kept(&self) -> Option<bool> {
        let median = self.figure.median();
        Some(match self.budget? {
            Budget::AtMost(budget) => median <= budget * TOLERANCE,
            Budget::AtLeast(budget) => median * TOLERANCE >= budget,
        })
    }
}

/// The table, in Markdown.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut page = String::from(
        "| what | ns | median | middle half | | budget | |\n|---|---:|---:|---:|---|---:|---|\n",
    );
    for row in rows {
        let nanoseconds = row.nanoseconds.map_or_else(String::new, |time| format!("{time:.1}"));
        let (low, median, high) = (row.figure.quantile(0.25), row.figure.median(), row.figure.quantile(0.75));
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
        let digits = if median.abs() >= 1000.0 { 0 } else { 2 };
        let _ = writeln!(
            page,
            "| {} | {nanoseconds} | {median:.digits$} | {low:.digits$}–{high:.digits$} | {} | {budget} | {kept} |",
            row.what, row.unit
        );
    }
    page
}
