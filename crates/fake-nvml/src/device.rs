//! What a device answers.

use std::{
    ffi::{c_char, c_int, c_uint, c_ulonglong},
    time::{Duration, Instant},
};

use crate::{
    abi::{
        ARGUMENT_VERSION_MISMATCH, DOUBLE, FieldValue, GpmRequest, GpmSupport, Handle, INSUFFICIENT_SIZE,
        INVALID_ARGUMENT, MemoryV1, MemoryV2, NOT_FOUND, NOT_SUPPORTED, PciInfo, Process, Return, SUCCESS, Sample,
        UNSIGNED_INT, UNSIGNED_LONG_LONG, Utilization, Value, exports, put, put_text,
    },
    state::{Device, Field, RING, enter, handle_of, index_of, lock, mig_handle_of, mig_index_of, on_device},
};

const GPU_UTILIZATION_SAMPLES: c_uint = 1;
/// Both directions of NVLink, over all links.
const ALL_LINKS: c_uint = c_uint::MAX;

/// Writes a value that a device may not have.
///
/// # Safety
/// `target` is null or valid for writes.
unsafe fn put_some<T>(target: *mut T, value: Option<T>) -> Return {
    match value {
        // SAFETY: by the contract of this function.
        Some(value) => unsafe { put(target, value) },
        None => NOT_SUPPORTED,
    }
}

/// Getters of one number: NVIDIA's name, the arguments between the handle and the result, the result, the value.
macro_rules! getters {
    ($($name:ident($($arg:ident),*) -> $type:ty = |$device:ident| $value:expr;)+) => {
        exports! { $(
            fn $name(device: Handle, $($arg: c_uint,)* target: *mut $type) {
                // SAFETY: a valid pointer by the contract of the C function.
                on_device(stringify!($name), device, |$device| unsafe { put_some(target, $value) })
            }
        )+ }
    };
}

getters! {
    nvmlDeviceGetUtilizationRates() -> Utilization =
        |device| device.utilization.map(|(gpu, memory)| Utilization { gpu, memory });
    nvmlDeviceGetMemoryInfo() -> MemoryV1 = |device| device.memory.as_ref().map(|memory| {
        // The first version counts what the driver reserves as used.
        let used = memory.used + memory.reserved;
        MemoryV1 { total: memory.total, free: memory.total.saturating_sub(used), used }
    });
    nvmlDeviceGetTemperature(_sensor) -> c_uint = |device| device.temperature;
    nvmlDeviceGetTemperatureThreshold(kind) -> c_uint = |device| device.temperature_limits.get(&kind).copied();
    nvmlDeviceGetPowerUsage() -> c_uint = |device| device.power.usage;
    nvmlDeviceGetEnforcedPowerLimit() -> c_uint = |device| device.power.enforced_limit;
    nvmlDeviceGetPowerManagementDefaultLimit() -> c_uint = |device| device.power.default_limit;
    nvmlDeviceGetTotalEnergyConsumption() -> c_ulonglong = |device| device.energy_mj;
    nvmlDeviceGetClockInfo(kind) -> c_uint = |device| device.clocks_mhz.get(&kind).map(|clock| clock.0);
    nvmlDeviceGetMaxClockInfo(kind) -> c_uint = |device| device.clocks_mhz.get(&kind).map(|clock| clock.1);
    nvmlDeviceGetCurrentClocksThrottleReasons() -> c_ulonglong = |device| device.clock_event_reasons;
    nvmlDeviceGetCurrentClocksEventReasons() -> c_ulonglong = |device| device.clock_event_reasons;
    nvmlDeviceGetPcieThroughput(counter) -> c_uint =
        |device| device.pcie.as_ref().and_then(|pcie| if counter == 0 { pcie.tx_kb } else { pcie.rx_kb });
    nvmlDeviceGetPcieReplayCounter() -> c_uint = |device| device.pcie.as_ref().map(|pcie| pcie.replays);
    nvmlDeviceGetCurrPcieLinkGeneration() -> c_uint = |device| device.pcie.as_ref().map(|pcie| pcie.generation);
    nvmlDeviceGetCurrPcieLinkWidth() -> c_uint = |device| device.pcie.as_ref().map(|pcie| pcie.width);
    nvmlDeviceGetMaxPcieLinkGeneration() -> c_uint = |device| device.pcie.as_ref().map(|pcie| pcie.max_generation);
    nvmlDeviceGetMaxPcieLinkWidth() -> c_uint = |device| device.pcie.as_ref().map(|pcie| pcie.max_width);
    nvmlDeviceGetTotalEccErrors(severity, counter) -> c_ulonglong = |device| device.ecc.as_ref().map(|ecc| {
        let (volatile, aggregate) = if severity == 0 { ecc.corrected } else { ecc.uncorrected };
        if counter == 0 { volatile } else { aggregate }
    });
    nvmlDeviceGetMaxMigDeviceCount() -> c_uint = |device| device.mig.as_ref().map(|_| 7);
}

exports! {
    fn nvmlDeviceGetIndex(device: Handle, index: *mut c_uint) {
        // SAFETY: a valid pointer by contract.
        on_device("nvmlDeviceGetIndex", device, |_| unsafe {
            put_some(index, index_of(device).map(|index| index as c_uint))
        })
    }

    fn nvmlDeviceGetName(device: Handle, buffer: *mut c_char, length: c_uint) {
        // SAFETY: the buffer has that length by contract.
        on_device("nvmlDeviceGetName", device, |device| unsafe { put_text(buffer, length, &device.name) })
    }

    /// Of a GPU or of a MIG device.
    fn nvmlDeviceGetUUID(device: Handle, buffer: *mut c_char, length: c_uint) {
        let Some((gpu, instance)) = mig_index_of(device) else {
            // SAFETY: the buffer has that length by contract.
            return on_device("nvmlDeviceGetUUID", device, |device| unsafe { put_text(buffer, length, &device.uuid) });
        };
        on_device("nvmlDeviceGetUUID", handle_of(gpu), |gpu| {
            match gpu.mig.as_ref().and_then(|mig| mig.get(instance)) {
                // SAFETY: the buffer has that length by contract.
                Some(uuid) => unsafe { put_text(buffer, length, uuid) },
                None => INVALID_ARGUMENT,
            }
        })
    }

    fn nvmlDeviceGetPciInfo_v3(device: Handle, info: *mut PciInfo) {
        on_device("nvmlDeviceGetPciInfo_v3", device, |device| {
            if info.is_null() {
                return INVALID_ARGUMENT;
            }
            // SAFETY: not null, hence valid by contract; all zeroes is a value of that struct of integers.
            unsafe {
                info.write_bytes(0, 1);
                put_text((&raw mut (*info).bus_id).cast(), 32, &device.bus_id)
            }
        })
    }

    /// Refuses a version word that is not that of the struct, as the real one does.
    fn nvmlDeviceGetMemoryInfo_v2(device: Handle, info: *mut MemoryV2) {
        on_device("nvmlDeviceGetMemoryInfo_v2", device, |device| {
            let Some(memory) = &device.memory else { return NOT_SUPPORTED };
            let version = size_of::<MemoryV2>() as c_uint | (2 << 24);
            // SAFETY: a valid pointer by contract, whose first field the caller has filled.
            if info.is_null() || unsafe { (*info).version } != version {
                return ARGUMENT_VERSION_MISMATCH;
            }
            let &crate::state::Memory { total, reserved, used } = memory;
            let free = total.saturating_sub(used + reserved);
            // SAFETY: as above.
            unsafe { put(info, MemoryV2 { version, total, reserved, free, used }) }
        })
    }

    fn nvmlDeviceGetPowerManagementLimitConstraints(device: Handle, min: *mut c_uint, max: *mut c_uint) {
        // SAFETY: valid pointers by contract.
        on_device("nvmlDeviceGetPowerManagementLimitConstraints", device, |device| unsafe {
            match put_some(max, device.power.max_limit) {
                SUCCESS => put(min, 100_000),
                code => code,
            }
        })
    }

    fn nvmlDeviceGetMigMode(device: Handle, current: *mut c_uint, pending: *mut c_uint) {
        on_device("nvmlDeviceGetMigMode", device, |device| {
            let mode = device.mig.is_some().into();
            // SAFETY: valid pointers by contract.
            unsafe {
                match put(current, mode) {
                    SUCCESS => put(pending, mode),
                    code => code,
                }
            }
        })
    }

    fn nvmlDeviceGetMigDeviceHandleByIndex(device: Handle, index: c_uint, mig: *mut Handle) {
        on_device("nvmlDeviceGetMigDeviceHandleByIndex", device, |gpu| match (&gpu.mig, index_of(device)) {
            (Some(instances), Some(parent)) if (index as usize) < instances.len() => {
                // SAFETY: a valid pointer by contract.
                unsafe { put(mig, mig_handle_of(parent, index as usize)) }
            }
            _ => NOT_FOUND,
        })
    }

    /// Ids are in the numbering of the driver, on the way in and on the way out.
    fn nvmlDeviceGetFieldValues(device: Handle, count: c_int, values: *mut FieldValue) {
        let renumbered = renumbers(&lock().state.driver_version);
        on_device("nvmlDeviceGetFieldValues", device, |device| {
            if values.is_null() || count <= 0 {
                return INVALID_ARGUMENT;
            }
            for at in 0..count as usize {
                // SAFETY: `count` structs by contract.
                let value = unsafe { &mut *values.add(at) };
                value.timestamp = 1;
                value.latency_us = 1;
                match field(device, canonical(renumbered, value.field), value.scope) {
                    Ok((value_type, number)) => {
                        (value.result, value.value_type, value.value) = (SUCCESS, value_type, number);
                    }
                    Err(code) => value.result = code,
                }
            }
            SUCCESS
        })
    }

    fn nvmlDeviceGetSamples(
        device: Handle, kind: c_uint, last_seen: c_ulonglong, value_type: *mut c_uint, count: *mut c_uint,
        samples: *mut Sample,
    ) {
        on_device("nvmlDeviceGetSamples", device, |device| {
            let Some(ring) = device.samples.as_ref().filter(|_| kind == GPU_UTILIZATION_SAMPLES) else {
                return NOT_SUPPORTED;
            };
            if count.is_null() || value_type.is_null() {
                return INVALID_ARGUMENT;
            }
            let newer: Vec<_> = ring.iter().filter(|(timestamp, _)| *timestamp > last_seen).collect();
            if newer.is_empty() {
                return NOT_FOUND;
            }
            // SAFETY: valid pointers by contract; `samples`, if any, has room for `*count`.
            unsafe {
                *value_type = UNSIGNED_INT;
                if samples.is_null() {
                    // How many there may be, whatever is new.
                    *count = RING as c_uint;
                    return SUCCESS;
                }
                let taken = newer.len().min(*count as usize);
                for (at, (timestamp, percent)) in newer.into_iter().take(taken).enumerate() {
                    samples.add(at).write(Sample { timestamp: *timestamp, value: unsigned(*percent) });
                }
                *count = taken as c_uint;
            }
            SUCCESS
        })
    }

    fn nvmlDeviceGetComputeRunningProcesses_v3(device: Handle, count: *mut c_uint, processes: *mut Process) {
        on_device("nvmlDeviceGetComputeRunningProcesses_v3", device, |device| {
            if count.is_null() {
                return INVALID_ARGUMENT;
            }
            // SAFETY: a valid pointer by contract; `processes` has room for as many as it says.
            unsafe {
                let room = *count as usize;
                *count = device.processes.len() as c_uint;
                if room < device.processes.len() {
                    return INSUFFICIENT_SIZE;
                }
                for (at, &(pid, used_memory)) in device.processes.iter().enumerate() {
                    let process =
                        Process { pid, used_memory, gpu_instance: u32::MAX, compute_instance: u32::MAX };
                    processes.add(at).write(process);
                }
            }
            SUCCESS
        })
    }

    fn nvmlGpmQueryDeviceSupport(device: Handle, support: *mut GpmSupport) {
        on_device("nvmlGpmQueryDeviceSupport", device, |device| {
            // SAFETY: a valid pointer by contract, whose version the caller has filled.
            unsafe {
                if support.is_null() || (*support).version != 1 {
                    return ARGUMENT_VERSION_MISMATCH;
                }
                (*support).supported = device.gpm.is_some().into();
            }
            SUCCESS
        })
    }

    fn nvmlGpmSampleAlloc(sample: *mut Handle) {
        match enter("nvmlGpmSampleAlloc") {
            Ok(mut inner) => {
                let object = inner.new_object();
                inner.gpm_samples.insert(object, None);
                // SAFETY: a valid pointer by contract.
                unsafe { put(sample, object as Handle) }
            }
            Err(code) => code,
        }
    }

    fn nvmlGpmSampleFree(sample: Handle) {
        match enter("nvmlGpmSampleFree") {
            Ok(mut inner) => match inner.gpm_samples.remove(&(sample as usize)) {
                Some(_) => SUCCESS,
                None => inner.violation("nvmlGpmSampleFree of a sample that is none"),
            },
            Err(code) => code,
        }
    }

    fn nvmlGpmSampleGet(device: Handle, sample: Handle) {
        let code =
            on_device("nvmlGpmSampleGet", device, |device| if device.gpm.is_some() { SUCCESS } else { NOT_SUPPORTED });
        if code != SUCCESS {
            return code;
        }
        let mut inner = lock();
        match (inner.gpm_samples.get_mut(&(sample as usize)), index_of(device)) {
            (Some(slot), Some(index)) => {
                *slot = Some((index, Instant::now()));
                SUCCESS
            }
            _ => inner.violation("nvmlGpmSampleGet into a sample that is none"),
        }
    }

    fn nvmlGpmMetricsGet(request: *mut GpmRequest) {
        // SAFETY: a valid pointer by contract, whose head the caller has filled.
        let (version, count, first, second) = unsafe {
            if request.is_null() {
                return INVALID_ARGUMENT;
            }
            ((*request).version, (*request).count, (*request).first, (*request).second)
        };
        if version != 1 {
            return ARGUMENT_VERSION_MISMATCH;
        }
        let device = {
            let mut inner = lock();
            let taken = |handle: Handle| inner.gpm_samples.get(&(handle as usize)).copied().flatten();
            match (taken(first), taken(second)) {
                (Some((a, earlier)), Some((b, later))) if a == b => {
                    let apart = later.saturating_duration_since(earlier);
                    if apart < Duration::from_millis(100) {
                        inner.violation(format!("two GPM samples are {apart:?} apart, less than 100 ms"));
                    }
                    a
                }
                _ => return inner.violation("nvmlGpmMetricsGet of samples that are not two of one device"),
            }
        };
        on_device("nvmlGpmMetricsGet", handle_of(device), |device| {
            let Some(gpm) = &device.gpm else { return NOT_SUPPORTED };
            for at in 0..count as usize {
                // SAFETY: `count` metrics follow the head by contract.
                let metric = unsafe { &mut *(&raw mut (*request).metrics).cast::<crate::abi::GpmMetric>().add(at) };
                match gpm.get(&metric.id) {
                    Some(value) => (metric.result, metric.value) = (SUCCESS, *value),
                    None => metric.result = NOT_SUPPORTED,
                }
            }
            SUCCESS
        })
    }
}

/// Whether a driver has the field ids of CUDA 13.0 Update 1.
fn renumbers(driver_version: &str) -> bool {
    let mut parts = driver_version.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (580, 82)
}

/// The id that CUDA 12 has for what this driver calls `id`.
fn canonical(renumbered: bool, id: u32) -> u32 {
    match id {
        269..=273 if renumbered => id - 18,
        251..=268 if renumbered => id + 5,
        _ => id,
    }
}

fn field(device: &Device, id: u32, scope: u32) -> Result<(c_uint, Value), Return> {
    if let Some(field) = device.fields.get(&id) {
        return match *field {
            Field::Unsigned(value) => Ok((UNSIGNED_LONG_LONG, Value { unsigned_long_long: value })),
            Field::Double(value) => Ok((DOUBLE, Value { double: value })),
            Field::Failed { error } => Err(error),
        };
    }
    let wide = |value: Option<u64>| value.map(|value| (UNSIGNED_LONG_LONG, Value { unsigned_long_long: value }));
    let narrow = |value: Option<u32>| value.map(|value| (UNSIGNED_INT, unsigned(value)));
    let ecc = device.ecc.as_ref();
    let rows = device.remapped_rows.as_ref();
    let links = |pick: fn(&crate::state::NvLink) -> &Vec<u64>| {
        let links = pick(device.nvlink_kib.as_ref()?);
        if scope == ALL_LINKS {
            Some(links.iter().fold(0_u64, |sum, kib| sum.saturating_add(*kib)))
        } else {
            links.get(scope as usize).copied()
        }
    };
    match id {
        3 => wide(ecc.map(|ecc| ecc.corrected.0)),
        4 => wide(ecc.map(|ecc| ecc.uncorrected.0)),
        5 => wide(ecc.map(|ecc| ecc.corrected.1)),
        6 => wide(ecc.map(|ecc| ecc.uncorrected.1)),
        74 | 76 | 251..=253 => wide(device.clock_event_ns.get(&id).copied()),
        82 => narrow(device.memory_temperature),
        83 => wide(device.energy_mj),
        94 => narrow(device.pcie.as_ref().map(|pcie| pcie.replays)),
        138 => wide(links(|links| &links.tx)),
        139 => wide(links(|links| &links.rx)),
        142 => narrow(rows.map(|rows| rows.correctable)),
        143 => narrow(rows.map(|rows| rows.uncorrectable)),
        144 => narrow(rows.map(|rows| rows.pending)),
        145 => narrow(rows.map(|rows| rows.failed)),
        185 => narrow(device.power.average),
        186 => narrow(device.power.instant),
        230 => narrow(device.recovery_action),
        _ => None,
    }
    .ok_or(NOT_SUPPORTED)
}

/// A 32-bit value in the union, with the rest zero.
fn unsigned(value: u32) -> Value {
    let mut wide = Value { unsigned_long_long: 0 };
    wide.unsigned_int = value;
    wide
}
