//! Every GPU metric, once: the rows from which names, HELP and documentation are made.
//!
//! The rows are [`MetricDef`](llm_metrics::catalog::MetricDef)s like those of the core crate, so the same code describes them and sets their buckets:
//!
//! ```
//! use llm_metrics_gpu::catalog;
//!
//! let row = catalog::UTILIZATION_MAX;
//! assert_eq!(row.name, "gpu_utilization_max_ratio");
//! assert!(catalog::all().any(|other| other.name == row.name));
//! ```
//!
//! Metrics that a device does not support are absent, never 0.

pub mod labels;

use labels::*;

/// Seconds to read all devices once: from microseconds on a fast driver to a driver that hangs.
pub const TICK_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// XIDs that, according to [NVIDIA's catalogue][1], require a reset of the device, a restart of the machine or support. If they can be detected,
/// their series exist at 0 from the start, so that the first one is visible as an increase.
///
/// [1]: https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html
pub const CRITICAL_XIDS: [u64; 19] =
    [46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 150, 151, 155, 156, 158];

/// XIDs that NVML does not deliver ([NVIDIA/DCGM#162](https://github.com/NVIDIA/DCGM/issues/162)): they are only in the kernel log.
pub const KERNEL_LOG_XIDS: [u64; 3] = [79, 119, 120];

/// XIDs after which a device does not answer, or needs tens of seconds to fail: it fell off the bus, or its firmware hangs.
pub(crate) const LOST_BY_XIDS: [u64; 3] = KERNEL_LOG_XIDS;

llm_metrics::catalogue! {
    "GPU: identity" {
        /// 1 while the device answers, 0 after it is gone; the labels identify the device.
        INFO = gauge("gpu_info", Count)[GPU, GPU_UUID, NAME, DRIVER_VERSION, CUDA_VERSION, PCI_BUS_ID];
        /// 1 while the device answers, 0 when it is lost, NaN while the collector is paused. The gauges of a lost device are NaN.
        UP = gauge("gpu_up", Count)[GPU, GPU_UUID];
    }
    "GPU: load" {
        /// Share of time in which at least one kernel ran: the mean of the driver's samples since the last tick. It does not show how much of the device the kernel used.
        UTILIZATION = gauge("gpu_utilization_ratio", Ratio)[GPU, GPU_UUID];
        /// Maximum of the driver's utilisation samples over a window (60 s by default), so that peaks between two scrapes are visible.
        UTILIZATION_MAX = gauge("gpu_utilization_max_ratio", Ratio)[GPU, GPU_UUID];
        /// Time in which at least one kernel ran, integrated over the driver's samples. Published in whole seconds, the remainder is carried over: use rates over 5 minutes or more.
        BUSY = counter("gpu_busy_seconds_total", Seconds)[GPU, GPU_UUID];
        /// Share of time in which the graphics or compute engine was busy. Hopper and later.
        ENGINE_ACTIVE = gauge("gpu_engine_active_ratio", Ratio)[GPU, GPU_UUID];
        /// Share of time in which the video encoder was busy, over a period that the driver chooses.
        ENCODER = gauge("gpu_encoder_utilization_ratio", Ratio)[GPU, GPU_UUID];
        /// Share of time in which the video decoder was busy, over a period that the driver chooses.
        DECODER = gauge("gpu_decoder_utilization_ratio", Ratio)[GPU, GPU_UUID];
        /// Share of time in which device memory was read or written. It does not show how much memory is in use.
        MEMORY_CONTROLLER = gauge("gpu_memory_controller_utilization_ratio", Ratio)[GPU, GPU_UUID];
        /// Share of time in which a multiprocessor had a warp assigned, averaged over all of them. Hopper and later.
        SM_ACTIVE = gauge("gpu_sm_active_ratio", Ratio)[GPU, GPU_UUID];
        /// Resident warps divided by the maximum number of resident warps. Hopper and later.
        SM_OCCUPANCY = gauge("gpu_sm_occupancy_ratio", Ratio)[GPU, GPU_UUID];
        /// Share of time in which tensor cores of any kind were busy. Hopper and later.
        TENSOR_ACTIVE = gauge("gpu_tensor_active_ratio", Ratio)[GPU, GPU_UUID];
        /// Share of the device memory bandwidth in use. Hopper and later.
        DRAM_ACTIVE = gauge("gpu_dram_active_ratio", Ratio)[GPU, GPU_UUID];
    }
    "GPU: memory" {
        /// Allocated device memory. Before driver 510 it includes the memory that the driver reserves.
        MEMORY_USED = gauge("gpu_memory_used_bytes", Bytes)[GPU, GPU_UUID];
        /// Device memory reserved by the driver.
        MEMORY_RESERVED = gauge("gpu_memory_reserved_bytes", Bytes)[GPU, GPU_UUID];
        /// Total device memory.
        MEMORY_TOTAL = gauge("gpu_memory_total_bytes", Bytes)[GPU, GPU_UUID];
        /// System memory in use as device memory: where an APU holds most of a model.
        SYSTEM_MEMORY_USED = gauge("gpu_system_memory_used_bytes", Bytes)[GPU, GPU_UUID];
        /// System memory that can be used as device memory.
        SYSTEM_MEMORY_TOTAL = gauge("gpu_system_memory_total_bytes", Bytes)[GPU, GPU_UUID];
        /// Device memory held by processes with a compute context, including MPS clients: this process (`self`) and all others (`other`). Opt-in.
        PROCESS_MEMORY = gauge("gpu_process_memory_bytes", Bytes)[GPU, GPU_UUID, SCOPE];
    }
    "GPU: power, clocks and temperature" {
        /// Power draw of the board: `instant`, `average_1s`, or `driver` if the driver reports one value without saying which.
        POWER = gauge("gpu_power_watts", Watts)[GPU, GPU_UUID, READING];
        /// Power limit of the board: currently `enforced`, `default`, and the highest that can be set (`max`).
        POWER_LIMIT = gauge("gpu_power_limit_watts", Watts)[GPU, GPU_UUID, POWER_LIMIT_KIND];
        /// Energy used by the board, from the driver's counter. Published in whole joules, the remainder is carried over.
        ENERGY = counter("gpu_energy_joules_total", Joules)[GPU, GPU_UUID];
        /// Current clock frequency.
        CLOCK = gauge("gpu_clock_hertz", Hertz)[GPU, GPU_UUID, DOMAIN];
        /// Maximum clock frequency of the device.
        CLOCK_MAX = gauge("gpu_clock_max_hertz", Hertz)[GPU, GPU_UUID, DOMAIN];
        /// 1 while the clocks are reduced for this reason, otherwise 0. Several reasons can be active at once; `gpu_idle` is not a fault.
        CLOCK_EVENT = gauge("gpu_clock_event_active", Count)[GPU, GPU_UUID, CLOCK_EVENT_REASON];
        /// Time in which the clocks were reduced for this reason, from the driver's counter. Published in whole seconds.
        CLOCK_EVENT_SECONDS = counter("gpu_clock_event_seconds_total", Seconds)[GPU, GPU_UUID, COUNTED_CLOCK_EVENT_REASON];
        /// Temperature of the die (`gpu`), of its hottest spot if reported (`junction`), and of the memory (`memory`).
        TEMPERATURE = gauge("gpu_temperature_celsius", Celsius)[GPU, GPU_UUID, SENSOR];
        /// Temperature at which the device slows down or shuts down, and the maximum operating temperatures of its die and memory.
        TEMPERATURE_LIMIT = gauge("gpu_temperature_limit_celsius", Celsius)[GPU, GPU_UUID, TEMPERATURE_LIMIT_KIND];
    }
    "GPU: links" {
        /// PCIe throughput as seen by the device: `tx` is sent by the device.
        PCIE_THROUGHPUT = gauge("gpu_pcie_bytes_per_second", BytesPerSecond)[GPU, GPU_UUID, DIRECTION];
        /// PCIe replays (retransmissions).
        PCIE_REPLAYS = counter("gpu_pcie_replays_total", Count)[GPU, GPU_UUID];
        /// PCIe link generation, `current` and `max`. It drops while the device is idle.
        PCIE_GENERATION = gauge("gpu_pcie_link_generation", Count)[GPU, GPU_UUID, LINK_STATE];
        /// PCIe link width in lanes, `current` and `max`.
        PCIE_WIDTH = gauge("gpu_pcie_link_width", Count)[GPU, GPU_UUID, LINK_STATE];
        /// Data sent and received over all NVLinks, without protocol overhead.
        NVLINK = counter("gpu_nvlink_bytes_total", Bytes)[GPU, GPU_UUID, DIRECTION];
        /// NVLink errors over all links, by kind. Not reported by Blackwell and later.
        NVLINK_ERRORS = counter("gpu_nvlink_errors_total", Count)[GPU, GPU_UUID, NVLINK_ERROR];
    }
    "GPU: health" {
        /// ECC memory errors: `volatile` since the driver was loaded, `aggregate` over the lifetime of the device.
        ECC_ERRORS = counter("gpu_ecc_errors_total", Count)[GPU, GPU_UUID, SEVERITY, COUNTER];
        /// Memory rows that were remapped to spare rows, by the kind of error that caused it.
        REMAPPED_ROWS = gauge("gpu_remapped_rows", Count)[GPU, GPU_UUID, CAUSE];
        /// 1 while memory rows wait to be remapped, which needs a reset of the device; otherwise 0.
        ROW_REMAP_PENDING = gauge("gpu_row_remap_pending", Count)[GPU, GPU_UUID];
        /// 1 if a memory row could not be remapped, so that the device has to be replaced; otherwise 0.
        ROW_REMAP_FAILED = gauge("gpu_row_remap_failed", Count)[GPU, GPU_UUID];
        /// Recovery action that the driver recommends: 0 none, 1 reset the device, 2 reboot, 3 drain peer-to-peer, 4 drain and reset, 5 recover the IMEX domain.
        RECOVERY_ACTION = gauge("gpu_recovery_action", Count)[GPU, GPU_UUID];
        /// Errors reported by the driver, by XID. Series of critical XIDs start at 0, except 79, 119 and 120 if the kernel log cannot be read. Beyond 32 XIDs per device, `other`.
        XID_ERRORS = counter("gpu_xid_errors_total", Count)[GPU, GPU_UUID, XID];
        /// Time at which an XID was last reported.
        XID_LAST = gauge("gpu_xid_last_timestamp_seconds", UnixSeconds)[GPU, GPU_UUID, XID];
    }
    "GPU: the collector itself" {
        /// 1 while the driver answers, 0 if there is no working driver, if all devices are missing, or while the collector is paused.
        COLLECTOR_UP = gauge("gpu_collector_up", Count)[];
        /// Devices by state: `found` devices are monitored, `missing` ones do not answer, `denied` ones cannot be read by this process for lack of permission.
        DEVICES = gauge("gpu_devices", Count)[DEVICE_STATE];
        /// Time at which devices were last read; NaN while the collector is paused. Alert on its age: a collector that is stuck in a driver call cannot report that.
        LAST_SUCCESS = gauge("gpu_collector_last_success_timestamp_seconds", UnixSeconds)[];
        /// Duration of one tick: reading all devices once.
        TICK = histogram("gpu_collector_tick_seconds", Seconds, TICK_BUCKETS)[];
        /// Errors while collecting, by kind.
        ERRORS = counter("gpu_collector_errors_total", Count)[ERROR_KIND];
        /// Times that the driver library was reopened after it had worked.
        REINITS = counter("gpu_collector_reinits_total", Count)[];
    }
}

#[cfg(test)]
mod tests {
    use llm_metrics::catalog::lint;

    use super::*;

    #[test]
    fn every_row_follows_the_rules() {
        assert_eq!(lint(SECTIONS), []);
        for row in all() {
            assert!(row.name.starts_with("gpu_") && row.help.ends_with('.'), "{}", row.name);
            let of_device = row.labels.starts_with(&DEVICE);
            let of_collector = row.name.starts_with("gpu_collector_") || row.name == DEVICES.name;
            assert_ne!(of_device, of_collector, "{}", row.name);
        }
    }

    #[test]
    fn xids_that_only_the_kernel_log_has_are_critical() {
        assert!(KERNEL_LOG_XIDS.iter().all(|xid| CRITICAL_XIDS.contains(xid)));
    }

    #[test]
    fn reasons_whose_time_is_counted_are_also_reasons_of_the_gauge() {
        let reasons = COUNTED_CLOCK_EVENT_REASON.values;
        assert!(reasons.iter().all(|reason| CLOCK_EVENT_REASON.allows(reason)), "{reasons:?}");
    }
}
