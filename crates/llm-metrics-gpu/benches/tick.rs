//! The cost of the collector: of a whole tick over eight GPUs, and as a share of one core for its thread.
//!
//! It runs with the fake driver, whose calls take almost no time, so it measures the wrapper, this crate and the recorder.
//! `cargo bench -p llm-metrics-gpu`

#[path = "../tests/support/mod.rs"]
mod support;

use std::{fs, path::Path, thread, time::Duration};

use llm_metrics_gpu::GpuCollector;
use serde_json::Value;
use support::{Fake, page};

fn main() {
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fake-nvml/profiles/h200.json");
    let mut state: Value = serde_json::from_str(&fs::read_to_string(profile).unwrap()).unwrap();
    let gpu = state["devices"][0].clone();
    let gpus = (0..8).map(|n| {
        let mut gpu = gpu.clone();
        gpu["uuid"] = format!("GPU-{n}").into();
        gpu["bus_id"] = format!("00000000:{n}3:00.0").into();
        gpu
    });
    state["devices"] = gpus.collect();
    let fake = Fake::state(&state);

    for (period, seconds) in [(Duration::from_millis(100), 10), (Duration::from_secs(1), 30)] {
        let (recorder, page) = page();
        let collector = GpuCollector::builder().recorder(recorder).library_path(fake.path()).period(period).start();
        page.until("the first tick", |page| page.value("gpu_collector_tick_seconds_count", &[]) > Some(0.0));
        let before = (sampler_cpu_ns(), ticks(&page));
        thread::sleep(Duration::from_secs(seconds));
        let after = (sampler_cpu_ns(), ticks(&page));
        let series = page.samples().len();
        drop(collector);
        let count = after.1.0 - before.1.0;
        let mean = (after.1.1 - before.1.1) / count * 1e6;
        let share = (after.0 - before.0) as f64 / (seconds as f64 * 1e9) * 100.0;
        println!(
            "8 GPUs, period {period:?}: {mean:.0} us a tick (mean of {count}), {share:.3} % of one core, {series} series"
        );
    }
}

fn ticks(page: &support::Page) -> (f64, f64) {
    let of = |suffix: &str| page.value(&format!("gpu_collector_tick_seconds_{suffix}"), &[]).unwrap();
    (of("count"), of("sum"))
}

/// Time on the CPU of the thread named `gpu-sampler`.
fn sampler_cpu_ns() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let mut samplers =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "gpu-sampler"));
    let schedstat =
        samplers.next().and_then(|task| fs::read_to_string(task.join("schedstat")).ok()).unwrap_or_default();
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}
