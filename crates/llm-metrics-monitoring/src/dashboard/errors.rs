//! What goes wrong, and how full is it?

use llm_metrics::catalog::{self};

use super::{
    model::{Dashboard, Panel, RATE, Row, units},
    parts::{self, SERVER, SERVER_VARIABLES, error_ratio, in_percent},
};
use crate::{
    counter, gauge, histogram,
    promql::{Counter, Window},
    recording::{Indicator, Recording},
    slo::Slo,
    vocabulary::{ERROR_TYPE, INSTANCE, MODEL, OUTCOME, STATUS},
};

pub(super) fn dashboard(slo: &Slo, rules: &Recording) -> Dashboard {
    Dashboard {
        uid: "llm-errors",
        title: "LLM errors and saturation",
        description: "What goes wrong, and how close is the service to its limits?",
        variables: SERVER_VARIABLES,
        scope: SERVER,
        rows: vec![
            Row::new("Errors", "No requests in this time range", errors(slo)),
            Row::new("Error budgets", "Not recorded: no such requests, or no recording rules", budgets(slo, rules)),
            Row::new("Saturation", "No server is scraped", saturation(rules)),
            Row::new("Engine", "The engine does not report this", engine()),
        ],
    }
}

fn errors(slo: &Slo) -> Vec<Panel> {
    let failed = || counter!(catalog::REQUEST_ERRORS);
    vec![
        parts::requests_by_outcome(),
        Panel::lines(
            "Error ratio",
            "Failed requests divided by all successful and failed requests. Lines: the objective, and the threshold of the alert.",
            units::RATIO,
        )
        .target(error_ratio(RATE), "all")
        .steps("blue", &[(1.0 - slo.objectives.availability, "orange"), (slo.alerts.error_ratio, "dark-red")])
        .reach(slo.alerts.error_ratio),
        Panel::bars(
            "Failures by cause",
            "Rejected and failed requests, including failures inside a stream with status 200.",
            units::COUNT,
        )
        .target(failed().increase(RATE).sum_by([ERROR_TYPE]).gt(0.0), "{{error_type}}")
        .colors(parts::ERROR_COLORS)
        .empty("No failed or rejected requests"),
        Panel::bars(
            "Failures by status",
            "Rejected and failed requests by HTTP status: 200 if a stream failed later, `none` without a response.",
            units::COUNT,
        )
        .target(failed().increase(RATE).sum_by([STATUS]).gt(0.0), "{{status}}")
        .colors(parts::STATUS_COLORS)
        .empty("No failed or rejected requests"),
        Panel::lines("Cancelled requests", "Share of requests whose client disconnected before the end, by model.", units::RATIO)
            .target(
                parts::requests().with(OUTCOME, "cancelled").rate(RATE).sum_by([MODEL])
                    / parts::requests().rate(RATE).sum_by([MODEL]),
                "{{model}}",
            ),
        Panel::lines(
            "Error ratio by instance",
            "Error ratio per instance. A single failing instance among many hardly changes the ratio of the service.",
            units::RATIO,
        )
        .target(
            parts::requests().with(OUTCOME, "error").rate(RATE).sum_by([INSTANCE])
                / parts::judged().rate(RATE).sum_by([INSTANCE]),
            "{{instance}}",
        )
        .reach(slo.alerts.error_ratio),
        Panel::lines(
            "Error ratio by model",
            "Error ratio per model.",
            units::RATIO,
        )
        .target(
            parts::requests().with(OUTCOME, "error").rate(RATE).sum_by([MODEL])
                / parts::judged().rate(RATE).sum_by([MODEL]),
            "{{model}}",
        )
        .reach(slo.alerts.error_ratio),
        Panel::lines("Rejected", "Share of rejected requests, by model. No error ratio includes them.", units::RATIO)
            .target(
                parts::requests().with(OUTCOME, "rejected").rate(RATE).sum_by([MODEL])
                    / parts::requests().rate(RATE).sum_by([MODEL]),
                "{{model}}",
            ),
    ]
}

/// The burn rate: how many times faster than allowed the budget is consumed.
fn burn(indicator: &Indicator, window: Window, budget: f64) -> crate::promql::Expr {
    indicator.over(window).now().max_by([MODEL]) / budget
}

fn budgets(slo: &Slo, rules: &Recording) -> Vec<Panel> {
    let promised = &slo.objectives;
    let panel = |title, what: &str, indicator: &Indicator, objective: f64| {
        let budget = 1.0 - objective;
        let description = format!(
            "{what}: how many times faster than allowed the error budget of {} is consumed. At 1, it lasts exactly for the whole period. Alerts fire at 14.4 over one hour and at 6 over six hours.",
            in_percent(budget)
        );
        Panel::lines(title, description, "suffix: x")
            .target(burn(indicator, Window::hours(1), budget), "{{model}}, 1 h")
            .target(burn(indicator, Window::minutes(5), budget), "{{model}}, 5 min")
            .dashed("5 min")
            .steps("blue", &[(1.0, "orange"), (14.4, "dark-red")])
            .reach(2.0)
            .size(8, 8)
    };
    vec![
        panel("Burn rate: availability", "Requests that fail", &rules.errors, promised.availability),
        panel(
            "Burn rate: first token",
            "Streams whose first token is late",
            &rules.slow_first_token,
            promised.time_to_first_token.objective,
        ),
        panel(
            "Burn rate: tokens",
            "Gaps between tokens that are too long",
            &rules.slow_gaps,
            promised.inter_token_latency.objective,
        ),
        Panel::lines(
            "Requests that meet the server's objectives",
            "Share of requests that met all limits of an objective that is configured in the server. Recorded over five minutes.",
            units::RATIO,
        )
        .target(1.0 - rules.misses.over(Window::minutes(5)).now(), "{{slo}} {{model}}")
        .empty("No objective is configured in the server")
        .between(0.0, 1.0)
        .size(12, 7),
        Panel::lines(
            "Goodput",
            "Requests per second that met all limits of an objective. Recorded over five minutes.",
            units::REQUESTS_PER_SECOND,
        )
        .target(rules.goodput.now(), "{{slo}} {{model}}")
        .empty("No objective is configured in the server")
        .size(12, 7),
    ]
}

fn saturation(rules: &Recording) -> Vec<Panel> {
    vec![
        Panel::lines(
            "The engine's requests",
            "Requests for which the engine is generating tokens, and those that have no token yet.",
            units::COUNT,
        )
        .target(gauge!(catalog::ENGINE_REQUESTS_RUNNING).now().sum(), "running")
        .target(gauge!(catalog::ENGINE_REQUESTS_WAITING).now().sum(), "waiting")
        .colors(&[("running", "blue"), ("waiting", "orange")])
        .empty("The engine does not report this")
        .size(8, 8),
        Panel::lines("In flight by instance", "Requests that have not ended.", units::COUNT)
            .target(gauge!(catalog::REQUESTS_IN_FLIGHT).now().sum_by([INSTANCE]), "{{instance}}")
            .size(8, 8),
        Panel::lines(
            "KV cache",
            "Share of the engine's KV cache that is in use, if the engine reports it.",
            units::RATIO,
        )
        .target(gauge!(catalog::ENGINE_KV_CACHE_USAGE).now().max_by([INSTANCE, MODEL]), "{{instance}} {{model}}")
        .between(0.0, 1.0)
        .empty("The engine does not report this")
        .size(8, 8),
        Panel::lines(
            "Requests that arrived and ended",
            "Requests per second. If more arrive than end, the queue grows.",
            units::REQUESTS_PER_SECOND,
        )
        .target(counter!(catalog::REQUESTS_STARTED).rate(RATE).sum(), "arrived")
        .target(parts::requests().rate(RATE).sum(), "ended")
        .colors(&[("arrived", "blue"), ("ended", "super-light-blue")])
        .size(8, 8),
        Panel::lines(
            "Saturation",
            "Requests in flight, divided by the capacity of all replicas. Recorded per job.",
            units::RATIO,
        )
        .target(rules.saturation.now(), "{{job}}")
        .limit(1.0)
        .reach(1.0)
        .size(8, 8),
        Panel::lines(
            "Desired replicas",
            "For the requests in flight now, or for the forecast in 15 minutes if that is higher. Recorded per job.",
            units::COUNT,
        )
        .target(rules.desired_replicas.now(), "{{job}}")
        .decimals(0)
        .size(8, 8),
    ]
}

fn engine() -> Vec<Panel> {
    let share = |part: Counter, whole: Counter| part.rate(RATE).sum_by([MODEL]) / whole.rate(RATE).sum_by([MODEL]);
    vec![
        parts::quantiles(
            "Batch size",
            "Requests per engine step. If the batch is always full, requests wait. If it is always small, the GPU has spare capacity.",
            units::COUNT,
            &histogram!(catalog::ENGINE_BATCH_SIZE),
        )
        .size(12, 8),
        parts::quantiles(
            "Tokens per step",
            "Prompt and output tokens per engine step. Steps that are much larger than others process prompts, and other requests wait for them.",
            units::COUNT,
            &histogram!(catalog::ENGINE_STEP_TOKENS),
        )
        .size(12, 8),
        Panel::lines(
            "Preemptions",
            "Requests per second that the engine removed from its batch to free space in its KV cache, by model. Their work is repeated.",
            units::REQUESTS_PER_SECOND,
        )
        .target(counter!(catalog::ENGINE_PREEMPTIONS).rate(RATE).sum_by([MODEL]), "{{model}}")
        .size(8, 8),
        Panel::lines(
            "Prefix cache hit ratio",
            "Share of prompt tokens that the engine found in its prefix cache, among those that it looked up.",
            units::RATIO,
        )
        .target(
            share(
                counter!(catalog::ENGINE_PREFIX_CACHE_HIT_TOKENS),
                counter!(catalog::ENGINE_PREFIX_CACHE_QUERIED_TOKENS),
            ),
            "{{model}}",
        )
        .between(0.0, 1.0)
        .size(8, 8),
        Panel::lines(
            "Draft tokens accepted",
            "Share of the draft tokens of speculative decoding that the model accepted. If it is low, speculative decoding slows the engine down.",
            units::RATIO,
        )
        .target(
            share(counter!(catalog::ENGINE_ACCEPTED_DRAFT_TOKENS), counter!(catalog::ENGINE_DRAFT_TOKENS)),
            "{{model}}",
        )
        .between(0.0, 1.0)
        .size(8, 8),
    ]
}
