//! Calls that `nvml-wrapper` lacks, or makes in an unsuitable way. All of this crate's unsafe code is here.

#![allow(unsafe_code, reason = "the C functions of NVML")]

use std::{mem::MaybeUninit, ptr};

use nvml_wrapper::{
    Device, EventSet, FieldIdScheme, GpmSample, Nvml,
    bitmasks::event::EventTypes,
    error::{NvmlError, nvml_sym, nvml_try},
};
use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE as INSUFFICIENT_SIZE,
    nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE as DOUBLE, nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_INT as SIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_LONG_LONG as SIGNED_LONG_LONG,
};

/// Memory in the first version of the call: `used` includes the driver's reserved memory.
pub(super) struct MemoryV1 {
    pub(super) total: u64,
    pub(super) used: u64,
}

/// `nvmlDeviceGetMemoryInfo`, which the wrapper no longer calls: drivers before 510 have no other.
pub(super) fn memory_v1(device: &Device<'_>) -> Result<MemoryV1, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = MaybeUninit::zeroed();
    // SAFETY: the handle is the device's, and the struct is NVML's own, for which all zeroes are a valid value.
    let memory = unsafe {
        nvml_try(call(device.handle(), memory.as_mut_ptr()))?;
        memory.assume_init()
    };
    Ok(MemoryV1 { total: memory.total, used: memory.used })
}

/// A field to read, in the numbering of CUDA 12; its scope: a link, or `u32::MAX` for all links; and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldRequest {
    pub(super) id: u32,
    pub(super) scope: u32,
    pub(super) width: Width,
}

/// The type of a field in `nvml.h`. All fields here are unsigned integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Bits32,
    Bits64,
}

/// Reads several fields in one call; results are in the same order.
///
/// The wrapper's `field_values_for` cannot set a scope, without which NVLink's fields are about link 0 only. A driver may return another id than
/// requested (it was renumbered), so results are matched by position.
pub(super) fn fields(device: &Device<'_>, requests: &[FieldRequest]) -> Result<Vec<Result<u64, NvmlError>>, NvmlError> {
    let nvml = device.nvml();
    let call = nvml_sym(nvml.lib().nvmlDeviceGetFieldValues.as_ref())?;
    let mut values: Vec<nvmlFieldValue_t> = requests
        .iter()
        .map(|request| {
            // SAFETY: a C struct of integers and a union of numbers: all zeroes are a valid value.
            let mut value: nvmlFieldValue_t = unsafe { MaybeUninit::zeroed().assume_init() };
            value.fieldId = driver_id(nvml.field_id_scheme(), request.id);
            value.scopeId = request.scope;
            value
        })
        .collect();
    // SAFETY: the handle is the device's, and the pointer is good for that many structs.
    nvml_try(unsafe { call(device.handle(), values.len() as i32, values.as_mut_ptr()) })?;
    Ok(values.iter().zip(requests).map(|(value, request)| integer(value, request.width)).collect())
}

fn integer(field: &nvmlFieldValue_t, width: Width) -> Result<u64, NvmlError> {
    nvml_try(field.nvmlReturn)?;
    let value = field.value;
    // SAFETY: every member of the union is a number, for which any bits are a valid value; all of it was zeroed before.
    let (bits, signed, signed_long) = unsafe { (value.ullVal, value.siVal, value.sllVal) };
    if (field.timestamp, field.latencyUsec, field.valueType, bits) == (0, 0, DOUBLE, 0) {
        // Unchanged, as memory errors are if ECC is off (NVML bug 2009232, which DCGM handles).
        return Err(NvmlError::NotSupported);
    }
    Ok(match (field.valueType, width) {
        // A negative value is invalid.
        (SIGNED_INT, _) => u64::try_from(signed).unwrap_or(u64::MAX),
        (SIGNED_LONG_LONG, _) => u64::try_from(signed_long).unwrap_or(u64::MAX),
        // Not by the tag: drivers set that of a double on integers (nvbugs 2032468, 4300930).
        (_, Width::Bits64) => bits,
        // SAFETY: as above.
        (_, Width::Bits32) => unsafe { value.uiVal }.into(),
    })
}

/// CUDA 13.0 Update 1 (driver 580.82) renumbered 251 to 273.
fn driver_id(scheme: FieldIdScheme, id: u32) -> u32 {
    match (scheme, id) {
        (FieldIdScheme::V13Update1, 251..=255) => id + 18,
        (FieldIdScheme::V13Update1, 256..=273) => id - 5,
        _ => id,
    }
}

/// `nvmlGpmSampleGet` into an existing sample: the wrapper would allocate and free one each time.
pub(super) fn gpm_sample_again(device: &Device<'_>, sample: &GpmSample<'_>) -> Result<(), NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlGpmSampleGet.as_ref())?;
    // SAFETY: both handles are live for as long as their owners, which are borrowed.
    nvml_try(unsafe { call(device.handle(), sample.handle()) })
}

/// Adds a device's XIDs to a set. The wrapper's own method frees the set if one device refuses.
pub(super) fn register_xids(device: &Device<'_>, set: &EventSet<'_>) -> Result<(), NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceRegisterEvents.as_ref())?;
    // SAFETY: both handles are live for as long as their owners, which are borrowed.
    nvml_try(unsafe { call(device.handle(), EventTypes::CRITICAL_XID_ERROR.bits(), set.handle()) })
}

/// The bits of the clock event reasons: by the name of the call since CUDA 12.2, or the previous one.
pub(super) fn clock_event_reasons(device: &Device<'_>) -> Result<u64, NvmlError> {
    let lib = device.nvml().lib();
    let call = match lib.nvmlDeviceGetCurrentClocksEventReasons.as_ref() {
        Ok(call) => call,
        Err(_) => nvml_sym(lib.nvmlDeviceGetCurrentClocksThrottleReasons.as_ref())?,
    };
    let mut reasons = 0;
    // SAFETY: the handle is the device's, and the pointer is to an integer of that width.
    nvml_try(unsafe { call(device.handle(), &raw mut reasons) })?;
    Ok(reasons)
}

/// A process, and its memory if the driver reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) used_memory: Option<u64>,
}

/// Which processes to list: MPS clients have a separate list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessList {
    Compute,
    MpsClients,
}

/// `nvmlDeviceGet(MPS)ComputeRunningProcesses_v3`, into a buffer for entries of either size.
///
/// Drivers 535.43 to 535.86 write entries of 32 bytes where `nvml.h` has 24 (XuehaiPan/nvitop#79), beyond the end of the wrapper's buffer.
pub(super) fn processes(device: &Device<'_>, list: ProcessList, wide: bool) -> Result<Vec<Process>, NvmlError> {
    const WORDS: usize = 4;
    /// Room for processes that start in between.
    const SPARE: u32 = 8;

    let lib = device.nvml().lib();
    let call = nvml_sym(match list {
        ProcessList::Compute => lib.nvmlDeviceGetComputeRunningProcesses_v3.as_ref(),
        ProcessList::MpsClients => lib.nvmlDeviceGetMPSComputeRunningProcesses_v3.as_ref(),
    })?;
    let mut count = 0;
    // SAFETY: the handle is the device's; no entry is written where there is room for none.
    match unsafe { call(device.handle(), &raw mut count, ptr::null_mut()) } {
        INSUFFICIENT_SIZE => {}
        other => return nvml_try(other).map(|()| Vec::new()),
    }
    count += SPARE;
    let mut words = vec![0_u64; count as usize * WORDS];
    // SAFETY: the handle is the device's, and there is room for `count` entries of the larger size, aligned as they are.
    nvml_try(unsafe { call(device.handle(), &raw mut count, words.as_mut_ptr().cast()) })?;
    let entries = words.chunks_exact(if wide { WORDS } else { WORDS - 1 }).take(count as usize);
    Ok(entries
        .map(|entry| {
            // The process's number and four bytes of padding; then the memory, of which the largest number is "unknown".
            let [a, b, c, d, ..] = entry[0].to_ne_bytes();
            let used_memory = Some(entry[1]).filter(|bytes| *bytes != u64::MAX);
            Process { pid: u32::from_ne_bytes([a, b, c, d]), used_memory }
        })
        .collect())
}

/// `nvmlSystemGetCudaDriverVersion`, which needs no libcuda: a container for utilities has none.
pub(super) fn cuda_version(nvml: &Nvml) -> Result<i32, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlSystemGetCudaDriverVersion.as_ref())?;
    let mut version = 0;
    // SAFETY: the pointer is to an integer of that width.
    nvml_try(unsafe { call(&raw mut version) })?;
    Ok(version)
}

/// An address inside the loaded library.
pub(super) fn address_in_library(nvml: &Nvml) -> Option<usize> {
    nvml.lib().nvmlDeviceGetCount_v2.as_ref().ok().map(|function| *function as usize)
}

/// Identifies a device while the library is open.
pub(super) fn id(device: &Device<'_>) -> usize {
    // SAFETY: the handle is compared, not used.
    unsafe { device.handle() as usize }
}

/// The first missing symbol without which the wrapper panics when it drops its objects.
pub(super) fn missing_destructor(nvml: &Nvml) -> Option<&'static str> {
    nvml.lib().nvmlShutdown.is_err().then_some("nvmlShutdown")
}

/// Whether an event set can be waited for and freed again.
pub(super) fn has_events(nvml: &Nvml) -> bool {
    let lib = nvml.lib();
    lib.nvmlEventSetWait_v2.is_ok() && lib.nvmlEventSetFree.is_ok()
}

/// Whether a GPM sample can be freed again.
pub(super) fn has_gpm(nvml: &Nvml) -> bool {
    let lib = nvml.lib();
    lib.nvmlGpmSampleFree.is_ok() && lib.nvmlGpmMetricsGet.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_other_numbers_from_driver_580_82_on() {
        let (before, after) = ([250, 251, 255, 256, 273, 274], [250, 269, 273, 251, 268, 274]);
        assert_eq!(before.map(|id| driver_id(FieldIdScheme::V13Update1, id)), after);
        assert_eq!(before.map(|id| driver_id(FieldIdScheme::V12, id)), before);
    }
}
