//! The collector's values, and whether `nvidia-smi` agrees with them.

use std::{ffi::OsStr, process::Command, thread, time::Duration};

use llm_metrics::{catalog::Naming, prometheus::Exporter};
use llm_metrics_gpu::{GpuCollector, catalog};

/// The name in `nvidia-smi`, the series, the factor from its unit to ours, and the largest allowed difference.
const SAME: &[(&str, &str, &str, f64, f64)] = &[
    ("memory.total", "gpu_memory_total_bytes", "", 1.0 / 1_048_576.0, 1.0),
    ("memory.used", "gpu_memory_used_bytes", "", 1.0 / 1_048_576.0, 64.0),
    ("memory.reserved", "gpu_memory_reserved_bytes", "", 1.0 / 1_048_576.0, 1.0),
    ("temperature.gpu", "gpu_temperature_celsius", "sensor=\"gpu\"", 1.0, 3.0),
    ("temperature.memory", "gpu_temperature_celsius", "sensor=\"memory\"", 1.0, 3.0),
    ("power.draw.instant", "gpu_power_watts", "reading=\"instant\"", 1.0, 60.0),
    ("power.draw.average", "gpu_power_watts", "reading=\"average_1s\"", 1.0, 40.0),
    ("enforced.power.limit", "gpu_power_limit_watts", "kind=\"enforced\"", 1.0, 0.1),
    ("power.max_limit", "gpu_power_limit_watts", "kind=\"max\"", 1.0, 0.1),
    ("clocks.sm", "gpu_clock_hertz", "domain=\"sm\"", 1e-6, 200.0),
    ("clocks.mem", "gpu_clock_hertz", "domain=\"memory\"", 1e-6, 1.0),
    ("clocks.max.sm", "gpu_clock_max_hertz", "domain=\"sm\"", 1e-6, 0.1),
    ("utilization.gpu", "gpu_utilization_ratio", "", 100.0, 30.0),
    ("utilization.memory", "gpu_memory_controller_utilization_ratio", "", 100.0, 30.0),
    ("pcie.link.gen.current", "gpu_pcie_link_generation", "state=\"current\"", 1.0, 0.0),
    ("pcie.link.width.current", "gpu_pcie_link_width", "state=\"current\"", 1.0, 0.0),
    (
        "ecc.errors.corrected.aggregate.total",
        "gpu_ecc_errors_total",
        "severity=\"corrected\",counter=\"aggregate\"",
        1.0,
        0.0,
    ),
    (
        "ecc.errors.uncorrected.volatile.total",
        "gpu_ecc_errors_total",
        "severity=\"uncorrected\",counter=\"volatile\"",
        1.0,
        0.0,
    ),
];

pub(crate) fn report(library: &OsStr) {
    println!("\n## The collector, five seconds at its defaults\n");
    let built = Exporter::builder().process_metrics(false).catalogue(catalog::SECTIONS, Naming::new()).build();
    let Ok((recorder, exporter)) = built else {
        println!("no exporter could be set up");
        return;
    };
    let collector = GpuCollector::builder().library_path(library).process_memory(true).recorder(recorder).start();
    thread::sleep(Duration::from_millis(5500));
    let page = exporter.render();
    let smi = nvidia_smi();
    drop(collector);
    println!("```text");
    page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).for_each(|line| println!("{line}"));
    println!("```\n\n## Against nvidia-smi\n");
    let Some(rows) = smi else {
        println!("`nvidia-smi` could not be run here");
        return;
    };
    println!("| GPU | nvidia-smi | says | we say | |\n| --- | --- | ---: | ---: | --- |");
    for row in rows {
        let mut cells = row.into_iter();
        let uuid = cells.next().unwrap_or_default();
        for ((query, name, labels, scale, apart), cell) in SAME.iter().zip(cells) {
            let ours = page.lines().find(|line| {
                line.starts_with(name) && line.contains(&uuid) && labels.split(',').all(|label| line.contains(label))
            });
            let ours = ours.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).map(|value| value * scale);
            let verdict = match (cell.parse::<f64>().ok(), ours) {
                (Some(theirs), Some(ours)) if (theirs - ours).abs() <= *apart => "agrees",
                (None, None) => "both have none",
                _ => "**differs**",
            };
            let ours = ours.map_or_else(|| String::from("nothing"), |value| format!("{value:.2}"));
            println!("| {uuid} | {query} | {cell} | {ours} | {verdict} |");
        }
    }
}

/// One row per GPU: its UUID, then the values in the order of [`SAME`].
fn nvidia_smi() -> Option<Vec<Vec<String>>> {
    let mut query = String::from("--query-gpu=uuid");
    SAME.iter().for_each(|(name, ..)| {
        query.push(',');
        query.push_str(name);
    });
    let output = Command::new("nvidia-smi").args([query.as_str(), "--format=csv,noheader,nounits"]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output
        .status
        .success()
        .then(|| text.lines().map(|line| line.split(',').map(|cell| cell.trim().to_owned()).collect()).collect())
}
