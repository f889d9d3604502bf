//! GPM: the activity of multiprocessors, tensor cores and memory between two samples. Hopper and later.

use std::time::{Duration, Instant};

use nvml_wrapper::{Device, GpmSample, enums::gpm::GpmMetricId, error::NvmlError, gpm::gpm_metrics_get};

use super::raw;
use crate::{
    catalog,
    source::{Readings, Series},
};

/// Values of samples that are closer together are invalid.
const APART: Duration = Duration::from_millis(100);
/// `nvml.h` gives PCIe throughput in MiB per second.
const MIB: f64 = 1_048_576.0;

/// The metrics; the first one also replaces utilisation if the driver has none.
const METRICS: [GpmMetricId; 7] = [
    GpmMetricId::GraphicsUtil,
    GpmMetricId::SmUtil,
    GpmMetricId::SmOccupancy,
    GpmMetricId::AnyTensorUtil,
    GpmMetricId::DramBwUtil,
    GpmMetricId::PcieTxPerSec,
    GpmMetricId::PcieRxPerSec,
];

/// The two samples of a device, and their values.
pub(super) struct Gpm<'nvml> {
    /// The sample, and the latest time at which the driver has taken it.
    earlier: Option<(GpmSample<'nvml>, Instant)>,
    spare: Option<GpmSample<'nvml>>,
    values: Vec<(GpmMetricId, f64)>,
}

impl<'nvml> Gpm<'nvml> {
    /// `None` if the device has no GPM.
    pub(super) fn of(device: &Device<'nvml>) -> Option<Self> {
        let usable = raw::has_gpm(device.nvml()) && device.gpm_support().unwrap_or(false);
        usable.then(|| Self { earlier: None, spare: None, values: Vec::new() })
    }

    /// Takes a sample and compares it with the previous one. The time of the tick is not used, because earlier reads may take long in one tick and
    /// not in the next.
    pub(super) fn sample(&mut self, device: &Device<'nvml>, clock: impl Fn() -> Instant) -> Result<(), NvmlError> {
        if self.earlier.as_ref().is_some_and(|(_, at)| clock().saturating_duration_since(*at) < APART) {
            return Ok(());
        }
        let later = match self.spare.take() {
            Some(sample) => {
                raw::gpm_sample_again(device, &sample)?;
                sample
            }
            None => device.gpm_sample()?,
        };
        self.values.clear();
        let earlier = self.earlier.replace((later, clock()));
        if let (Some((earlier, _)), Some((later, _))) = (earlier, &self.earlier) {
            let metrics = gpm_metrics_get(device.nvml(), &earlier, later, &METRICS);
            self.spare = Some(earlier);
            let known = METRICS.iter().zip(metrics?).filter_map(|(id, result)| Some((*id, result.ok()?.value)));
            // A ratio of nothing: an idle device returns success and NaN.
            self.values.extend(known.filter(|(_, value)| value.is_finite()));
        }
        Ok(())
    }

    /// Earlier values are not current.
    pub(super) fn forget(&mut self) {
        self.values.clear();
    }

    /// Reports the values of the last two samples.
    pub(super) fn report(&self, out: &mut Readings) {
        for &(id, value) in &self.values {
            let (row, labels, value): (_, &'static [_], _) = match id {
                GpmMetricId::GraphicsUtil => (&catalog::ENGINE_ACTIVE, &[], value / 100.0),
                GpmMetricId::SmUtil => (&catalog::SM_ACTIVE, &[], value / 100.0),
                GpmMetricId::SmOccupancy => (&catalog::SM_OCCUPANCY, &[], value / 100.0),
                GpmMetricId::AnyTensorUtil => (&catalog::TENSOR_ACTIVE, &[], value / 100.0),
                GpmMetricId::DramBwUtil => (&catalog::DRAM_ACTIVE, &[], value / 100.0),
                GpmMetricId::PcieTxPerSec => (&catalog::PCIE_THROUGHPUT, &[("direction", "tx")], value * MIB),
                GpmMetricId::PcieRxPerSec => (&catalog::PCIE_THROUGHPUT, &[("direction", "rx")], value * MIB),
                _ => continue,
            };
            out.gauge(Series::new(row, labels), value);
        }
    }

    /// Share of time in which any engine was busy, known as utilisation elsewhere.
    pub(super) fn utilization(&self) -> Option<f64> {
        self.values.iter().find(|(id, _)| *id == GpmMetricId::GraphicsUtil).map(|(_, percent)| percent / 100.0)
    }

    /// Whether it has PCIe throughput, so that the slow call is not needed.
    pub(super) fn has_pcie(&self) -> bool {
        self.values.iter().any(|(id, _)| *id == GpmMetricId::PcieTxPerSec)
    }
}
