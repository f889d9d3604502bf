//! The summary of a run for a terminal.

use llm_metrics_baseline::{Baseline, Latency, Step, Verdict};

/// One line per rate, the knee, the objectives and the findings.
pub(super) fn of(baseline: &Baseline) -> String {
    let mut lines: Vec<_> = baseline.by_rate().into_iter().map(line).collect();
    lines.push(String::new());
    if let Some(knee) = &baseline.knee {
        let from = knee.kept_up.map_or_else(|| "no rate".to_owned(), figure);
        let interval = knee.interval.map_or_else(String::new, |interval| format!("{interval}; "));
        lines.push(format!(
            "knee: {} requests/s ({interval}the server kept up with {from}, but not with {})",
            figure(knee.rate),
            figure(knee.saturated)
        ));
        if let Some(rate) = knee.p99_turns_at {
            lines.push(format!(
                "from {} requests/s on, the p99 of the duration is twice that of the lowest rate",
                figure(rate)
            ));
        }
    }
    if let Some(held) = &baseline.objectives_held {
        lines.push(format!(
            "all objectives were met up to {} requests/s, with {} in flight on average ({})",
            figure(held.rate),
            figure(held.in_flight),
            held.certainty()
        ));
    }
    lines.extend(baseline.findings.iter().map(|finding| format!("! {finding}")));
    lines.join("\n")
}

/// A step in one line.
pub(super) fn line(step: &Step) -> String {
    let client = &step.client;
    let three = |latency: &Option<Latency>| {
        latency.as_ref().map_or_else(
            || "–".to_owned(),
            |latency| {
                format!("{}/{}/{}", seconds(latency.p50.value), seconds(latency.p95.value), seconds(latency.p99.value))
            },
        )
    };
    let failed: u64 = client.errors.values().sum();
    let verdict = match step.verdict {
        Verdict::KeptUp => "kept up",
        Verdict::Saturated => "SATURATED",
        Verdict::Failing => "FAILING",
        _ => "too short for a result",
    };
    let held = match step.attainment.iter().filter(|attainment| !attainment.held).count() {
        0 => String::new(),
        // Objectives for which it was too short were not missed.
        _ if step.verdict == Verdict::Unknown => String::new(),
        1 => ", 1 objective missed".to_owned(),
        missed => format!(", {missed} objectives missed"),
    };
    format!(
        "{:>6}/s {verdict}{held}: {:.2}/s answered, {failed} failed, {} in flight, {:.0} tokens/s; p50/p95/p99 first token {}, duration {}",
        figure(step.rate),
        client.answer_rate,
        figure(client.in_flight),
        client.output_tokens_per_second,
        three(&client.time_to_first_token),
        three(&client.duration)
    )
}

/// The value with its unit.
pub(super) fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{} ms", figure(value * 1e3)) } else { format!("{} s", figure(value)) }
}

/// Three significant digits.
pub(super) fn figure(value: f64) -> String {
    llm_metrics_baseline::figure(value)
}
