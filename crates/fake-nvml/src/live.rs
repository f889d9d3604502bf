//! A load that rises and falls, so that a dashboard has values on a machine without a GPU.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::state::{Device, RING};

const PERIOD: f64 = 20.0;
const BUSY: f64 = 8.0;
const SAMPLE: f64 = 1.0 / 6.0;
const LOADED: u32 = 96;
const IDLE: u32 = 2;

/// `device` with its current values.
pub(crate) fn at_this_moment(device: &Device) -> Device {
    static START: OnceLock<(Instant, Duration)> = OnceLock::new();
    let &(start, unix) = START.get_or_init(|| {
        (
            Instant::now(),
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() - Duration::from_secs_f64(PERIOD),
        )
    });
    // One period has passed already, so that the ring is full from the beginning.
    let now = start.elapsed().as_secs_f64() + PERIOD;

    let mut device = device.clone();
    let percent = percent_at(now);
    let share = f64::from(percent) / 100.0;
    device.utilization = device.utilization.map(|_| (percent, percent / 2));
    if device.samples.is_some() {
        let newest = (now / SAMPLE) as usize;
        let ring = (newest.saturating_sub(RING - 1)..=newest).map(|n| {
            let seconds = n as f64 * SAMPLE;
            (((unix.as_secs_f64() + seconds) * 1e6) as u64, percent_at(seconds))
        });
        device.samples = Some(ring.collect());
    }
    let idle = f64::from(device.power.usage.unwrap_or(50_000));
    let extra = (f64::from(device.power.max_limit.unwrap_or(300_000)) * 0.9 - idle).max(0.0);
    let milliwatts = (idle + extra * share) as u32;
    device.power.usage = device.power.usage.map(|_| milliwatts);
    device.power.instant = device.power.instant.map(|_| milliwatts);
    device.power.average = device.power.average.map(|_| milliwatts);
    let loaded = (now / PERIOD).floor() * BUSY + (now % PERIOD).min(BUSY);
    device.energy_mj = device.energy_mj.map(|base| base + (idle * now + extra * loaded) as u64);
    device.temperature = device.temperature.map(|base| base + (25.0 * share) as u32);
    if let Some(memory) = &mut device.memory {
        memory.used = (memory.total as f64 * (0.55 + 0.3 * share)) as u64;
    }
    for value in device.gpm.iter_mut().flat_map(|gpm| gpm.values_mut()).flatten() {
        *value *= share;
    }
    device
}

fn percent_at(seconds: f64) -> u32 {
    if seconds % PERIOD < BUSY { LOADED } else { IDLE }
}
