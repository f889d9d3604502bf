//! Are we well? What is promised, what comes in, how it is served, and by what.

use llm_metrics::catalog::{
    self,
    labels::{MODEL, OUTCOME, PHASE},
};
use llm_metrics_gpu::catalog as gpu;

use super::{
    model::{Dashboard, Panel, RATE, Row, units},
    parts::{self, ALL, NOTHING, SERVER, SERVER_VARIABLES, heatmap, in_percent, judged, kept, quantiles, requests},
};
use crate::{
    counter, external, gauge, histogram,
    promql::Window,
    recording::{Recording, alive},
    slo::Slo,
    vocabulary::{GPU, INSTANCE},
};

pub(super) fn dashboard(slo: &Slo, rules: &Recording) -> Dashboard {
    Dashboard {
        uid: "llm-overview",
        title: "LLM overview",
        description: "Are we well? What is promised, what comes in, how it is served, and by what.",
        variables: SERVER_VARIABLES,
        scope: SERVER,
        rows: vec![
            Row::new("Objectives, over the time shown", objectives(slo)),
            Row::new("Traffic", traffic()),
            Row::new("Latency", latency(slo)),
            Row::new("Resources", resources(slo, rules)),
        ],
    }
}

fn objectives(slo: &Slo) -> Vec<Panel> {
    let promised = &slo.objectives;
    let failed =
        || requests().with(OUTCOME, "error").increase(Window::RANGE).sum() / judged().increase(Window::RANGE).sum();
    let first_token = &promised.time_to_first_token;
    let gaps = &promised.inter_token_latency;
    vec![
        kept(
            Panel::stat(
                "Availability",
                format!(
                    "Share of requests that succeeded, of those that succeeded or failed by our fault. Promised: {}.",
                    in_percent(promised.availability)
                ),
                units::RATIO,
            )
            .instant(1.0 - failed(), "availability"),
            promised.availability,
        )
        .decimals(2),
        Panel::stat(
            "Error budget left",
            format!(
                "What is left of the {} of requests that may fail. Below 0 more failed than was promised over the time shown.",
                in_percent(1.0 - promised.availability)
            ),
            units::RATIO,
        )
        .instant(1.0 - failed() / (1.0 - promised.availability), "left")
        .steps("red", &[(0.0, "orange"), (0.25, "green")])
        .decimals(0),
        kept(
            Panel::stat(
                "First token in time",
                format!(
                    "Share of streams whose first token came within {} s. Promised: {}.",
                    first_token.seconds,
                    in_percent(first_token.objective)
                ),
                units::RATIO,
            )
            .instant(
                histogram!(catalog::TIME_TO_FIRST_TOKEN).share_within(first_token.seconds, Window::RANGE, ALL),
                "in time",
            ),
            first_token.objective,
        )
        .decimals(1),
        kept(
            Panel::stat(
                "Tokens in time",
                format!(
                    "Share of gaps between tokens of {} s at most. Promised: {}.",
                    gaps.seconds,
                    in_percent(gaps.objective)
                ),
                units::RATIO,
            )
            .instant(histogram!(catalog::INTER_TOKEN_LATENCY).share_within(gaps.seconds, Window::RANGE, ALL), "in time"),
            gaps.objective,
        )
        .decimals(1),
        Panel::stat("Requests", "Requests that ended, a second.", units::REQUESTS_PER_SECOND)
            .target(requests().rate(RATE).sum(), "requests")
            .steps("blue", &[])
            .decimals(2),
        Panel::stat("Tokens", "Output tokens a second, reasoning included.", units::TOKENS_PER_SECOND)
            .target(counter!(catalog::OUTPUT_TOKENS).rate(RATE).sum(), "tokens")
            .steps("blue", &[])
            .decimals(0),
        Panel::stat("In flight", "Requests that have not ended: waiting for their first token, or past it.", units::COUNT)
            .target(gauge!(catalog::REQUESTS_IN_FLIGHT).now().sum(), "in flight")
            .steps("blue", &[]),
        Panel::stat(
            "Alerts",
            "Alerts that fire, of all severities but `none`, whatever the choices above. They are listed below.",
            units::COUNT,
        )
        .target(
            gauge!(external::ALERTS).with("alertstate", "firing").without("severity", "none").now().count_by(ALL).or(
                crate::promql::Expr::vector(0.0),
            ),
            "firing",
        )
        .scope(NOTHING)
        .steps("green", &[(1.0, "red")]),
    ]
}

fn traffic() -> Vec<Panel> {
    vec![
        parts::requests_by_outcome().size(8, 8),
        Panel::stacked(
            "Requests in flight",
            "Requests that wait for their first token, and those that have it. What is not streamed waits to its end.",
            units::COUNT,
        )
        .target(gauge!(catalog::REQUESTS_IN_FLIGHT).now().sum_by([PHASE]), "{{phase}}")
        .colors(&[("waiting", "orange"), ("streaming", "blue")])
        .size(8, 8),
        Panel::stacked(
            "Tokens produced by model",
            "Output tokens a second, reasoning included.",
            units::TOKENS_PER_SECOND,
        )
        .target(counter!(catalog::OUTPUT_TOKENS).rate(RATE).sum_by([MODEL]), "{{model}}")
        .size(8, 8),
    ]
}

fn latency(slo: &Slo) -> Vec<Panel> {
    let first_token = histogram!(catalog::TIME_TO_FIRST_TOKEN);
    vec![
        quantiles(
            "Time to first token",
            "From the request's arrival to its first token, reasoning included. Streams only. The dashed line is the objective.",
            units::SECONDS,
            &first_token,
        )
        .limit(slo.objectives.time_to_first_token.seconds),
        heatmap(
            "Time to first token, distribution",
            "How many streams had their first token after how long.",
            units::SECONDS,
            &first_token,
        ),
    ]
}

fn resources(slo: &Slo, rules: &Recording) -> Vec<Panel> {
    let memory = || gauge!(gpu::MEMORY_USED).now() / gauge!(gpu::MEMORY_TOTAL).now();
    let limits = [(slo.gpu.memory_headroom_ratio, "orange"), (slo.gpu.memory_ratio, "red")];
    vec![
        Panel::bar_gauge("GPU memory", "Share of each GPU's memory that is allocated.", units::RATIO)
            .target(alive(memory()).max_by([INSTANCE, GPU]), "{{instance}} GPU {{gpu}}")
            .between(0.0, 1.0)
            .steps("green", &limits)
            .decimals(0)
            .size(8, 7),
        Panel::lines(
            "GPU utilisation",
            "Share of time in which a kernel ran, and its peak since the last scrape or longer. It does not say how much of the GPU worked.",
            units::RATIO,
        )
        .target(alive(gauge!(gpu::UTILIZATION).now()).avg_by(ALL), "mean over GPUs")
        .target(alive(gauge!(gpu::UTILIZATION_MAX).now()).max_by(ALL), "highest peak")
        .between(0.0, 1.0)
        .dashed("highest peak")
        .size(8, 7),
        Panel::lines(
            "Saturation",
            format!(
                "Requests in flight, of the {} that each replica can have. Above 1 the objectives are at risk. Recorded for each job.",
                slo.scaling.requests_per_replica
            ),
            units::RATIO,
        )
        .target(rules.saturation.now(), "{{job}}")
        .limit(1.0)
        .reach(1.0)
        .size(8, 7),
        Panel::table(
            "Models that are loaded",
            "One line for each model that an instance has loaded.",
            &[
                (MODEL, "Model"),
                (INSTANCE, "Instance"),
                ("engine", "Engine"),
                ("engine_version", "Version"),
                ("quantization", "Quantization"),
                ("context_length", "Context"),
            ],
        )
        .instant(gauge!(catalog::MODEL_INFO).now().gt(0.0), "")
        .size(12, 6),
        Panel::table(
            "Alerts that fire",
            "Empty when all is well. The runbooks say what to do.",
            &[("alertname", "Alert"), ("severity", "Severity"), (MODEL, "Model"), (INSTANCE, "Instance")],
        )
        .instant(gauge!(external::ALERTS).with("alertstate", "firing").without("severity", "none").now(), "")
        .scope(NOTHING)
        .size(12, 6),
    ]
}
