//! XIDs: what the driver tells by itself, to who waits for it.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::{Device, EventSet, Nvml, enums::event::XidError, error::NvmlError};

use super::{
    fault::{Fault, classify},
    raw,
};
use crate::source::{ErrorKind, GpuEvent};

/// How soon a wait that failed is set up anew, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The set of events, and the devices in it.
pub(super) struct Events<'nvml> {
    nvml: &'nvml Nvml,
    supported: bool,
    set: Option<EventSet<'nvml>>,
    /// By handle. A device that is being lost stays: the XID that says so often comes after the call that found out.
    indices: BTreeMap<usize, u32>,
    pause: Duration,
    again_at: Option<Instant>,
    warned: bool,
}

impl<'nvml> Events<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Self {
        Self {
            nvml,
            supported: cfg!(target_os = "linux") && raw::has_events(nvml),
            set: None,
            indices: BTreeMap::new(),
            pause: PAUSES.0,
            again_at: None,
            warned: false,
        }
    }

    /// Listens to a device, from now on or again.
    pub(super) fn add(&mut self, index: u32, device: &Device<'_>) {
        if !self.supported {
            return;
        }
        self.indices.insert(raw::id(device), index);
        if self.set.is_none() && self.again_at.is_none() {
            // Counted by the wait that follows, if it cannot be had then either.
            match create_event_set(self.nvml) {
                Ok(set) => self.set = Some(set),
                Err(error) => self.failed(&error),
            }
        }
        self.register(device);
    }

    /// Sleeps until something happens or the time is over; never less, so that no failure makes a busy loop.
    pub(super) fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        let began = Instant::now();
        if self.again_at.is_some_and(|at| at <= began) {
            self.again_at = None;
            if let Err(error) = self.renew() {
                return self.report(&error);
            }
        }
        let timeout_ms = at_most.as_millis().clamp(1, 1000) as u32;
        match self.set.as_ref().map(|set| set.wait(timeout_ms)) {
            Some(Ok(event)) => {
                self.pause = PAUSES.0;
                let index = self.indices.get(&raw::id(&event.device)).copied();
                if let (Some(index), Some(xid)) = (index, event.event_data) {
                    let xid = if let XidError::Value(xid) = xid { xid } else { 999 };
                    return Some(GpuEvent::Xid { index, xid });
                }
            }
            Some(Err(NvmlError::Timeout)) => self.pause = PAUSES.0,
            None | Some(Err(NvmlError::GpuLost)) => {}
            Some(Err(error)) => return self.report(&error),
        }
        // It may have come back early: a signal, a lost device, an event that nobody asked for.
        thread::park_timeout(at_most.saturating_sub(began.elapsed()));
        None
    }

    fn register(&self, device: &Device<'_>) {
        if let Some(set) = self.set.as_ref().filter(|_| supports_xids(device)) {
            // A device that refuses has no XIDs to tell; the others keep theirs.
            let _ = raw::register_xids(device, set);
        }
    }

    fn renew(&mut self) -> Result<(), NvmlError> {
        self.set = Some(create_event_set(self.nvml)?);
        for &index in self.indices.values() {
            // One that is lost is added again when it is found.
            if let Ok(device) = self.nvml.device_by_index(index) {
                self.register(&device);
            }
        }
        Ok(())
    }

    fn report(&mut self, error: &NvmlError) -> Option<GpuEvent> {
        self.failed(error);
        self.supported.then_some(GpuEvent::WaitFailed { kind: ErrorKind::CallFailed })
    }

    fn failed(&mut self, error: &NvmlError) {
        self.set = None;
        if classify(error) == Fault::Unsupported {
            self.supported = false;
            return;
        }
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(%error, "the GPU driver's wait for events failed: XIDs are not counted until it works again");
        }
        self.again_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSES.1);
    }
}

#[cfg(target_os = "linux")]
fn create_event_set(nvml: &Nvml) -> Result<EventSet<'_>, NvmlError> {
    nvml.create_event_set()
}

#[cfg(not(target_os = "linux"))]
fn create_event_set(_nvml: &Nvml) -> Result<EventSet<'_>, NvmlError> {
    Err(NvmlError::NotSupported)
}

#[cfg(target_os = "linux")]
fn supports_xids(device: &Device<'_>) -> bool {
    use nvml_wrapper::bitmasks::event::EventTypes;

    device.supported_event_types().is_ok_and(|types| types.contains(EventTypes::CRITICAL_XID_ERROR))
}

#[cfg(not(target_os = "linux"))]
fn supports_xids(_device: &Device<'_>) -> bool {
    false
}
