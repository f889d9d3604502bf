//! With your own exporter instead of the feature `prometheus`: a service that already has one does not need another.
//!
//! ```text
//! cargo run -p llm-metrics --example own-exporter
//! ```
//!
//! Any recorder of the `metrics` facade can be used. Three things are then up to you.

use std::{error::Error, thread, time::Duration};

use llm_metrics::{
    FinishReason, LlmMetrics, Operation,
    catalog::{self, Kind, Naming},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

fn main() -> Result<(), Box<dyn Error>> {
    // The same naming for the metrics and the buckets, if it is not the default.
    let naming = Naming::new().prefix("qwen")?;

    // First: set the buckets of each histogram by its full name. Without buckets it silently becomes a summary, and summaries cannot be aggregated
    // over instances.
    let mut exporter = PrometheusBuilder::new();
    for row in catalog::all().filter(|row| row.kind == Kind::Histogram) {
        exporter = exporter.set_buckets_for_metric(Matcher::Full(naming.name(row).into_owned()), row.buckets)?;
    }
    // No idle timeout: handles are cached, and would record nothing after it.
    let recorder = exporter.build_recorder();
    let page = recorder.handle();

    // Second: upkeep, every second. Without it, each sample of a histogram stays in memory until the next scrape.
    thread::spawn({
        let upkeep = page.clone();
        move || loop {
            thread::sleep(Duration::from_secs(1));
            upkeep.run_upkeep();
        }
    });

    // Passed to the builder. Calling `metrics::set_global_recorder(recorder)` before `LlmMetrics::new()` works, too.
    let metrics = LlmMetrics::builder().recorder(recorder).naming(naming).build()?;

    // In a service, this is `metrics.layer()`; see the other examples.
    let mut request = metrics.start(Operation::Chat, "parrot");
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(5));
        request.tokens(1);
    }
    request.finish(FinishReason::Stop);

    // Third: update the gauges of the recent window before each scrape.
    metrics.refresh();
    print!("{}", page.render());
    Ok(())
}
