//! Whether the other dashboards can be trusted.

use llm_metrics::catalog::{self};
use llm_metrics_gpu::catalog as gpu;

use super::{
    model::{Dashboard, Panel, RATE, Row, units},
    parts::{SERVER, SERVER_VARIABLES},
};
use crate::{
    counter, external, gauge, histogram,
    promql::Expr,
    slo::Slo,
    vocabulary::{INSTANCE, JOB, LABEL, PROTOCOL, REASON, SOURCE},
};

pub(super) fn dashboard(slo: &Slo) -> Dashboard {
    Dashboard {
        uid: "llm-telemetry",
        title: "LLM telemetry health",
        description: "Can the other dashboards be trusted? Shows missing and incomplete measurements.",
        variables: SERVER_VARIABLES,
        scope: SERVER,
        rows: vec![
            Row::new("Scrapes", "Nothing is scraped", scrapes(slo)),
            Row::new("Incomplete measurements", "No requests in this time range", gaps()),
            Row::new("The GPU collector", "No GPU collector is scraped", collector(slo)),
        ],
    }
}

fn scrapes(slo: &Slo) -> Vec<Panel> {
    let name = "{{job}} {{instance}}";
    let panel = |title, description, unit| Panel::lines(title, description, unit).size(8, 7);
    vec![
        Panel::states(
            "Targets",
            "Whether the last scrape of each target succeeded.",
            &[("0", "down", "dark-red"), ("1", "up", "semi-dark-blue")],
        )
        .target(gauge!(external::UP).now().min_by([JOB, INSTANCE]), name)
        .size(16, 7),
        Panel::table(
            "Versions",
            "The version of llm-metrics in each server.",
            &[(INSTANCE, "Instance"), (JOB, "Job"), ("version", "llm-metrics")],
        )
        .instant(gauge!(catalog::BUILD_INFO).now(), "")
        .size(8, 7),
        panel("Scrape duration", "Time that Prometheus waited for each target.", units::SECONDS)
            .target(gauge!(external::SCRAPE_DURATION).now().max_by([JOB, INSTANCE]), name)
            .limit(slo.alerts.scrape_seconds),
        panel(
            "Samples",
            "Number of samples of each target. It grows with models and label values, up to a limit.",
            units::COUNT,
        )
        .target(gauge!(external::SCRAPE_SAMPLES).now().max_by([JOB, INSTANCE]), name),
        panel(
            "New series",
            "Series that a scrape saw for the first time. If there are always many, label values leak.",
            units::COUNT,
        )
        .target(gauge!(external::SCRAPE_SERIES_ADDED).now().max_by([JOB, INSTANCE]), name),
    ]
}

fn gaps() -> Vec<Panel> {
    let bars = |title, description| Panel::bars(title, description, units::COUNT).size(6, 8);
    vec![
        bars("Labels over their cap", "Accepted requests with a label value that was replaced by `other`.")
            .target(counter!(catalog::LABEL_OVERFLOW).increase(RATE).sum_by([LABEL]), "{{label}}"),
        bars(
            "Bodies that could not be parsed",
            "They were passed on unchanged, but some of their values are missing in the metrics.",
        )
        .target(
            counter!(catalog::INSPECTION_FAILURES).increase(RATE).sum_by([PROTOCOL, "kind"]),
            "{{protocol}} {{kind}}",
        ),
        bars(
            "Bodies that were not inspected",
            "Compressed, of another type, or too large. Their requests are judged by the status.",
        )
        .target(counter!(catalog::BODIES_SKIPPED).increase(RATE).sum_by([REASON]), "{{reason}}"),
        Panel::lines(
            "Requests with unknown token counts",
            "Share of accepted requests without a token count from the engine or the response.",
            units::RATIO,
        )
        .target(
            counter!(catalog::USAGE_REPORTS).with_any(SOURCE, ["missing", "estimated"]).rate(RATE).sum()
                / counter!(catalog::USAGE_REPORTS).rate(RATE).sum(),
            "not known",
        )
        .between(0.0, 1.0)
        .size(6, 8),
        bars(
            "Requests that were not measured",
            "Successful POSTs to unknown paths that look like LLM requests, by reason. Add their paths to the layer.",
        )
        .target(counter!(catalog::REQUESTS_PASSED).increase(RATE).sum_by([REASON]), "{{reason}}")
        .empty("None")
        .size(24, 6),
    ]
}

fn collector(slo: &Slo) -> Vec<Panel> {
    let panel = |title, description, unit| Panel::lines(title, description, unit).size(6, 7);
    let tick = histogram!(gpu::TICK);
    vec![
        Panel::states(
            "The driver",
            "1 if the collector works. On a machine without GPUs it is 0.",
            &[("0", "none", "orange"), ("1", "answers", "semi-dark-blue")],
        )
        .target(gauge!(gpu::COLLECTOR_UP).now().min_by([INSTANCE]), "{{instance}}")
        .size(6, 7),
        panel(
            "Age of GPU readings",
            "Time since the devices were read, including the time since the last scrape. A collector that hangs cannot report this itself.",
            units::SECONDS,
        )
        .target((Expr::time() - gauge!(gpu::LAST_SUCCESS).now()).max_by([INSTANCE]), "{{instance}}")
        .limit(slo.gpu.stale_seconds),
        panel("Collection duration, P95", "Time to read all devices.", units::SECONDS)
            .target(tick.quantile(0.95, RATE, [INSTANCE]), "{{instance}}"),
        Panel::bars("Errors", "Errors while collecting, and restarts of the driver session.", units::COUNT)
            .target(counter!(gpu::ERRORS).increase(RATE).sum_by(["kind"]), "{{kind}}")
            .target(counter!(gpu::REINITS).increase(RATE).sum(), "opened again")
            .size(6, 7),
    ]
}
