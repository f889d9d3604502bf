//! The collector as an embedder uses it: with its thread, the real `nvml-wrapper`, and a driver that misbehaves.

#![cfg(target_os = "linux")]

mod driver;
mod lost;
mod publish;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod xids;

use std::time::{Duration, Instant};

use llm_metrics_gpu::{GpuCollector, GpuCollectorBuilder};
use serde_json::Value;
use support::{Fake, Page, page};

const QUICK: Duration = Duration::from_millis(100);
/// The limit for calls that must not wait: generous, but far below the time that a wait would take.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A collector that ticks as often as it can, and retries at once.
fn quick() -> (GpuCollectorBuilder, Page) {
    let (recorder, page) = page();
    let builder = GpuCollector::builder().recorder(recorder).period(QUICK).slow_period(QUICK);
    (builder.retry(QUICK / 10, QUICK).rediscovery_interval(QUICK), page)
}

fn on(fake: &Fake) -> (GpuCollectorBuilder, Page) {
    let (builder, page) = quick();
    (builder.source(fake.source()), page)
}

fn with(mut state: Value, extra: Value) -> Value {
    for (key, value) in extra.as_object().unwrap() {
        state[key] = value.clone();
    }
    state
}

fn errors(page: &Page, kind: &str) -> f64 {
    page.value("gpu_collector_errors_total", &[&format!("kind=\"{kind}\"")]).unwrap_or(0.0)
}

fn devices(page: &Page, state: &str) -> Option<f64> {
    page.value("gpu_devices", &[&format!("state=\"{state}\"")])
}

fn ticks(page: &Page) -> f64 {
    page.value("gpu_collector_tick_seconds_count", &[]).unwrap_or(0.0)
}

/// Waits for this many more ticks, and checks the page meanwhile.
fn for_ticks(page: &Page, count: f64, check: impl Fn(&Page)) {
    let before = ticks(page);
    page.until("it ticks on", |page| {
        check(page);
        ticks(page) >= before + count
    });
}

/// Checks the page for a while in which nothing may change.
fn for_a_while(page: &Page, check: impl Fn(&Page)) {
    let began = Instant::now();
    page.until("a while", |page| {
        check(page);
        began.elapsed() > QUICK * 10
    });
}
