//! NVIDIA's GPUs, through NVML.

mod batch;
mod calls;
mod events;
mod fault;
mod fields;
mod gpm;
mod gpu;
mod kernel_log;
mod library;
mod raw;
mod session;

use std::path::PathBuf;

use nvml_wrapper::Nvml;

use self::{kernel_log::KernelLog, session::Session};
use super::{GpuSession, GpuSource, SourceError};

/// NVIDIA's GPUs, through the driver's library, which is found and loaded when a session begins.
///
/// ```no_run
/// use llm_metrics_gpu::{GpuCollector, source::NvmlSource};
///
/// let collector = GpuCollector::builder().source(NvmlSource::new().process_memory(true)).start();
/// # drop(collector);
/// ```
///
/// The search of this documentation finds this type by the names of the functions and fields of NVML that it reads. The rows of
/// [`catalog`](crate::catalog) say what each metric means, and `docs/gpu-names.md` in the repository lists them beside the names of DCGM.
#[doc(alias = "nvmlDeviceGetUtilizationRates")]
#[doc(alias = "nvmlDeviceGetSamples")]
#[doc(alias = "nvmlDeviceGetMemoryInfo")]
#[doc(alias = "nvmlDeviceGetPowerUsage")]
#[doc(alias = "nvmlDeviceGetTemperature")]
#[doc(alias = "nvmlDeviceGetClockInfo")]
#[doc(alias = "nvmlDeviceGetCurrentClocksEventReasons")]
#[doc(alias = "nvmlDeviceGetPcieThroughput")]
#[doc(alias = "nvmlDeviceGetComputeRunningProcesses")]
#[doc(alias = "nvmlDeviceGetFieldValues")]
#[doc(alias = "nvmlDeviceGetEncoderUtilization")]
#[doc(alias = "nvmlDeviceGetDecoderUtilization")]
#[doc(alias = "nvmlGpmSampleGet")]
#[doc(alias = "nvmlEventSetWait")]
#[doc(alias = "NVML_FI_DEV_POWER_INSTANT")]
#[doc(alias = "NVML_FI_DEV_POWER_AVERAGE")]
#[doc(alias = "NVML_FI_DEV_MEMORY_TEMP")]
#[doc(alias = "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION")]
#[doc(alias = "NVML_FI_DEV_PCIE_REPLAY_COUNTER")]
#[doc(alias = "NVML_FI_DEV_REMAPPED_COR")]
#[doc(alias = "NVML_FI_DEV_REMAPPED_UNC")]
#[doc(alias = "NVML_FI_DEV_REMAPPED_PENDING")]
#[doc(alias = "NVML_FI_DEV_REMAPPED_FAILURE")]
#[doc(alias = "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION")]
#[doc(alias = "NVML_FI_DEV_ECC_SBE_VOL_TOTAL")]
#[doc(alias = "NVML_FI_DEV_ECC_DBE_VOL_TOTAL")]
#[doc(alias = "NVML_FI_DEV_ECC_SBE_AGG_TOTAL")]
#[doc(alias = "NVML_FI_DEV_ECC_DBE_AGG_TOTAL")]
#[doc(alias = "NVML_FI_DEV_PERF_POLICY_POWER")]
#[doc(alias = "NVML_FI_DEV_PERF_POLICY_SYNC_BOOST")]
#[doc(alias = "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX")]
#[doc(alias = "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX")]
#[doc(alias = "NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL")]
#[doc(alias = "NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL")]
#[doc(alias = "NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL")]
#[doc(alias = "NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL")]
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NvmlSource {
    library_path: Option<PathBuf>,
    options: Options,
    kernel_log: KernelLog,
}

#[derive(Clone, Debug, Default)]
struct Options {
    pcie_throughput: bool,
    process_memory: bool,
    host_pid: Option<u32>,
}

/// The facts on which readings depend, other than the device.
struct Context<'a> {
    options: &'a Options,
    own_pid: Option<u32>,
    /// Whether this driver lists processes in larger entries than in its header.
    wide_processes: bool,
}

impl NvmlSource {
    /// A source that looks at `NVML_LIB_PATH`, then in the usual folders of drivers, WSL and containers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The library to load, or its folder. No other place is tried then.
    #[must_use]
    pub fn library_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.library_path = Some(path.into());
        self
    }

    /// Whether XIDs that NVML does not deliver (79, 119 and 120) are read from the kernel log, `/dev/kmsg`, if there is permission: on by default. On
    /// Linux with `kernel.dmesg_restrict` this requires `CAP_SYSLOG`, and a container needs the device. For GPUs that deliver no XIDs through NVML,
    /// all are read there.
    #[must_use]
    pub fn kernel_log(mut self, on: bool) -> Self {
        self.kernel_log.enable(on);
        self
    }

    /// Reads another file instead of `/dev/kmsg`, with the same format.
    #[must_use]
    pub fn kernel_log_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.kernel_log.read_from(path);
        self
    }

    /// Measures PCIe throughput also on devices without GPM. Each direction blocks the sampler for about 20 ms.
    #[must_use]
    pub fn pcie_throughput(mut self, on: bool) -> Self {
        self.options.pcie_throughput = on;
        self
    }

    /// Reads the memory of this process and of all others. The call is slow: milliseconds, under the driver's lock.
    ///
    /// The driver identifies processes by their number on the host. In a container this process does not know its own, so nothing is published
    /// without [`host_pid`](Self::host_pid).
    #[must_use]
    pub fn process_memory(mut self, on: bool) -> Self {
        self.options.process_memory = on;
        self
    }

    /// This process's number on the host, if it differs from its own view.
    #[must_use]
    pub fn host_pid(mut self, pid: u32) -> Self {
        self.options.host_pid = Some(pid);
        self
    }

    pub(super) fn open(&self) -> Result<Nvml, SourceError> {
        let path = self.library_path.clone().or_else(library::from_environment);
        library::open(path.as_deref())
    }

    /// The number of devices of a new session, if it could begin.
    pub(super) fn devices(&self) -> Result<u32, SourceError> {
        devices(&self.open()?)
    }

    /// A session with an open driver, which is closed at the end.
    pub(super) fn session_with(&mut self, nvml: &Nvml, body: &mut dyn FnMut(&mut dyn GpuSession)) {
        self.kernel_log.open();
        let again = self.clone();
        body(&mut Session::new(nvml, self.options.clone(), &mut self.kernel_log, again));
    }
}

/// The number of a driver's devices.
pub(super) fn devices(nvml: &Nvml) -> Result<u32, SourceError> {
    nvml.device_count().map_err(|error| fault::source_error(&error))
}

impl GpuSource for NvmlSource {
    fn session(&mut self, body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError> {
        let nvml = self.open()?;
        self.session_with(&nvml, body);
        Ok(())
    }
}

/// The result of a search: whether a library works, or why none does.
#[cfg(test)]
pub(crate) fn search(candidates: &[PathBuf]) -> Result<(), SourceError> {
    library::open_first(candidates).map(drop)
}
