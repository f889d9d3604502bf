//! The expressions of single rules.

use llm_metrics::catalog::{self, Unit};
use llm_metrics_gpu::catalog as gpu;

use super::{SHORT, by_cell};
use crate::{
    counter, gauge, histogram,
    promql::{Counter, Expr, Gauge, Label, Window},
    rule::{
        Level, Rule,
        RuleMetric::{self, Core},
    },
    slo::{OverrideScope, Slo},
    vocabulary::{GPU_UUID, INSTANCE, JOB, MODEL, RESULT, SOURCE, STREAM},
};

/// Only GPUs that answer: the gauges of a lost one are NaN.
#[must_use]
pub fn alive(expr: Expr) -> Expr {
    expr.and_on([JOB, INSTANCE, GPU_UUID], gauge!(gpu::UP).now().equals(1.0))
}

pub(super) const FIRST_TOKEN: RuleMetric = Core("time_to_first_token_seconds");
pub(super) const GAPS: RuleMetric = Core("inter_token_latency_seconds");
pub(super) const LONGEST_GAP: RuleMetric = Core("stream_max_gap_seconds");

pub(super) fn rule(metric: RuleMetric, operation: &str, unit: Unit, expr: Expr) -> Rule {
    Rule::new(Level::JobModel, metric, operation, unit, expr)
}

/// Drops NaN, the result of a share or quantile of no events.
pub(super) fn recorded(expr: Expr) -> Expr {
    expr.ge(0.0)
}

/// Drops NaN from a value that can be negative: NaN is not equal to itself.
pub(super) fn recorded_number(expr: Expr) -> Expr {
    expr.ge(f64::NEG_INFINITY)
}

/// A recorded rate now, or its sum over a window.
pub(super) fn over(rate: Gauge, window: Option<Window>) -> Expr {
    match window {
        None => rate.now(),
        Some(window) => rate.sum_over_time(window),
    }
}

/// Streams and their first tokens, per second over five minutes.
pub(super) struct FirstTokens {
    pub(super) tokenless: Rule,
    pub(super) streams: Rule,
    pub(super) in_time: Rule,
    pub(super) slow: Rule,
}

pub(super) fn first_tokens(slo: &Slo) -> FirstTokens {
    let by_model = || Level::JobModel.labels();
    let first = histogram!(catalog::TIME_TO_FIRST_TOKEN);
    let tokenless = counter!(catalog::USAGE_REPORTS).with(STREAM, "true").with(SOURCE, "missing");
    let tokenless =
        rule(Core("usage_reports"), "tokenless_rate5m", Unit::Count, tokenless.rate(SHORT).sum_by(by_model()));
    let with_token = || first.clone().count().rate(SHORT).sum_by(by_model());
    // A server whose streams have never had a token does not have this histogram yet.
    let streams = by_cell(slo, OverrideScope::ByModel, |cell| {
        if cell.objectives.time_to_first_token.count_tokenless {
            (with_token() + tokenless.now()).or(with_token()).or(tokenless.now())
        } else {
            with_token()
        }
    });
    let streams = rule(FIRST_TOKEN, "streams_rate5m", Unit::Count, streams);
    let in_time = by_cell(slo, OverrideScope::ByModel, |cell| {
        let within = first.clone().with_bounds(slo.bounds_of(&catalog::TIME_TO_FIRST_TOKEN));
        within.within(cell.objectives.time_to_first_token.seconds).rate(SHORT).sum_by(by_model())
    });
    let in_time = rule(FIRST_TOKEN, "in_time_rate5m", Unit::Count, in_time);
    let slow = (streams.now() - in_time.now()).or(streams.now());
    let slow = rule(FIRST_TOKEN, "slow_rate5m", Unit::Count, slow);
    FirstTokens { tokenless, streams, in_time, slow }
}

/// Streams with a gap of about the objective's length: the next lower bound of their histogram.
pub(super) fn streams_with_gaps(slo: &Slo) -> Expr {
    let longest = histogram!(catalog::STREAM_MAX_GAP);
    let all = || longest.clone().count().rate(SHORT).sum_by(Level::JobModel.labels());
    let bounds = slo.bounds_of(&catalog::STREAM_MAX_GAP);
    by_cell(slo, OverrideScope::ByModel, |cell| {
        let limit = cell.objectives.inter_token_latency.seconds;
        match bounds.iter().rev().find(|bound| **bound <= limit) {
            Some(bound) => {
                let within = longest.clone().with_bounds(bounds).within(*bound);
                all() - within.rate(SHORT).sum_by(Level::JobModel.labels())
            }
            None => all(),
        }
    })
}

/// By the slope of the last hour or of its last quarter, whichever is lower: after a warm-up, the latter is zero.
pub(super) fn memory_forecast(ratio: &Rule, slo: &Slo) -> Expr {
    let ahead = Window::seconds((slo.gpu.memory_forecast_hours * 3600.0).round() as u32);
    let by = |window| ratio.gauge().predict_linear(window, ahead);
    let (hour, quarter) = (|| by(Window::hours(1)), || by(Window::minutes(15)));
    hour().lt(quarter()).or(quarter())
}

/// The ratio of the two, for each model.
pub(super) fn share(part: Counter, all: Counter, window: Window) -> Expr {
    recorded(part.rate(window).sum_by([JOB, MODEL]) / all.rate(window).sum_by([JOB, MODEL]))
}

pub(super) fn structured_ratio(part: Counter) -> Expr {
    share(part, counter!(catalog::STRUCTURED_OUTPUTS).without_any(RESULT, ["unchecked"]), SHORT)
}

pub(super) fn of_outputs(part: Counter) -> Expr {
    share(part, counter!(catalog::OUTPUTS), Window::minutes(15))
}

pub(super) fn cut_ratio() -> Expr {
    let (choices, window) = (|| counter!(catalog::FINISH_REASONS), Window::minutes(15));
    let cut = choices().with("finish_reason", "length").rate(window).sum_by([JOB, MODEL]);
    cut / choices().rate(window).sum_by([JOB, MODEL])
}

/// Requests in flight, now or in the forecast, whichever is higher, in replicas.
pub(super) fn desired_replicas(now: &Rule, soon: &Rule, per_replica: f64) -> Expr {
    let most = soon.now().gt(now.now()).or(now.now());
    (most / per_replica).ceil().clamp_min(1.0)
}

/// A GPU counts once, even if several processes export it.
pub(super) fn joules_per_token(slo: &Slo) -> Rule {
    let join: Vec<String> = slo.service.by.iter().fold(vec![slo.gpu.join_label.clone()], |mut labels, label| {
        labels.push(label.clone());
        labels
    });
    let by = || join.iter().cloned().map(Label::Owned);
    let counter = |counter: Counter| join.iter().fold(counter, |counter, label| counter.on_target(label.clone()));
    let energy = alive(counter(counter!(gpu::ENERGY)).rate(SHORT));
    let energy = energy.max_by(by().chain([Label::Borrowed(GPU_UUID)])).sum_by(by());
    let tokens = counter(counter!(catalog::OUTPUT_TOKENS)).rate(SHORT).sum_by(by());
    let expr = energy / tokens.gt(0.0);
    Rule::new(Level::Joined(join.clone()), Core("output_tokens"), "joules_per_token_rate5m", Unit::Joules, expr)
}
