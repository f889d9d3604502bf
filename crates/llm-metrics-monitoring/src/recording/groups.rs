//! The groups of rules.

use super::{Budget, INTERVAL, LONG_INTERVAL, Quantiles, Recording};
use crate::{
    promql::{Expr, Window},
    rule::Rule,
};

/// Rules that are evaluated together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuleGroup<'a> {
    /// The file.
    pub file: &'static str,
    /// The name.
    pub name: &'static str,
    /// The evaluation interval.
    pub interval: Window,
    /// The rules, in this order.
    pub rules: Vec<&'a Rule>,
}

impl Recording {
    /// The groups, ordered so that rules come after those that they read.
    #[must_use]
    pub fn groups(&self) -> Vec<RuleGroup<'_>> {
        let latency = [&self.duration, &self.first_token, &self.gaps, &self.per_token, &self.queue];
        let group = |file, name, interval, rules| RuleGroup { file, name, interval, rules };
        let streams = vec![&self.tokenless_streams, &self.streams, &self.streams_in_time, &self.slow_streams];
        let gap_rates = vec![&self.all_gaps, &self.long_gaps, &self.streams_with_gaps];
        let judged = vec![&self.judged, &self.missed, &self.goodput];
        let objectives = [
            objective(
                "availability",
                ["llm-availability", "llm-availability-long", "llm-availability-budget"],
                Vec::new(),
                self.errors.all().collect(),
                Some(&self.availability_budget),
            ),
            objective(
                "first-token",
                ["llm-first-token", "llm-first-token-long", "llm-first-token-budget"],
                Vec::new(),
                self.slow_first_token.all().collect(),
                Some(&self.first_token_budget),
            ),
            objective(
                "gaps",
                ["llm-gaps", "llm-gaps-long", "llm-gaps-budget"],
                gap_rates,
                self.slow_gaps.all().chain(&self.gapped).collect(),
                Some(&self.gaps_budget),
            ),
            objective(
                "attainment",
                ["llm-attainment", "llm-attainment-long", "llm-attainment-budget"],
                judged,
                self.misses.all().collect(),
                None,
            ),
        ];
        let load = vec![
            &self.in_flight,
            &self.waiting,
            &self.job_in_flight,
            &self.in_flight_forecast,
            &self.saturation,
            &self.desired_replicas,
            &self.loaded,
        ];
        let tokens = vec![&self.input_tokens, &self.output_tokens, &self.job_output_tokens, &self.cut_ratio];
        let quality = vec![
            &self.structured_valid_ratio,
            &self.structured_invalid_ratio,
            &self.tool_call_invalid_ratio,
            &self.loop_ratio,
            &self.empty_ratio,
        ];
        let gpu = vec![&self.gpu_memory_ratio, &self.gpu_memory_forecast, &self.joules_per_token];
        let mut groups = vec![
            group("requests", "llm-requests", INTERVAL, vec![&self.outcomes, &self.requests]),
            group("streams", "llm-streams", INTERVAL, streams),
            group("latency", "llm-latency", INTERVAL, latency.into_iter().flat_map(Quantiles::rules).collect()),
            group("tokens", "llm-tokens", INTERVAL, tokens),
            group("quality", "llm-quality", INTERVAL, quality),
            group("usual", "llm-usual", LONG_INTERVAL, vec![&self.first_token_usual]),
            group("load", "llm-load", INTERVAL, load),
            group("gpu", "llm-gpu", INTERVAL, gpu),
        ];
        groups.splice(2..2, objectives.into_iter().flatten());
        groups
    }

    /// The rule files that these expressions need, including those that the rules themselves need.
    pub(crate) fn files_of<'a>(&self, exprs: impl Iterator<Item = &'a Expr>) -> Vec<&'static str> {
        let mut needed: Vec<Rule> = exprs.flat_map(Expr::rules).collect();
        let mut next = 0;
        while next < needed.len() {
            let further = needed[next].expr().rules().into_iter().filter(|rule| !needed.contains(rule));
            needed.extend(further.collect::<Vec<_>>());
            next += 1;
        }
        let mut files: Vec<_> = self
            .groups()
            .into_iter()
            .filter(|group| group.rules.iter().any(|rule| needed.contains(rule)))
            .map(|group| group.file)
            .collect();
        files.dedup();
        files
    }

    /// Every rule.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        self.groups().into_iter().flat_map(|group| group.rules)
    }
}

/// The rules of an objective: its rates and sums over hours, its sums over days, and its budget.
fn objective<'a>(
    file: &'static str,
    names: [&'static str; 3],
    rates: Vec<&'a Rule>,
    windows: Vec<&'a (Window, Rule)>,
    budget: Option<&'a Budget>,
) -> impl Iterator<Item = RuleGroup<'a>> {
    let is_long = |window: &Window| window.as_seconds() >= Window::days(1).as_seconds();
    let (long, short): (Vec<_>, Vec<_>) = windows.into_iter().partition(|(window, _)| is_long(window));
    let short = rates.into_iter().chain(short.into_iter().map(|(_, rule)| rule)).collect();
    let long = long.into_iter().map(|(_, rule)| rule).collect();
    let budget = budget.into_iter().flat_map(Budget::rules).collect();
    let [short_name, long_name, budget_name] = names;
    let groups = [
        RuleGroup { file, name: short_name, interval: INTERVAL, rules: short },
        RuleGroup { file, name: long_name, interval: LONG_INTERVAL, rules: long },
        RuleGroup { file, name: budget_name, interval: LONG_INTERVAL, rules: budget },
    ];
    groups.into_iter().filter(|group| !group.rules.is_empty())
}
