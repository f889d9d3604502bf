//! What pages report about GPUs.

use std::collections::BTreeMap;

use llm_metrics::catalog::{InvalidPrefix, MetricDef, Naming};
use llm_metrics_gpu::catalog;

use super::exposition::Page;

/// A metric under the name that DCGM exporter gives it, and the factor that converts its unit to the base unit.
type Dcgm = (&'static str, f64);

/// DCGM exporter has MiB, percent and millijoules.
const MEMORY_USED: Dcgm = ("DCGM_FI_DEV_FB_USED", 1_048_576.0);
const MEMORY_FREE: Dcgm = ("DCGM_FI_DEV_FB_FREE", 1_048_576.0);
const MEMORY_RESERVED: Dcgm = ("DCGM_FI_DEV_FB_RESERVED", 1_048_576.0);
const MEMORY_TOTAL: Dcgm = ("DCGM_FI_DEV_FB_TOTAL", 1_048_576.0);
const UTILIZATION: Dcgm = ("DCGM_FI_DEV_GPU_UTIL", 0.01);
const ENERGY: Dcgm = ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 0.001);

/// Reads the GPUs of a page: the metrics of llm-metrics if it has them, otherwise those of DCGM exporter.
#[derive(Clone, Debug)]
pub(crate) struct GpuReader {
    naming: Naming,
}

impl GpuReader {
    /// For GPU metrics of llm-metrics with this prefix.
    pub(crate) fn new(prefix: &str) -> Result<Self, InvalidPrefix> {
        Ok(Self { naming: Naming::new().prefix(prefix)? })
    }

    /// The labels of the first GPU.
    pub(super) fn info(&self, page: &Page) -> BTreeMap<String, String> {
        page.info(&self.naming.name(&catalog::INFO)).unwrap_or_default().into_iter().collect()
    }

    /// The used memory of all GPUs in bytes.
    pub(super) fn memory_used(&self, page: &Page) -> Option<f64> {
        self.sum(page, &catalog::MEMORY_USED, MEMORY_USED)
    }

    /// The memory of all GPUs in bytes. DCGM exporter does not export it by default: then it is the used, free and reserved memory.
    pub(super) fn memory_total(&self, page: &Page) -> Option<f64> {
        self.sum(page, &catalog::MEMORY_TOTAL, MEMORY_TOTAL).or_else(|| {
            let reserved = dcgm(page, MEMORY_RESERVED, total).unwrap_or(0.0);
            Some(self.memory_used(page)? + dcgm(page, MEMORY_FREE, total)? + reserved)
        })
    }

    /// The mean utilisation, 0 to 1.
    pub(super) fn utilization(&self, page: &Page) -> Option<f64> {
        self.read(page, &catalog::UTILIZATION, UTILIZATION, Page::mean)
    }

    /// The energy that all GPUs have used, in joules.
    pub(super) fn energy(&self, page: &Page) -> Option<f64> {
        self.sum(page, &catalog::ENERGY, ENERGY)
    }

    fn sum(&self, page: &Page, row: &MetricDef, other: Dcgm) -> Option<f64> {
        self.read(page, row, other, total)
    }

    fn read(
        &self,
        page: &Page,
        row: &MetricDef,
        other: Dcgm,
        read: impl Fn(&Page, &str) -> Option<f64>,
    ) -> Option<f64> {
        read(page, &self.naming.name(row)).or_else(|| dcgm(page, other, read))
    }
}

fn dcgm(page: &Page, (name, unit): Dcgm, read: impl Fn(&Page, &str) -> Option<f64>) -> Option<f64> {
    Some(read(page, name)? * unit)
}

fn total(page: &Page, name: &str) -> Option<f64> {
    page.sum(name, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prefix: &str) -> GpuReader {
        GpuReader::new(prefix).unwrap()
    }

    #[test]
    fn the_memory_of_gpus_is_from_llm_metrics_or_dcgm_exporter() {
        let total = |text: &str| of("gpu").memory_total(&Page::parse(text));
        assert_eq!(total("gpu_memory_total_bytes{gpu=\"0\"} 5\ngpu_memory_total_bytes{gpu=\"1\"} 7\n"), Some(12.0));
        let dcgm = "DCGM_FI_DEV_FB_USED{gpu=\"0\"} 6\nDCGM_FI_DEV_FB_FREE{gpu=\"0\"} 3\n";
        assert_eq!(total(dcgm), Some(9.0 * 1_048_576.0));
        assert_eq!(total(&format!("{dcgm}DCGM_FI_DEV_FB_RESERVED{{gpu=\"0\"}} 1\n")), Some(10.0 * 1_048_576.0));
        assert_eq!(total("DCGM_FI_DEV_FB_TOTAL{gpu=\"0\"} 9\n"), Some(9.0 * 1_048_576.0));
        assert_eq!(total("DCGM_FI_DEV_FB_USED{gpu=\"0\"} 6\n"), None);
    }

    #[test]
    fn values_have_base_units_under_both_names() {
        let read = |text: &str| {
            let (page, gpu) = (Page::parse(text), of("gpu"));
            [gpu.memory_used(&page), gpu.utilization(&page), gpu.energy(&page)]
        };
        let ours = "gpu_memory_used_bytes 2097152\ngpu_utilization_ratio{gpu=\"0\"} 0.5\ngpu_utilization_ratio{gpu=\"1\"} 1\n\
                    gpu_energy_joules_total 3\n";
        let dcgm = "DCGM_FI_DEV_FB_USED 2\nDCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 50\nDCGM_FI_DEV_GPU_UTIL{gpu=\"1\"} 100\n\
                    DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION 3000\n";
        for text in [ours, dcgm] {
            assert_eq!(read(text), [Some(2_097_152.0), Some(0.75), Some(3.0)], "{text}");
        }
    }

    #[test]
    fn a_prefix_selects_the_metrics_with_this_prefix() {
        let page =
            Page::parse("qwen_gpu_info{name=\"L4\"} 1\nqwen_gpu_memory_total_bytes 5\ngpu_memory_total_bytes 7\n");
        let reader = of("qwen_gpu");
        assert_eq!(reader.memory_total(&page), Some(5.0));
        assert_eq!(reader.info(&page)["name"], "L4");
        assert_eq!(of("gpu").info(&page), BTreeMap::new());
    }
}
