//! The upstreams of a gateway, and its own overhead.

use llm_metrics_gateway::catalog as gateway;

use super::{
    model::{Dashboard, Panel, RATE, Row, Scope, Variable, units},
    parts::TARGET,
};
use crate::{
    alerts::gateway::FAILED,
    counter, gauge, histogram,
    promql::Expr,
    vocabulary::{INSTANCE, JOB, UPSTREAM},
};

const VARIABLES: &[Variable] = &[
    Variable { name: "job", title: "Job", row: &gateway::UPSTREAM_UP, label: JOB, within: &[], single: false },
    Variable {
        name: "instance",
        title: "Instance",
        row: &gateway::UPSTREAM_UP,
        label: INSTANCE,
        within: &[(JOB, "job")],
        single: false,
    },
    Variable {
        name: "upstream",
        title: "Upstream",
        row: &gateway::UPSTREAM_UP,
        label: UPSTREAM,
        within: TARGET,
        single: false,
    },
];
const SCOPE: Scope = &[(JOB, "job"), (INSTANCE, "instance"), (UPSTREAM, "upstream")];
const RESULT_COLORS: &[(&str, &str)] =
    &[("answered", "blue"), ("refused", "dark-red"), ("reset", "orange"), ("timeout", "yellow"), ("cancelled", "text")];

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "llm-gateway",
        title: "LLM gateway",
        description: "The state of the upstreams of a gateway, and the latency that the gateway adds. Values that an upstream does not report are missing.",
        variables: VARIABLES,
        scope: SCOPE,
        rows: vec![
            Row::new("Upstreams", "No gateway is scraped", upstreams()),
            Row::new("The gateway itself", "No gateway is scraped", own()),
            Row::new("Quotas", "No upstream reports its quota", allowances()),
            Row::new("Loaded models", "No upstream reports its models (Ollama does)", models()),
        ],
    }
}

fn lines(title: &'static str, description: &'static str, unit: &'static str) -> Panel {
    Panel::lines(title, description, unit).size(8, 8)
}

fn upstreams() -> Vec<Panel> {
    vec![
        Panel::states(
            "Upstreams",
            "Whether each upstream answered its last probe.",
            &[("0", "down", "dark-red"), ("1", "up", "semi-dark-blue")],
        )
        .target(gauge!(gateway::UPSTREAM_UP).now().min_by([INSTANCE, UPSTREAM]), "{{instance}} {{upstream}}")
        .size(8, 8),
        Panel::stacked(
            "Attempts by result",
            "Attempts to get an answer, per second. A request has more than one only if no byte of it had been sent.",
            units::REQUESTS_PER_SECOND,
        )
        .target(counter!(gateway::ATTEMPTS).rate(RATE).sum_by(["result"]), "{{result}}")
        .colors(RESULT_COLORS)
        .size(8, 8),
        lines(
            "Failed attempts",
            "Share of attempts that were refused, interrupted or timed out, without those whose client disconnected.",
            units::RATIO,
        )
        .target(
            counter!(gateway::ATTEMPTS).with_any("result", FAILED).rate(RATE).sum_by([UPSTREAM])
                / counter!(gateway::ATTEMPTS).without("result", "cancelled").rate(RATE).sum_by([UPSTREAM]),
            "{{upstream}}",
        )
        .between(0.0, 1.0),
    ]
}

fn own() -> Vec<Panel> {
    let overhead = |title, quantile| {
        lines(title, "Time per request that the gateway itself works, including its metrics.", units::SECONDS)
            .target(histogram!(gateway::OVERHEAD).quantile(quantile, RATE, [UPSTREAM]), "{{upstream}}")
    };
    vec![
        overhead("Overhead, P50", 0.5),
        overhead("Overhead, P99", 0.99),
        lines("Connections", "Open client connections.", units::COUNT)
            .target(gauge!(gateway::CONNECTIONS).now().max_by([INSTANCE]), "{{instance}}")
            .scope(TARGET),
    ]
}

fn allowances() -> Vec<Panel> {
    vec![
        lines("Remaining quota", "Remaining share of the quota, if the upstream reports it.", units::RATIO)
            .target(gauge!(gateway::QUOTA_REMAINING).now().min_by([UPSTREAM, "kind"]), "{{upstream}} {{kind}}")
            .between(0.0, 1.0),
        Panel::bars(
            "Responses with status 429",
            "By the cause in the response: the quota is used up, or the upstream is overloaded.",
            units::COUNT,
        )
        .target(counter!(gateway::THROTTLED).increase(RATE).sum_by([UPSTREAM, "kind"]).gt(0.0), "{{upstream}} {{kind}}")
        .empty("No such responses")
        .size(8, 8),
        lines("Requested delay, P95", "The delay before the next attempt that upstreams request.", units::SECONDS)
            .target(histogram!(gateway::RETRY_AFTER).quantile(0.95, RATE, [UPSTREAM]), "{{upstream}}"),
    ]
}

fn models() -> Vec<Panel> {
    let panel = |title, description, unit| Panel::lines(title, description, unit).size(6, 8);
    vec![
        panel("Loaded models", "Number of models that an Ollama has loaded, at the last poll.", units::COUNT)
            .target(gauge!(gateway::LOADED_MODELS).now().max_by([UPSTREAM]), "{{upstream}}")
            .decimals(0),
        panel("Memory on GPUs", "GPU memory of each loaded model.", units::BYTES).target(
            gauge!(gateway::MODEL_MEMORY).with("kind", "gpu").now().max_by([UPSTREAM, "model"]),
            "{{upstream}} {{model}}",
        ),
        panel("Unloaded in", "Time until each model is unloaded, if there is no request for it.", units::SECONDS)
            .target(
                (gauge!(gateway::MODEL_EXPIRY).now() - Expr::time()).max_by([UPSTREAM, "model"]),
                "{{upstream}} {{model}}",
            )
            .decimals(1),
        Panel::bars("Failed polls", "Data about the models or the engine is missing meanwhile.", units::COUNT)
            .target(counter!(gateway::POLL_FAILURES).increase(RATE).sum_by([UPSTREAM]).gt(0.0), "{{upstream}}")
            .empty("None failed")
            .size(6, 8),
    ]
}
