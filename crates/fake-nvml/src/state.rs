//! The state that the fake library simulates, and the calls that it has recorded.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::abi::{GPU_IS_LOST, Handle, INVALID_ARGUMENT, NOT_SUPPORTED, Return, SUCCESS, UNINITIALIZED};

/// The number of samples in the driver's ring.
pub(crate) const RING: usize = 100;
const DEVICE: usize = 0x1000;
const MIG: usize = 0x10_0000;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct State {
    /// A comment for readers of the file. Ignored.
    #[serde(rename = "$comment")]
    pub(crate) _comment: String,
    pub(crate) driver_version: String,
    pub(crate) cuda_version: i32,
    /// The return code of `nvmlInit_v2`.
    pub(crate) init_return: Return,
    /// The return code of `nvmlInit_v2` while a device is lost, if it does not ignore that.
    pub(crate) init_return_while_lost: Return,
    /// The return code for a field that the driver does not know.
    pub(crate) unknown_field: UnknownField,
    pub(crate) wait_while_lost: WaitWhileLost,
    /// How long a function takes, in microseconds, by name.
    pub(crate) latency_us: HashMap<String, u64>,
    /// The return code of a function on every device, by name.
    pub(crate) force: HashMap<String, Return>,
    pub(crate) devices: Vec<Device>,
}

/// `None` is "not supported by this device".
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) bus_id: String,
    /// The device has fallen off the bus: every call returns that.
    pub(crate) lost: bool,
    /// While it is lost, its handle, UUID, name and address can still be read.
    pub(crate) keeps_identity: bool,
    /// The same, until the library is initialised again.
    pub(crate) lost_until_init: bool,
    /// Utilisation, power and energy follow a load that rises and falls, for demonstrations.
    pub(crate) live: bool,
    pub(crate) force: HashMap<String, Return>,
    /// How long a function takes on this device, in microseconds, by name.
    pub(crate) latency_us: HashMap<String, u64>,
    /// It delivers no events: MIG without privileges, vGPU, WSL.
    pub(crate) no_xid_events: bool,
    /// Percent of time: kernels, memory controller.
    pub(crate) utilization: Option<(u32, u32)>,
    /// Percent of time.
    pub(crate) encoder: Option<u32>,
    pub(crate) decoder: Option<u32>,
    /// The ring of utilisation samples: microseconds and percent.
    pub(crate) samples: Option<VecDeque<(u64, u32)>>,
    pub(crate) memory: Option<Memory>,
    pub(crate) temperature: Option<u32>,
    pub(crate) memory_temperature: Option<u32>,
    /// By `nvmlTemperatureThresholds_t`: 0 shutdown, 1 slowdown, 2 memory, 3 GPU.
    pub(crate) temperature_limits: BTreeMap<u32, u32>,
    pub(crate) power: Power,
    pub(crate) energy_mj: Option<u64>,
    /// By `nvmlClockType_t`: 1 SM, 2 memory. MHz now and at most.
    pub(crate) clocks_mhz: BTreeMap<u32, (u32, u32)>,
    pub(crate) clock_event_reasons: Option<u64>,
    /// Nanoseconds by field id, in the numbering of CUDA 12.
    pub(crate) clock_event_ns: BTreeMap<u32, u64>,
    pub(crate) pcie: Option<Pcie>,
    pub(crate) nvlink_kib: Option<NvLink>,
    pub(crate) ecc: Option<Ecc>,
    pub(crate) remapped_rows: Option<Remapped>,
    pub(crate) recovery_action: Option<u32>,
    /// GPM values by metric id, in the units of `nvml.h`; null is success and NaN, as of an idle device.
    pub(crate) gpm: Option<BTreeMap<u32, Option<f64>>>,
    /// Processes: pid and bytes.
    pub(crate) processes: Vec<(u32, u64)>,
    /// The same for MPS clients, which are not in the other list.
    pub(crate) mps_processes: Vec<(u32, u64)>,
    /// It supports MIG.
    pub(crate) mig_capable: bool,
    /// UUIDs of MIG devices; an empty list is MIG mode without any. With MIG on there is neither utilisation nor row remapping.
    pub(crate) mig: Option<Vec<String>>,
    /// Overrides by field id, in the numbering of CUDA 12.
    pub(crate) fields: BTreeMap<u32, Field>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) reserved: u64,
    pub(crate) used: u64,
}

/// Milliwatts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Power {
    pub(crate) usage: Option<u32>,
    pub(crate) average: Option<u32>,
    pub(crate) instant: Option<u32>,
    pub(crate) enforced_limit: Option<u32>,
    pub(crate) default_limit: Option<u32>,
    pub(crate) max_limit: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pcie {
    pub(crate) replays: u32,
    pub(crate) generation: u32,
    pub(crate) width: u32,
    pub(crate) max_generation: u32,
    pub(crate) max_width: u32,
    /// KB/s.
    pub(crate) tx_kb: Option<u32>,
    pub(crate) rx_kb: Option<u32>,
}

/// By link.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NvLink {
    pub(crate) tx: Vec<u64>,
    pub(crate) rx: Vec<u64>,
    /// Over all links: flow control CRC, data CRC, replay, recovery.
    pub(crate) errors: Option<[u64; 4]>,
}

/// Volatile and aggregate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ecc {
    pub(crate) corrected: (u64, u64),
    pub(crate) uncorrected: (u64, u64),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Remapped {
    pub(crate) correctable: u32,
    pub(crate) uncorrectable: u32,
    pub(crate) pending: u32,
    pub(crate) failed: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Field {
    Unsigned(u64),
    Signed(i32),
    Double(f64),
    Failed {
        error: Return,
    },
    /// An integer with the tag of a double: nvbugs 4300930 (driver 545) and 2032468.
    Mistagged {
        mistagged: u64,
    },
    /// NVML bug 2009232, with ECC off: the entry is left as the caller made it, and the call succeeds.
    Untouched {
        #[serde(rename = "untouched")]
        _untouched: bool,
    },
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct UnknownField(pub(crate) Return);

impl Default for UnknownField {
    fn default() -> Self {
        Self(NOT_SUPPORTED)
    }
}

/// The behaviour of the wait for events while a device of the set is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitWhileLost {
    /// Returns that at once in every call, also if there are events.
    #[default]
    SaysSo,
    /// Delivers the available events first, and then returns that.
    EventsFirst,
    /// Ignores it.
    Nothing,
}

impl Device {
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost || self.lost_until_init
    }

    pub(crate) const fn has_mig(&self) -> bool {
        self.mig.is_some()
    }
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) initialised: i64,
    /// The number of devices when the library was initialised: later ones are not visible until the next initialisation.
    pub(crate) devices_at_init: usize,
    pub(crate) calls: HashMap<&'static str, u64>,
    pub(crate) violations: Vec<String>,
    pub(crate) events: VecDeque<(usize, u64)>,
    pub(crate) event_sets: HashMap<usize, HashSet<usize>>,
    pub(crate) gpm_samples: HashMap<usize, Option<(usize, Instant)>>,
    next_object: usize,
}

impl Inner {
    pub(crate) fn new_object(&mut self) -> usize {
        self.next_object += 16;
        0x20_0000 + self.next_object
    }

    /// Adds the event of an error, except for the XIDs that NVML does not deliver (NVIDIA/DCGM#162).
    pub(crate) fn push_xid(&mut self, device: usize, xid: u64) {
        const NOT_DELIVERED: [u64; 3] = [79, 119, 120];
        if !NOT_DELIVERED.contains(&xid) {
            self.events.push_back((device, xid));
        }
    }

    pub(crate) fn violation(&mut self, what: impl Into<String>) -> Return {
        self.violations.push(what.into());
        INVALID_ARGUMENT
    }
}

static INNER: OnceLock<Mutex<Inner>> = OnceLock::new();
/// Wakes the threads that wait for an event.
pub(crate) static EVENT: Condvar = Condvar::new();

pub(crate) fn lock() -> MutexGuard<'static, Inner> {
    let inner = INNER.get_or_init(|| {
        let state = crate::control::state_from_environment();
        Mutex::new(Inner { state, ..Inner::default() })
    });
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The beginning of every function: counts the call, and delays or refuses it if the state says so.
pub(crate) fn enter(function: &'static str) -> Result<MutexGuard<'static, Inner>, Return> {
    let mut inner = lock();
    *inner.calls.entry(function).or_default() += 1;
    if let Some(&latency) = inner.state.latency_us.get(function) {
        drop(inner);
        thread::sleep(Duration::from_micros(latency));
        inner = lock();
    }
    if inner.initialised <= 0 {
        inner.violation(format!("{function} without nvmlInit"));
        return Err(UNINITIALIZED);
    }
    match inner.state.force.get(function) {
        Some(&code) if code != SUCCESS => Err(code),
        _ => Ok(inner),
    }
}

/// A call that a lost device may still answer.
const IDENTITY: [&str; 4] =
    ["nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetHandleByIndex_v2"];

/// The beginning of every function on a device.
pub(crate) fn on_device(function: &'static str, handle: Handle, body: impl FnOnce(&Device) -> Return) -> Return {
    let mut inner = match enter(function) {
        Ok(inner) => inner,
        Err(code) => return code,
    };
    let index = index_of(handle);
    if let Some(latency) = index.and_then(|index| inner.state.devices.get(index)?.latency_us.get(function).copied()) {
        drop(inner);
        thread::sleep(Duration::from_micros(latency));
        inner = lock();
    }
    let Some(device) = index.and_then(|index| inner.state.devices.get(index)) else {
        // A device that was present when the library was initialised, and is gone now.
        if index.is_some_and(|index| index < inner.devices_at_init) {
            return GPU_IS_LOST;
        }
        return inner.violation(format!("{function} on a handle that is none"));
    };
    if device.is_lost() && !(device.keeps_identity && IDENTITY.contains(&function)) {
        return GPU_IS_LOST;
    }
    match device.force.get(function) {
        Some(&code) if code != SUCCESS => code,
        _ if device.live => body(&crate::live::at_this_moment(device)),
        _ => body(device),
    }
}

pub(crate) fn handle_of(index: usize) -> Handle {
    (DEVICE + index * 16) as Handle
}

pub(crate) fn index_of(handle: Handle) -> Option<usize> {
    let offset = (handle as usize).checked_sub(DEVICE)?;
    (offset % 16 == 0 && offset < MIG - DEVICE).then_some(offset / 16)
}

pub(crate) fn mig_handle_of(device: usize, instance: usize) -> Handle {
    (MIG + device * 0x100 + instance) as Handle
}

/// The device and the number of a MIG handle.
pub(crate) fn mig_index_of(handle: Handle) -> Option<(usize, usize)> {
    let offset = (handle as usize).checked_sub(MIG)?;
    (offset < 0x10_0000).then_some((offset / 0x100, offset % 0x100))
}
