//! The calls that `nvml-wrapper` does not make, or not in the way that is needed. All of this crate's unsafe code is here.

#![allow(unsafe_code, reason = "the C functions of NVML")]

use std::mem::MaybeUninit;

use nvml_wrapper::{
    Device, EventSet, FieldIdScheme, GpmSample, Nvml,
    bitmasks::event::EventTypes,
    error::{NvmlError, nvml_sym, nvml_try},
};
use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE as DOUBLE,
    nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_INT as SIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_LONG_LONG as SIGNED_LONG_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT as UNSIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG as UNSIGNED_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG as UNSIGNED_LONG_LONG,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_SHORT as UNSIGNED_SHORT,
};

/// Memory as the first version of the call has it: `used` includes what the driver reserves.
pub(super) struct MemoryV1 {
    pub(super) total: u64,
    pub(super) used: u64,
}

/// `nvmlDeviceGetMemoryInfo`, which the wrapper no longer calls: drivers before 510 have no other.
pub(super) fn memory_v1(device: &Device<'_>) -> Result<MemoryV1, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = MaybeUninit::zeroed();
    // SAFETY: the handle is the device's, and the struct is NVML's own, which all zeroes are a value of.
    let memory = unsafe {
        nvml_try(call(device.handle(), memory.as_mut_ptr()))?;
        memory.assume_init()
    };
    Ok(MemoryV1 { total: memory.total, used: memory.used })
}

/// A field to ask for, in the numbering of CUDA 12, and its scope: a link, or `u32::MAX` for all links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldRequest {
    pub(super) id: u32,
    pub(super) scope: u32,
}

/// A field's value. What is signed and not negative is an integer like any other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FieldNumber {
    Integer(u64),
    Float(f64),
}

/// Several fields in one call, answered by position.
///
/// The wrapper's `field_values_for` cannot set a scope, without which NVLink's fields tell of link 0 alone. A driver may
/// answer with another id than was asked for (it was renumbered), hence by position.
pub(super) fn fields(
    device: &Device<'_>,
    requests: impl Iterator<Item = FieldRequest>,
) -> Result<Vec<Result<FieldNumber, NvmlError>>, NvmlError> {
    let nvml = device.nvml();
    let call = nvml_sym(nvml.lib().nvmlDeviceGetFieldValues.as_ref())?;
    let mut values: Vec<nvmlFieldValue_t> = requests
        .map(|request| {
            // SAFETY: a C struct of integers and a union of numbers: all zeroes are a value of it.
            let mut value: nvmlFieldValue_t = unsafe { MaybeUninit::zeroed().assume_init() };
            value.fieldId = driver_id(nvml.field_id_scheme(), request.id);
            value.scopeId = request.scope;
            value
        })
        .collect();
    // SAFETY: the handle is the device's, and the pointer is good for that many structs.
    nvml_try(unsafe { call(device.handle(), values.len() as i32, values.as_mut_ptr()) })?;
    Ok(values.iter().map(number).collect())
}

fn number(field: &nvmlFieldValue_t) -> Result<FieldNumber, NvmlError> {
    nvml_try(field.nvmlReturn)?;
    let value = field.value;
    // SAFETY: every member of the union is a number, which any bits are a value of; the tag says which was written.
    unsafe {
        Ok(match field.valueType {
            DOUBLE => FieldNumber::Float(value.dVal),
            UNSIGNED_SHORT => FieldNumber::Integer(value.usVal.into()),
            UNSIGNED_INT => FieldNumber::Integer(value.uiVal.into()),
            #[allow(clippy::useless_conversion, reason = "32 bits wide on some platforms")]
            UNSIGNED_LONG => FieldNumber::Integer(value.ulVal.into()),
            UNSIGNED_LONG_LONG => FieldNumber::Integer(value.ullVal),
            SIGNED_INT => signed(value.siVal.into()),
            SIGNED_LONG_LONG => signed(value.sllVal),
            other => return Err(NvmlError::UnexpectedVariant(other)),
        })
    }
}

fn signed(value: i64) -> FieldNumber {
    u64::try_from(value).map_or(FieldNumber::Float(value as f64), FieldNumber::Integer)
}

/// CUDA 13.0 Update 1 (driver 580.82) gave other numbers to 251 to 273.
fn driver_id(scheme: FieldIdScheme, id: u32) -> u32 {
    match (scheme, id) {
        (FieldIdScheme::V13Update1, 251..=255) => id + 18,
        (FieldIdScheme::V13Update1, 256..=273) => id - 5,
        _ => id,
    }
}

/// `nvmlGpmSampleGet` into a sample that is there already: the wrapper would allocate and free one each time.
pub(super) fn gpm_sample_again(device: &Device<'_>, sample: &GpmSample<'_>) -> Result<(), NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlGpmSampleGet.as_ref())?;
    // SAFETY: both handles are live for as long as their owners, which are borrowed.
    nvml_try(unsafe { call(device.handle(), sample.handle()) })
}

/// Adds a device's XIDs to a set. The wrapper's own method frees the set when one device refuses.
pub(super) fn register_xids(device: &Device<'_>, set: &EventSet<'_>) -> Result<(), NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceRegisterEvents.as_ref())?;
    // SAFETY: both handles are live for as long as their owners, which are borrowed.
    nvml_try(unsafe { call(device.handle(), EventTypes::CRITICAL_XID_ERROR.bits(), set.handle()) })
}

/// The bits of what holds the clocks down: by the name that the call has had since CUDA 12.2, or the one before.
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

/// What tells a device from all others while the library is open.
pub(super) fn id(device: &Device<'_>) -> usize {
    // SAFETY: the handle is compared, not used.
    unsafe { device.handle() as usize }
}

/// The first symbol without which the wrapper panics when it drops what it made.
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
