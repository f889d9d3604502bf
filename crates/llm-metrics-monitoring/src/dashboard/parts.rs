//! Parts that several dashboards share.

use llm_metrics::catalog::{self};
use llm_metrics_gpu::catalog as gpu;

use super::{
    json::Annotation,
    model::{BAD, Column, Panel, RATE, Scope, Variable, WARN, units},
};
use crate::{
    counter, external, gauge,
    promql::{Counter, Expr, Gauge, Histogram, Window},
    recording::alive,
    slo::Slo,
    vocabulary::{GPU, INSTANCE, JOB, MODEL, OUTCOME},
};

/// Filters for metrics of servers.
pub(super) const SERVER: Scope = &[(JOB, "job"), (INSTANCE, "instance"), (MODEL, "model")];
/// Filters for metrics of targets without models.
pub(super) const TARGET: Scope = &[(JOB, "job"), (INSTANCE, "instance")];
/// No filter, for data without a target, such as an alert about a missing one.
pub(super) const NOTHING: Scope = &[];

/// The variable for jobs with servers.
pub(super) const JOB_VARIABLE: Variable =
    Variable { name: "job", title: "Job", row: &catalog::BUILD_INFO, label: JOB, within: &[], single: false };
/// The variable for servers in these jobs.
pub(super) const INSTANCE_VARIABLE: Variable = Variable {
    name: "instance",
    title: "Instance",
    row: &catalog::BUILD_INFO,
    label: INSTANCE,
    within: &[(JOB, "job")],
    single: false,
};

/// The variables for servers and models.
pub(super) const SERVER_VARIABLES: &[Variable] = &[
    JOB_VARIABLE,
    INSTANCE_VARIABLE,
    Variable { name: "model", title: "Model", row: &catalog::REQUESTS, label: MODEL, within: TARGET, single: false },
];

/// The variables for GPUs.
pub(super) const GPU_VARIABLES: &[Variable] = &[
    Variable { name: "job", title: "Job", row: &gpu::UP, label: JOB, within: &[], single: false },
    Variable {
        name: "instance",
        title: "Instance",
        row: &gpu::UP,
        label: INSTANCE,
        within: &[(JOB, "job")],
        single: false,
    },
    Variable { name: "gpu", title: "GPU", row: &gpu::UP, label: GPU, within: TARGET, single: false },
];

pub(super) const OUTCOME_COLORS: &[(&str, &str)] =
    &[("success", "blue"), ("rejected", "yellow"), ("cancelled", "text"), ("error", "dark-red")];
const QUANTILE_COLORS: &[(&str, &str)] = &[("p50", "blue"), ("p95", "orange"), ("p99", "dark-red"), ("mean", "text")];

/// No labels to aggregate by.
pub(super) const ALL: [&str; 0] = [];

/// The annotations of every dashboard: loaded models, started processes, new versions.
pub(super) fn annotations() -> Vec<Annotation> {
    let loaded = |info: Gauge| info.now().sum_by([JOB, INSTANCE, MODEL]).gt(0.0);
    let info = || gauge!(catalog::MODEL_INFO);
    let started = gauge!(external::PROCESS_START_TIME).changes(Window::STEP).max_by([JOB, INSTANCE]).gt(0.0);
    let ours = gauge!(catalog::BUILD_INFO).now().max_by([JOB, INSTANCE]);
    let version = |info: Gauge| info.now().max_by([JOB, "version"]);
    let build = || gauge!(catalog::BUILD_INFO);
    vec![
        Annotation {
            name: "Model switches",
            expr: loaded(info()).unless(loaded(info().offset(Window::STEP))),
            title: "{{model}} loaded",
            text: "on {{instance}}",
            color: "text",
        },
        Annotation {
            name: "Restarts",
            expr: started.and_on([JOB, INSTANCE], ours),
            title: "restart",
            text: "of {{instance}}",
            color: "orange",
        },
        Annotation {
            name: "New versions",
            expr: version(build()).unless(version(build().offset(Window::STEP))),
            title: "version {{version}} of llm-metrics",
            text: "in {{job}}: a deployment",
            color: "yellow",
        },
    ]
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
        .stroke("p95", &[10, 5])
        .stroke("p99", &[2, 4])
}

/// The distribution of the observations.
pub(super) fn heatmap(title: &'static str, description: &str, unit: &'static str, of: &Histogram) -> Panel {
    let buckets = of.clone().buckets().increase(RATE).sum_by(["le"]);
    Panel::heatmap(title, description, unit, buckets)
}

/// Requests that ended.
pub(super) fn requests() -> Counter {
    counter!(catalog::REQUESTS)
}

/// Requests that count for availability: success and error.
pub(super) fn judged() -> Counter {
    requests().with_any(OUTCOME, ["success", "error"])
}

/// The share of `judged` requests that failed.
pub(super) fn error_ratio(window: Window) -> Expr {
    requests().with(OUTCOME, "error").rate(window).sum() / judged().rate(window).sum()
}

/// Blue if the objective is met, red if not.
pub(super) fn kept(panel: Panel, objective: f64) -> Panel {
    panel.steps("dark-red", &[(objective, "blue")])
}

pub(super) fn in_percent(ratio: f64) -> String {
    let percent = format!("{:.3}", ratio * 100.0);
    format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// The used share of each GPU's memory, for GPUs that answer.
pub(super) fn gpu_memory_used() -> Expr {
    alive(gauge!(gpu::MEMORY_USED).now() / gauge!(gpu::MEMORY_TOTAL).now()).max_by([INSTANCE, GPU])
}

/// The thresholds of high and too high memory.
pub(super) fn gpu_memory_limits(slo: &Slo) -> [(f64, &'static str); 2] {
    [(slo.gpu.memory_headroom_ratio, WARN), (slo.gpu.memory_ratio, BAD)]
}

/// The memory of each GPU in a table, because there is no room for sixteen bar panels.
pub(super) fn gpu_memory(title: &'static str, description: &str, slo: &Slo) -> Panel {
    Panel::table(title, description, &[(INSTANCE, "Instance"), (GPU, "GPU"), ("Value", "Used")])
        .instant(gpu_memory_used(), "")
        .column(Column { width: Some(60), ..Column::new("GPU", units::NONE) })
        .column(Column {
            bar: true,
            decimals: Some(0),
            steps: gpu_memory_limits(slo).into(),
            ..Column::new("Used", units::RATIO)
        })
        .sort("Used")
}

pub(super) fn requests_by_outcome() -> Panel {
    Panel::stacked(
        "Requests by outcome",
        "Finished requests per second. `rejected`: an error of the caller. `error`: a failure of the server. `cancelled`: the client disconnected.",
        units::REQUESTS_PER_SECOND,
    )
    .target(requests().rate(RATE).sum_by([OUTCOME]), "{{outcome}}")
    .colors(OUTCOME_COLORS)
}

/// Colours of error types: yellow for errors of callers, orange for overload and timeouts, purple for upstream servers, red for this server.
pub(super) const ERROR_COLORS: &[(&str, &str)] = &[
    ("invalid_request", "yellow"),
    ("unauthorized", "super-light-yellow"),
    ("not_found", "semi-dark-yellow"),
    ("rate_limited", "super-light-orange"),
    ("overloaded", "orange"),
    ("timeout", "dark-orange"),
    ("upstream_unavailable", "super-light-purple"),
    ("upstream_error", "purple"),
    ("stream_error", "dark-red"),
    ("stream_truncated", "light-red"),
    ("internal", "semi-dark-red"),
];
/// The same for the status of a response.
pub(super) const STATUS_COLORS: &[(&str, &str)] = &[
    ("200", "blue"),
    ("400", "yellow"),
    ("401", "super-light-yellow"),
    ("403", "light-yellow"),
    ("404", "semi-dark-yellow"),
    ("422", "dark-yellow"),
    ("429", "super-light-orange"),
    ("500", "dark-red"),
    ("502", "purple"),
    ("503", "orange"),
    ("504", "dark-orange"),
    ("none", "text"),
];
/// Colours of the reasons why tokens were not delivered, or output was cut.
pub(super) const DISCARD_COLORS: &[(&str, &str)] = &[
    ("client_disconnect", "text"),
    ("stream_error", "dark-red"),
    ("stream_truncated", "light-red"),
    ("timeout", "dark-orange"),
];
