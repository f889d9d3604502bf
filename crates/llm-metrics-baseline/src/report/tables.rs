//! The tables of the report.

use std::fmt::Write as _;

use super::escape;
use crate::{
    Latency,
    apply::{self, HeadRoom, Scope},
    baseline::{Baseline, Step, Verdict},
    figure,
};

const GIB: f64 = (1u64 << 30) as f64;

/// Indicator, normal range, warning threshold and measurement, at the recommended rate.
pub(super) fn objectives(baseline: &Baseline) -> String {
    let Ok(applied) = apply::apply(baseline, "", Scope::All, &HeadRoom::default()) else { return String::new() };
    let Some(step) = apply::operating_point(baseline) else { return String::new() };
    let threshold = |field: &str, unit: &str| {
        let proposal = applied.proposals.iter().find(|proposal| proposal.field == field);
        proposal.map_or_else(|| "–".to_owned(), |proposal| format!("{}{unit}", proposal.value))
    };
    let client = &step.client;
    let mut rows = String::new();
    let mut row = |indicator: &str, normal: String, warning: String, measured: String| {
        let _ = writeln!(rows, "<tr><td>{indicator}</td><td>{normal}</td><td>{warning}</td><td>{measured}</td></tr>");
    };
    for (indicator, latency, p95, field) in [
        ("Time to first token, p95", &client.time_to_first_token, true, "objectives.time_to_first_token.seconds"),
        ("Time between tokens, p95", &client.inter_token_latency, true, "objectives.inter_token_latency.seconds"),
        ("Duration, p95", &client.duration, true, "alerts.duration_p95_seconds"),
        ("Duration, p99", &client.duration, false, "alerts.duration_p99_seconds"),
    ] {
        let Some(latency) = latency else { continue };
        let high = if p95 { latency.p95 } else { latency.p99 };
        let normal = format!("{} – {} s", figure(latency.p50.value), figure(high.value));
        row(
            indicator,
            normal,
            format!("{} s", threshold(field, "")),
            with_interval(high.value, high.low, high.high, " s"),
        );
    }
    let share = |part: u64| 100.0 * part as f64 / client.requests.max(1) as f64;
    let failed: u64 = client.errors.values().sum();
    row("Failed requests", "0 %".to_owned(), "0.5 %".to_owned(), format!("{} %", figure(share(failed))));
    row(
        "Requests in flight",
        format!("0 – {}", figure(client.in_flight)),
        threshold("scaling.requests_per_replica", " a replica"),
        format!("{} on average, {} at most", figure(client.in_flight), client.in_flight_max),
    );
    row(
        "Requests per second",
        format!("0 – {}", figure(step.rate)),
        threshold("alerts.requests_per_second_max", " a replica"),
        baseline
            .knee
            .as_ref()
            .map_or_else(|| "no knee".to_owned(), |knee| format!("{} at the knee", figure(knee.rate))),
    );
    row(
        "Tokens per second",
        format!("0 – {}", figure(client.output_tokens_per_second)),
        "–".to_owned(),
        figure(client.output_tokens_per_second),
    );
    if let Some(total) = baseline.server.gpu_memory_bytes.filter(|total| *total > 0.0) {
        let used = || baseline.memory.iter().filter_map(|point| point.gpu_bytes);
        if let Some((low, high)) = used().reduce(f64::min).zip(used().reduce(f64::max)) {
            row(
                "GPU memory used",
                format!("{:.0} – {:.0} %", 100.0 * low / total, 100.0 * high / total),
                threshold("gpu.memory_headroom_ratio", " of it"),
                format!("{:.0} % at most", 100.0 * high / total),
            );
        }
    }
    format!(
        "<h2>Objectives at {} requests/s</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>Indicator</th><th>Normal range</th>\
         <th>Warning threshold</th><th>Measured</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n\
         <p class=\"soft\">The normal range is from the median to the named quantile, at this rate. Thresholds are what <code>llm-metrics baseline apply</code> \
         proposes; in brackets is the 95 % confidence interval.</p>\n",
        figure(step.rate)
    )
}

fn with_interval(value: f64, low: Option<f64>, high: Option<f64>, unit: &str) -> String {
    let end = |end: Option<f64>| end.map_or_else(|| "?".to_owned(), figure);
    format!("{}{unit} [{}, {}]", figure(value), end(low), end(high))
}

/// Every rate.
pub(super) fn steps(baseline: &Baseline) -> String {
    if baseline.steps.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<h2>Rates</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>requests/s</th><th>verdict</th><th>answered/s</th><th>failed</th>\
         <th>in flight</th><th>first token p50 / p95 / p99</th><th>per token p50 / p95</th><th>duration p50 / p95 / p99</th><th>tokens/s</th>\
         <th>objectives</th></tr></thead>\n<tbody>\n",
    );
    for step in baseline.by_rate() {
        table += &one_step(step);
    }
    table += "</tbody></table></div>\n";
    table
}

fn one_step(step: &Step) -> String {
    let client = &step.client;
    let (verdict, class) = match step.verdict {
        Verdict::KeptUp => ("kept up", ""),
        Verdict::Saturated => ("SATURATED", " class=\"bad\""),
        Verdict::Failing => ("FAILING", " class=\"bad\""),
        Verdict::Unknown => ("too short for a result", ""),
    };
    let values = |latency: &Option<Latency>, count: usize| {
        latency.as_ref().map_or_else(
            || "–".to_owned(),
            |latency| {
                let all = [latency.p50, latency.p95, latency.p99];
                all[..count].iter().map(|quantile| figure(quantile.value)).collect::<Vec<_>>().join(" / ") + " s"
            },
        )
    };
    let missed: Vec<_> =
        step.attainment.iter().filter(|kept| !kept.held).map(|kept| escape(&kept.objective.to_string())).collect();
    let (objectives, missed_class) = match (step.attainment.len(), missed.len()) {
        (0, _) => ("–".to_owned(), ""),
        (_, 0) => ("all held".to_owned(), ""),
        _ => (format!("missed {}", missed.join(", ")), " class=\"bad\""),
    };
    let failed: u64 = client.errors.values().sum();
    format!(
        "<tr><td>{}</td><td{class}>{verdict}</td><td>{}</td><td{}>{failed}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td{missed_class}>{objectives}</td></tr>\n",
        figure(step.rate),
        figure(client.answer_rate),
        if failed > 0 { " class=\"bad\"" } else { "" },
        figure(client.in_flight),
        values(&client.time_to_first_token, 3),
        values(&client.time_per_output_token, 2),
        values(&client.duration, 3),
        figure(client.output_tokens_per_second),
    )
}

/// Values that only the server can report.
pub(super) fn server(baseline: &Baseline) -> String {
    let steps = baseline.by_rate().into_iter().filter_map(|step| Some((step.rate, step.server.as_ref()?)));
    let value = |value: Option<f64>, unit: &str| value.map_or_else(|| "–".to_owned(), |value| figure(value) + unit);
    let mut rows = String::new();
    for (rate, server) in steps {
        let gpu = server.gpu.clone().unwrap_or_default();
        let cells = [
            value(server.in_flight, ""),
            value(server.in_flight_max, ""),
            value(server.waiting_max, ""),
            value(server.queue.as_ref().map(|queue| queue.mean), " s"),
            value(server.kv_cache_max.map(|share| 100.0 * share), " %"),
            value(gpu.memory_max_bytes.map(|bytes| bytes / GIB), " GiB"),
            value(gpu.utilization.map(|share| 100.0 * share), " %"),
            value(gpu.joules_per_output_token, " J"),
        ];
        if cells.iter().any(|cell| cell != "–") {
            let _ = writeln!(rows, "<tr><td>{}</td><td>{}</td></tr>", figure(rate), cells.join("</td><td>"));
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "<h2>Measurements of the server</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>requests/s</th><th>in flight</th><th>at most</th>\
         <th>waiting at most</th><th>queue, mean</th><th>KV cache at most</th><th>GPU memory at most</th><th>GPU utilisation</th>\
         <th>energy a token</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// Measurements of clients and server, next to each other.
pub(super) fn views(baseline: &Baseline) -> String {
    let steps: Vec<_> = baseline.by_rate().into_iter().filter(|step| !step.comparison.is_empty()).collect();
    if steps.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "<h2>Clients and server compared</h2>\n<p class=\"soft\">Over each step with its warm-up, from when requests were sent. What is further apart than \
         max(5 ms, 5 %), or than buckets leave open, is marked.</p>\n",
    );
    for step in steps {
        let apart = step.comparison.iter().filter(|figure| !figure.agree).count();
        let _ = writeln!(
            text,
            "<details{}><summary>{} requests/s: {}</summary><div class=\"wide\"><table><thead><tr><th>figure</th><th>clients</th>\
             <th>server</th></tr></thead><tbody>",
            if apart > 0 { " open" } else { "" },
            figure(step.rate),
            if apart > 0 { format!("{apart} figures disagree") } else { "they agree".to_owned() }
        );
        for seen in &step.comparison {
            let class = if seen.agree { "" } else { " class=\"bad\"" };
            let _ = writeln!(
                text,
                "<tr{class}><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&seen.figure),
                figure(seen.client),
                figure(seen.server)
            );
        }
        text += "</tbody></table></div></details>\n";
    }
    text
}

/// The settings, server and machine.
pub(super) fn circumstances(baseline: &Baseline) -> String {
    let of = |value: serde_json::Result<String>| escape(&value.unwrap_or_default());
    format!(
        "<details><summary>Settings, server and machine</summary><pre>{}\n{}\n{}</pre></details>\n",
        of(serde_json::to_string_pretty(&baseline.settings)),
        of(serde_json::to_string_pretty(&baseline.server)),
        of(serde_json::to_string_pretty(&baseline.machine))
    )
}
