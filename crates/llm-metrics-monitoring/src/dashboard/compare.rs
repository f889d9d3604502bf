//! Is B better than A? Compares two instances, and two modes, with their ratio.

use llm_metrics::catalog::{self};
use llm_metrics_gpu::catalog as gpu;

use super::{
    model::{Dashboard, Panel, RATE, Row, Scope, Variable, units},
    parts::{ALL, JOB_VARIABLE},
};
use crate::{
    counter, external, gauge, histogram,
    promql::{Counter, Expr, Gauge, Histogram, Window},
    recording::alive,
    vocabulary::{INSTANCE, JOB, MODEL, OUTCOME, THINKING},
};

/// Each query chooses its own instance.
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
        description: "Is B better than A? Compares two instances, and requests with and without thinking. Ratios are over the selected time range: 1 means equal, 2 twice as much.",
        variables: VARIABLES,
        scope: SCOPE,
        rows: vec![
            Row::new("Ratio B / A, over the selected time range", "No data for A or B", instances()),
            Row::new("A and B over time", "No such requests in this time range", over_time()),
            Row::new(
                "Ratio thinking / not thinking, over the selected time range",
                "No data for one of the modes",
                modes(),
            ),
            Row::new("Both modes over time", "A had no such requests in this time range", modes_over_time()),
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
    // A GPU that is lost now was used before. The NaN of one that was always lost is not above 0.
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
            "B's time to first token, divided by A's.",
            quantile(histogram!(catalog::TIME_TO_FIRST_TOKEN), 0.95),
            sides,
        ),
        ratio(
            "Request duration, median",
            "B's duration divided by A's, for successful requests.",
            quantile(duration(), 0.5),
            sides,
        ),
        ratio(
            "Time per token, median",
            "B's time per output token, divided by A's. Each request counts once.",
            quantile(histogram!(catalog::TIME_PER_OUTPUT_TOKEN), 0.5),
            sides,
        ),
        ratio(
            "Output tokens",
            "B's output tokens per second, divided by A's.",
            |side| at_counter(&tokens, side).rate(whole).sum(),
            sides,
        ),
        ratio("Error ratio, B over A", "B's share of failed requests, divided by A's.", failed, sides),
        ratio("GPU memory", "The highest memory use on B's GPUs, divided by A's.", memory, sides),
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
        both(seconds("Request duration of A and B, median", "Half of the successful requests took longer."), &|side| {
            at_histogram(&duration(), side).quantile(0.5, RATE, ALL)
        }),
        both(
            Panel::lines("Output tokens of A and B", "Output tokens per second.", units::TOKENS_PER_SECOND).size(8, 7),
            &|side| at_counter(&tokens, side).rate(RATE).sum(),
        ),
        both(
            Panel::lines("Requests in flight of A and B", "An instance with more of them is slower.", units::COUNT)
                .size(8, 7),
            &|side| gauge!(catalog::REQUESTS_IN_FLIGHT).of_variable(INSTANCE, side).now().sum(),
        ),
        both(
            Panel::lines("GPU memory of A and B", "Allocated memory.", units::BYTES)
                .empty("No GPU is monitored")
                .size(8, 7),
            &|side| alive(gauge!(gpu::MEMORY_USED).of_variable(INSTANCE, side).now()).sum(),
        ),
        both(
            Panel::lines("Memory of A and B", "Resident memory of the processes.", units::BYTES).size(8, 7),
            &|side| gauge!(external::PROCESS_RESIDENT_MEMORY).of_variable(INSTANCE, side).now().sum(),
        ),
    ]
}

fn of_mode(histogram: Histogram, thinking: &'static str) -> Histogram {
    histogram.with(THINKING, thinking).of_variable(INSTANCE, "a")
}

/// For instance A, the selected one.
fn modes() -> Vec<Panel> {
    let (sides, whole) = (["true", "false"], Window::RANGE);
    let quantile =
        |histogram: Histogram, quantile| move |mode| of_mode(histogram.clone(), mode).quantile(quantile, whole, ALL);
    let pace = |mode| 1.0 / of_mode(histogram!(catalog::TIME_PER_OUTPUT_TOKEN), mode).mean(whole, ALL);
    vec![
        ratio("Duration, median", "For A: duration of requests with thinking, divided by those without.", quantile(duration(), 0.5), sides),
        ratio("Duration, P95", "For A: the same ratio for the 95th percentile.", quantile(duration(), 0.95), sides),
        ratio("Tokens/s of a stream", "For A: mean speed of requests with thinking, divided by those without.", pace, sides),
        ratio(
            "Requests",
            "For A: number of requests with thinking, divided by those without.",
            |mode| counter!(catalog::REQUESTS).with(THINKING, mode).of_variable(INSTANCE, "a").increase(whole).sum(),
            sides,
        ),
        Panel::stat("GPU memory of A, most", "Memory belongs to a device, not to a request. To see the cost of thinking, compare two instances, one in each mode.", units::BYTES)
            .instant(memory("a"), "used")
            .empty("No GPU is monitored")
            .size(8, 4),
    ]
}

fn modes_over_time() -> Vec<Panel> {
    let both = |panel: Panel, of: &dyn Fn(&'static str) -> Expr| {
        panel.target(of("true"), "thinking").target(of("false"), "not thinking").colors(MODES)
    };
    vec![
        both(
            Panel::lines("Request duration by mode, median", "For A, successful requests.", units::SECONDS)
                .log()
                .size(12, 7),
            &|mode| of_mode(duration(), mode).quantile(0.5, RATE, ALL),
        ),
        both(
            Panel::lines("Time per output token by mode, mean", "For A. Each request counts once.", units::SECONDS)
                .log()
                .size(12, 7),
            &|mode| of_mode(histogram!(catalog::TIME_PER_OUTPUT_TOKEN), mode).mean(RATE, ALL),
        ),
    ]
}
