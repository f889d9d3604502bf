//! The collector's metrics about itself, and values that outlive the recorder.
//!
//! Handles are registered again from time to time: a handle from before a recorder was installed, or of a series that the recorder has removed as
//! idle, records nothing and does not report that.

use std::cell::Cell;

use llm_metrics::catalog::Registrar;
use metrics::{Counter, Gauge, Histogram};

use crate::{
    catalog::{
        self,
        labels::{DEVICE_STATE, DEVICE_STATES, ERROR_KIND},
    },
    source::ErrorKind,
};

/// A counter with its own total, which outlives the recorder: a recorder that is installed later gets the total, too.
pub(crate) struct PersistentCounter {
    handle: Counter,
    total: Cell<u64>,
}

impl PersistentCounter {
    /// A counter that is at 0, and on the page.
    pub(crate) fn new(handle: Counter) -> Self {
        handle.increment(0);
        Self { handle, total: Cell::new(0) }
    }

    pub(crate) fn add(&self, times: u64) {
        self.total.set(self.total.get().saturating_add(times));
        self.handle.increment(times);
    }

    /// Continues with another handle. If it belongs to the same series, this changes nothing.
    pub(crate) fn renew(&mut self, handle: Counter) {
        handle.absolute(self.total.get());
        self.handle = handle;
    }
}

/// A gauge with its own value, which can be set in another recorder again.
struct PersistentGauge {
    handle: Gauge,
    value: f64,
}

impl PersistentGauge {
    fn new(handle: Gauge, value: f64) -> Self {
        handle.set(value);
        Self { handle, value }
    }

    fn set(&mut self, value: f64) {
        self.value = value;
        self.handle.set(value);
    }

    fn renew(&mut self, handle: Gauge) {
        *self = Self::new(handle, self.value);
    }
}

/// The collector's metrics about itself.
pub(crate) struct CollectorMetrics {
    up: PersistentGauge,
    /// `None` until the first search for devices, or the first success: a time of 0 would be fifty years ago.
    devices: Option<[PersistentGauge; 3]>,
    last_success: Option<PersistentGauge>,
    pub(crate) tick: Histogram,
    pub(crate) reinits: PersistentCounter,
    errors: Vec<PersistentCounter>,
}

impl CollectorMetrics {
    /// Registers all of them, with counters at 0.
    pub(crate) fn register(registrar: &Registrar) -> Self {
        Self {
            up: PersistentGauge::new(registrar.gauge(&catalog::COLLECTOR_UP, []), 0.0),
            devices: None,
            last_success: None,
            tick: registrar.histogram(&catalog::TICK, []),
            reinits: PersistentCounter::new(registrar.counter(&catalog::REINITS, [])),
            errors: ErrorKind::ALL.iter().map(|kind| PersistentCounter::new(errors_of(*kind, registrar))).collect(),
        }
    }

    /// Registers all of them again, with their last values.
    pub(crate) fn renew(&mut self, registrar: &Registrar) {
        self.up.renew(registrar.gauge(&catalog::COLLECTOR_UP, []));
        for (state, gauge) in DEVICE_STATES.iter().zip(self.devices.iter_mut().flatten()) {
            gauge.renew(devices_in(state, registrar));
        }
        if let Some(gauge) = &mut self.last_success {
            gauge.renew(registrar.gauge(&catalog::LAST_SUCCESS, []));
        }
        self.tick = registrar.histogram(&catalog::TICK, []);
        self.reinits.renew(registrar.counter(&catalog::REINITS, []));
        for (kind, counter) in ErrorKind::ALL.iter().zip(&mut self.errors) {
            counter.renew(errors_of(*kind, registrar));
        }
    }

    /// Sets whether the driver works. Returns whether that changed.
    pub(crate) fn set_up(&mut self, up: bool) -> bool {
        let value = if up { 1.0 } else { 0.0 };
        let news = self.up.value != value;
        self.up.set(value);
        news
    }

    /// Sets how many devices are found, missing, and denied.
    pub(crate) fn set_devices(&mut self, numbers: [usize; 3], registrar: &Registrar) {
        let gauges = self
            .devices
            .get_or_insert_with(|| DEVICE_STATES.map(|state| PersistentGauge::new(devices_in(state, registrar), 0.0)));
        for (gauge, number) in gauges.iter_mut().zip(numbers) {
            gauge.set(number as f64);
        }
    }

    /// There is no driver that could report it.
    pub(crate) fn devices_are_unknown(&mut self) {
        self.devices.iter_mut().flatten().for_each(|gauge| gauge.set(f64::NAN));
    }

    /// Nothing is read, on purpose: no value becomes stale.
    pub(crate) fn pause(&mut self) {
        self.set_up(false);
        self.devices_are_unknown();
        if let Some(gauge) = &mut self.last_success {
            gauge.set(f64::NAN);
        }
    }

    /// Devices were read at this time.
    pub(crate) fn succeeded(&mut self, at: f64, registrar: &Registrar) {
        let register = || PersistentGauge::new(registrar.gauge(&catalog::LAST_SUCCESS, []), at);
        self.last_success.get_or_insert_with(register).set(at);
    }

    pub(crate) fn error(&self, kind: ErrorKind, times: u64) {
        let at = ErrorKind::ALL.iter().position(|known| *known == kind);
        if let Some(counter) = at.and_then(|at| self.errors.get(at)) {
            counter.add(times);
        }
    }
}

fn errors_of(kind: ErrorKind, registrar: &Registrar) -> Counter {
    registrar.counter(&catalog::ERRORS, [ERROR_KIND.label(kind.as_str())])
}

fn devices_in(state: &'static str, registrar: &Registrar) -> Gauge {
    registrar.gauge(&catalog::DEVICES, [DEVICE_STATE.label(state)])
}
