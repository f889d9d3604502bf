//! Every GPU metric, once: the rows that name, describe and document what the collector publishes.
//!
//! The rows are [`MetricDef`]s like those of the core crate, so that the same code prints them and binds their buckets:
//!
//! ```
//! use llm_metrics_gpu::catalog;
//!
//! let row = catalog::UTILIZATION_MAX;
//! assert_eq!(row.name, "gpu_utilization_max_ratio");
//! assert!(catalog::all().any(|other| other.name == row.name));
//! ```
//!
//! What a device does not support is absent from it, never 0.

use llm_metrics::catalog::{MetricDef, Section, Unit};

/// Seconds of one round over all devices: from microseconds on a fast driver to one that hangs.
pub const TICK_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The labels that every series of a device has.
pub const DEVICE_LABELS: [&str; 2] = ["gpu", "gpu_uuid"];

macro_rules! rows {
    ($($title:literal {
        $($(#[doc = $help:literal])+ $row:ident = $kind:ident($name:literal, $unit:ident $(, $buckets:ident)?)
            [$($label:literal),*] $(.otel($otel:literal))?;)+
    })+) => {
        $($($(#[doc = $help])+
        pub const $row: MetricDef =
            MetricDef::$kind($name, Unit::$unit, concat!($($help),+).trim_ascii() $(, $buckets)?)
                .with_labels(&[$($label),*])$(.otel($otel))?;)+)+

        /// The rows in their sections.
        pub const SECTIONS: &[Section] = &[$(Section::new($title, &[$($row),+])),+];
    };
}

rows! {
    "GPU: identity" {
        /// Always 1 while the device answers, 0 when it is gone; the labels tell what it is.
        INFO = gauge("gpu_info", Count)["gpu", "gpu_uuid", "name", "driver_version", "cuda_version", "pci_bus_id"];
        /// 1 while the device answers, 0 when it is lost. The gauges of a lost device are NaN.
        UP = gauge("gpu_up", Count)["gpu", "gpu_uuid"];
    }
    "GPU: load" {
        /// Share of time in which at least one kernel ran, the mean of the driver's samples since the last tick. It says nothing about how much of the device the kernel used.
        UTILIZATION = gauge("gpu_utilization_ratio", Ratio)["gpu", "gpu_uuid"].otel("hw.gpu.utilization");
        /// The highest of the driver's utilisation samples, held for a window (60 s by default) so that a peak between two scrapes shows.
        UTILIZATION_MAX = gauge("gpu_utilization_max_ratio", Ratio)["gpu", "gpu_uuid"];
        /// Time in which at least one kernel ran, integrated over the driver's samples. Whole seconds are published and the rest is carried: rate it over 5 minutes or more.
        BUSY = counter("gpu_busy_seconds_total", Seconds)["gpu", "gpu_uuid"];
        /// Share of time in which device memory was read or written. This is not how much memory is used.
        MEMORY_CONTROLLER = gauge("gpu_memory_controller_utilization_ratio", Ratio)["gpu", "gpu_uuid"];
        /// Share of time in which a multiprocessor had a warp assigned, averaged over all of them. Hopper and later.
        SM_ACTIVE = gauge("gpu_sm_active_ratio", Ratio)["gpu", "gpu_uuid"];
        /// Warps in flight over the warps that the multiprocessors can hold. Hopper and later.
        SM_OCCUPANCY = gauge("gpu_sm_occupancy_ratio", Ratio)["gpu", "gpu_uuid"];
        /// Share of time in which the tensor cores worked, of any kind. Hopper and later.
        TENSOR_ACTIVE = gauge("gpu_tensor_active_ratio", Ratio)["gpu", "gpu_uuid"];
        /// Share of the device memory's bandwidth that was used. Hopper and later.
        DRAM_ACTIVE = gauge("gpu_dram_active_ratio", Ratio)["gpu", "gpu_uuid"];
    }
    "GPU: memory" {
        /// Device memory that is allocated. On drivers before 510 it includes what the driver reserves.
        MEMORY_USED = gauge("gpu_memory_used_bytes", Bytes)["gpu", "gpu_uuid"].otel("hw.gpu.memory.usage");
        /// Device memory that the driver keeps for itself.
        MEMORY_RESERVED = gauge("gpu_memory_reserved_bytes", Bytes)["gpu", "gpu_uuid"];
        /// Device memory there is.
        MEMORY_TOTAL = gauge("gpu_memory_total_bytes", Bytes)["gpu", "gpu_uuid"].otel("hw.gpu.memory.limit");
        /// Device memory that processes with a compute context hold: this one, and all others. Opt-in.
        PROCESS_MEMORY = gauge("gpu_process_memory_bytes", Bytes)["gpu", "gpu_uuid", "scope"];
    }
    "GPU: power, clocks and temperature" {
        /// Power draw of the board: `instant`, `average_1s`, or `driver` where the driver tells one figure without saying which.
        POWER = gauge("gpu_power_watts", Watts)["gpu", "gpu_uuid", "reading"].otel("hw.power");
        /// Limit of the board's power draw: what is `enforced` now, the `default`, and the highest that can be set (`max`).
        POWER_LIMIT = gauge("gpu_power_limit_watts", Watts)["gpu", "gpu_uuid", "kind"];
        /// Energy that the board has used, from the driver's own count. Whole joules are published and the rest is carried.
        ENERGY = counter("gpu_energy_joules_total", Joules)["gpu", "gpu_uuid"].otel("hw.energy");
        /// Clock frequency now.
        CLOCK = gauge("gpu_clock_hertz", Hertz)["gpu", "gpu_uuid", "domain"];
        /// The highest clock frequency that the device can run at.
        CLOCK_MAX = gauge("gpu_clock_max_hertz", Hertz)["gpu", "gpu_uuid", "domain"];
        /// 1 while the clocks are held down for this reason. Reasons can hold at once; `gpu_idle` is no fault.
        CLOCK_EVENT = gauge("gpu_clock_event_active", Count)["gpu", "gpu_uuid", "reason"];
        /// Temperature of the die (`gpu`) and of the memory.
        TEMPERATURE = gauge("gpu_temperature_celsius", Celsius)["gpu", "gpu_uuid", "sensor"].otel("hw.temperature");
        /// Temperature at which the device slows down, shuts down, or is at the most that its memory or die may have.
        TEMPERATURE_LIMIT = gauge("gpu_temperature_limit_celsius", Celsius)["gpu", "gpu_uuid", "kind"];
    }
    "GPU: links" {
        /// Traffic over PCIe as the device sees it: `tx` leaves the device.
        PCIE_THROUGHPUT = gauge("gpu_pcie_bytes_per_second", BytesPerSecond)["gpu", "gpu_uuid", "direction"].otel("hw.gpu.io");
        /// PCIe transfers that had to be repeated.
        PCIE_REPLAYS = counter("gpu_pcie_replays_total", Count)["gpu", "gpu_uuid"];
        /// Generation of the PCIe link, now and at most. It falls when the device is idle.
        PCIE_GENERATION = gauge("gpu_pcie_link_generation", Count)["gpu", "gpu_uuid", "state"];
        /// Lanes of the PCIe link, now and at most.
        PCIE_WIDTH = gauge("gpu_pcie_link_width", Count)["gpu", "gpu_uuid", "state"];
        /// Data that went over NVLink, over all links, without protocol overhead.
        NVLINK = counter("gpu_nvlink_bytes_total", Bytes)["gpu", "gpu_uuid", "direction"].otel("hw.gpu.io");
    }
    "GPU: health" {
        /// Memory errors: `volatile` counts since the driver was loaded, `aggregate` over the device's life.
        ECC_ERRORS = counter("gpu_ecc_errors_total", Count)["gpu", "gpu_uuid", "severity", "counter"].otel("hw.errors");
        /// Rows of memory that were replaced by spare ones, by the kind of error that made it necessary.
        REMAPPED_ROWS = gauge("gpu_remapped_rows", Count)["gpu", "gpu_uuid", "cause"];
        /// What the driver asks for: 0 nothing, 1 reset the device, 2 reboot, 3 drain peer-to-peer, 4 drain and reset.
        RECOVERY_ACTION = gauge("gpu_recovery_action", Count)["gpu", "gpu_uuid"];
        /// Errors that the driver reported, by XID. The grave ones exist at 0 from the start; after 32 kinds on a device the rest are `other`.
        XID_ERRORS = counter("gpu_xid_errors_total", Count)["gpu", "gpu_uuid", "xid"].otel("hw.errors");
        /// When an XID was last reported.
        XID_LAST = gauge("gpu_xid_last_timestamp_seconds", UnixSeconds)["gpu", "gpu_uuid", "xid"];
    }
    "GPU: the collector itself" {
        /// 1 while the driver answers, 0 while there is none or none that works.
        COLLECTOR_UP = gauge("gpu_collector_up", Count)[];
        /// When devices were last read. A thread that is stuck in the driver cannot say so: alert on the age of this.
        LAST_SUCCESS = gauge("gpu_collector_last_success_timestamp_seconds", UnixSeconds)[];
        /// Time that one round over all devices took.
        TICK = histogram("gpu_collector_tick_seconds", Seconds, TICK_BUCKETS)[];
        /// What went wrong while collecting, by kind.
        ERRORS = counter("gpu_collector_errors_total", Count)["kind"];
        /// How often the driver's library was opened again after it had worked once.
        REINITS = counter("gpu_collector_reinits_total", Count)[];
    }
}

/// Every row of this crate's catalogue.
pub fn all() -> impl Iterator<Item = &'static MetricDef> {
    SECTIONS.iter().flat_map(|section| section.metrics)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use llm_metrics::catalog::{Kind, buckets};

    use super::*;

    #[test]
    fn every_row_keeps_the_rules() {
        for row in all() {
            let suffix = match row.unit {
                Unit::Seconds => "_seconds",
                Unit::UnixSeconds => "_timestamp_seconds",
                Unit::Ratio => "_ratio",
                Unit::Bytes => "_bytes",
                Unit::BytesPerSecond => "_bytes_per_second",
                Unit::Watts => "_watts",
                Unit::Joules => "_joules",
                Unit::Hertz => "_hertz",
                Unit::Celsius => "_celsius",
                _ => "",
            };
            let stem = row.name.strip_suffix("_total").unwrap_or(row.name);
            assert!(stem.ends_with(suffix), "{} lacks its unit", row.name);
            assert_eq!(row.kind == Kind::Counter, row.name.ends_with("_total"), "{}", row.name);
            assert_eq!(row.kind == Kind::Histogram, buckets::validate(row.buckets).is_ok(), "{}", row.name);
            assert!(row.name.starts_with("gpu_") && row.help.ends_with('.'), "{}", row.name);
            let of_device = row.labels.starts_with(&DEVICE_LABELS);
            assert_ne!(of_device, row.name.starts_with("gpu_collector_"), "{}", row.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = all().map(|row| row.name).collect();
        assert_eq!(names.len(), all().count());
    }
}
