//! A report as one self-contained HTML file.

mod chart;
mod tables;

use std::fmt::Write as _;

use chart::{Chart, Series};

use crate::{
    Latency,
    baseline::{Baseline, Step, Verdict},
    figure,
};

/// The report of a run as one HTML file, with its curves and its table of objectives: without scripts, and without external files.
#[must_use]
pub fn html(baseline: &Baseline) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Baseline of {0}</title>\n<style>\n{1}</style>\n</head>\n<body>\n<h1>Baseline of {0}</h1>\n",
        escape(&baseline.settings.model),
        include_str!("style.css")
    );
    let _ = writeln!(
        page,
        "<p class=\"soft\">{}, {}, {} steps in {} s</p>",
        escape(&baseline.settings.target),
        escape(&baseline.started_at),
        baseline.steps.len(),
        baseline.seconds.round()
    );
    page += &tiles(baseline);
    if !baseline.findings.is_empty() {
        page += "<h2>Findings</h2>\n<ul class=\"findings\">\n";
        for finding in &baseline.findings {
            let _ = writeln!(page, "<li>{}</li>", escape(finding));
        }
        page += "</ul>\n";
    }
    page += &tables::objectives(baseline);
    page += "<h2>Curves</h2>\n<div class=\"charts\">\n";
    page.extend(charts(baseline));
    page += "</div>\n";
    page += &tables::steps(baseline);
    page += &tables::server(baseline);
    page += &tables::views(baseline);
    page += &tables::circumstances(baseline);
    page += "</body>\n</html>\n";
    page
}

fn tiles(baseline: &Baseline) -> String {
    let mut tiles = String::from("<div class=\"tiles\">\n");
    let mut tile = |value: String, what: String| {
        let _ = writeln!(tiles, "<div class=\"tile\"><b>{}</b>{}</div>", escape(&value), escape(&what));
    };
    match &baseline.knee {
        Some(knee) => tile(
            format!("{}/s", figure(knee.rate)),
            format!(
                "the knee: more load gets no more responses ({}the server kept up with {}, but not with {})",
                knee.interval.map_or_else(String::new, |interval| format!("{interval}; ")),
                knee.kept_up.map_or_else(|| "none".to_owned(), figure),
                figure(knee.saturated)
            ),
        ),
        None => tile("–".to_owned(), "no knee was found".to_owned()),
    }
    match &baseline.objectives_held {
        Some(held) => {
            tile(
                format!("{}/s", figure(held.rate)),
                format!("the highest rate at which all objectives were met ({})", held.certainty()),
            );
            tile(figure(held.in_flight), "mean requests in flight at that rate".to_owned());
        }
        None => tile("–".to_owned(), "at no rate were all objectives met".to_owned()),
    }
    if let Some(rate) = baseline.knee.as_ref().and_then(|knee| knee.p99_turns_at) {
        tile(format!("{}/s", figure(rate)), "p99 of the duration is at least twice that of the lowest rate".to_owned());
    }
    tiles += "</div>\n";
    tiles
}

fn charts(baseline: &Baseline) -> Vec<String> {
    let mut steps = baseline.by_rate();
    steps.retain(|step| step.verdict != Verdict::Unknown);
    let rate = "offered requests per second";
    let mut marks = Vec::new();
    if let Some(knee) = &baseline.knee {
        marks.push((knee.rate, "knee"));
    }
    if let Some(held) = &baseline.objectives_held {
        marks.push((held.rate, "objectives held"));
    }
    let latency = |title, about, of: fn(&Step) -> &Option<Latency>| Chart {
        title,
        about,
        x: rate,
        y: "seconds",
        series: quantiles(&steps, of),
        marks: marks.clone(),
        from_zero: false,
    };
    let charts = [
        Chart {
            title: "Objectives against load",
            about: "The share of requests that met each objective, with 95 % confidence bands.",
            x: rate,
            y: "% of requests",
            series: attainments(&steps),
            marks: marks.clone(),
            from_zero: true,
        },
        Chart {
            title: "Responses against load",
            about: "Below the knee, all requests are answered; beyond it, the queue grows. With a 95 % confidence band.",
            x: rate,
            y: "requests per second",
            series: vec![
                Series::new("answered", steps.iter().map(|step| Some((step.rate, step.client.answer_rate))))
                    .with_intervals(steps.iter().map(|step| {
                        let interval = step.client.answer_rate_interval?;
                        Some((step.rate, interval.low, interval.high))
                    })),
                Series::new("offered", steps.iter().map(|step| Some((step.rate, step.client.arrival_rate)))),
            ],
            marks: marks.clone(),
            from_zero: true,
        },
        latency(
            "Time to first token",
            "From the time when a request was due. The band is the 95 % confidence interval of p99.",
            |step| &step.client.time_to_first_token,
        ),
        latency("Duration", "From the time when a request was due to the end of its response.", |step| {
            &step.client.duration
        }),
        Chart {
            title: "Throughput against concurrency",
            about: "If more requests in flight give no more tokens, they only wait.",
            x: "mean requests in flight",
            y: "tokens per second",
            series: vec![throughput(&steps)],
            marks: Vec::new(),
            from_zero: true,
        },
        Chart {
            title: "Time between tokens",
            about: "Gaps between events with tokens, which a reader notices.",
            x: rate,
            y: "seconds",
            series: quantiles(&steps, |step| &step.client.inter_token_latency),
            marks,
            from_zero: false,
        },
        thinking(&steps),
        memory(baseline),
    ];
    charts.iter().filter_map(Chart::draw).collect()
}

fn quantiles(steps: &[&Step], of: fn(&Step) -> &Option<Latency>) -> Vec<Series> {
    let series = |name: &str, value: fn(&Latency) -> f64| {
        Series::new(name, steps.iter().map(|step| Some((step.rate, value(of(step).as_ref()?)))))
    };
    let interval = |step: &&Step| {
        let p99 = of(step).as_ref()?.p99;
        Some((step.rate, p99.low?, p99.high?))
    };
    vec![
        series("p50", |latency| latency.p50.value),
        series("p95", |latency| latency.p95.value),
        series("p99", |latency| latency.p99.value).with_intervals(steps.iter().map(interval)),
    ]
}

fn attainments(steps: &[&Step]) -> Vec<Series> {
    let mut objectives: Vec<_> = Vec::new();
    for kept in steps.iter().flat_map(|step| &step.attainment) {
        if !objectives.contains(&kept.objective) {
            objectives.push(kept.objective);
        }
    }
    let series = objectives.iter().map(|objective| {
        let kept = |step: &&Step| step.attainment.iter().find(|kept| kept.objective == *objective).cloned();
        let points = steps.iter().map(|step| Some((step.rate, kept(step)?.kept.value * 100.0)));
        let intervals = steps.iter().map(|step| {
            let share = kept(step)?.kept;
            Some((step.rate, share.low * 100.0, share.high * 100.0))
        });
        Series::new(&objective.to_string(), points).with_intervals(intervals)
    });
    series.collect()
}

fn throughput(steps: &[&Step]) -> Series {
    let mut points: Vec<_> =
        steps.iter().map(|step| (step.client.in_flight, step.client.output_tokens_per_second)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Series::new("output tokens", points.into_iter().map(Some))
}

fn thinking(steps: &[&Step]) -> Chart<'static> {
    let series = |name: &str, thinking: bool, of: fn(&crate::ByThinking) -> &Option<Latency>| {
        let points = steps.iter().map(|step| {
            let half = step.by_thinking.iter().find(|half| half.thinking == thinking)?;
            Some((step.rate, of(half).as_ref()?.p95.value))
        });
        Series::new(name, points.collect::<Vec<_>>())
    };
    Chart {
        title: "With and without thinking (p95)",
        about: "Both at the same rate. A reader waits for the first token of the answer.",
        x: "offered requests per second",
        y: "seconds",
        series: vec![
            series("first answer token, thinking", true, |half| &half.time_to_first_answer_token),
            series("first answer token, not thinking", false, |half| &half.time_to_first_answer_token),
            series("duration, thinking", true, |half| &half.duration),
            series("duration, not thinking", false, |half| &half.duration),
        ],
        marks: Vec::new(),
        from_zero: false,
    }
}

/// Of the GPUs; without GPUs, of the server's process.
fn memory(baseline: &Baseline) -> Chart<'static> {
    let gibibytes = |bytes: f64| bytes / f64::from(1 << 30);
    let series = |name: &str, of: fn(&crate::MemoryPoint) -> Option<f64>| {
        Series::new(
            name,
            baseline.memory.iter().map(|point| Some((point.seconds, gibibytes(of(point)?)))).collect::<Vec<_>>(),
        )
    };
    let (title, series) = if baseline.memory.iter().any(|point| point.gpu_bytes.is_some()) {
        ("GPU memory", series("used, all GPUs", |point| point.gpu_bytes))
    } else {
        ("Memory of the server's process", series("resident", |point| point.resident_bytes))
    };
    Chart {
        title,
        about: "Over the whole run. Memory that grows with load and is never freed will run out.",
        x: "seconds since the start",
        y: "GiB",
        series: vec![series],
        marks: Vec::new(),
        from_zero: true,
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryPoint, testing};

    #[test]
    fn a_report_is_self_contained_and_shows_all_measurements() {
        let mut steps = vec![
            testing::step(10.0, Verdict::KeptUp, 10.0),
            testing::step(20.0, Verdict::KeptUp, 20.0),
            testing::step(40.0, Verdict::Saturated, 21.0),
        ];
        for step in &mut steps {
            let seconds = step.rate / 100.0;
            step.client.duration = Latency::of((1..=500).map(|n| seconds * f64::from(n)).collect());
            step.client.time_to_first_token = Latency::of((1..=500).map(|n| seconds * f64::from(n) / 9.0).collect());
        }
        let mut baseline = testing::baseline(steps);
        baseline.settings.model = "<script>alert(1)</script>".to_owned();
        baseline.findings.push("a < b".to_owned());
        baseline.memory.push(MemoryPoint { seconds: 1.0, gpu_bytes: Some(1e9), resident_bytes: None });
        let page = html(&baseline);
        for shown in [
            "the knee",
            "21/s",
            "Duration",
            "Objectives against load",
            "GPU memory",
            "a &lt; b",
            "Normal range",
            "SATURATED",
        ] {
            assert!(page.contains(shown), "{shown}");
        }
        for foreign in ["<script", "http-equiv=\"refresh", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        for tag in ["svg", "figure", "table", "div", "ul", "section"] {
            let (open, close) = (page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
            assert_eq!(open, close, "{tag}");
        }
    }

    #[test]
    fn server_measurements_are_shown_per_rate_and_missing_ones_without_a_number() {
        use crate::server::{GpuView, ServerView};
        let mut steps = vec![testing::step(10.0, Verdict::KeptUp, 10.0), testing::step(20.0, Verdict::KeptUp, 20.0)];
        assert!(!html(&testing::baseline(steps.clone())).contains("Measurements of the server"));
        steps[0].server = Some(ServerView::default());
        assert!(!html(&testing::baseline(steps.clone())).contains("Measurements of the server"));
        let gpu = GpuView { memory_max_bytes: Some(3e9), utilization: Some(0.5), joules_per_output_token: Some(1.95) };
        steps[1].server = Some(ServerView {
            in_flight: Some(3.5),
            in_flight_max: Some(8.0),
            waiting_max: Some(2.0),
            kv_cache_max: Some(0.25),
            gpu: Some(gpu),
            ..ServerView::default()
        });
        let page = html(&testing::baseline(steps));
        let row = "<tr><td>20</td><td>3.5</td><td>8</td><td>2</td><td>–</td><td>25 %</td><td>2.79 GiB</td><td>50 %</td><td>1.95 J</td></tr>";
        assert!(page.contains(row), "{page}");
        assert_eq!(page.matches("<tr><td>10</td>").count(), 1, "in the table of rates alone");
    }

    #[test]
    fn a_run_in_which_nothing_was_measured_has_a_report_too() {
        let mut baseline = testing::baseline(vec![]);
        baseline.findings.push("The server did not answer.".to_owned());
        let page = html(&baseline);
        assert!(
            page.contains("The server did not answer.") && page.contains("no knee was found") && !page.contains("<svg")
        );
    }
}
