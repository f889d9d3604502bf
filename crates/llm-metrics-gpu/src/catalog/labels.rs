//! The labels of the catalogue, each with its values. A name has several constants where its values depend on the metric.

use llm_metrics::catalog::LabelDef;

use crate::source::ErrorKind;

/// The labels that every series of a device has.
pub const DEVICE: [LabelDef; 2] = [GPU, GPU_UUID];

/// The states that devices are counted by.
pub(crate) const DEVICE_STATES: [&str; 3] = ["found", "missing", "denied"];

llm_metrics::labels! {
    /// The driver's index of the GPU (AMD: the number of `cardN`). It may change at a reboot, and is not CUDA's index.
    GPU = "gpu";
    /// The UUID of the GPU, as in CUDA and `nvidia-smi`. It never changes.
    GPU_UUID = "gpu_uuid";
    /// The model of the GPU.
    NAME = "name";
    /// The version of the driver.
    DRIVER_VERSION = "driver_version";
    /// The CUDA version of the driver.
    CUDA_VERSION = "cuda_version";
    /// The PCI address of the GPU.
    PCI_BUS_ID = "pci_bus_id";
    /// The processes that hold the memory: this process (`self`), and all others.
    SCOPE = "scope": &["self", "other"];
    /// What the value is, a measurement at one time or a mean: `driver` if the driver does not say.
    READING = "reading": &["instant", "average_1s", "driver"];
    /// The limit: the current one, the one after a reset, and the highest that can be set.
    POWER_LIMIT_KIND = "kind": &["enforced", "default", "max"];
    /// The clock of the multiprocessors, or that of the memory.
    DOMAIN = "domain": &["sm", "memory"];
    /// Why the clocks are reduced.
    CLOCK_EVENT_REASON = "reason": &[
        "gpu_idle",
        "applications_clocks_setting",
        "sw_power_cap",
        "hw_slowdown",
        "sync_boost",
        "sw_thermal_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
        "display_clock_setting",
    ];
    /// Why the clocks were reduced: the reasons whose time the driver counts.
    COUNTED_CLOCK_EVENT_REASON = "reason": &[
        "sw_power_cap",
        "sync_boost",
        "sw_thermal_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
    ];
    /// The sensor; `junction` (the hottest spot of the die) on AMD only.
    SENSOR = "sensor": &["gpu", "junction", "memory"];
    /// What happens at this temperature.
    TEMPERATURE_LIMIT_KIND = "kind": &["slowdown", "shutdown", "gpu_max", "junction_max", "mem_max"];
    /// `tx` leaves the GPU, `rx` reaches it.
    DIRECTION = "direction": &["rx", "tx"];
    /// The link now, and the fastest that GPU and slot allow.
    LINK_STATE = "state": &["current", "max"];
    /// The kind of NVLink error.
    NVLINK_ERROR = "error": &["crc_flit", "crc_data", "replay", "recovery"];
    /// Whether the error was corrected.
    SEVERITY = "severity": &["corrected", "uncorrected"];
    /// The period of the driver's counter: since the driver was loaded, or since the device was made.
    COUNTER = "counter": &["volatile", "aggregate"];
    /// The kind of memory error that caused the remapping.
    CAUSE = "cause": &["correctable", "uncorrectable"];
    /// The number of the XID; `other` after 32 different XIDs on a GPU.
    XID = "xid";
    /// Whether devices are monitored, do not answer, or cannot be read by this process.
    DEVICE_STATE = "state": &DEVICE_STATES;
    /// No driver; its library and its kernel module differ; no permission; a device was lost; a call failed; a value was implausible; a tick took longer than a second.
    ERROR_KIND = "kind": ErrorKind::WORDS;
}
