//! Sources of measurements: a trait, and one implementation per vendor.
//!
//! A source opens its driver inside [`GpuSource::session`] and closes it before that returns. So everything that it borrows
//! from the driver's library lives in the scope of one function, on the sampler's thread, and a restart only needs a new
//! session.

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

/// A vendor's driver. The trait is not sealed: implement it for a driver that this crate does not support. Methods that are added later will have a
/// default.
pub trait GpuSource: Send + 'static {
    /// Opens the driver, passes a session to `body`, and closes the driver when that returns.
    ///
    /// # Errors
    /// If the driver cannot be opened; `body` has then not run.
    fn session(&mut self, body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError>;
}

/// An open driver. The trait is not sealed, like [`GpuSource`].
pub trait GpuSession {
    /// Searches for devices. Called at the beginning, and from time to time while one is missing.
    ///
    /// # Errors
    /// If the whole driver does not answer. A single device that does not answer is [`missing`](Enumeration::missing).
    fn enumerate(&mut self) -> Result<Enumeration, SourceError>;

    /// The number of parts in which slow values are read.
    fn slow_parts(&self) -> usize {
        1
    }

    /// Reads a part of the device with this index.
    ///
    /// # Errors
    /// If the device or the whole driver is lost. A single value that cannot be read is not an error.
    fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError>;

    /// The XIDs that mean that the device with this index is broken, as far as this session can detect them: their series exist from the beginning. A
    /// driver without XIDs returns none.
    fn critical_xids(&self, _index: u32) -> Vec<u64> {
        Vec::new()
    }

    /// Whether there may be devices that the last search did not find, as far as that is known without a call into the driver. Called from time to
    /// time while none is missing.
    fn has_changed(&mut self) -> bool {
        false
    }

    /// Whether this session should end and another begin, because a preferred driver has appeared. Called after each tick.
    fn superseded(&mut self) -> bool {
        false
    }

    /// Whether the driver can be reopened. Called before a session with working devices is ended because another device stays lost; it must not
    /// block.
    fn reopen(&mut self) -> Reopen {
        Reopen::Ready
    }

    /// Sleeps for `at_most`, or until a device has an event.
    fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        thread::park_timeout(at_most);
        None
    }
}

/// Whether a driver can be reopened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reopen {
    /// Yes, as far as is known.
    Ready,
    /// The check is running: call again.
    Pending,
    /// No: keep the current session.
    Refused,
}

/// The result of a search for devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enumeration {
    /// The devices that answer.
    pub found: Vec<GpuIdentity>,
    /// The number of devices that do not answer.
    pub missing: usize,
    /// The number of devices that this process has no permission to read.
    pub denied: usize,
}

impl Enumeration {
    /// Devices that answer, and the number of those that do not.
    #[must_use]
    pub const fn new(found: Vec<GpuIdentity>, missing: usize) -> Self {
        Self { found, missing, denied: 0 }
    }
}

/// The identity of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuIdentity {
    /// The driver's index: the label `gpu`. It may change at a reboot.
    pub index: u32,
    /// The permanent identity: the label `gpu_uuid`.
    pub uuid: String,
    /// The product's name.
    pub name: String,
    /// Its address on the PCI bus, `domain:bus:device.function`.
    pub pci_bus_id: String,
    /// The driver's version.
    pub driver_version: String,
    /// The newest CUDA version that the driver supports; empty if that does not apply.
    pub cuda_version: String,
    /// The UUIDs of its MIG devices.
    pub mig_uuids: Vec<String>,
}

impl GpuIdentity {
    /// A device with only these facts.
    #[must_use]
    pub fn new(index: u32, uuid: impl Into<String>) -> Self {
        Self { index, uuid: uuid.into(), ..Self::default() }
    }
}

/// An event of a device.
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
    /// Waiting for events fails at the moment; the source tries again.
    WaitFailed {
        /// The kind of error to count.
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
    #[error("every GPU is lost; if this is a container, `systemctl daemon-reload` on the host may have removed them")]
    AllLost,
    /// Any other failure.
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

            /// The value of the label for each kind, in the order of [`Self::ALL`].
            pub(crate) const WORDS: &'static [&'static str] = &[$($word),+];

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
    /// A device was lost, or did not answer at the first search. Counted once per loss.
    GpuLost = "gpu_lost",
    /// A call failed unexpectedly.
    CallFailed = "call_failed",
    /// An implausible value, which was dropped.
    OutOfRange = "out_of_range",
    /// A tick over all devices took longer than a second.
    SlowTick = "slow_tick",
}
