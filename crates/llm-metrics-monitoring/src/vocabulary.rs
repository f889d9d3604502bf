//! Labels that are not in the core's list: what a scrape adds, and the closed sets of the GPU's.

use llm_metrics::catalog::MetricDef;

/// The job that a target was scraped for.
pub const JOB: &str = "job";
/// The host and port that a target was scraped at.
pub const INSTANCE: &str = "instance";
/// The index of a GPU.
pub const GPU: &str = "gpu";
/// What identifies a GPU for good.
pub const GPU_UUID: &str = "gpu_uuid";

/// The labels that every scraped series has.
pub const TARGET_LABELS: [&str; 2] = [JOB, INSTANCE];

/// Values of the GPU's labels: (beginning of the metric's name, label, values).
const GPU_LABELS: &[(&str, &str, &[&str])] = &[
    ("gpu_power_watts", "reading", &["instant", "average_1s", "driver"]),
    ("gpu_power_limit_watts", "kind", &["enforced", "default", "max"]),
    ("gpu_clock_", "domain", &["sm", "memory"]),
    (
        "gpu_clock_event_active",
        "reason",
        &[
            "applications_clocks_setting",
            "display_clock_setting",
            "gpu_idle",
            "hw_power_brake_slowdown",
            "hw_slowdown",
            "hw_thermal_slowdown",
            "sw_power_cap",
            "sw_thermal_slowdown",
            "sync_boost",
        ],
    ),
    ("gpu_temperature_celsius", "sensor", &["gpu", "memory"]),
    ("gpu_temperature_limit_celsius", "kind", &["slowdown", "shutdown", "gpu_max", "mem_max"]),
    ("gpu_pcie_bytes_per_second", "direction", &["rx", "tx"]),
    ("gpu_nvlink_bytes_total", "direction", &["rx", "tx"]),
    ("gpu_pcie_link_", "state", &["current", "max"]),
    ("gpu_ecc_errors_total", "severity", &["corrected", "uncorrected"]),
    ("gpu_ecc_errors_total", "counter", &["volatile", "aggregate"]),
    ("gpu_remapped_rows", "cause", &["correctable", "uncorrectable", "pending", "failure"]),
    ("gpu_process_memory_bytes", "scope", &["self", "other"]),
    (
        "gpu_collector_errors_total",
        "kind",
        &["call_failed", "gpu_lost", "no_driver", "out_of_range", "permission", "slow_tick", "version_mismatch"],
    ),
];

/// Every value that the label of a GPU metric can have; `None` where the set is open.
pub(crate) fn gpu_values(row: &MetricDef, label: &str) -> Option<&'static [&'static str]> {
    let rule = GPU_LABELS.iter().find(|(name, known, _)| row.name.starts_with(name) && *known == label);
    rule.map(|(.., values)| *values)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// What the collector publishes for the devices that it is tested with.
    #[test]
    fn the_values_of_the_gpus_labels_are_those_that_the_collector_publishes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../llm-metrics-gpu/tests/golden");
        let mut checked = 0;
        for page in fs::read_dir(folder).unwrap() {
            let page = fs::read_to_string(page.unwrap().path()).unwrap();
            for line in page.lines().filter(|line| !line.starts_with('#')) {
                let Some((name, rest)) = line.split_once('{') else { continue };
                let Some(row) = llm_metrics_gpu::catalog::all().find(|row| row.name == name) else { continue };
                for pair in rest.split('}').next().unwrap().split(',') {
                    let (label, value) = pair.split_once('=').unwrap();
                    if let Some(values) = gpu_values(row, label) {
                        assert!(values.contains(&value.trim_matches('"')), "{line}");
                        checked += 1;
                    }
                }
            }
        }
        assert!(checked > 100);
    }
}
