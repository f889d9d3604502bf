//! The state that the collector's handle and its thread share.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Shared by the handle and the thread.
#[derive(Debug, Default)]
pub(crate) struct Control {
    stopped: AtomicBool,
    paused: AtomicBool,
    resumed: AtomicBool,
    abandoned: AtomicBool,
    driver_is_open: Mutex<bool>,
    driver_closed: Condvar,
}

impl Control {
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Release);
    }

    pub(crate) fn resume(&self) {
        self.paused.store(false, Ordering::Release);
        self.resumed.store(true, Ordering::Release);
    }

    /// Whether the collector was resumed since the last call: a pause may be over before the thread has seen it. A pause that the thread has seen
    /// shortens its next wait, too, which does no harm.
    pub(crate) fn take_resumed(&self) -> bool {
        self.resumed.swap(false, Ordering::AcqRel)
    }

    /// Pauses: the driver is closed and not used.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Whether a session must end as soon as possible, without another call for a reading.
    pub(crate) fn ends_session(&self) -> bool {
        self.is_stopped() || self.is_paused()
    }

    /// The collector is gone: values that are published now could overwrite those of the collector that replaced it.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// The driver is open until the returned guard is dropped.
    pub(crate) fn driver_opens(&self) -> DriverIsOpen<'_> {
        *self.lock() = true;
        DriverIsOpen(self)
    }

    /// Waits for at most `budget` until the driver is closed. Returns whether it is.
    pub(crate) fn wait_until_closed(&self, budget: Duration) -> bool {
        // A longer budget is limited to a day, as elsewhere.
        let until = Instant::now() + budget.min(Duration::from_secs(24 * 3600));
        let mut open = self.lock();
        while *open {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            open = self.driver_closed.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.driver_is_open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time in which the driver is open. Ends when dropped, so even a panic in a source ends it.
pub(crate) struct DriverIsOpen<'a>(&'a Control);

impl Drop for DriverIsOpen<'_> {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.driver_closed.notify_all();
    }
}
