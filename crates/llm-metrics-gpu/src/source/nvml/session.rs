//! The open driver: its devices, its events, and the kernel log.

use std::{
    collections::BTreeMap,
    sync::mpsc::{self, Receiver, TryRecvError},
    thread,
    time::Duration,
};

use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor, error::NvmlError};

use super::{
    Context, NvmlSource, Options,
    events::Events,
    fault::{Fault, classify, driver_is_gone, source_error},
    gpu::Gpu,
    kernel_log::KernelLog,
    library, raw,
};
use crate::{
    catalog::{CRITICAL_XIDS, KERNEL_LOG_XIDS},
    source::{Enumeration, GpuEvent, GpuIdentity, GpuSession, Part, ReadError, Readings, Reopen, SourceError},
};

pub(super) struct Session<'nvml, 'source> {
    nvml: &'nvml Nvml,
    options: Options,
    own_pid: Option<u32>,
    // Before the GPUs: the set is freed while its devices still exist.
    events: Events<'nvml>,
    gpus: BTreeMap<u32, Gpu<'nvml>>,
    kernel_log: &'source mut KernelLog,
    driver_version: String,
    cuda_version: String,
    /// A check whether the driver can be opened, and its result.
    again: NvmlSource,
    trial: Option<Receiver<bool>>,
}

impl<'nvml, 'source> Session<'nvml, 'source> {
    pub(super) fn new(
        nvml: &'nvml Nvml,
        options: Options,
        kernel_log: &'source mut KernelLog,
        again: NvmlSource,
    ) -> Self {
        let cuda = nvml.sys_cuda_driver_version().or_else(|_| raw::cuda_version(nvml)).ok();
        let cuda = cuda.map(|v| format!("{}.{}", cuda_driver_version_major(v), cuda_driver_version_minor(v)));
        Self {
            nvml,
            own_pid: options.host_pid.or_else(pid_on_host),
            options,
            events: Events::new(nvml),
            gpus: BTreeMap::new(),
            kernel_log,
            driver_version: nvml.sys_driver_version().unwrap_or_default(),
            cuda_version: cuda.unwrap_or_default(),
            again,
            trial: None,
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

impl GpuSession for Session<'_, '_> {
    fn enumerate(&mut self) -> Result<Enumeration, SourceError> {
        let count = self.nvml.device_count().map_err(|error| source_error(&error))?;
        let mut enumeration = Enumeration::default();
        for index in 0..count {
            match self.look_at(index) {
                Ok((identity, device)) => {
                    self.kernel_log.place(index, &identity.pci_bus_id);
                    if !self.gpus.contains_key(&index) {
                        self.events.add(index, &device);
                        self.gpus.insert(index, Gpu::new(device));
                    }
                    enumeration.found.push(identity);
                }
                Err(error) => match classify(&error) {
                    Fault::Source(error) if driver_is_gone(self.nvml) => return Err(error),
                    // Not visible to this process, and never will be: no reason to search again.
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
        Gpu::SLOW_PARTS.len()
    }

    fn critical_xids(&self, index: u32) -> Vec<u64> {
        let detectable = |xid: &u64| {
            let by_events = self.events.tell_of(index) && !KERNEL_LOG_XIDS.contains(xid);
            by_events || self.kernel_log.is_open()
        };
        CRITICAL_XIDS.into_iter().filter(detectable).collect()
    }

    fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError> {
        let Some(gpu) = self.gpus.get_mut(&index) else { return Err(ReadError::Lost) };
        let wide_processes = lists_wide_processes(&self.driver_version);
        let context = Context { options: &self.options, own_pid: self.own_pid, wide_processes };
        let result = match part {
            Part::Static => gpu.read_static(out),
            Part::Fast => gpu.read_fast(out),
            Part::Slow(part) => gpu.read_slow(part, &context, out),
        };
        if result == Err(ReadError::Lost) {
            self.gpus.remove(&index);
        }
        result
    }

    /// Checks on a separate thread, so that a hang there blocks nothing. The check shows whether the library can be loaded and initialised again; it
    /// does not close the current session.
    fn reopen(&mut self) -> Reopen {
        let Some(trial) = &self.trial else {
            if library::was_replaced(self.nvml) {
                return Reopen::Refused;
            }
            let (answer, trial) = mpsc::channel();
            let again = self.again.clone();
            let spawned = thread::Builder::new().name("gpu-reopen".into()).spawn(move || {
                // The receiver may be gone.
                let _ = answer.send(again.devices().is_ok());
            });
            if spawned.is_err() {
                return Reopen::Refused;
            }
            self.trial = Some(trial);
            return Reopen::Pending;
        };
        let answer = match trial.try_recv() {
            Err(TryRecvError::Empty) => return Reopen::Pending,
            Ok(true) => Reopen::Ready,
            Ok(false) | Err(TryRecvError::Disconnected) => Reopen::Refused,
        };
        self.trial = None;
        answer
    }

    fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        while let Some((index, xid)) = self.kernel_log.next() {
            // An XID that arrives both ways is counted once.
            if KERNEL_LOG_XIDS.contains(&xid) || !self.events.tell_of(index) {
                return Some(GpuEvent::Xid { index, xid });
            }
        }
        self.events.wait(at_most)
    }
}

/// This process's number on the host: only known outside of containers, in the first PID namespace.
fn pid_on_host() -> Option<u32> {
    const FIRST_NAMESPACE: &str = "pid:[4026531836]";
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    (namespace.to_str() == Some(FIRST_NAMESPACE)).then(std::process::id)
}

/// Drivers 535.43 to 535.86 do (XuehaiPan/nvitop#79).
fn lists_wide_processes(driver_version: &str) -> bool {
    let mut parts = driver_version.split('.').map_while(|part| part.parse::<u32>().ok());
    parts.next() == Some(535) && parts.next().is_some_and(|minor| (43..=86).contains(&minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_that_list_processes_in_larger_entries_are_known() {
        for (version, wide) in [
            ("535.43.02", true),
            ("535.54.03", true),
            ("535.86.10", true),
            ("535.42", false),
            ("535.98", false),
            ("535.104.05", false),
            ("534.54", false),
            ("550.54.14", false),
            ("", false),
            ("535", false),
        ] {
            assert_eq!(lists_wide_processes(version), wide, "{version}");
        }
    }
}
