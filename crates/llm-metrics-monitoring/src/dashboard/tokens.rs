//! Token throughput, lengths and cost.

use llm_metrics::catalog::{self};

use super::{
    model::{Dashboard, Panel, RATE, Row, units},
    parts::{ALL, DISCARD_COLORS, SERVER, SERVER_VARIABLES, heatmap, quantiles},
};
use crate::vocabulary::{FINISH_REASON, MODEL, REASON, SOURCE};
use crate::{counter, histogram, promql::Counter, recording::Recording};

pub(super) fn dashboard(rules: &Recording) -> Dashboard {
    Dashboard {
        uid: "llm-tokens",
        title: "LLM tokens",
        description: "Token throughput, lengths and cost. Only requests with known usage are counted.",
        variables: SERVER_VARIABLES,
        scope: SERVER,
        rows: vec![
            Row::new("Throughput", "No tokens in this time range", throughput()),
            Row::new("Length of prompts and answers", "No request with known usage in this time range", lengths()),
            Row::new("How answers end", "No answer ended in this time range", ends()),
            Row::new("Cost and waste", "No requests in this time range", cost(rules)),
        ],
    }
}

fn rate(of: Counter) -> crate::promql::Expr {
    of.rate(RATE).sum()
}

fn throughput() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Tokens",
            "Tokens per second. Cached tokens are part of the input, and reasoning is part of the output: do not add them up.",
            units::TOKENS_PER_SECOND,
        )
        .target(rate(counter!(catalog::INPUT_TOKENS)), "input")
        .target(rate(counter!(catalog::INPUT_CACHED_TOKENS)), "input, cached")
        .target(rate(counter!(catalog::OUTPUT_TOKENS)), "output")
        .target(rate(counter!(catalog::OUTPUT_REASONING_TOKENS)), "output, reasoning")
        .colors(&[
            ("input", "blue"),
            ("input, cached", "super-light-blue"),
            ("output", "orange"),
            ("output, reasoning", "super-light-orange"),
        ]),
        Panel::stacked("Output tokens by model", "Output tokens per second, including reasoning.", units::TOKENS_PER_SECOND)
            .target(counter!(catalog::OUTPUT_TOKENS).rate(RATE).sum_by([MODEL]), "{{model}}"),
        Panel::lines("Prompt cache ratio", "Cached input tokens divided by all input tokens.", units::RATIO)
            .target(
                counter!(catalog::INPUT_CACHED_TOKENS).rate(RATE).sum_by([MODEL])
                    / counter!(catalog::INPUT_TOKENS).rate(RATE).sum_by([MODEL]),
                "{{model}}",
            )
            .between(0.0, 1.0),
        Panel::lines(
            "Speed of a stream",
            "Output tokens per second of a single stream: 1 divided by the median and by the 95th percentile of the time per output token.",
            units::TOKENS_PER_SECOND,
        )
        .target(1.0 / histogram!(catalog::TIME_PER_OUTPUT_TOKEN).quantile(0.5, RATE, ALL), "median stream")
        .target(1.0 / histogram!(catalog::TIME_PER_OUTPUT_TOKEN).quantile(0.95, RATE, ALL), "slowest 5 %")
        .colors(&[("median stream", "blue"), ("slowest 5 %", "orange")]),
    ]
}

fn lengths() -> Vec<Panel> {
    let (input, output) = (histogram!(catalog::REQUEST_INPUT_TOKENS), histogram!(catalog::REQUEST_OUTPUT_TOKENS));
    let limit = histogram!(catalog::REQUEST_MAX_TOKENS);
    vec![
        quantiles("Prompt length", "Input tokens per request.", units::TOKENS, &input).decimals(0),
        heatmap("Distribution of prompt length", "Number of requests by input tokens.", units::TOKENS, &input),
        quantiles("Answer length", "Output tokens per successful request.", units::TOKENS, &output).decimals(0),
        heatmap("Distribution of answer length", "Number of requests by output tokens.", units::TOKENS, &output),
        quantiles(
            "Requested token limit",
            "The limit on output tokens, for requests that set one.",
            units::TOKENS,
            &limit,
        )
        .decimals(0)
        .size(24, 7),
    ]
}

fn ends() -> Vec<Panel> {
    vec![
        Panel::bars("Finish reasons", "Answers that ended, by the reason why the model stopped.", units::COUNT)
            .target(
                counter!(catalog::FINISH_REASONS).increase(RATE).sum_by([FINISH_REASON]).gt(0.0),
                "{{finish_reason}}",
            )
            .colors(&[
                ("stop", "blue"),
                ("length", "orange"),
                ("tool_calls", "super-light-blue"),
                ("error", "dark-red"),
            ]),
        Panel::lines(
            "Answers cut at the token limit",
            "Share of answers with the finish reason `length`: the limit is too low, or the model does not stop.",
            units::RATIO,
        )
        .target(
            counter!(catalog::FINISH_REASONS).with(FINISH_REASON, "length").rate(RATE).sum_by([MODEL])
                / counter!(catalog::FINISH_REASONS).rate(RATE).sum_by([MODEL]),
            "{{model}}",
        )
        .reach(0.2),
    ]
}

fn cost(rules: &Recording) -> Vec<Panel> {
    vec![
        Panel::lines(
            "Energy per token",
            "Energy of the GPUs divided by output tokens, at this load. It includes the energy for prompts. Recorded over five minutes.",
            units::JOULES_PER_TOKEN,
        )
        .target(rules.joules_per_token.now(), "{{instance}}")
        .empty("No tokens, or no GPU reports its energy")
        .size(8, 7),
        Panel::bars(
            "Wasted tokens",
            "Output tokens of answers that were not delivered to their end.",
            units::TOKENS,
        )
        .target(counter!(catalog::DISCARDED_TOKENS).increase(RATE).sum_by([REASON]).gt(0.0), "{{reason}}")
        .colors(DISCARD_COLORS)
        .empty("Every answer was delivered to its end")
        .size(8, 7),
        Panel::stacked(
            "Sources of token counts",
            "Accepted requests per second. `missing` and `estimated` requests are in no token counter.",
            units::REQUESTS_PER_SECOND,
        )
        .target(counter!(catalog::USAGE_REPORTS).rate(RATE).sum_by([SOURCE]), "{{source}}")
        .colors(&[
            ("engine", "blue"),
            ("upstream", "super-light-blue"),
            ("timings", "dark-blue"),
            ("estimated", "orange"),
            ("missing", "dark-red"),
        ])
        .size(8, 7),
    ]
}
