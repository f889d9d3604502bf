//! What several dashboards have in common.

use llm_metrics::catalog::{
    self,
    labels::{MODEL, OUTCOME},
};
use llm_metrics_gpu::catalog as gpu;

use super::model::{Panel, RATE, Scope, Variable, units};
use crate::{
    counter, gauge,
    promql::{Counter, Expr, Gauge, Histogram, Window},
    vocabulary::{GPU, INSTANCE, JOB},
};

/// Metrics of servers.
pub(super) const SERVER: Scope = &[(JOB, "job"), (INSTANCE, "instance"), (MODEL, "model")];
/// Metrics of targets, whatever models they serve.
pub(super) const TARGET: Scope = &[(JOB, "job"), (INSTANCE, "instance")];
/// Everything: for what has no target, such as an alert about one that is gone.
pub(super) const NOTHING: Scope = &[];

/// The choice of jobs that have servers.
pub(super) const JOB_VARIABLE: Variable =
    Variable { name: "job", title: "Job", row: &catalog::BUILD_INFO, label: JOB, within: &[] };
/// The choice of servers in these jobs.
pub(super) const INSTANCE_VARIABLE: Variable = Variable {
    name: "instance",
    title: "Instance",
    row: &catalog::BUILD_INFO,
    label: INSTANCE,
    within: &[(JOB, "job")],
};

/// The choice of servers and models.
pub(super) const SERVER_VARIABLES: &[Variable] = &[
    JOB_VARIABLE,
    INSTANCE_VARIABLE,
    Variable { name: "model", title: "Model", row: &catalog::REQUESTS, label: MODEL, within: TARGET },
];

/// The choice of GPUs.
pub(super) const GPU_VARIABLES: &[Variable] = &[
    Variable { name: "job", title: "Job", row: &gpu::UP, label: JOB, within: &[] },
    Variable { name: "instance", title: "Instance", row: &gpu::UP, label: INSTANCE, within: &[(JOB, "job")] },
    Variable { name: "gpu", title: "GPU", row: &gpu::UP, label: GPU, within: TARGET },
];

pub(super) const OUTCOME_COLORS: &[(&str, &str)] =
    &[("success", "green"), ("rejected", "yellow"), ("cancelled", "blue"), ("error", "red")];
const QUANTILE_COLORS: &[(&str, &str)] = &[("p50", "green"), ("p95", "yellow"), ("p99", "orange"), ("mean", "blue")];

/// Nothing to aggregate by.
pub(super) const ALL: [&str; 0] = [];

/// A point for each model that was not loaded a step ago: a model that came, or came back.
pub(super) fn model_switches() -> Expr {
    let loaded = |info: Gauge| info.now().sum_by([JOB, INSTANCE, MODEL]).gt(0.0);
    let info = || gauge!(catalog::MODEL_INFO);
    loaded(info()).unless(loaded(info().offset(Window::STEP)))
}

/// Median, 95th and 99th percentile and the mean.
pub(super) fn quantiles(title: &'static str, description: &str, unit: &'static str, of: &Histogram) -> Panel {
    let quantile = |quantile| of.clone().quantile(quantile, RATE, ALL);
    Panel::lines(title, description, unit)
        .target(quantile(0.5), "p50")
        .target(quantile(0.95), "p95")
        .target(quantile(0.99), "p99")
        .target(of.clone().mean(RATE, ALL), "mean")
        .colors(QUANTILE_COLORS)
        .dashed("mean")
}

/// How the observations are distributed.
pub(super) fn heatmap(title: &'static str, description: &str, unit: &'static str, of: &Histogram) -> Panel {
    let buckets = of.clone().buckets().increase(RATE).sum_by(["le"]);
    Panel::heatmap(title, description, unit, buckets)
}

/// Requests that ended.
pub(super) fn requests() -> Counter {
    counter!(catalog::REQUESTS)
}

/// Those that count for availability: success, and failure by our fault.
pub(super) fn judged() -> Counter {
    requests().with_any(OUTCOME, ["success", "error"])
}

/// The share of `judged` requests that failed.
pub(super) fn error_ratio(window: Window) -> Expr {
    requests().with(OUTCOME, "error").rate(window).sum() / judged().rate(window).sum()
}

/// Green where it is kept, red where it is not.
pub(super) fn kept(panel: Panel, objective: f64) -> Panel {
    panel.steps("red", &[(objective, "green")])
}

pub(super) fn in_percent(ratio: f64) -> String {
    let percent = format!("{:.3}", ratio * 100.0);
    format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
}

pub(super) fn requests_by_outcome() -> Panel {
    Panel::stacked(
        "Requests by outcome",
        "Requests that ended, a second. `rejected` is the caller's fault, `error` ours; `cancelled` is a client that left.",
        units::REQUESTS_PER_SECOND,
    )
    .target(requests().rate(RATE).sum_by([OUTCOME]), "{{outcome}}")
    .colors(OUTCOME_COLORS)
}
