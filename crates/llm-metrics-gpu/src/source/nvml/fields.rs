//! Fields of NVML: several values in one call, by number.

use nvml_wrapper_sys::bindings::field_id as fi;

use super::raw::{FieldRequest, Width};
use crate::{
    catalog,
    source::{Readings, Series},
};

/// How a field is published.
#[derive(Clone, Copy)]
enum Publish {
    Gauge { scale: f64 },
    Count { times: u64, per_unit: u64 },
}

/// A field, what it is published as, and how.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) request: FieldRequest,
    series: Series,
    publish: Publish,
}

const fn gauge(id: u32, series: Series, scale: f64) -> Field {
    let request = FieldRequest { id, scope: 0, width: Width::Bits32 };
    Field { request, series, publish: Publish::Gauge { scale } }
}

const fn count(id: u32, series: Series) -> Field {
    scaled_count(id, 0, series, 1, 1)
}

const fn scaled_count(id: u32, scope: u32, series: Series, times: u64, per_unit: u64) -> Field {
    let request = FieldRequest { id, scope, width: Width::Bits64 };
    Field { request, series, publish: Publish::Count { times, per_unit } }
}

const fn ecc(id: u32, labels: &'static [(&'static str, &'static str)]) -> Field {
    count(id, Series::new(&catalog::ECC_ERRORS, labels))
}

/// In nanoseconds, as in `nvml.h` and DCGM.
const fn throttled(id: u32, reason: &'static [(&'static str, &'static str)]) -> Field {
    scaled_count(id, 0, Series::new(&catalog::CLOCK_EVENT_SECONDS, reason), 1, 1_000_000_000)
}

const fn nvlink_error(id: u32, error: &'static [(&'static str, &'static str)]) -> Field {
    count(id, Series::new(&catalog::NVLINK_ERRORS, error))
}

/// In KiB.
const fn nvlink(id: u32, direction: &'static [(&'static str, &'static str)]) -> Field {
    scaled_count(id, ALL_LINKS, Series::new(&catalog::NVLINK, direction), 1024, 1)
}

const ALL_LINKS: u32 = u32::MAX;

/// In milliwatts.
pub(super) const FAST_FIELDS: [Field; 2] = [
    gauge(fi::NVML_FI_DEV_POWER_INSTANT, Series::new(&catalog::POWER, &[("reading", "instant")]), 0.001),
    gauge(fi::NVML_FI_DEV_POWER_AVERAGE, Series::new(&catalog::POWER, &[("reading", "average_1s")]), 0.001),
];

pub(super) const SLOW_FIELDS: [Field; 23] = [
    gauge(fi::NVML_FI_DEV_MEMORY_TEMP, Series::new(&catalog::TEMPERATURE, &[("sensor", "memory")]), 1.0),
    scaled_count(fi::NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, 0, Series::new(&catalog::ENERGY, &[]), 1, 1000),
    count(fi::NVML_FI_DEV_PCIE_REPLAY_COUNTER, Series::new(&catalog::PCIE_REPLAYS, &[])),
    gauge(fi::NVML_FI_DEV_REMAPPED_COR, Series::new(&catalog::REMAPPED_ROWS, &[("cause", "correctable")]), 1.0),
    gauge(fi::NVML_FI_DEV_REMAPPED_UNC, Series::new(&catalog::REMAPPED_ROWS, &[("cause", "uncorrectable")]), 1.0),
    gauge(fi::NVML_FI_DEV_REMAPPED_PENDING, Series::new(&catalog::ROW_REMAP_PENDING, &[]), 1.0),
    gauge(fi::NVML_FI_DEV_REMAPPED_FAILURE, Series::new(&catalog::ROW_REMAP_FAILED, &[]), 1.0),
    gauge(fi::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, Series::new(&catalog::RECOVERY_ACTION, &[]), 1.0),
    ecc(fi::NVML_FI_DEV_ECC_SBE_VOL_TOTAL, &[("severity", "corrected"), ("counter", "volatile")]),
    ecc(fi::NVML_FI_DEV_ECC_DBE_VOL_TOTAL, &[("severity", "uncorrected"), ("counter", "volatile")]),
    ecc(fi::NVML_FI_DEV_ECC_SBE_AGG_TOTAL, &[("severity", "corrected"), ("counter", "aggregate")]),
    ecc(fi::NVML_FI_DEV_ECC_DBE_AGG_TOTAL, &[("severity", "uncorrected"), ("counter", "aggregate")]),
    throttled(fi::NVML_FI_DEV_PERF_POLICY_POWER, &[("reason", "sw_power_cap")]),
    throttled(fi::NVML_FI_DEV_PERF_POLICY_SYNC_BOOST, &[("reason", "sync_boost")]),
    throttled(SW_THERMAL_SLOWDOWN, &[("reason", "sw_thermal_slowdown")]),
    throttled(HW_THERMAL_SLOWDOWN, &[("reason", "hw_thermal_slowdown")]),
    throttled(HW_POWER_BRAKE, &[("reason", "hw_power_brake_slowdown")]),
    nvlink(fi::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, &[("direction", "tx")]),
    nvlink(fi::NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, &[("direction", "rx")]),
    nvlink_error(fi::NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, &[("error", "crc_flit")]),
    nvlink_error(fi::NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL, &[("error", "crc_data")]),
    nvlink_error(fi::NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, &[("error", "replay")]),
    nvlink_error(fi::NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, &[("error", "recovery")]),
];

/// `NVML_FI_DEV_CLOCKS_EVENT_REASON_…`, in the numbering of CUDA 12, which [`raw`](super::raw) translates.
const SW_THERMAL_SLOWDOWN: u32 = 251;
const HW_THERMAL_SLOWDOWN: u32 = 252;
const HW_POWER_BRAKE: u32 = 253;

impl Field {
    /// Reports the driver's values.
    pub(super) fn publish(&self, value: u64, out: &mut Readings) {
        match self.publish {
            Publish::Gauge { scale } => out.gauge(self.series, scaled(value as f64, scale)),
            Publish::Count { times, per_unit } => out.count(self.series, value.saturating_mul(times), per_unit),
        }
    }
}

/// Divides if that is exact: 626,260 mW are 626.26 W, not 626.2600000000001.
pub(super) fn scaled(value: f64, scale: f64) -> f64 {
    if scale < 1.0 { value / (1.0 / scale).round() } else { value * scale }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_search_of_the_documentation_finds_each_field_by_its_name() {
        let rows = include_str!("fields.rs").split("#[cfg(test)]").next().unwrap();
        let names: Vec<_> = rows
            .split("fi::NVML_")
            .skip(1)
            .map(|rest| rest.split(',').next().unwrap())
            .map(|name| format!("NVML_{name}"))
            .collect();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            assert!(include_str!("mod.rs").contains(&format!("#[doc(alias = \"{name}\")]")), "{name}");
        }
    }
}
