//! Fields: several values in one call, by number.

use std::{
    ffi::{c_int, c_uint},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    abi::{
        DOUBLE, FieldValue, Handle, INVALID_ARGUMENT, Return, SIGNED_INT, SUCCESS, UNSIGNED_INT, UNSIGNED_LONG_LONG,
        Value, exports,
    },
    device::{unsigned, version},
    state::{Device, Field, lock, on_device},
};

/// Both directions of NVLink, over all links.
const ALL_LINKS: c_uint = c_uint::MAX;

exports! {
    /// Ids are in the numbering of the driver, in the request and in the result.
    fn nvmlDeviceGetFieldValues(device: Handle, count: c_int, values: *mut FieldValue) {
        let (renumbered, unknown) = {
            let state = &lock().state;
            (renumbers(&state.driver_version), state.unknown_field.0)
        };
        on_device("nvmlDeviceGetFieldValues", device, |device| {
            if values.is_null() || count <= 0 {
                return INVALID_ARGUMENT;
            }
            for at in 0..count as usize {
                // SAFETY: `count` structs by contract.
                let value = unsafe { &mut *values.add(at) };
                let id = canonical(renumbered, value.field);
                if matches!(device.fields.get(&id), Some(Field::Untouched { .. })) {
                    continue;
                }
                let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                value.timestamp = since_1970.as_micros() as i64;
                value.latency_us = 1;
                match field(device, id, value.scope, unknown) {
                    Ok((value_type, number)) => {
                        (value.result, value.value_type, value.value) = (SUCCESS, value_type, number);
                    }
                    Err(code) => value.result = code,
                }
            }
            SUCCESS
        })
    }
}

/// Whether a driver has the field ids of CUDA 13.0 Update 1.
fn renumbers(driver_version: &str) -> bool {
    version(driver_version) >= (580, 82)
}

/// The id that CUDA 12 has for what this driver calls `id`.
fn canonical(renumbered: bool, id: u32) -> u32 {
    match id {
        269..=273 if renumbered => id - 18,
        251..=268 if renumbered => id + 5,
        _ => id,
    }
}

fn field(device: &Device, id: u32, scope: u32, unknown: Return) -> Result<(c_uint, Value), Return> {
    if let Some(field) = device.fields.get(&id) {
        return match *field {
            Field::Unsigned(value) => Ok((UNSIGNED_LONG_LONG, Value { unsigned_long_long: value })),
            Field::Signed(value) => Ok((SIGNED_INT, Value { signed_int: value })),
            Field::Double(value) => Ok((DOUBLE, Value { double: value })),
            Field::Mistagged { mistagged } => Ok((DOUBLE, Value { unsigned_long_long: mistagged })),
            Field::Failed { error } => Err(error),
            Field::Untouched { .. } => Err(unknown),
        };
    }
    let wide = |value: Option<u64>| value.map(|value| (UNSIGNED_LONG_LONG, Value { unsigned_long_long: value }));
    let narrow = |value: Option<u32>| value.map(|value| (UNSIGNED_INT, unsigned(value)));
    let ecc = device.ecc.as_ref();
    let rows = device.remapped_rows.as_ref().filter(|_| !device.has_mig());
    let links = |pick: fn(&crate::state::NvLink) -> &Vec<u64>| {
        let links = pick(device.nvlink_kib.as_ref()?);
        if scope == ALL_LINKS {
            Some(links.iter().fold(0_u64, |sum, kib| sum.saturating_add(*kib)))
        } else {
            links.get(scope as usize).copied()
        }
    };
    let link_errors = |kind: usize| device.nvlink_kib.as_ref()?.errors.map(|errors| errors[kind]);
    match id {
        3 => wide(ecc.map(|ecc| ecc.corrected.0)),
        4 => wide(ecc.map(|ecc| ecc.uncorrected.0)),
        5 => wide(ecc.map(|ecc| ecc.corrected.1)),
        6 => wide(ecc.map(|ecc| ecc.uncorrected.1)),
        38 => wide(link_errors(0)),
        45 => wide(link_errors(1)),
        52 => wide(link_errors(2)),
        59 => wide(link_errors(3)),
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
    .ok_or(unknown)
}
