//! Where the figures come from: a trait, and one implementation a vendor.
//!
//! A source opens its driver inside [`GpuSource::session`] and closes it before that returns. Whatever it borrows from the
//! driver's library therefore lives in one function's scope, on the sampler's thread, and a new session is all that it takes
//! to begin afresh.

mod amd;
mod auto;
pub(crate) mod nvml;
mod readings;
mod scripted;

use std::{thread, time::Duration};

pub use amd::AmdSource;
pub use auto::AutoSource;
pub use nvml::NvmlSource;
pub use readings::{Part, Readings, Ring, Sample, Series};
pub use scripted::{Script, ScriptedGpu, ScriptedSource};

pub(crate) use readings::Value;

/// A vendor's driver.
pub trait GpuSource: Send + 'static {
    /// Opens the driver, hands a session to `body`, and closes the driver when that returns.
    ///
    /// # Errors
    /// When the driver cannot be opened; `body` has then not run.
    fn session(&mut self, body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError>;
}

/// A driver that is open.
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

    /// Whether it is time to end this session and begin another: a driver that is to be preferred has appeared. Asked after
    /// each tick.
    fn superseded(&mut self) -> bool {
        false
    }

    /// Sleeps for `at_most`, or until something happens to a device.
    fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        thread::park_timeout(at_most);
        None
    }
}

/// What a look for devices found.
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

/// What tells a device from all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuIdentity {
    /// The driver's number for it: the label `gpu`. It may change at a reboot.
    pub index: u32,
    /// What never changes: the label `gpu_uuid`.
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
    /// This device is gone; the others may be well.
    #[error("the device is lost")]
    Lost,
    /// The driver as a whole is gone.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Why a driver could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Its library is not there.
    #[error("no GPU driver library was found ({detail}); set NVML_LIB_PATH if it is in an unusual place")]
    NoLibrary {
        /// What was tried.
        detail: String,
    },
    /// The library is there and the kernel module is not, or it went away.
    #[error("the GPU driver is not loaded ({detail}); load it, or start the container with access to the GPUs")]
    NotLoaded {
        /// What the library said.
        detail: String,
    },
    /// The library and the kernel module are of different versions.
    #[error("the GPU driver's library and kernel module have different versions; reboot, or reload the kernel module")]
    VersionMismatch,
    /// This process may not ask.
    #[error("no permission to use the GPU driver ({detail}); check the permissions of the devices and the container")]
    Permission {
        /// What the library said.
        detail: String,
    },
    /// The library lacks what cannot be done without.
    #[error("the GPU driver's library lacks {symbol}; it is not a library that this collector can use")]
    Unfit {
        /// The first symbol that is missing.
        symbol: &'static str,
    },
    /// No device answers.
    #[error(
        "every GPU is lost; if this is a container, `systemctl daemon-reload` on the host may have taken them away"
    )]
    AllLost,
    /// Anything else.
    #[error("the GPU driver failed: {detail}")]
    Failed {
        /// What the library said.
        detail: String,
    },
}

impl SourceError {
    pub(crate) const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoLibrary { .. } | Self::NotLoaded { .. } | Self::Unfit { .. } => ErrorKind::NoDriver,
            Self::VersionMismatch => ErrorKind::VersionMismatch,
            Self::Permission { .. } => ErrorKind::Permission,
            Self::AllLost => ErrorKind::GpuLost,
            Self::Failed { .. } => ErrorKind::CallFailed,
        }
    }
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $variant:ident = $word:literal,)+) => {
        /// What can go wrong while collecting: the label `kind` of `gpu_collector_errors_total`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$meta])* $variant,)+ }

        impl ErrorKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// How it is written on `/metrics`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

kinds! {
    /// There is no driver, or none that is loaded.
    NoDriver = "no_driver",
    /// The driver's library and kernel module differ.
    VersionMismatch = "version_mismatch",
    /// Something that this process may not read.
    Permission = "permission",
    /// A device stopped answering.
    GpuLost = "gpu_lost",
    /// A call failed that should not.
    CallFailed = "call_failed",
    /// A value that no device can have; it was dropped.
    OutOfRange = "out_of_range",
    /// A round over all devices took longer than a second.
    SlowTick = "slow_tick",
}
