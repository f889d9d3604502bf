//! The cost of thinking.

use llm_metrics::catalog::{self};

use super::{
    model::{Dashboard, Panel, RATE, Row, units},
    parts::{ALL, SERVER, SERVER_VARIABLES, heatmap, quantiles, requests},
};
use crate::vocabulary::{OUTCOME, THINKING};
use crate::{
    counter, histogram,
    promql::{Expr, Histogram},
};

const COLORS: &[(&str, &str)] = &[("thinking", "orange"), ("not thinking", "blue"), ("unknown", "text")];

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "llm-thinking",
        title: "LLM thinking",
        description: "What does thinking cost? Compares requests whose answer had reasoning with requests without.",
        variables: SERVER_VARIABLES,
        scope: SERVER,
        rows: vec![
            Row::new("Share of reasoning", "No requests in this time range", share()),
            Row::new("Waiting time of a reader", "No such streams in this time range", waiting()),
            Row::new("With and without thinking", "No such requests in this time range", compared()),
        ],
    }
}

/// The same for both kinds of request.
fn both(panel: Panel, of: impl Fn(&'static str) -> Expr) -> Panel {
    panel.target(of("true"), "thinking").target(of("false"), "not thinking").colors(COLORS)
}

fn share() -> Vec<Panel> {
    let of = |thinking| requests().with(THINKING, thinking).rate(RATE).sum();
    let requests_panel = both(
        Panel::stacked(
            "Requests",
            "Requests that ended, per second. `unknown` requests had no output, and did not set the mode.",
            units::REQUESTS_PER_SECOND,
        ),
        of,
    )
    .target(of("unknown"), "unknown");
    vec![
        requests_panel.size(8, 8),
        Panel::lines(
            "Share of output that is reasoning",
            "Reasoning tokens divided by output tokens, over all requests.",
            units::RATIO,
        )
        .target(
            counter!(catalog::OUTPUT_REASONING_TOKENS).rate(RATE).sum()
                / counter!(catalog::OUTPUT_TOKENS).rate(RATE).sum(),
            "reasoning",
        )
        .colors(&[("reasoning", "super-light-orange")])
        .between(0.0, 1.0)
        .size(8, 8),
        Panel::lines(
            "Tokens",
            "Output tokens per second, and the reasoning tokens among them.",
            units::TOKENS_PER_SECOND,
        )
        .target(counter!(catalog::OUTPUT_TOKENS).rate(RATE).sum(), "output")
        .target(counter!(catalog::OUTPUT_REASONING_TOKENS).rate(RATE).sum(), "reasoning")
        .colors(&[("output", "orange"), ("reasoning", "super-light-orange")])
        .size(8, 8),
    ]
}

fn waiting() -> Vec<Panel> {
    let reasoning = histogram!(catalog::REASONING_DURATION);
    let p95 = |of: Histogram| of.quantile(0.95, RATE, ALL);
    vec![
        Panel::lines(
            "First token and first token of the answer, P95",
            "Time to the first token, and time to the first token of the answer. Streams that were cut during the reasoning have no answer. If there are many, the P95 of answers can be lower.",
            units::SECONDS,
        )
        .target(p95(histogram!(catalog::TIME_TO_FIRST_ANSWER_TOKEN)), "answer")
        .target(p95(histogram!(catalog::TIME_TO_FIRST_TOKEN)), "any token")
        .colors(&[("answer", "orange"), ("any token", "blue")])
        .log(),
        quantiles(
            "Duration of thinking",
            "From the first token to the first token of the answer, for requests with reasoning. Streams only.",
            units::SECONDS,
            &reasoning,
        )
        .log(),
        heatmap(
            "Distribution of the duration of thinking",
            "Number of streams by the duration of thinking.",
            units::SECONDS,
            &reasoning,
        )
        .size(24, 7),
    ]
}

fn compared() -> Vec<Panel> {
    let duration = |thinking| histogram!(catalog::REQUEST_DURATION).with(OUTCOME, "success").with(THINKING, thinking);
    let per_token = |thinking| histogram!(catalog::TIME_PER_OUTPUT_TOKEN).with(THINKING, thinking);
    let seconds = |title, description| Panel::lines(title, description, units::SECONDS).log().size(8, 8);
    vec![
        both(seconds("Request duration, median", "Half of the successful requests took longer."), |thinking| {
            duration(thinking).quantile(0.5, RATE, ALL)
        }),
        both(seconds("Request duration, P95", "One in twenty successful requests took longer."), |thinking| {
            duration(thinking).quantile(0.95, RATE, ALL)
        }),
        both(seconds("Time per output token, mean", "Mean over the requests. Each request counts once."), |thinking| {
            per_token(thinking).mean(RATE, ALL)
        }),
        both(
            Panel::lines("Error ratio", "Failed requests divided by successful and failed requests.", units::RATIO)
                .reach(0.05)
                .size(24, 7),
            |thinking| {
                let failed = requests().with(THINKING, thinking).with(OUTCOME, "error").rate(RATE).sum();
                failed / requests().with(THINKING, thinking).with_any(OUTCOME, ["success", "error"]).rate(RATE).sum()
            },
        ),
    ]
}
