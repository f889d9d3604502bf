//! How long do users wait, and for what?

use llm_metrics::catalog::{self};

use super::{
    model::{Dashboard, Panel, RATE, Row, units},
    parts::{ALL, SERVER, SERVER_VARIABLES, heatmap, quantiles},
};
use crate::{
    counter, gauge, histogram,
    promql::Histogram,
    slo::Slo,
    vocabulary::{INSTANCE, MODEL, OUTCOME, STAT},
};

pub(super) fn dashboard(slo: &Slo) -> Dashboard {
    Dashboard {
        uid: "llm-latency",
        title: "LLM latency",
        description: "How long do users wait, and for what? Dashed red lines are the objectives and alert thresholds.",
        variables: SERVER_VARIABLES,
        scope: SERVER,
        rows: vec![
            Row::new("Time to first token", "No stream began in this time range", first_token(slo)),
            Row::new("Between tokens", "No stream had two tokens in this time range", between_tokens(slo)),
            Row::new("Whole requests", "No request succeeded in this time range", whole(slo)),
            Row::new("By model and instance", "No streams in this time range", compared(slo)),
            Row::new("Peaks and stalls", "No requests in the last minute", peaks()),
            Row::new("Inside the engine, if it reports it", "The engine does not report this", engine()),
        ],
    }
}

fn first_token(slo: &Slo) -> Vec<Panel> {
    let first = histogram!(catalog::TIME_TO_FIRST_TOKEN);
    vec![
        quantiles(
            "Time to first token",
            "From the arrival of a request to its first token, including reasoning. Streams only.",
            units::SECONDS,
            &first,
        )
        .limit(slo.objectives.time_to_first_token.seconds)
        .log(),
        heatmap(
            "Distribution of time to first token",
            "Number of streams by their time to first token.",
            units::SECONDS,
            &first,
        ),
    ]
}

fn between_tokens(slo: &Slo) -> Vec<Panel> {
    let gaps = histogram!(catalog::INTER_TOKEN_LATENCY);
    vec![
        quantiles(
            "Inter-token latency",
            "The time between consecutive tokens, over all tokens, so long answers count more.",
            units::SECONDS,
            &gaps,
        )
        .limit(slo.objectives.inter_token_latency.seconds)
        .log(),
        heatmap(
            "Distribution of inter-token latency",
            "Number of tokens by the time since the previous token.",
            units::SECONDS,
            &gaps,
        ),
        quantiles(
            "Time per output token",
            "The mean time per token after the first, per request. Each request counts once.",
            units::SECONDS,
            &histogram!(catalog::TIME_PER_OUTPUT_TOKEN),
        )
        .log(),
        quantiles(
            "Longest gap in a stream",
            "The longest gap of each stream. Users notice it, but a mean hides it.",
            units::SECONDS,
            &histogram!(catalog::STREAM_MAX_GAP),
        )
        .log(),
    ]
}

fn answered() -> Histogram {
    histogram!(catalog::REQUEST_DURATION).with(OUTCOME, "success")
}

fn whole(slo: &Slo) -> Vec<Panel> {
    vec![
        quantiles(
            "Request duration",
            "From arrival to the end of the answer, for successful requests. Failures can be fast, and would hide slow requests. Lines: the thresholds of the alerts on P95 and P99.",
            units::SECONDS,
            &answered(),
        )
        .steps("blue", &[(slo.alerts.duration_p95_seconds, "orange"), (slo.alerts.duration_p99_seconds, "dark-red")])
        .log(),
        heatmap("Distribution of request duration", "Number of requests by duration.", units::SECONDS, &answered()),
    ]
}

fn compared(slo: &Slo) -> Vec<Panel> {
    let (first, gaps) = (histogram!(catalog::TIME_TO_FIRST_TOKEN), histogram!(catalog::INTER_TOKEN_LATENCY));
    vec![
        Panel::lines("Time to first token by model, P95", "The 95th percentile for each model.", units::SECONDS)
            .target(first.clone().quantile(0.95, RATE, [MODEL]), "{{model}}")
            .limit(slo.objectives.time_to_first_token.seconds)
            .size(8, 7)
            .log(),
        Panel::lines("Time to first token by instance, P95", "The 95th percentile for each instance.", units::SECONDS)
            .target(first.quantile(0.95, RATE, [INSTANCE]), "{{instance}}")
            .limit(slo.objectives.time_to_first_token.seconds)
            .size(8, 7)
            .log(),
        Panel::lines("Inter-token latency by model, P95", "The 95th percentile for each model.", units::SECONDS)
            .target(gaps.quantile(0.95, RATE, [MODEL]), "{{model}}")
            .limit(slo.objectives.inter_token_latency.seconds)
            .size(8, 7)
            .log(),
    ]
}

fn peaks() -> Vec<Panel> {
    let max = |gauge: crate::promql::Gauge| gauge.with(STAT, "max").now().max_by([MODEL]);
    vec![
        Panel::lines(
            "Maximum time to first token, last minute",
            "The maximum of the recent window. It shows peaks between two scrapes, which a quantile over minutes hides.",
            units::SECONDS,
        )
        .target(max(gauge!(catalog::RECENT_TIME_TO_FIRST_TOKEN)), "{{model}}")
        .log()
        .size(6, 7),
        Panel::lines(
            "Maximum request duration, last minute",
            "The maximum of the recent window, for successful and failed requests.",
            units::SECONDS,
        )
        .target(max(gauge!(catalog::RECENT_REQUEST_DURATION)), "{{model}}")
        .log()
        .size(6, 7),
        Panel::lines(
            "Maximum time per output token, last minute",
            "The maximum of the recent window, for requests with more than one token.",
            units::SECONDS,
        )
        .target(max(gauge!(catalog::RECENT_TIME_PER_OUTPUT_TOKEN)), "{{model}}")
        .log()
        .size(6, 7),
        Panel::bars(
            "Stalls",
            "Gaps after the first token that lasted longer than the server's threshold (5 s by default).",
            units::COUNT,
        )
        .target(counter!(catalog::STREAM_STALLS).increase(RATE).sum_by([MODEL]), "{{model}}")
        .empty("No streams in this time range")
        .size(6, 7),
    ]
}

fn engine() -> Vec<Panel> {
    let panel = |title, description, of: Histogram| {
        Panel::lines(title, description, units::SECONDS)
            .target(of.clone().quantile(0.5, RATE, ALL), "p50")
            .target(of.clone().quantile(0.95, RATE, ALL), "p95")
            .target(of.mean(RATE, ALL), "mean")
            .colors(&[("p50", "blue"), ("p95", "orange"), ("mean", "text")])
            .dashed("mean")
            .stroke("p95", &[10, 5])
            .log()
            .size(8, 7)
    };
    vec![
        panel("Queue", "Time in the engine before the prompt was processed.", histogram!(catalog::REQUEST_QUEUE)),
        panel("Prefill", "Time that the engine spent processing the prompt.", histogram!(catalog::REQUEST_PREFILL)),
        panel(
            "Decode",
            "Time that the engine spent generating the output after the first token.",
            histogram!(catalog::REQUEST_DECODE),
        ),
    ]
}
