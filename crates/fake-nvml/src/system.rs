//! The library itself, its devices, and events.

use std::{
    collections::HashSet,
    ffi::{CStr, c_char, c_int, c_uint, c_ulonglong},
    time::{Duration, Instant},
};

use crate::{
    abi::{
        EventData, GPU_IS_LOST, Handle, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Return, SUCCESS, TIMEOUT, exports,
        put, put_text,
    },
    state::{Device, EVENT, Inner, WaitWhileLost, enter, handle_of, index_of, lock, on_device},
};

const XID_CRITICAL_ERROR: u64 = 8;

fn initialise(function: &'static str) -> Return {
    let latency = {
        let mut inner = lock();
        *inner.calls.entry(function).or_default() += 1;
        inner.state.latency_us.get(function).copied()
    };
    if let Some(latency) = latency {
        std::thread::sleep(Duration::from_micros(latency));
    }
    let mut inner = lock();
    if inner.state.init_return != SUCCESS {
        return inner.state.init_return;
    }
    // Only the first initialisation looks at the devices; the others are counted.
    if inner.initialised == 0 {
        inner.state.devices.iter_mut().for_each(|device| device.lost_until_init = false);
        if inner.state.devices.iter().any(Device::is_lost) && inner.state.init_return_while_lost != SUCCESS {
            return inner.state.init_return_while_lost;
        }
        inner.devices_at_init = inner.state.devices.len();
    }
    inner.initialised += 1;
    SUCCESS
}

fn on_system(function: &'static str, body: impl FnOnce(&mut Inner) -> Return) -> Return {
    match enter(function) {
        Ok(mut inner) => body(&mut inner),
        Err(code) => code,
    }
}

exports! {
    fn nvmlInit_v2() { initialise("nvmlInit_v2") }

    fn nvmlInitWithFlags(_flags: c_uint) { initialise("nvmlInitWithFlags") }

    fn nvmlShutdown() {
        let mut inner = match enter("nvmlShutdown") {
            Ok(inner) => inner,
            Err(code) => return code,
        };
        inner.initialised -= 1;
        SUCCESS
    }

    fn nvmlSystemGetDriverVersion(buffer: *mut c_char, length: c_uint) {
        // SAFETY: the buffer has that length by contract.
        on_system("nvmlSystemGetDriverVersion", |inner| unsafe { put_text(buffer, length, &inner.state.driver_version) })
    }

    fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) {
        // SAFETY: a valid pointer by contract.
        on_system("nvmlSystemGetCudaDriverVersion_v2", |inner| unsafe { put(version, inner.state.cuda_version) })
    }

    /// Without libcuda, which the second version needs.
    fn nvmlSystemGetCudaDriverVersion(version: *mut c_int) {
        // SAFETY: a valid pointer by contract.
        on_system("nvmlSystemGetCudaDriverVersion", |inner| unsafe { put(version, inner.state.cuda_version) })
    }

    fn nvmlDeviceGetCount_v2(count: *mut c_uint) {
        // SAFETY: a valid pointer by contract.
        on_system("nvmlDeviceGetCount_v2", |inner| unsafe { put(count, inner.devices_at_init as c_uint) })
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, handle: *mut Handle) {
        if index as usize >= lock().devices_at_init {
            return on_system("nvmlDeviceGetHandleByIndex_v2", |_| INVALID_ARGUMENT);
        }
        let found = handle_of(index as usize);
        // SAFETY: a valid pointer by contract.
        on_device("nvmlDeviceGetHandleByIndex_v2", found, |_| unsafe { put(handle, found) })
    }

    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, handle: *mut Handle) {
        if uuid.is_null() {
            return INVALID_ARGUMENT;
        }
        // SAFETY: a C string by contract.
        let uuid = unsafe { CStr::from_ptr(uuid) }.to_string_lossy();
        on_system("nvmlDeviceGetHandleByUUID", |inner| {
            match inner.state.devices.iter().position(|device| device.uuid == uuid) {
                // SAFETY: a valid pointer by contract.
                Some(index) => unsafe { put(handle, handle_of(index)) },
                None => NOT_FOUND,
            }
        })
    }

    fn nvmlEventSetCreate(set: *mut Handle) {
        on_system("nvmlEventSetCreate", |inner| {
            let object = inner.new_object();
            inner.event_sets.insert(object, HashSet::new());
            // SAFETY: a valid pointer by contract.
            unsafe { put(set, object as Handle) }
        })
    }

    fn nvmlEventSetFree(set: Handle) {
        on_system("nvmlEventSetFree", |inner| match inner.event_sets.remove(&(set as usize)) {
            Some(_) => SUCCESS,
            None => inner.violation("nvmlEventSetFree of a set that is none"),
        })
    }

    fn nvmlDeviceGetSupportedEventTypes(device: Handle, types: *mut c_ulonglong) {
        // SAFETY: a valid pointer by contract.
        on_device("nvmlDeviceGetSupportedEventTypes", device, |device| unsafe {
            put(types, if device.no_xid_events { 0 } else { XID_CRITICAL_ERROR })
        })
    }

    fn nvmlDeviceRegisterEvents(device: Handle, types: c_ulonglong, set: Handle) {
        let code = on_device("nvmlDeviceRegisterEvents", device, |device| {
            if device.no_xid_events { NOT_SUPPORTED } else { SUCCESS }
        });
        if code != SUCCESS {
            return code;
        }
        let mut inner = lock();
        match (inner.event_sets.get_mut(&(set as usize)), index_of(device)) {
            (Some(members), Some(index)) if types == XID_CRITICAL_ERROR => {
                members.insert(index);
                SUCCESS
            }
            _ => inner.violation("nvmlDeviceRegisterEvents with a bad set, device or type"),
        }
    }

    /// Waits for the first event of a device in the set; events of other devices stay.
    fn nvmlEventSetWait_v2(set: Handle, data: *mut EventData, timeout_ms: c_uint) {
        let mut inner = match enter("nvmlEventSetWait_v2") {
            Ok(inner) => inner,
            Err(code) => return code,
        };
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        crate::control::take_written_xids(&mut inner);
        loop {
            let Some(members) = inner.event_sets.get(&(set as usize)) else {
                return inner.violation("nvmlEventSetWait_v2 on a set that is none");
            };
            let gone = |index: &usize| inner.state.devices.get(*index).is_none_or(Device::is_lost);
            let (says_so, members) = (members.iter().any(gone), members.clone());
            if says_so && inner.state.wait_while_lost == WaitWhileLost::SaysSo {
                return GPU_IS_LOST;
            }
            let mine = inner.events.iter().position(|(device, _)| members.contains(device));
            if let Some((device, xid)) = mine.and_then(|at| inner.events.remove(at)) {
                let event = EventData {
                    device: handle_of(device),
                    event_type: XID_CRITICAL_ERROR,
                    event_data: xid,
                    gpu_instance: u32::MAX,
                    compute_instance: u32::MAX,
                };
                // SAFETY: a valid pointer by contract.
                return unsafe { put(data, event) };
            }
            if says_so && inner.state.wait_while_lost == WaitWhileLost::EventsFirst {
                return GPU_IS_LOST;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return TIMEOUT;
            }
            inner = match EVENT.wait_timeout(inner, left) {
                Ok((inner, _)) => inner,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
