//! NVIDIA's GPUs, through NVML.

mod events;
mod fault;
mod fields;
mod gpm;
mod gpu;
mod library;
mod raw;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor, error::NvmlError};

use self::{
    events::Events,
    fault::{Fault, classify, driver_is_gone, source_error},
    gpu::{Gpu, SLOW_PARTS},
};
use super::{Enumeration, GpuEvent, GpuIdentity, GpuSession, GpuSource, Part, ReadError, Readings, SourceError};

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
}

#[derive(Clone, Debug, Default)]
struct Options {
    pcie_throughput: bool,
    process_memory: bool,
    host_pid: Option<u32>,
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
}

impl NvmlSource {
    fn open(&self) -> Result<Nvml, SourceError> {
        let path = self.library_path.clone().or_else(library::from_environment);
        library::open(path.as_deref())
    }

    /// Whether a session could begin.
    pub(super) fn is_there(&self) -> bool {
        self.open().is_ok()
    }
}

impl GpuSource for NvmlSource {
    fn session(&mut self, body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError> {
        let nvml = self.open()?;
        // Dropped before the library is closed, whatever happens: it is declared after it.
        let mut session = Session::new(&nvml, self.options.clone());
        body(&mut session);
        Ok(())
    }
}

struct Session<'nvml> {
    nvml: &'nvml Nvml,
    options: Options,
    own_pid: Option<u32>,
    // Before the GPUs: the set is freed while its devices are still there.
    events: Events<'nvml>,
    gpus: BTreeMap<u32, Gpu<'nvml>>,
    driver_version: String,
    cuda_version: String,
}

impl<'nvml> Session<'nvml> {
    fn new(nvml: &'nvml Nvml, options: Options) -> Self {
        let cuda = nvml.sys_cuda_driver_version().ok();
        let cuda = cuda.map(|v| format!("{}.{}", cuda_driver_version_major(v), cuda_driver_version_minor(v)));
        Self {
            nvml,
            own_pid: options.host_pid.or_else(pid_on_host),
            options,
            events: Events::new(nvml),
            gpus: BTreeMap::new(),
            driver_version: nvml.sys_driver_version().unwrap_or_default(),
            cuda_version: cuda.unwrap_or_default(),
        }
    }

    fn look_at(&self, index: u32) -> Result<(GpuIdentity, Device<'nvml>), NvmlError> {
        let device = self.nvml.device_by_index(index)?;
        let mig_enabled = device.mig_mode().is_ok_and(|mode| mode.current == 1);
        let mig_count = if mig_enabled { device.mig_device_count().unwrap_or(0) } else { 0 };
        let identity = GpuIdentity {
            index,
            uuid: device.uuid()?,
            name: device.name().unwrap_or_default(),
            pci_bus_id: device.pci_info().map(|pci| pci.bus_id).unwrap_or_default(),
            driver_version: self.driver_version.clone(),
            cuda_version: self.cuda_version.clone(),
            mig_uuids: (0..mig_count).filter_map(|at| device.mig_device_by_index(at).ok()?.uuid().ok()).collect(),
        };
        Ok((identity, device))
    }
}

impl GpuSession for Session<'_> {
    fn enumerate(&mut self) -> Result<Enumeration, SourceError> {
        let count = self.nvml.device_count().map_err(|error| source_error(&error))?;
        let mut enumeration = Enumeration::default();
        for index in 0..count {
            match self.look_at(index) {
                Ok((identity, device)) => {
                    if !self.gpus.contains_key(&index) {
                        self.events.add(index, &device);
                        self.gpus.insert(index, Gpu::new(device));
                    }
                    enumeration.found.push(identity);
                }
                Err(error) => match classify(&error) {
                    Fault::Source(error) if driver_is_gone(self.nvml) => return Err(error),
                    // Neither visible to this process nor ever going to be: no reason to look again.
                    Fault::Permission => enumeration.denied += 1,
                    _ => {
                        self.gpus.remove(&index);
                        enumeration.missing += 1;
                    }
                },
            }
        }
        Ok(enumeration)
    }

    fn slow_parts(&self) -> usize {
        SLOW_PARTS
    }

    fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError> {
        let Some(gpu) = self.gpus.get_mut(&index) else { return Err(ReadError::Lost) };
        let result = match part {
            Part::Static => gpu.read_static(out),
            Part::Fast => gpu.read_fast(out),
            Part::Slow(part) => gpu.read_slow(part, &self.options, self.own_pid, out),
        };
        if result == Err(ReadError::Lost) {
            self.gpus.remove(&index);
        }
        result
    }

    fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        self.events.wait(at_most)
    }
}

/// This process's number as the host sees it: known only outside of containers, in the first PID namespace.
fn pid_on_host() -> Option<u32> {
    const FIRST_NAMESPACE: &str = "pid:[4026531836]";
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    (namespace.to_str() == Some(FIRST_NAMESPACE)).then(std::process::id)
}

/// The throttle counters of the first device, whose ids were renumbered: read by tests, not published (their unit is
/// disputed).
#[cfg(test)]
pub(crate) fn throttle_nanoseconds(library: &std::path::Path) -> Vec<Option<u64>> {
    let nvml = library::open(Some(library)).unwrap();
    let device = nvml.device_by_index(0).unwrap();
    let requests = [74, 76, 251, 252, 253].map(|id| raw::FieldRequest { id, scope: 0 });
    let values = raw::fields(&device, requests.into_iter()).unwrap().into_iter();
    let integer = |value| if let Ok(raw::FieldNumber::Integer(value)) = value { Some(value) } else { None };
    values.map(integer).collect()
}

/// What is found in these places: whether one worked, or why none did.
#[cfg(test)]
pub(crate) fn search(candidates: &[PathBuf]) -> Result<(), SourceError> {
    library::open_first(candidates).map(drop)
}
