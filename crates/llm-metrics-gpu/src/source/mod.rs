//! Sources of measurements: a trait, and one implementation per vendor.
//!
//! A source opens its driver inside [`GpuSource::session`] and closes it before that returns. Whatever it borrows from the
//! driver's library therefore lives in one function's scope, on the sampler's thread, and starting over
//! takes no more than a new session.

mod amd;
mod auto;
pub(crate) mod nvml;
mod readings;
#[cfg(any(test, feature = "test-util"))]
mod scripted;

use std::{thread, time::Duration};

pub use amd::AmdSource;
pub use auto::AutoSource;
pub use nvml::NvmlSource;
pub use readings::{Part, Readings, Ring, Sample, Series};
#[cfg(any(test, feature = "test-util"))]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub use scripted::{Script, ScriptedGpu, ScriptedSource};

pub(crate) use readings::Value;

/// A vendor's driver. Open: implement it for a driver that this crate does not know. A method that is added later has a default.
pub trait GpuSource: Send + 'static {
    /// Opens the driver, hands a session to `body`, and closes the driver when that returns.
    ///
    /// # Errors
    /// When the driver cannot be opened; `body` has then not run.
    fn session(&mut self, body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError>;
}

/// A driver that is open. A trait to be implemented, as [`GpuSource`] is.
pub trait GpuSession {
    /// Looks for devices. Called at the beginning, and again from time to time while one is missing.
    ///
    /// # Errors
    /// When the driver as a whole does not answer. A device that does not is only [`missing`](Enumeration::missing).
    fn enumerate(&mut self) -> Result<Enumeration, SourceError>;

    /// In how many parts the slow facts are read.
    fn slow_parts(&self) -> usize {
        1
    }

    /// Reads a part of the device with that index.
    ///
    /// # Errors
    /// When the device is lost, or the driver as a whole. A single fact that cannot be read is no error here.
    fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError>;

    /// The XIDs that mean that the device with that index is broken, of those that this session would hear of: their series
    /// exist from the beginning. A driver that has no XIDs has none.
    fn critical_xids(&self, _index: u32) -> Vec<u64> {
        Vec::new()
    }

    /// Whether there may be devices that the last look did not find, as far as that is known without a call into the driver.
    /// Asked from time to time while none is missing.
    fn has_changed(&mut self) -> bool {
        false
    }

    /// Whether it is time to end this session and begin another: a driver that is to be preferred has appeared. Asked after
    /// each tick.
    fn superseded(&mut self) -> bool {
        false
    }

    /// Whether the driver can be reopened. Asked before a session that works for some devices is ended for the sake of one
    /// that stays lost; the answer must not take long.
    fn reopen(&mut self) -> Reopen {
        Reopen::Ready
    }

    /// Sleeps for `at_most`, or until something happens to a device.
    fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        thread::park_timeout(at_most);
        None
    }
}

/// Whether a driver can be reopened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reopen {
    /// It can, as far as is known.
    Ready,
    /// It is being tried: ask again.
    Pending,
    /// It cannot: keep the current session.
    Refused,
}

/// The devices that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enumeration {
    /// The devices that answer.
    pub found: Vec<GpuIdentity>,
    /// How many there are that do not.
    pub missing: usize,
    /// How many there are that this process may not read.
    pub denied: usize,
}

impl Enumeration {
    /// Devices that answer, and the number of those that do not.
    #[must_use]
    pub const fn new(found: Vec<GpuIdentity>, missing: usize) -> Self {
        Self { found, missing, denied: 0 }
    }
}

/// What identifies a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuIdentity {
    /// The driver's number for it: the label `gpu`. It may change at a reboot.
    pub index: u32,
    /// The identity that never changes: the label `gpu_uuid`.
    pub uuid: String,
    /// The product's name.
    pub name: String,
    /// Its address on the PCI bus, `domain:bus:device.function`.
    pub pci_bus_id: String,
    /// The driver's version.
    pub driver_version: String,
    /// The newest CUDA that the driver serves; empty where that says nothing.
    pub cuda_version: String,
    /// The UUIDs of its MIG devices.
    pub mig_uuids: Vec<String>,
}

impl GpuIdentity {
    /// A device of which only this is known.
    #[must_use]
    pub fn new(index: u32, uuid: impl Into<String>) -> Self {
        Self { index, uuid: uuid.into(), ..Self::default() }
    }
}

/// Something that happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GpuEvent {
    /// The driver reported an error.
    Xid {
        /// The device's index.
        index: u32,
        /// Its number in NVIDIA's catalogue of XIDs.
        xid: u64,
    },
    /// Events cannot be waited for at the moment; the source tries again by itself.
    WaitFailed {
        /// What it is counted as.
        kind: ErrorKind,
    },
}

/// Why a device could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// This device is lost; others may still work.
    #[error("the device is lost")]
    Lost,
    /// The whole driver failed.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Why a driver could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The driver's library was not found.
    #[error("no GPU driver library was found: {detail}")]
    NoLibrary {
        /// The paths that were tried, and what to do.
        detail: String,
    },
    /// The driver works but has no device.
    #[error(
        "the GPU driver found no GPU ({detail}); check that the GPU is plugged in and not assigned to a virtual machine"
    )]
    NoDevice {
        /// The message of the library.
        detail: String,
    },
    /// The library was found, but the kernel module is not loaded, or was unloaded.
    #[error("the GPU driver is not loaded ({detail}); load it, or start the container with access to the GPUs")]
    NotLoaded {
        /// The message of the library.
        detail: String,
    },
    /// The library and the kernel module are of different versions.
    #[error("the GPU driver's library and kernel module have different versions; reboot, or reload the kernel module")]
    VersionMismatch,
    /// This process has no permission to use the driver.
    #[error("no permission to use the GPU driver ({detail}); check the permissions of the devices and the container")]
    Permission {
        /// The message of the library.
        detail: String,
    },
    /// The library lacks a required symbol.
    #[error("the GPU driver's library lacks the symbol {symbol}, which this collector requires; update the driver")]
    Unfit {
        /// The first symbol that is missing.
        symbol: &'static str,
    },
    /// All devices are lost.
    #[error(
        "every GPU is lost; if this is a container, `systemctl daemon-reload` on the host may have taken them away"
    )]
    AllLost,
    /// Anything else.
    #[error("the GPU driver failed: {detail}")]
    Failed {
        /// The message of the library.
        detail: String,
    },
}

impl SourceError {
    pub(crate) const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoLibrary { .. } | Self::NoDevice { .. } | Self::NotLoaded { .. } | Self::Unfit { .. } => {
                ErrorKind::NoDriver
            }
            Self::VersionMismatch => ErrorKind::VersionMismatch,
            Self::Permission { .. } => ErrorKind::Permission,
            Self::AllLost => ErrorKind::GpuLost,
            Self::Failed { .. } => ErrorKind::CallFailed,
        }
    }
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $variant:ident = $word:literal,)+) => {
        /// A kind of error while collecting: the label `kind` of `gpu_collector_errors_total`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$meta])* $variant,)+ }

        impl ErrorKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value of the label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        /// As on `/metrics`.
        impl std::fmt::Display for ErrorKind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

kinds! {
    /// There is no driver, or it is not loaded.
    NoDriver = "no_driver",
    /// The driver's library and kernel module differ.
    VersionMismatch = "version_mismatch",
    /// This process has no permission to read something.
    Permission = "permission",
    /// A device was lost, or was not answering when it was first looked for. Counted once per loss.
    GpuLost = "gpu_lost",
    /// A call failed unexpectedly.
    CallFailed = "call_failed",
    /// An implausible value, which was dropped.
    OutOfRange = "out_of_range",
    /// A tick over all devices took longer than a second.
    SlowTick = "slow_tick",
}
