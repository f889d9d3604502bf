//! Fields of NVML: several facts in one call, by number.

use super::raw::{FieldNumber, FieldRequest};
use crate::{
    catalog,
    source::{ErrorKind, Readings, Series},
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
    Field { request: FieldRequest { id, scope: 0 }, series, publish: Publish::Gauge { scale } }
}

const fn count(id: u32, scope: u32, series: Series, times: u64, per_unit: u64) -> Field {
    Field { request: FieldRequest { id, scope }, series, publish: Publish::Count { times, per_unit } }
}

const ALL_LINKS: u32 = u32::MAX;

/// `NVML_FI_DEV_POWER_*`, in milliwatts.
pub(super) const FAST_FIELDS: [Field; 2] = [
    gauge(186, Series::new(&catalog::POWER, &[("reading", "instant")]), 0.001),
    gauge(185, Series::new(&catalog::POWER, &[("reading", "average_1s")]), 0.001),
];

/// By the ids of `nvml.h`: memory temperature, energy (mJ), PCIe replays, remapped rows, recovery action, ECC, NVLink (KiB).
pub(super) const SLOW_FIELDS: [Field; 12] = [
    gauge(82, Series::new(&catalog::TEMPERATURE, &[("sensor", "memory")]), 1.0),
    count(83, 0, Series::new(&catalog::ENERGY, &[]), 1, 1000),
    count(94, 0, Series::new(&catalog::PCIE_REPLAYS, &[]), 1, 1),
    gauge(142, Series::new(&catalog::REMAPPED_ROWS, &[("cause", "correctable")]), 1.0),
    gauge(143, Series::new(&catalog::REMAPPED_ROWS, &[("cause", "uncorrectable")]), 1.0),
    gauge(230, Series::new(&catalog::RECOVERY_ACTION, &[]), 1.0),
    count(3, 0, Series::new(&catalog::ECC_ERRORS, &[("severity", "corrected"), ("counter", "volatile")]), 1, 1),
    count(4, 0, Series::new(&catalog::ECC_ERRORS, &[("severity", "uncorrected"), ("counter", "volatile")]), 1, 1),
    count(5, 0, Series::new(&catalog::ECC_ERRORS, &[("severity", "corrected"), ("counter", "aggregate")]), 1, 1),
    count(6, 0, Series::new(&catalog::ECC_ERRORS, &[("severity", "uncorrected"), ("counter", "aggregate")]), 1, 1),
    count(138, ALL_LINKS, Series::new(&catalog::NVLINK, &[("direction", "tx")]), 1024, 1),
    count(139, ALL_LINKS, Series::new(&catalog::NVLINK, &[("direction", "rx")]), 1024, 1),
];

impl Field {
    /// Reports what the driver answered.
    pub(super) fn publish(&self, value: FieldNumber, out: &mut Readings) {
        match (self.publish, value) {
            (Publish::Gauge { scale }, FieldNumber::Integer(value)) => {
                out.gauge(self.series, scaled(value as f64, scale))
            }
            (Publish::Gauge { scale }, FieldNumber::Float(value)) => out.gauge(self.series, scaled(value, scale)),
            (Publish::Count { times, per_unit }, FieldNumber::Integer(value)) => {
                out.count(self.series, value.saturating_mul(times), per_unit);
            }
            // No counter of NVML's is a float: whatever this is, it is no count.
            (Publish::Count { .. }, FieldNumber::Float(_)) => out.failed(ErrorKind::OutOfRange),
        }
    }
}

/// Divides where that is exact: 626,260 mW are 626.26 W, not 626.2600000000001.
pub(super) fn scaled(value: f64, scale: f64) -> f64 {
    if scale < 1.0 { value / (1.0 / scale).round() } else { value * scale }
}
