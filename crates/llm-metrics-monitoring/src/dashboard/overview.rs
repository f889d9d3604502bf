//! The state of the service: active alerts, objectives, load, latency, and targets.

use llm_metrics::catalog::{self};
use llm_metrics_gpu::catalog as gpu;

use super::{
    json::KEPT,
    model::{BAD, Column, Dashboard, GOOD, Panel, RATE, Row, WARN, units},
    parts::{self, ALL, NOTHING, SERVER, SERVER_VARIABLES, in_percent, judged, kept, quantiles, requests},
};
use crate::{
    counter, external, gauge, histogram, instructions,
    promql::{Expr, Window},
    recording::{Recording, alive},
    slo::{Slo, TimeToFirstToken},
    vocabulary::{GPU, INSTANCE, JOB, MODEL, OUTCOME, PHASE, SOURCE, STREAM, UPSTREAM},
};

pub(super) fn dashboard(slo: &Slo, rules: &Recording) -> Dashboard {
    Dashboard {
        uid: "llm-overview",
        title: "LLM overview",
        description: "The state of the service: active alerts, objectives, load, latency, and targets.",
        variables: SERVER_VARIABLES,
        scope: SERVER,
        rows: vec![
            Row::new("What fires", "Nothing fires", firing(slo)),
            Row::new("Models", "No requests in this time range", models(slo)),
            Row::new("Objectives", "No requests", objectives(slo, rules)),
            Row::new("Traffic", "No requests in this time range", traffic()),
            Row::new("Latency", "No such requests in this time range", latency(slo)),
            Row::new("Resources", "No GPU is monitored", resources(slo, rules)),
        ],
    }
}

/// Labels by which an alert and the time since when it fires are joined.
const ALERT: [&str; 12] =
    ["alertname", "severity", JOB, INSTANCE, MODEL, UPSTREAM, GPU, "xid", "slo", "window", "seen", "why"];

/// Labels that distinguish alerts: those of a short and a long window are shown as one.
const LINE: [&str; 11] = ["alertname", "severity", JOB, INSTANCE, MODEL, UPSTREAM, GPU, "xid", "slo", "seen", "why"];

/// Highest severity first: pages, then the rest.
fn firing(slo: &Slo) -> Vec<Panel> {
    let panel = |title, description, severities: &[&'static str], height| {
        let since = gauge!(external::ALERTS_FOR_STATE).with_any("severity", severities.iter().copied()).now();
        let fires = gauge!(external::ALERTS).with("alertstate", "firing").now();
        let expr = (since.and_on(ALERT, fires) * 1000.0).min_by(LINE).copy_label("meaning", "alertname");
        let mut columns = vec![
            ("alertname", "Alert"),
            ("Value", "Since"),
            ("meaning", "Meaning"),
            (MODEL, "Model"),
            (INSTANCE, "Instance"),
            (UPSTREAM, "Upstream"),
            (GPU, "GPU"),
            ("xid", "XID"),
            ("slo", "Objective"),
            ("seen", "Seen"),
            ("why", "Why"),
        ];
        let several = severities.len() > 1;
        if several {
            columns.insert(1, ("severity", "Severity"));
        }
        if slo.service.jobs.len() > 1 {
            // Some alerts are about a whole job.
            let instance = columns.iter().position(|(label, _)| *label == INSTANCE).unwrap_or(columns.len());
            columns.insert(instance, (JOB, "Job"));
        }
        let meaning = Column { texts: instructions::meanings().collect(), ..Column::new("Meaning", units::NONE) };
        let table = Panel::table(title, description, &columns)
            .instant(expr, "")
            .column(Column { links: alert_links(slo), width: Some(250), ..Column::new("Alert", units::NONE) })
            .column(Column { width: Some(85), ..Column::new("Severity", units::NONE) })
            .column(Column { width: Some(150), ..Column::new("Since", units::TIME) })
            .column(Column { width: Some(545), ..meaning })
            .column(Column { width: Some(50), ..Column::new("GPU", units::NONE) })
            .column(Column { width: Some(50), ..Column::new("XID", units::NONE) })
            .column(Column {
                links: vec![("Latency of this model", to_latency("Model"))],
                ..Column::new("Model", units::NONE)
            })
            .scope(NOTHING)
            .size(24, height);
        // `warning` before `info`.
        if several { table.sort("Severity") } else { table }.sort("Since")
    };
    vec![
        panel(
            "Pages",
            "Firing alerts of severity `critical`, the latest first. The variables above do not apply. Each alert has links to its runbook and to a new silence.",
            &["critical"],
            8,
        ),
        panel("Tickets and notes", "Firing alerts of severity `warning` and `info`.", &["warning", "info"], 7),
    ]
}

fn alert_links(slo: &Slo) -> Vec<(&'static str, String)> {
    let of = "${__data.fields.Alert}";
    // A browser cannot open a folder.
    let runbook = slo.service.serves_runbooks().then(|| ("Runbook", slo.service.runbook(of)));
    let filter = format!("%7Balertname%3D%22{of}%22%7D");
    let silence = ("Silence", format!("{}/#/silences/new?filter={filter}", slo.service.alertmanager));
    runbook.into_iter().chain([silence]).collect()
}

fn to_latency(column: &str) -> String {
    format!("/d/llm-latency?{KEPT}&var-model=${{__data.fields[\"{column}\"]}}")
}

/// Rate, errors and duration of each model, in one line.
fn models(slo: &Slo) -> Vec<Panel> {
    let by_model = [MODEL];
    let share = |outcome: &str, of: &[&'static str]| {
        requests().with(OUTCOME, outcome).rate(RATE).sum_by(by_model)
            / requests().with_any(OUTCOME, of.iter().copied()).rate(RATE).sum_by(by_model)
    };
    let promised = &slo.objectives;
    let link = || vec![("Latency of this model", to_latency("Model"))];
    let column = |title, unit, decimals| Column { decimals: Some(decimals), links: link(), ..Column::new(title, unit) };
    vec![
        Panel::table(
            "Models, now",
            "One line per model: rate, errors, duration. Cells link to the latency of the model.",
            &[
                (MODEL, "Model"),
                ("Value #A", "Requests/s"),
                ("Value #B", "Failed"),
                ("Value #C", "Given up"),
                ("Value #D", "Rejected"),
                ("Value #E", "First token, P95"),
                ("Value #F", "Per token, P50"),
                ("Value #G", "Duration, P95"),
                ("Value #H", "Tokens/s"),
                ("Value #I", "In flight"),
            ],
        )
        .instant(requests().rate(RATE).sum_by(by_model), "")
        .instant(share("error", &["success", "error"]), "")
        .instant(share("cancelled", &["success", "error", "cancelled"]), "")
        .instant(share("rejected", &["success", "error", "cancelled", "rejected"]), "")
        .instant(histogram!(catalog::TIME_TO_FIRST_TOKEN).quantile(0.95, RATE, by_model), "")
        .instant(histogram!(catalog::TIME_PER_OUTPUT_TOKEN).quantile(0.5, RATE, by_model), "")
        .instant(histogram!(catalog::REQUEST_DURATION).with(OUTCOME, "success").quantile(0.95, RATE, by_model), "")
        .instant(counter!(catalog::OUTPUT_TOKENS).rate(RATE).sum_by(by_model), "")
        .instant(gauge!(catalog::MODEL_REQUESTS_IN_FLIGHT).now().sum_by(by_model), "")
        .column(Column { links: link(), width: Some(210), ..Column::new("Model", units::NONE) })
        .column(column("Requests/s", units::REQUESTS_PER_SECOND, 2))
        .column(Column {
            steps: vec![(1.0 - promised.availability, WARN), (slo.alerts.error_ratio, BAD)],
            ..column("Failed", units::RATIO, 2)
        })
        .column(Column { steps: vec![(slo.alerts.cancelled_ratio, WARN)], ..column("Given up", units::RATIO, 1) })
        .column(Column { steps: vec![(slo.alerts.rejected_ratio, WARN)], ..column("Rejected", units::RATIO, 1) })
        .column(Column {
            steps: vec![(promised.time_to_first_token.seconds, WARN)],
            ..column("First token, P95", units::SECONDS, 2)
        })
        .column(Column {
            steps: vec![(promised.inter_token_latency.seconds, WARN)],
            ..column("Per token, P50", units::SECONDS, 1)
        })
        .column(Column {
            steps: vec![(slo.alerts.duration_p95_seconds, WARN)],
            ..column("Duration, P95", units::SECONDS, 2)
        })
        .column(column("Tokens/s", units::TOKENS_PER_SECOND, 1))
        .column(column("In flight", units::COUNT, 0))
        .sort("Requests/s")
        .size(20, 8),
        Panel::stat("Up", "Targets of the chosen jobs whose last scrape succeeded.", units::COUNT)
            .target(gauge!(external::UP).now().sum(), "up")
            .empty("None is scraped")
            .steps(GOOD, &[])
            .size(2, 8),
        Panel::stat("Down", "Targets of the chosen jobs whose last scrape failed.", units::COUNT)
            .target(gauge!(external::UP).now().count_by(ALL) - gauge!(external::UP).now().sum(), "down")
            .empty("None is scraped")
            .steps(GOOD, &[(1.0, BAD)])
            .size(2, 8),
    ]
}

fn objectives(slo: &Slo, rules: &Recording) -> Vec<Panel> {
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
                    "Successful requests divided by successful and failed requests, over the selected time range. Objective: {}.",
                    in_percent(promised.availability)
                ),
                units::RATIO,
            )
            .instant(1.0 - failed(), "availability"),
            promised.availability,
        )
        .decimals(2),
        Panel::stat(
            "Budget left",
            format!(
                "What is left of the error budget ({} of requests over {} days), for the model with the least left. Below 0, the objective is missed. Recorded. If Prometheus has less data, it is over the data that there is.",
                in_percent(1.0 - promised.availability),
                promised.window_days
            ),
            units::RATIO,
        )
        .target(rules.availability_budget.left.gauge().with("slo", "availability").now().min_by(ALL), "left")
        .empty("Not recorded")
        .steps("dark-red", &[(0.0, "orange"), (0.25, "blue")])
        .decimals(0),
        kept(
            Panel::stat(
                "First token in time",
                format!(
                    "Share of streams whose first token arrived within {} s{}. Objective: {}.",
                    first_token.seconds,
                    if first_token.count_tokenless { "; a stream without any token counts as late" } else { "" },
                    in_percent(first_token.objective)
                ),
                units::RATIO,
            )
            .instant(first_tokens_in_time(first_token), "in time"),
            first_token.objective,
        )
        .decimals(1),
        kept(
            Panel::stat(
                "Tokens in time",
                format!(
                    "Share of gaps between tokens of at most {} s. Objective: {}.",
                    gaps.seconds,
                    in_percent(gaps.objective)
                ),
                units::RATIO,
            )
            .instant(histogram!(catalog::INTER_TOKEN_LATENCY).share_within(gaps.seconds, Window::RANGE, ALL), "in time"),
            gaps.objective,
        )
        .decimals(1),
        Panel::stat("Requests", "Finished requests per second.", units::REQUESTS_PER_SECOND)
            .target(requests().rate(RATE).sum(), "requests")
            .steps("blue", &[])
            .decimals(2),
        Panel::stat("Tokens", "Output tokens per second, including reasoning.", units::TOKENS_PER_SECOND)
            .target(counter!(catalog::OUTPUT_TOKENS).rate(RATE).sum(), "tokens")
            .steps("blue", &[])
            .decimals(0),
        Panel::stat("In flight", "Requests in flight: waiting for their first token, or streaming.", units::COUNT)
            .target(gauge!(catalog::REQUESTS_IN_FLIGHT).now().sum(), "in flight")
            .empty("No server")
            .steps("blue", &[]),
        Panel::stat("Open pages", "Number of firing alerts of severity `critical`. They are listed above.", units::COUNT)
            .target(
                gauge!(external::ALERTS)
                    .with("alertstate", "firing")
                    .with("severity", "critical")
                    .now()
                    .count_by(ALL)
                    .or(Expr::vector(0.0)),
                "firing",
            )
            .scope(NOTHING)
            .steps(GOOD, &[(1.0, BAD)]),
    ]
}

/// Counts like the rules, but only the chosen instances.
fn first_tokens_in_time(promised: &TimeToFirstToken) -> Expr {
    let first = histogram!(catalog::TIME_TO_FIRST_TOKEN);
    if !promised.count_tokenless {
        return first.share_within(promised.seconds, Window::RANGE, ALL);
    }
    let tokenless = counter!(catalog::USAGE_REPORTS).with(STREAM, "true").with(SOURCE, "missing");
    let tokenless = || tokenless.clone().increase(Window::RANGE).sum();
    let with_token = || first.clone().count().increase(Window::RANGE).sum();
    let in_time = first.clone().within(promised.seconds).increase(Window::RANGE).sum();
    // The histogram does not exist before the first stream has a token.
    in_time.or(tokenless() * 0.0) / (with_token() + tokenless()).or(with_token()).or(tokenless())
}

fn traffic() -> Vec<Panel> {
    vec![
        parts::requests_by_outcome().size(8, 8),
        Panel::stacked(
            "Requests in flight",
            "Requests that wait for their first token, and requests that are streaming. A request without streaming waits until its end.",
            units::COUNT,
        )
        .target(gauge!(catalog::REQUESTS_IN_FLIGHT).now().sum_by([PHASE]), "{{phase}}")
        .empty("No server is scraped")
        .colors(&[("waiting", "orange"), ("streaming", "blue")])
        .size(8, 8),
        Panel::stacked(
            "Output tokens by model",
            "Output tokens per second, including reasoning.",
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
            "From the arrival of a request to its first token, including reasoning. Streams only. The dashed line is the objective.",
            units::SECONDS,
            &first_token,
        )
        .limit(slo.objectives.time_to_first_token.seconds)
        .log(),
        quantiles(
            "Request duration",
            "From arrival to the end of the answer, for successful requests. The dashed line is the threshold of the alert on P95.",
            units::SECONDS,
            &histogram!(catalog::REQUEST_DURATION).with(OUTCOME, "success"),
        )
        .limit(slo.alerts.duration_p95_seconds)
        .log(),
    ]
}

fn resources(slo: &Slo, rules: &Recording) -> Vec<Panel> {
    vec![
        parts::gpu_memory("GPU memory", "Share of each GPU's memory that is allocated, highest first.", slo).size(8, 7),
        Panel::lines(
            "GPU utilisation",
            "Share of time in which a kernel ran, and its peak since the last scrape. It does not show how much of the GPU was busy.",
            units::RATIO,
        )
        .target(alive(gauge!(gpu::UTILIZATION).now()).avg_by(ALL), "mean of GPUs")
        .target(alive(gauge!(gpu::UTILIZATION_MAX).now()).max_by(ALL), "highest peak")
        .between(0.0, 1.0)
        .colors(&[("mean of GPUs", "blue"), ("highest peak", "orange")])
        .dashed("highest peak")
        .size(8, 7),
        Panel::lines(
            "Saturation",
            format!(
                "Requests in flight, divided by the capacity of {} per replica. Above 1, the objectives are at risk. Recorded per job.",
                slo.scaling.requests_per_replica
            ),
            units::RATIO,
        )
        .target(rules.saturation.now(), "{{job}}")
        .empty("Not recorded: no server, or no recording rules")
        .limit(1.0)
        .reach(1.0)
        .size(8, 7),
        Panel::table(
            "Loaded models",
            "One line per model and instance.",
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
        .empty("No server reports a loaded model")
        .size(24, 6),
    ]
}
