//! What goes wrong, and how full is it?

use llm_metrics::catalog::{
    self,
    labels::{ERROR_TYPE, MODEL, OUTCOME, STATUS},
};

use super::{
    model::{Dashboard, Panel, RATE, Row, units},
    parts::{self, SERVER, SERVER_VARIABLES, error_ratio, in_percent},
};
use crate::{
    counter, gauge, histogram,
    promql::{Counter, Window},
    recording::{Indicator, Recording},
    slo::Slo,
    vocabulary::INSTANCE,
};

pub(super) fn dashboard(slo: &Slo, rules: &Recording) -> Dashboard {
    Dashboard {
        uid: "llm-errors",
        title: "LLM errors and saturation",
        description: "What goes wrong, and how full is it?",
        variables: SERVER_VARIABLES,
        scope: SERVER,
        rows: vec![
            Row::new("Errors", "No requests in this time", errors(slo)),
            Row::new("Error budgets", "Nothing recorded: no such requests, or no rules", budgets(slo, rules)),
            Row::new("Saturation", "No server is scraped", saturation(rules)),
            Row::new("Engine", "The engine does not tell", engine()),
        ],
    }
}

fn errors(slo: &Slo) -> Vec<Panel> {
    let failed = || counter!(catalog::REQUEST_ERRORS);
    vec![
        parts::requests_by_outcome(),
        Panel::lines(
            "Error ratio",
            "Share of requests that failed because of the server, among those that succeeded or failed. Lines: the objective, and the threshold of the alert.",
            units::RATIO,
        )
        .target(error_ratio(RATE), "all")
        .steps("blue", &[(1.0 - slo.objectives.availability, "orange"), (slo.alerts.error_ratio, "dark-red")])
        .reach(slo.alerts.error_ratio),
        Panel::bars(
            "Failures by cause",
            "Requests that were rejected or failed, also inside a stream that began with status 200.",
            units::COUNT,
        )
        .target(failed().increase(RATE).sum_by([ERROR_TYPE]).gt(0.0), "{{error_type}}")
        .colors(parts::ERROR_COLORS)
        .empty("Nothing failed, nothing was rejected"),
        Panel::bars(
            "Failures by status",
            "The same by the status in the response head: 200 if a stream failed later, `none` if there was no head.",
            units::COUNT,
        )
        .target(failed().increase(RATE).sum_by([STATUS]).gt(0.0), "{{status}}")
        .colors(parts::STATUS_COLORS)
        .empty("Nothing failed, nothing was rejected"),
        Panel::lines("Clients that leave", "Share of requests whose client left before the end, by model.", units::RATIO)
            .target(
                parts::requests().with(OUTCOME, "cancelled").rate(RATE).sum_by([MODEL])
                    / parts::requests().rate(RATE).sum_by([MODEL]),
                "{{model}}",
            ),
        Panel::lines(
            "Error ratio by instance",
            "The same for each instance: of many, one that is sick is in no figure of the service.",
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
            "The same for each model.",
            units::RATIO,
        )
        .target(
            parts::requests().with(OUTCOME, "error").rate(RATE).sum_by([MODEL])
                / parts::judged().rate(RATE).sum_by([MODEL]),
            "{{model}}",
        )
        .reach(slo.alerts.error_ratio),
        Panel::lines("Rejected", "Share of requests that were turned away, by model: in no error ratio.", units::RATIO)
            .target(
                parts::requests().with(OUTCOME, "rejected").rate(RATE).sum_by([MODEL])
                    / parts::requests().rate(RATE).sum_by([MODEL]),
                "{{model}}",
            ),
    ]
}

/// How many times as fast as it may the budget goes.
fn burn(indicator: &Indicator, window: Window, budget: f64) -> crate::promql::Expr {
    indicator.over(window).now().max_by([MODEL]) / budget
}

fn budgets(slo: &Slo, rules: &Recording) -> Vec<Panel> {
    let promised = &slo.objectives;
    let panel = |title, what: &str, indicator: &Indicator, objective: f64| {
        let budget = 1.0 - objective;
        let description = format!(
            "{what}: how many times as fast as it may the budget of {} goes. At 1 it is used up just in time; alerts come at 14.4 over an hour and 6 over six.",
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
            "Objectives of the server's own",
            "Share of requests that kept all terms of an objective that the server was given. Recorded over five minutes.",
            units::RATIO,
        )
        .target(1.0 - rules.misses.over(Window::minutes(5)).now(), "{{slo}} {{model}}")
        .empty("No objective is configured in the server")
        .between(0.0, 1.0)
        .size(12, 7),
        Panel::lines(
            "Goodput",
            "Requests a second that kept all terms of an objective. Recorded over five minutes.",
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
            "Requests that the engine produces tokens for, and those that have none yet.",
            units::COUNT,
        )
        .target(gauge!(catalog::ENGINE_REQUESTS_RUNNING).now().sum(), "running")
        .target(gauge!(catalog::ENGINE_REQUESTS_WAITING).now().sum(), "waiting")
        .colors(&[("running", "blue"), ("waiting", "orange")])
        .empty("The engine does not tell")
        .size(8, 8),
        Panel::lines("In flight by instance", "Requests that have not ended.", units::COUNT)
            .target(gauge!(catalog::REQUESTS_IN_FLIGHT).now().sum_by([INSTANCE]), "{{instance}}")
            .size(8, 8),
        Panel::lines("KV cache", "Share of the engine's KV cache that is in use, if the engine reports it.", units::RATIO)
            .target(gauge!(catalog::ENGINE_KV_CACHE_USAGE).now().max_by([INSTANCE, MODEL]), "{{instance}} {{model}}")
            .between(0.0, 1.0)
            .empty("The engine does not tell")
            .size(8, 8),
        Panel::lines(
            "Requests that arrived and ended",
            "Requests a second. Where more arrive than end, they pile up.",
            units::REQUESTS_PER_SECOND,
        )
        .target(counter!(catalog::REQUESTS_STARTED).rate(RATE).sum(), "arrived")
        .target(parts::requests().rate(RATE).sum(), "ended")
        .colors(&[("arrived", "blue"), ("ended", "super-light-blue")])
        .size(8, 8),
        Panel::lines("Saturation", "Requests in flight, divided by the number that all replicas can have. Recorded for each job.", units::RATIO)
            .target(rules.saturation.now(), "{{job}}")
            .limit(1.0)
        .reach(1.0)
            .size(8, 8),
        Panel::lines(
            "Replicas that are wanted",
            "For the requests in flight now, or for the forecast in 15 minutes, if that is more. Recorded for each job.",
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
            "Requests in one step of the engine. A batch that is always full makes requests wait; one that is always small leaves the GPU idle.",
            units::COUNT,
            &histogram!(catalog::ENGINE_BATCH_SIZE),
        )
        .size(12, 8),
        parts::quantiles(
            "Tokens per step",
            "Tokens of prompts and of outputs in one step of the engine. Steps that are much larger than others are prompts, and everybody else waits for them.",
            units::COUNT,
            &histogram!(catalog::ENGINE_STEP_TOKENS),
        )
        .size(12, 8),
        Panel::lines(
            "Preemptions",
            "Requests a second that the engine took out of its batch for lack of room in its KV cache, by model. Their work is done again.",
            units::REQUESTS_PER_SECOND,
        )
        .target(counter!(catalog::ENGINE_PREEMPTIONS).rate(RATE).sum_by([MODEL]), "{{model}}")
        .size(8, 8),
        Panel::lines(
            "Prefix cache hit ratio",
            "Share of the tokens of prompts that the engine found in its prefix cache, of those that it looked up there.",
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
            "Share of the tokens drafted for speculative decoding that the model accepted. Where it is low, drafting costs more than it gains.",
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
