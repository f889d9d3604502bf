//! The C side: return codes, structs and strings, from `nvml.h`.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};

pub(crate) type Return = c_uint;
pub(crate) type Handle = *mut c_void;

pub(crate) const SUCCESS: Return = 0;
pub(crate) const UNINITIALIZED: Return = 1;
pub(crate) const INVALID_ARGUMENT: Return = 2;
pub(crate) const NOT_SUPPORTED: Return = 3;
pub(crate) const NOT_FOUND: Return = 6;
pub(crate) const INSUFFICIENT_SIZE: Return = 7;
pub(crate) const TIMEOUT: Return = 10;
pub(crate) const GPU_IS_LOST: Return = 15;
pub(crate) const ARGUMENT_VERSION_MISMATCH: Return = 25;

/// `NVML_VALUE_TYPE_DOUBLE`, `…_UNSIGNED_INT`, `…_UNSIGNED_LONG_LONG`, `…_SIGNED_INT`.
pub(crate) const DOUBLE: c_uint = 0;
pub(crate) const UNSIGNED_INT: c_uint = 1;
pub(crate) const UNSIGNED_LONG_LONG: c_uint = 3;
pub(crate) const SIGNED_INT: c_uint = 5;

#[repr(C)]
pub(crate) struct Utilization {
    pub(crate) gpu: c_uint,
    pub(crate) memory: c_uint,
}

#[repr(C)]
pub(crate) struct MemoryV1 {
    pub(crate) total: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
}

#[repr(C)]
pub(crate) struct MemoryV2 {
    pub(crate) version: c_uint,
    pub(crate) total: u64,
    pub(crate) reserved: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union Value {
    pub(crate) double: f64,
    pub(crate) unsigned_int: c_uint,
    pub(crate) signed_int: c_int,
    pub(crate) unsigned_long_long: c_ulonglong,
}

#[repr(C)]
pub(crate) struct FieldValue {
    pub(crate) field: c_uint,
    pub(crate) scope: c_uint,
    pub(crate) timestamp: i64,
    pub(crate) latency_us: i64,
    pub(crate) value_type: c_uint,
    pub(crate) result: Return,
    pub(crate) value: Value,
}

#[repr(C)]
pub(crate) struct Sample {
    pub(crate) timestamp: u64,
    pub(crate) value: Value,
}

#[repr(C)]
pub(crate) struct EventData {
    pub(crate) device: Handle,
    pub(crate) event_type: u64,
    pub(crate) event_data: u64,
    pub(crate) gpu_instance: c_uint,
    pub(crate) compute_instance: c_uint,
}

#[repr(C)]
pub(crate) struct Process {
    pub(crate) pid: c_uint,
    pub(crate) used_memory: u64,
    pub(crate) gpu_instance: c_uint,
    pub(crate) compute_instance: c_uint,
}

/// As drivers 535.43 to 535.86 wrote it.
#[repr(C)]
pub(crate) struct Process535 {
    pub(crate) process: Process,
    pub(crate) used_protected_memory: u64,
}

#[repr(C)]
pub(crate) struct PciInfo {
    pub(crate) bus_id_legacy: [c_char; 16],
    pub(crate) domain: c_uint,
    pub(crate) bus: c_uint,
    pub(crate) device: c_uint,
    pub(crate) pci_device_id: c_uint,
    pub(crate) pci_subsystem_id: c_uint,
    pub(crate) bus_id: [c_char; 32],
}

#[repr(C)]
pub(crate) struct GpmSupport {
    pub(crate) version: c_uint,
    pub(crate) supported: c_uint,
}

#[repr(C)]
pub(crate) struct GpmMetric {
    pub(crate) id: c_uint,
    pub(crate) result: Return,
    pub(crate) value: f64,
    pub(crate) names: [*mut c_char; 3],
}

#[repr(C)]
pub(crate) struct GpmRequest {
    pub(crate) version: c_uint,
    pub(crate) count: c_uint,
    pub(crate) first: Handle,
    pub(crate) second: Handle,
    pub(crate) metrics: [GpmMetric; 0],
}

/// Writes `text` as the real library does: with a NUL, and not at all into a buffer that is too small.
///
/// # Safety
/// `buffer` is null or has room for `length` bytes.
pub(crate) unsafe fn put_text(buffer: *mut c_char, length: c_uint, text: &str) -> Return {
    if buffer.is_null() {
        return INVALID_ARGUMENT;
    }
    if text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: the text and its NUL fit into the buffer, as was just checked.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, text.len());
        *buffer.add(text.len()) = 0;
    }
    SUCCESS
}

/// Writes one value through a pointer that C handed in.
///
/// # Safety
/// `target` is null or valid for writes.
pub(crate) unsafe fn put<T>(target: *mut T, value: T) -> Return {
    if target.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, and valid by the contract of the C function.
    unsafe { target.write(value) };
    SUCCESS
}

/// Defines exported functions of the C ABI.
macro_rules! exports {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $return:ty)? $body:block)+) => {
        $($(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> exports!(@ $($return)?) $body)+
    };
    (@ $return:ty) => { $return };
    (@) => { $crate::abi::Return };
}
pub(crate) use exports;
