//! Without HTTP: an engine that processes a queue, and reports its own measurements.
//!
//! ```text
//! cargo run -p llm-metrics --features prometheus --example by-hand
//! ```

use std::{
    error::Error,
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use llm_metrics::{ErrorType, FinishReason, Inference, LlmMetrics, ModelInfo, Operation, Usage, prometheus::Exporter};

const MODEL: &str = "parrot";
const STEP: Duration = Duration::from_millis(5);

fn main() -> Result<(), Box<dyn Error>> {
    let (_, exporter) = Exporter::builder().process_metrics(false).build()?;
    let metrics = LlmMetrics::builder().exporter(&exporter).models([MODEL]).build()?;

    let began = Instant::now();
    sleep(Duration::from_millis(50));
    let info = ModelInfo::new(MODEL).engine("by hand").context_length(4096);
    let _loaded = metrics.model_loaded(info, began.elapsed()); // `llm_model_info` is 1 until this is dropped
    let engine = metrics.engine(MODEL);

    // The clock of a request starts here, so its latency includes the time in the queue.
    let mut queue: Vec<Inference> = (0..4).map(|_| metrics.start(Operation::Chat, MODEL)).collect();
    let queued = Instant::now();
    while let Some(mut request) = queue.pop() {
        engine.waiting(queue.len() as u64);
        engine.running(1);
        let handle = request.handle(); // for what only the engine knows, and for another thread
        handle.queue_time(queued.elapsed());

        match queue.len() {
            // One is preempted, because the cache is full,
            2 => request.fail(ErrorType::Overloaded),
            // one is dropped after two steps, because its client disconnected: cancelled,
            1 => (0..2).for_each(|_| step(&mut request)),
            // and two finish, each processed by another thread with a handle.
            _ => {
                let worker = || {
                    for _ in 0..8 {
                        sleep(STEP);
                        handle.tokens(2);
                        engine.batch_size(1);
                        engine.drafted(3, 1); // one more token than were accepted
                    }
                };
                scope(|threads| drop(threads.spawn(worker)));
                request.usage(Usage::new().input(12).output(16));
                request.finish(FinishReason::Stop);
            }
        }
    }
    engine.running(0);

    // The page of a scrape, without buckets and zeros.
    let page = exporter.render();
    let brief = |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.contains("_bucket{");
    page.lines().filter(brief).filter(|line| !line.ends_with(" 0")).for_each(|line| println!("{line}"));
    Ok(())
}

/// A step of speculative decoding: two tokens.
fn step(request: &mut Inference) {
    sleep(STEP);
    request.tokens(2);
}
