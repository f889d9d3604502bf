//! The functions of a device.

use std::{
    ffi::{c_char, c_uint, c_ulonglong},
    time::{Duration, Instant},
};

use crate::{
    abi::{
        ARGUMENT_VERSION_MISMATCH, GpmRequest, GpmSupport, Handle, INSUFFICIENT_SIZE, INVALID_ARGUMENT, MemoryV1,
        MemoryV2, NOT_FOUND, NOT_SUPPORTED, PciInfo, Process, Process535, Return, SUCCESS, Sample, UNSIGNED_INT,
        Utilization, Value, exports, put, put_text,
    },
    state::{RING, enter, handle_of, index_of, lock, mig_handle_of, mig_index_of, on_device},
};

const GPU_UTILIZATION_SAMPLES: c_uint = 1;

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
        |device| device.utilization.filter(|_| !device.has_mig()).map(|(gpu, memory)| Utilization { gpu, memory });
    nvmlDeviceGetMemoryInfo() -> MemoryV1 = |device| device.memory.as_ref().map(|memory| {
        // The first version includes the driver's reserved memory in the used memory.
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

    /// Works for a GPU, and for a MIG device.
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
            if !device.mig_capable && !device.has_mig() {
                return NOT_SUPPORTED;
            }
            let mode = device.has_mig().into();
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

    fn nvmlDeviceGetSamples(
        device: Handle, kind: c_uint, last_seen: c_ulonglong, value_type: *mut c_uint, count: *mut c_uint,
        samples: *mut Sample,
    ) {
        on_device("nvmlDeviceGetSamples", device, |device| {
            let ring = device.samples.as_ref().filter(|_| kind == GPU_UTILIZATION_SAMPLES && !device.has_mig());
            let Some(ring) = ring else { return NOT_SUPPORTED };
            if count.is_null() || value_type.is_null() {
                return INVALID_ARGUMENT;
            }
            let newer = ring.iter().filter(|(timestamp, _)| *timestamp > last_seen || last_seen == 0);
            let newer: Vec<_> = newer.collect();
            // SAFETY: valid pointers by contract; `samples`, if any, has room for `*count`.
            unsafe {
                *value_type = UNSIGNED_INT;
                if samples.is_null() {
                    // The maximum number of samples, whether any is new or not.
                    *count = RING as c_uint;
                    return SUCCESS;
                }
                if *count == 0 {
                    return INVALID_ARGUMENT;
                }
                if newer.is_empty() {
                    return NOT_FOUND;
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

    fn nvmlDeviceGetComputeRunningProcesses_v3(device: Handle, count: *mut c_uint, target: *mut Process) {
        let wide = has_wide_processes(&lock().state.driver_version);
        on_device("nvmlDeviceGetComputeRunningProcesses_v3", device, |device| {
            // SAFETY: valid pointers by contract; `target` has room for as many as `count` says.
            unsafe { put_processes(count, target, &device.processes, wide) }
        })
    }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(device: Handle, count: *mut c_uint, target: *mut Process) {
        let wide = has_wide_processes(&lock().state.driver_version);
        on_device("nvmlDeviceGetMPSComputeRunningProcesses_v3", device, |device| {
            // SAFETY: valid pointers by contract; `target` has room for as many as `count` says.
            unsafe { put_processes(count, target, &device.mps_processes, wide) }
        })
    }

    fn nvmlDeviceGetEncoderUtilization(device: Handle, percent: *mut c_uint, period_us: *mut c_uint) {
        // SAFETY: valid pointers by contract.
        on_device("nvmlDeviceGetEncoderUtilization", device, |device| unsafe {
            put_engine(percent, period_us, device.encoder)
        })
    }

    fn nvmlDeviceGetDecoderUtilization(device: Handle, percent: *mut c_uint, period_us: *mut c_uint) {
        // SAFETY: valid pointers by contract.
        on_device("nvmlDeviceGetDecoderUtilization", device, |device| unsafe {
            put_engine(percent, period_us, device.decoder)
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
                    Some(value) => (metric.result, metric.value) = (SUCCESS, value.unwrap_or(f64::NAN)),
                    None => metric.result = NOT_SUPPORTED,
                }
            }
            SUCCESS
        })
    }
}

/// Drivers 535.43 to 535.86 gave an entry 32 bytes where their header had 24 (XuehaiPan/nvitop#79).
fn has_wide_processes(driver_version: &str) -> bool {
    ((535, 43)..=(535, 86)).contains(&version(driver_version))
}

pub(crate) fn version(driver_version: &str) -> (u32, u32) {
    let mut parts = driver_version.split('.').map_while(|part| part.parse().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// # Safety
/// `count` is null or valid; `target` has room for as many entries as it says, of the size that this driver has.
unsafe fn put_processes(count: *mut c_uint, target: *mut Process, processes: &[(u32, u64)], wide: bool) -> Return {
    if count.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: by the contract of this function.
    unsafe {
        let room = *count as usize;
        *count = processes.len() as c_uint;
        if room < processes.len() {
            return INSUFFICIENT_SIZE;
        }
        for (at, &(pid, used_memory)) in processes.iter().enumerate() {
            let process = Process { pid, used_memory, gpu_instance: u32::MAX, compute_instance: u32::MAX };
            if wide {
                target.cast::<Process535>().add(at).write(Process535 { process, used_protected_memory: 0 });
            } else {
                target.add(at).write(process);
            }
        }
    }
    SUCCESS
}

/// # Safety
/// Both are null or valid for writes.
unsafe fn put_engine(percent: *mut c_uint, period_us: *mut c_uint, value: Option<u32>) -> Return {
    // SAFETY: by the contract of this function.
    unsafe {
        match put_some(percent, value) {
            SUCCESS => put(period_us, 167_000),
            code => code,
        }
    }
}

/// A 32-bit value in the union, with the rest zero.
pub(crate) fn unsigned(value: u32) -> Value {
    let mut wide = Value { unsigned_long_long: 0 };
    wide.unsigned_int = value;
    wide
}
