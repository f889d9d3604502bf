//! Whatever is in this machine.

use std::time::{Duration, Instant};

use super::{
    AmdSource, Enumeration, GpuEvent, GpuSession, GpuSource, NvmlSource, Part, ReadError, Readings, SourceError,
};

/// How soon NVIDIA's driver is looked for again while AMD's is in use, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// NVIDIA's driver where there is one, else AMD's: what a collector uses when it is told nothing.
///
/// NVIDIA's is asked for anew each time that a session begins, and from time to time while AMD's is in use, so that it may
/// appear later. Where neither is there, the error is the one about NVIDIA's.
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
}

impl GpuSource for AutoSource {
    fn session(&mut self, body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError> {
        match self.nvml.session(body) {
            Err(error @ (SourceError::NoLibrary { .. } | SourceError::NotLoaded { .. })) => {
                let nvml = &self.nvml;
                let mut second = |amd: &mut dyn GpuSession| {
                    body(&mut SecondChoice { amd, nvml, look_at: Instant::now() + PAUSES.0, pause: PAUSES.0 });
                };
                self.amd.session(&mut second).map_err(|_| error)
            }
            done_or_failed => done_or_failed,
        }
    }
}

/// A session with AMD's driver that ends when NVIDIA's appears.
struct SecondChoice<'a> {
    amd: &'a mut dyn GpuSession,
    nvml: &'a NvmlSource,
    look_at: Instant,
    pause: Duration,
}

impl GpuSession for SecondChoice<'_> {
    fn enumerate(&mut self) -> Result<Enumeration, SourceError> {
        self.amd.enumerate()
    }

    fn slow_parts(&self) -> usize {
        self.amd.slow_parts()
    }

    fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError> {
        self.amd.read(index, part, out)
    }

    fn superseded(&mut self) -> bool {
        let now = Instant::now();
        if now < self.look_at {
            return false;
        }
        self.pause = (self.pause * 2).min(PAUSES.1);
        self.look_at = now + self.pause;
        self.nvml.is_there()
    }

    fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        self.amd.wait(at_most)
    }
}
