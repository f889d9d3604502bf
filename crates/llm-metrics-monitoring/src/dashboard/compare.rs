//! Is B better than A? Two instances side by side, and two modes, with the ratio.

use llm_metrics::catalog::{
    self,
    labels::{MODEL, OUTCOME, THINKING},
};
use llm_metrics_gpu::catalog as gpu;

use super::{
    model::{Dashboard, Panel, RATE, Row, Scope, Variable, units},
    parts::{ALL, JOB_VARIABLE},
};
use crate::{
    counter, external, gauge, histogram,
    promql::{Counter, Expr, Gauge, Histogram, Window},
    recording::alive,
    vocabulary::{INSTANCE, JOB},
};

/// The instances are chosen one by one in each query.
const SCOPE: Scope = &[(JOB, "job"), (MODEL, "model")];
const OF_JOB: Scope = &[(JOB, "job")];
const VARIABLES: &[Variable] = &[
    JOB_VARIABLE,
    Variable { name: "model", title: "Model", row: &catalog::REQUESTS, label: MODEL, within: OF_JOB, single: false },
    Variable { name: "a", title: "A", row: &catalog::REQUESTS, label: INSTANCE, within: OF_JOB, single: true },
    Variable { name: "b", title: "B", row: &catalog::REQUESTS, label: INSTANCE, within: OF_JOB, single: true },
];
const COLORS: &[(&str, &str)] = &[("A", "blue"), ("B", "orange")];
const MODES: &[(&str, &str)] = &[("thinking", "orange"), ("not thinking", "blue")];

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "llm-compare",
        title: "LLM comparison",
        description: "Is B better than A? Two instances side by side, and thinking against not thinking. Ratios are over the time shown: 1 is as much, 2 twice as much.",
        variables: VARIABLES,
        scope: SCOPE,
        rows: vec![
            Row::new("B over A, over the time shown", "Nothing on one side", instances()),
            Row::new("A and B over time", "No such requests in this time", over_time()),
            Row::new("Thinking over not thinking, over the time shown", "Nothing on one side", modes()),
            Row::new("Both modes over time", "A had no such requests in this time", modes_over_time()),
        ],
    }
}

fn at_counter(counter: &Counter, side: &'static str) -> Counter {
    counter.clone().of_variable(INSTANCE, side)
}

fn at_histogram(histogram: &Histogram, side: &'static str) -> Histogram {
    histogram.clone().of_variable(INSTANCE, side)
}

fn duration() -> Histogram {
    histogram!(catalog::REQUEST_DURATION).with(OUTCOME, "success")
}

fn ratio(
    title: &'static str,
    description: &str,
    of: impl Fn(&'static str) -> Expr,
    [over, under]: [&'static str; 2],
) -> Panel {
    Panel::stat(title, description, units::TIMES).instant(of(over) / of(under), "ratio").decimals(2).size(4, 4)
}

fn memory(side: &'static str) -> Expr {
    let used = |gauge: Gauge| gauge.of_variable(INSTANCE, side);
    // One that is lost now was used before. NaN, of one that was lost all the time, is not above 0.
    used(gauge!(gpu::MEMORY_USED)).max_over_time(Window::RANGE).gt(0.0).sum()
}

fn instances() -> Vec<Panel> {
    let sides = ["b", "a"];
    let whole = Window::RANGE;
    let quantile =
        |histogram: Histogram, quantile| move |side| at_histogram(&histogram, side).quantile(quantile, whole, ALL);
    let tokens = counter!(catalog::OUTPUT_TOKENS);
    let failed = |side| {
        let of = |counter: Counter| at_counter(&counter, side).increase(whole).sum();
        of(counter!(catalog::REQUESTS).with(OUTCOME, "error"))
            / of(counter!(catalog::REQUESTS).with_any(OUTCOME, ["success", "error"]))
    };
    vec![
        ratio(
            "First token, P95",
            "B's time to the first token over A's.",
            quantile(histogram!(catalog::TIME_TO_FIRST_TOKEN), 0.95),
            sides,
        ),
        ratio(
            "Request duration, median",
            "B's over A's, of requests that succeeded.",
            quantile(duration(), 0.5),
            sides,
        ),
        ratio(
            "Time per token, median",
            "B's time per output token over A's, each request counted once.",
            quantile(histogram!(catalog::TIME_PER_OUTPUT_TOKEN), 0.5),
            sides,
        ),
        ratio(
            "Output tokens",
            "Tokens a second that B produced, over A's.",
            |side| at_counter(&tokens, side).rate(whole).sum(),
            sides,
        ),
        ratio("Error ratio, B over A", "B's share of failed requests over A's.", failed, sides),
        ratio("GPU memory", "The most that was used on B's GPUs, over A's.", memory, sides),
    ]
}

fn over_time() -> Vec<Panel> {
    let both = |panel: Panel, of: &dyn Fn(&'static str) -> Expr| {
        panel.target(of("a"), "A").target(of("b"), "B").colors(COLORS)
    };
    let seconds = |title, description| Panel::lines(title, description, units::SECONDS).log().size(8, 7);
    let tokens = counter!(catalog::OUTPUT_TOKENS);
    vec![
        both(seconds("First token of A and B, P95", "One stream in twenty waited longer."), &|side| {
            at_histogram(&histogram!(catalog::TIME_TO_FIRST_TOKEN), side).quantile(0.95, RATE, ALL)
        }),
        both(
            seconds("Request duration of A and B, median", "Half of the requests that succeeded took longer."),
            &|side| at_histogram(&duration(), side).quantile(0.5, RATE, ALL),
        ),
        both(
            Panel::lines("Output tokens of A and B", "Tokens a second.", units::TOKENS_PER_SECOND).size(8, 7),
            &|side| at_counter(&tokens, side).rate(RATE).sum(),
        ),
        both(
            Panel::lines("Requests in flight of A and B", "More of them on one side makes it slower.", units::COUNT)
                .size(8, 7),
            &|side| gauge!(catalog::REQUESTS_IN_FLIGHT).of_variable(INSTANCE, side).now().sum(),
        ),
        both(
            Panel::lines("GPU memory of A and B", "What is allocated.", units::BYTES)
                .empty("No GPU is watched")
                .size(8, 7),
            &|side| alive(gauge!(gpu::MEMORY_USED).of_variable(INSTANCE, side).now()).sum(),
        ),
        both(
            Panel::lines("Memory of A and B", "Memory of the processes that is in RAM.", units::BYTES).size(8, 7),
            &|side| gauge!(external::PROCESS_RESIDENT_MEMORY).of_variable(INSTANCE, side).now().sum(),
        ),
    ]
}

fn of_mode(histogram: Histogram, thinking: &'static str) -> Histogram {
    histogram.with(THINKING, thinking).of_variable(INSTANCE, "a")
}

/// Of instance A, which is the one that is looked at.
fn modes() -> Vec<Panel> {
    let (sides, whole) = (["true", "false"], Window::RANGE);
    let quantile =
        |histogram: Histogram, quantile| move |mode| of_mode(histogram.clone(), mode).quantile(quantile, whole, ALL);
    let pace = |mode| 1.0 / of_mode(histogram!(catalog::TIME_PER_OUTPUT_TOKEN), mode).mean(whole, ALL);
    vec![
        ratio("Duration, median", "Of A: how many times as long a request takes that thinks.", quantile(duration(), 0.5), sides),
        ratio("Duration, P95", "Of A: the same of the slowest twentieth.", quantile(duration(), 0.95), sides),
        ratio("Tokens/s of a stream", "Of A: how fast its tokens come, in the mean of requests.", pace, sides),
        ratio(
            "Requests",
            "Of A: how many think, for each that does not.",
            |mode| counter!(catalog::REQUESTS).with(THINKING, mode).of_variable(INSTANCE, "a").increase(whole).sum(),
            sides,
        ),
        Panel::stat("GPU memory of A, most", "Memory belongs to a device, not to a request. To see the cost of thinking, compare two instances, one in each mode.", units::BYTES)
            .instant(memory("a"), "used")
            .empty("No GPU is watched")
            .size(8, 4),
    ]
}

fn modes_over_time() -> Vec<Panel> {
    let both = |panel: Panel, of: &dyn Fn(&'static str) -> Expr| {
        panel.target(of("true"), "thinking").target(of("false"), "not thinking").colors(MODES)
    };
    vec![
        both(
            Panel::lines("Request duration by mode, median", "Of A, of requests that succeeded.", units::SECONDS)
                .log()
                .size(12, 7),
            &|mode| of_mode(duration(), mode).quantile(0.5, RATE, ALL),
        ),
        both(
            Panel::lines("Time per output token by mode, mean", "Of A, each request counted once.", units::SECONDS)
                .log()
                .size(12, 7),
            &|mode| of_mode(histogram!(catalog::TIME_PER_OUTPUT_TOKEN), mode).mean(RATE, ALL),
        ),
    ]
}
