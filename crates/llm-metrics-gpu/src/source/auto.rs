//! Whatever is in this machine.

use super::{AmdSource, GpuSession, GpuSource, NvmlSource, SourceError};

/// NVIDIA's driver where there is one, else AMD's: what a collector uses when it is told nothing.
///
/// Asked anew each time that a session begins, so that a driver may appear later. Where neither is there, the error is the
/// one about NVIDIA's.
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
                self.amd.session(body).map_err(|_| error)
            }
            done_or_failed => done_or_failed,
        }
    }
}
