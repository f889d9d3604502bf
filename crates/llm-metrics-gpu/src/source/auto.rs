//! The driver of this machine, of any vendor.

use std::time::{Duration, Instant};

use super::{
    AmdSource, Enumeration, GpuEvent, GpuSession, GpuSource, NvmlSource, Part, ReadError, Readings, Reopen,
    SourceError, nvml,
};
use crate::backoff::Backoff;

/// NVIDIA's driver if it has a GPU, otherwise AMD's: the default source.
///
/// NVIDIA's is tried again at the beginning of each session, and from time to time while AMD's is in use, so that it may appear later; likewise AMD's
/// while NVIDIA's has no GPU. If there is neither, the error is that of NVIDIA's.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AutoSource {
    nvml: NvmlSource,
    amd: AmdSource,
}

impl AutoSource {
    /// Both, with these settings.
    #[must_use]
    pub const fn new(nvml: NvmlSource, amd: AmdSource) -> Self {
        Self { nvml, amd }
    }

    fn nvidia_has_a_gpu(&self) -> bool {
        self.nvml.devices().is_ok_and(|devices| devices > 0)
    }
}

impl GpuSource for AutoSource {
    fn session(&mut self, body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError> {
        let nvml = self.nvml.open();
        let devices = nvml.as_ref().map_err(Clone::clone).and_then(nvml::devices);
        let has_none = match &devices {
            Ok(devices) => *devices == 0,
            Err(error) => matches!(
                error,
                SourceError::NoLibrary { .. } | SourceError::NotLoaded { .. } | SourceError::NoDevice { .. }
            ),
        };
        if has_none && self.amd.has_cards() {
            drop(nvml);
            let this = self.clone();
            let better = || this.nvidia_has_a_gpu();
            return self.amd.session(&mut |session| body(&mut SecondChoice::new(session, &better)));
        }
        let nvml = nvml?;
        if devices == Ok(0) {
            let amd = self.amd.clone();
            let better = || amd.has_cards();
            self.nvml.session_with(&nvml, &mut |session| body(&mut SecondChoice::new(session, &better)));
        } else {
            self.nvml.session_with(&nvml, body);
        }
        Ok(())
    }
}

/// A session that ends when a better driver appears.
struct SecondChoice<'a> {
    session: &'a mut dyn GpuSession,
    better: &'a dyn Fn() -> bool,
    look: Backoff,
}

impl<'a> SecondChoice<'a> {
    fn new(session: &'a mut dyn GpuSession, better: &'a dyn Fn() -> bool) -> Self {
        let mut look = Backoff::of_drivers();
        look.postpone(Instant::now());
        Self { session, better, look }
    }
}

impl GpuSession for SecondChoice<'_> {
    fn enumerate(&mut self) -> Result<Enumeration, SourceError> {
        self.session.enumerate()
    }

    fn slow_parts(&self) -> usize {
        self.session.slow_parts()
    }

    fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError> {
        self.session.read(index, part, out)
    }

    fn critical_xids(&self, index: u32) -> Vec<u64> {
        self.session.critical_xids(index)
    }

    fn has_changed(&mut self) -> bool {
        self.session.has_changed()
    }

    fn superseded(&mut self) -> bool {
        let now = Instant::now();
        if !self.look.is_due(now) {
            return false;
        }
        self.look.postpone(now);
        (self.better)()
    }

    fn reopen(&mut self) -> Reopen {
        self.session.reopen()
    }

    fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        self.session.wait(at_most)
    }
}
