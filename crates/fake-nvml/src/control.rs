//! Functions that only the fake library has. A test finds them by name in the same library.

use std::ffi::{CStr, c_char, c_uint, c_ulonglong};

use crate::{
    abi::{INVALID_ARGUMENT, SUCCESS, exports, put_text},
    state::{EVENT, Inner, RING, State, lock},
};

const PROFILES: &[(&str, &str)] = &[
    ("a100", include_str!("../profiles/a100.json")),
    ("b200", include_str!("../profiles/b200.json")),
    ("gb10", include_str!("../profiles/gb10.json")),
    ("h100", include_str!("../profiles/h100.json")),
    ("h100-mig", include_str!("../profiles/h100-mig.json")),
    ("h200", include_str!("../profiles/h200.json")),
    ("l40s", include_str!("../profiles/l40s.json")),
    ("old-driver", include_str!("../profiles/old-driver.json")),
    ("rtx4090", include_str!("../profiles/rtx4090.json")),
    ("t4", include_str!("../profiles/t4.json")),
    ("two-mixed", include_str!("../profiles/two-mixed.json")),
    ("vgpu", include_str!("../profiles/vgpu.json")),
    ("wsl", include_str!("../profiles/wsl.json")),
];

/// The state according to environment variables; if `FAKE_NVML_LIVE` is set, with a load that rises and falls. A state that cannot be read is
/// reported on standard error, and the library then has no GPUs.
pub(crate) fn state_from_environment() -> State {
    let json = if let Ok(name) = std::env::var("FAKE_NVML_PROFILE") {
        let Some(json) = profile(&name) else {
            let known = PROFILES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            eprintln!("fake-nvml: there is no profile {name:?}; there are {known}");
            return State::default();
        };
        json.to_owned()
    } else if let Ok(path) = std::env::var("FAKE_NVML_STATE") {
        match std::fs::read_to_string(&path) {
            Ok(json) => json,
            Err(error) => {
                eprintln!("fake-nvml: cannot read FAKE_NVML_STATE {path:?}: {error}");
                return State::default();
            }
        }
    } else {
        return State::default();
    };
    let mut state = parse(&json).unwrap_or_default();
    if std::env::var_os("FAKE_NVML_LIVE").is_some() {
        state.devices.iter_mut().for_each(|device| device.live = true);
    }
    state
}

/// XIDs for a separate process: a test moves a file to the path in `FAKE_NVML_XIDS`, with a line `DEVICE XID` for each. The
/// file is deleted after it was read.
pub(crate) fn take_written_xids(inner: &mut Inner) {
    let Some(path) = std::env::var_os("FAKE_NVML_XIDS") else { return };
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let _ = std::fs::remove_file(&path);
    for line in text.lines() {
        match line.split_once(' ').map(|(device, xid)| (device.parse(), xid.trim().parse())) {
            Some((Ok(device), Ok(xid))) => inner.push_xid(device, xid),
            _ => eprintln!("fake-nvml: not `DEVICE XID`: {line:?}"),
        }
    }
}

fn profile(name: &str) -> Option<&'static str> {
    PROFILES.iter().find(|(known, _)| *known == name).map(|(_, json)| *json)
}

fn parse(json: &str) -> Option<State> {
    serde_json::from_str(json).map_err(|error| eprintln!("fake-nvml: not a state: {error}")).ok()
}

/// # Safety
/// `text` is null or a C string.
unsafe fn text_of<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: by the contract of this function.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

exports! {
    fn fake_nvml_set_state(json: *const c_char) {
        // SAFETY: a C string by contract.
        let Some(state) = unsafe { text_of(json) }.and_then(parse) else { return INVALID_ARGUMENT };
        lock().state = state;
        SUCCESS
    }

    fn fake_nvml_set_profile(name: *const c_char) {
        // SAFETY: a C string by contract.
        let Some(state) = unsafe { text_of(name) }.and_then(profile).and_then(parse) else { return INVALID_ARGUMENT };
        lock().state = state;
        SUCCESS
    }

    fn fake_nvml_push_xid(device: c_uint, xid: c_ulonglong) {
        lock().push_xid(device as usize, xid);
        EVENT.notify_all();
        SUCCESS
    }

    /// Appends to the ring of utilisation samples, which drops its oldest.
    fn fake_nvml_push_sample(device: c_uint, timestamp: c_ulonglong, percent: c_uint) {
        let mut inner = lock();
        let Some(device) = inner.state.devices.get_mut(device as usize) else { return INVALID_ARGUMENT };
        let ring = device.samples.get_or_insert_default();
        ring.push_back((timestamp, percent));
        while ring.len() > RING {
            ring.pop_front();
        }
        SUCCESS
    }

    /// The number of calls of a function; for an empty name, of all functions of NVML.
    fn fake_nvml_calls(function: *const c_char) -> c_ulonglong {
        // SAFETY: a C string by contract.
        let Some(name) = (unsafe { text_of(function) }) else { return 0 };
        let inner = lock();
        if name.is_empty() { inner.calls.values().sum() } else { inner.calls.get(name).copied().unwrap_or(0) }
    }

    fn fake_nvml_reset_calls() {
        lock().calls.clear();
        SUCCESS
    }

    /// Initialisations that were not shut down.
    fn fake_nvml_initialised() -> c_ulonglong { lock().initialised.max(0) as c_ulonglong }

    fn fake_nvml_event_sets() -> c_ulonglong { lock().event_sets.len() as c_ulonglong }

    fn fake_nvml_gpm_samples() -> c_ulonglong { lock().gpm_samples.len() as c_ulonglong }

    /// Misuse by the program that would crash the real library, one line for each; truncated to the buffer.
    fn fake_nvml_violations(buffer: *mut c_char, length: c_uint) {
        let mut text = lock().violations.join("\n");
        let mut end = text.len().min((length as usize).saturating_sub(1));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        // SAFETY: the buffer has that length by contract.
        unsafe { put_text(buffer, length, &text) }
    }
}
