//! Without HTTP: an engine that works off a queue, and tells itself what there is to tell.
//!
//! ```text
//! cargo run -p llm-metrics --features prometheus --example by-hand
//! ```

use std::{
    error::Error,
    thread::sleep,
    time::{Duration, Instant},
};

use llm_metrics::{ErrorType, FinishReason, Inference, LlmMetrics, ModelInfo, Operation, Usage, prometheus::Exporter};

const MODEL: &str = "parrot";

fn main() -> Result<(), Box<dyn Error>> {
    let (_, exporter) = Exporter::builder().process_metrics(false).build()?;
    let metrics = LlmMetrics::builder().exporter(&exporter).models([MODEL]).build()?;

    let began = Instant::now();
    sleep(Duration::from_millis(50));
    let info = ModelInfo::new(MODEL).engine("by hand").context_length(4096);
    let _loaded = metrics.model_loaded(info, began.elapsed()); // `llm_model_info` is 1 until this is dropped
    let engine = metrics.engine(MODEL);

    // The clock of a request runs from here, so that the time in the queue is in its latency.
    let mut queue: Vec<Inference> = (0..4).map(|_| metrics.start(Operation::Chat, MODEL)).collect();
    let queued = Instant::now();
    while let Some(mut request) = queue.pop() {
        engine.waiting(queue.len() as u64);
        engine.running(1);
        let handle = request.handle(); // for another thread, or for what only the engine knows
        handle.queue_time(queued.elapsed());

        match queue.len() {
            // One has no room left in the cache,
            2 => request.fail(ErrorType::Overloaded),
            // one is dropped after two steps, since its caller hung up: cancelled,
            1 => (0..2).for_each(|_| step(&mut request)),
            // and two come to their end.
            _ => {
                (0..8).for_each(|_| step(&mut request));
                request.usage(Usage::new().input(12).output(16));
                request.finish(FinishReason::Stop);
            }
        }
    }
    engine.running(0);

    // What a scrape would get, without the buckets and without what is 0.
    let page = exporter.render();
    let brief = |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.contains("_bucket{");
    page.lines().filter(brief).filter(|line| !line.ends_with(" 0")).for_each(|line| println!("{line}"));
    Ok(())
}

/// A step of an engine that speculates: two tokens at once.
fn step(request: &mut Inference) {
    sleep(Duration::from_millis(5));
    request.tokens(2);
}
