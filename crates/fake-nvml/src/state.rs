//! What the fake pretends, and what it has seen.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::abi::{GPU_IS_LOST, Handle, INVALID_ARGUMENT, Return, SUCCESS, UNINITIALIZED};

/// How many samples the driver's ring holds.
pub(crate) const RING: usize = 100;
const DEVICE: usize = 0x1000;
const MIG: usize = 0x10_0000;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct State {
    /// What a reader of the file should know. Ignored.
    #[serde(rename = "$comment")]
    pub(crate) _comment: String,
    pub(crate) driver_version: String,
    pub(crate) cuda_version: i32,
    /// What `nvmlInit_v2` returns.
    pub(crate) init_return: Return,
    /// How long a function takes, in microseconds, by name.
    pub(crate) latency_us: HashMap<String, u64>,
    /// What a function returns on every device, by name.
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
    /// Fallen off the bus: every call says so.
    pub(crate) lost: bool,
    /// The same, until the library is initialised anew.
    pub(crate) lost_until_init: bool,
    /// Utilisation, power and energy follow a load that comes and goes, for demonstrations.
    pub(crate) live: bool,
    pub(crate) force: HashMap<String, Return>,
    /// Percent of time: kernels, memory controller.
    pub(crate) utilization: Option<(u32, u32)>,
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
    /// GPM values by metric id, in the units of `nvml.h`.
    pub(crate) gpm: Option<BTreeMap<u32, f64>>,
    /// Processes: pid and bytes.
    pub(crate) processes: Vec<(u32, u64)>,
    /// UUIDs of MIG devices; an empty list is MIG mode without any.
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
    Double(f64),
    Failed { error: Return },
}

impl Device {
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost || self.lost_until_init
    }
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) initialised: i64,
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

    pub(crate) fn violation(&mut self, what: impl Into<String>) -> Return {
        self.violations.push(what.into());
        INVALID_ARGUMENT
    }
}

static INNER: OnceLock<Mutex<Inner>> = OnceLock::new();
/// Wakes who waits for an event.
pub(crate) static EVENT: Condvar = Condvar::new();

pub(crate) fn lock() -> MutexGuard<'static, Inner> {
    let inner = INNER.get_or_init(|| {
        let state = crate::control::state_from_environment();
        Mutex::new(Inner { state, ..Inner::default() })
    });
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The beginning of every function: counted, delayed, refused where the state says so.
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

/// The beginning of every function on a device.
pub(crate) fn on_device(function: &'static str, handle: Handle, body: impl FnOnce(&Device) -> Return) -> Return {
    let mut inner = match enter(function) {
        Ok(inner) => inner,
        Err(code) => return code,
    };
    let Some(device) = index_of(handle).and_then(|index| inner.state.devices.get(index)) else {
        return inner.violation(format!("{function} on a handle that is none"));
    };
    if device.is_lost() {
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
