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

/// NVIDIA's GPUs, through the driver's own library, which is looked for and loaded when a session begins.
///
/// ```no_run
/// use llm_metrics_gpu::{GpuCollector, source::NvmlSource};
///
/// let collector = GpuCollector::builder().source(NvmlSource::new().process_memory(true)).start();
/// # drop(collector);
/// ```
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

/// What a reading depends on beside the device.
struct Context<'a> {
    options: &'a Options,
    own_pid: Option<u32>,
    /// Whether this driver lists processes in entries that are larger than its header says.
    wide_processes: bool,
}

impl NvmlSource {
    /// A source that looks at `NVML_LIB_PATH`, then where drivers, WSL and containers have the library.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The library to load, or the folder that it is in. Nothing else is tried then.
    #[must_use]
    pub fn library_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.library_path = Some(path.into());
        self
    }

    /// Whether XIDs that NVML does not deliver (79, 119 and 120) are looked for in the kernel's log, `/dev/kmsg`, where that
    /// may be read: on unless told otherwise. On Linux with `kernel.dmesg_restrict` it takes `CAP_SYSLOG`, and a container has
    /// to be given the device. Of GPUs that tell of no XIDs through NVML all are read there.
    #[must_use]
    pub fn kernel_log(mut self, on: bool) -> Self {
        self.kernel_log.enable(on);
        self
    }

    /// Reads another file than `/dev/kmsg`, whose lines look the same.
    #[must_use]
    pub fn kernel_log_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.kernel_log.read_from(path);
        self
    }

    /// Measures PCIe throughput also on devices without GPM. Each direction blocks the sampler for some 20 ms.
    #[must_use]
    pub fn pcie_throughput(mut self, on: bool) -> Self {
        self.options.pcie_throughput = on;
        self
    }

    /// Reads the memory of this process and of all others. It is a slow call: milliseconds, under the driver's lock.
    ///
    /// The driver tells processes by their number on the host. In a container this process does not know its own, so that
    /// nothing is published unless [`host_pid`](Self::host_pid) tells.
    #[must_use]
    pub fn process_memory(mut self, on: bool) -> Self {
        self.options.process_memory = on;
        self
    }

    /// This process's number on the host, where that is another than it sees itself.
    #[must_use]
    pub fn host_pid(mut self, pid: u32) -> Self {
        self.options.host_pid = Some(pid);
        self
    }

    pub(super) fn open(&self) -> Result<Nvml, SourceError> {
        let path = self.library_path.clone().or_else(library::from_environment);
        library::open(path.as_deref())
    }

    /// How many devices a session would begin with, if it could begin.
    pub(super) fn devices(&self) -> Result<u32, SourceError> {
        devices(&self.open()?)
    }

    /// A session with a driver that is open already, and closed in the end.
    pub(super) fn session_with(&mut self, nvml: &Nvml, body: &mut dyn FnMut(&mut dyn GpuSession)) {
        self.kernel_log.open();
        let again = self.clone();
        body(&mut Session::new(nvml, self.options.clone(), &mut self.kernel_log, again));
    }
}

/// How many devices a driver has.
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

/// What is found in these places: whether one worked, or why none did.
#[cfg(test)]
pub(crate) fn search(candidates: &[PathBuf]) -> Result<(), SourceError> {
    library::open_first(candidates).map(drop)
}
