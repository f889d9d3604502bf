//! XIDs, which the driver delivers as events.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::{Device, EventSet, Nvml, enums::event::XidError, error::NvmlError};

use super::{
    fault::{Fault, classify},
    raw,
};
use crate::{
    backoff::Backoff,
    source::{ErrorKind, GpuEvent},
};

/// The shortest interval of recreating the set because one of its devices is lost.
const RENEWALS_APART: Duration = Duration::from_secs(1);

/// The set of events, and the devices in it.
pub(super) struct Events<'nvml> {
    nvml: &'nvml Nvml,
    supported: bool,
    set: Option<EventSet<'nvml>>,
    /// By handle. A device that is being lost stays as long as the driver allows it, because it may still have events.
    indices: BTreeMap<usize, u32>,
    /// The devices that deliver XIDs.
    telling: BTreeSet<u32>,
    again: Backoff,
    renewed_at: Option<Instant>,
    warned: bool,
}

impl<'nvml> Events<'nvml> {
    pub(super) fn new(nvml: &'nvml Nvml) -> Self {
        Self {
            nvml,
            supported: cfg!(target_os = "linux") && raw::has_events(nvml),
            set: None,
            indices: BTreeMap::new(),
            telling: BTreeSet::new(),
            again: Backoff::of_drivers(),
            renewed_at: None,
            warned: false,
        }
    }

    /// Registers a device for events.
    pub(super) fn add(&mut self, index: u32, device: &Device<'_>) {
        if !self.supported {
            return;
        }
        self.indices.insert(raw::id(device), index);
        if self.set.is_none() && !self.again.is_set() {
            // If it fails, the following wait counts the error.
            match create_event_set(self.nvml) {
                Ok(set) => self.set = Some(set),
                Err(error) => self.failed(&error),
            }
        }
        self.register(index, device);
    }

    /// Whether the XIDs of a device are delivered as events.
    pub(super) fn tell_of(&self, index: u32) -> bool {
        self.telling.contains(&index)
    }

    /// Sleeps until an event or the end of the time; never less, so that no failure causes a busy loop.
    pub(super) fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        let began = Instant::now();
        if self.set.is_none() && self.again.is_due(began) {
            if let Err(error) = self.renew() {
                return self.report(&error);
            }
        }
        let timeout_ms = at_most.as_millis().clamp(1, 1000) as u32;
        match self.set.as_ref().map(|set| set.wait(timeout_ms)) {
            Some(Ok(event)) => {
                self.again.reset();
                let index = self.indices.get(&raw::id(&event.device)).copied();
                if let (Some(index), Some(xid)) = (index, event.event_data) {
                    let xid = if let XidError::Value(xid) = xid { xid } else { 999 };
                    return Some(GpuEvent::Xid { index, xid });
                }
            }
            Some(Err(NvmlError::Timeout)) => self.again.reset(),
            // While a lost device is in the set, events of the others are not delivered (NVIDIA/k8s-test-infra#746).
            Some(Err(NvmlError::GpuLost)) if self.may_renew(began) => {
                return if let Err(error) = self.renew() { self.report(&error) } else { None };
            }
            None | Some(Err(NvmlError::GpuLost)) => {}
            Some(Err(error)) => return self.report(&error),
        }
        // It may have returned early: a signal, a lost device, an unexpected event.
        thread::park_timeout(at_most.saturating_sub(began.elapsed()));
        None
    }

    /// Whether the set may be recreated because one of its devices is lost. It only helps if the driver admits the loss.
    fn may_renew(&mut self, now: Instant) -> bool {
        let may = self.renewed_at.is_none_or(|at| now.saturating_duration_since(at) >= RENEWALS_APART);
        if may {
            self.renewed_at = Some(now);
        }
        may
    }

    fn register(&mut self, index: u32, device: &Device<'_>) {
        let Some(set) = self.set.as_ref().filter(|_| supports_xids(device)) else { return };
        // A device that refuses has no XIDs; the others keep theirs.
        if raw::register_xids(device, set).is_ok() {
            self.telling.insert(index);
        }
    }

    /// A set of the devices that are not lost. A lost device is added again when it is found.
    fn renew(&mut self) -> Result<(), NvmlError> {
        self.set = Some(create_event_set(self.nvml)?);
        self.telling.clear();
        for index in self.indices.values().copied().collect::<Vec<_>>() {
            if let Ok(device) = self.nvml.device_by_index(index) {
                self.register(index, &device);
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
            self.telling.clear();
            return;
        }
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(%error, "the GPU driver's wait for events failed: XIDs are not counted until it works again");
        }
        self.again.postpone(Instant::now());
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
