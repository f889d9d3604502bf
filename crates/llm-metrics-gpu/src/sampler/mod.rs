//! The collector's thread: opens the driver, reads all devices in each tick, waits, and starts again when the driver disappears.

mod poll;
mod reported;
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod watch;

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use self::reported::Reported;
pub(crate) use self::watch::Generation;
use llm_metrics::catalog::Registrar;

use crate::{
    backoff::Backoff,
    catalog::LOST_BY_XIDS,
    collector_metrics::CollectorMetrics,
    control::Control,
    device::Device,
    select::Selection,
    source::{GpuEvent, GpuSession, GpuSource, Readings, Reopen, SourceError},
};

/// The longest sleep in the driver, and so the longest delay of a stop.
const SLICE: Duration = Duration::from_millis(100);
/// The maximum number of events that are processed between two ticks, so that many events do not cause a busy loop.
const EVENTS: usize = 256;
/// After this many searches for a lost device, the driver's library is reopened; then after twice as many, and so on.
const SEARCHES_BEFORE_REOPENING: u32 = 10;

/// The periods of the sampler.
#[derive(Clone, Debug)]
pub(crate) struct Intervals {
    pub(crate) fast: Duration,
    pub(crate) slow: Duration,
    /// How long a maximum is held.
    pub(crate) window: Duration,
    /// The first and the longest pause between two attempts to open the driver.
    pub(crate) retry: (Duration, Duration),
    pub(crate) rediscovery: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            fast: Duration::from_secs(1),
            slow: Duration::from_secs(10),
            window: Duration::from_secs(60),
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            rediscovery: Duration::from_secs(30),
        }
    }
}

pub(crate) struct Sampler {
    intervals: Intervals,
    selection: Selection,
    registrar: Registrar,
    control: Arc<Control>,
    metrics: CollectorMetrics,
    /// By UUID, over all sessions.
    devices: BTreeMap<String, Device>,
    readings: Readings,
    reported: Reported,
    /// Whether the driver has worked before.
    worked: bool,
    /// The number of missing devices without a known name that were counted as lost.
    unknown_missing: usize,
    renew_at: Option<Instant>,
    /// The number of searches for a lost device before the driver is reopened.
    searches_before_reopening: u32,
}

/// Why a session ended, if not because of the driver.
enum End {
    /// The collector was stopped or paused.
    Requested,
    /// A device stays lost, and may be found after the driver is reopened. The other devices are not affected.
    Reopen,
}

impl Sampler {
    pub(crate) fn new(intervals: Intervals, selection: Selection, registrar: Registrar, control: Arc<Control>) -> Self {
        Self {
            intervals,
            selection,
            metrics: CollectorMetrics::register(&registrar),
            registrar,
            control,
            devices: BTreeMap::new(),
            readings: Readings::new(Instant::now()),
            reported: Reported::default(),
            worked: false,
            unknown_missing: 0,
            renew_at: None,
            searches_before_reopening: SEARCHES_BEFORE_REOPENING,
        }
    }

    /// Runs until the collector is stopped.
    pub(crate) fn run(&mut self, mut source: Box<dyn GpuSource>) {
        self.registrar.describe();
        self.metrics.set_up(false);
        let (first, most) = self.intervals.retry;
        let mut retry = Backoff::new(first, most);
        loop {
            if self.control.is_paused() {
                self.rest();
                retry.reset();
            }
            if self.control.is_stopped() {
                return;
            }
            let began = Instant::now();
            let mut end = Ok(End::Requested);
            let opened = {
                let control = Arc::clone(&self.control);
                let _open = control.driver_opens();
                if self.control.ends_session() {
                    // Checked after the flag is set: a concurrent `pause` either sees the flag, or is seen here.
                    continue;
                }
                source.session(&mut |session| end = self.session(session))
            };
            match opened.and(end) {
                Ok(End::Reopen) => continue,
                Ok(End::Requested) => {}
                Err(error) if !self.control.ends_session() => self.down(&error),
                Err(_) => {}
            }
            if self.control.ends_session() {
                continue;
            }
            if self.sleep(retry.pause_after(began.elapsed())) {
                retry.reset();
            }
            self.renew(Instant::now());
        }
    }

    /// One session: from the first search for devices until the driver disappears, or the collector is stopped or paused.
    fn session(&mut self, session: &mut dyn GpuSession) -> Result<End, SourceError> {
        let mut generation = self.begin(session, Instant::now())?;
        let mut due = Instant::now();
        while !self.control.ends_session() {
            let now = Instant::now();
            if let Err(error) = self.tick(&mut generation, session, now) {
                // The XID with the cause arrives at about this time.
                self.wait_until(Instant::now() + SLICE, &mut generation, session);
                return Err(error);
            }
            if session.superseded() || self.is_to_reopen(&generation, session) {
                return Ok(End::Reopen);
            }
            due += self.intervals.fast;
            let done = Instant::now();
            if due < done {
                // Missed ticks are skipped. A slow driver gets a full pause, in which its events are still received.
                due = done + self.intervals.fast;
            }
            self.wait_until(due, &mut generation, session);
        }
        Ok(End::Requested)
    }

    /// Whether to end this session, in which some devices work, because another device stays lost. Only if a check has shown
    /// that the driver can be reopened, so that a working session is not lost.
    pub(crate) fn is_to_reopen(&mut self, generation: &Generation, session: &mut dyn GpuSession) -> bool {
        if generation.searches() < self.searches_before_reopening {
            return false;
        }
        let answer = session.reopen();
        if answer != Reopen::Pending {
            self.searches_before_reopening = self.searches_before_reopening.saturating_mul(2);
        }
        answer == Reopen::Ready
    }

    /// Sleeps inside the driver, in slices, and processes events as they arrive.
    fn wait_until(&mut self, due: Instant, generation: &mut Generation, session: &mut dyn GpuSession) {
        let mut events = 0;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || self.control.ends_session() {
                return;
            }
            if events >= EVENTS {
                thread::park_timeout(left.min(SLICE));
            } else if let Some(event) = session.wait(left.min(SLICE)) {
                events += 1;
                self.event(event, generation);
            }
        }
    }

    pub(crate) fn event(&mut self, event: GpuEvent, generation: &mut Generation) {
        if self.control.is_abandoned() {
            return;
        }
        let (index, xid) = match event {
            GpuEvent::Xid { index, xid } => (index, xid),
            GpuEvent::WaitFailed { kind } => return self.metrics.error(kind, 1),
        };
        let uuid = generation.uuid_of(index).or_else(|| {
            // A device that an earlier session found, and this one did not.
            let gone = self.devices.iter().find(|(_, device)| device.index() == index && !device.is_up());
            gone.map(|(uuid, _)| uuid.clone())
        });
        let Some(uuid) = uuid else {
            return tracing::warn!(gpu = index, xid, "the driver reported an error of a GPU that is not watched");
        };
        let Some(device) = self.devices.get_mut(&uuid) else { return };
        if device.xid(xid, &self.registrar) {
            tracing::warn!(gpu = index, xid, "the GPU driver reported an error; more of this kind are only counted");
        }
        if LOST_BY_XIDS.contains(&xid) {
            // Each call for this device may now take as long as the driver's timeouts. No other device is read during that time.
            self.lose(&uuid, generation, Instant::now());
        }
    }

    /// The driver disappeared, or was never available.
    fn down(&mut self, error: &SourceError) {
        self.devices.values_mut().for_each(|device| device.lost(&self.registrar));
        self.metrics.set_up(false);
        if *error != SourceError::AllLost {
            // Lost devices were already counted one by one.
            self.metrics.error(error.kind(), 1);
            self.metrics.devices_are_unknown();
        }
        self.reported.down(error, self.worked);
    }

    /// Does not use the driver until the collector is resumed or stopped.
    fn rest(&mut self) {
        self.devices.values_mut().for_each(|device| device.unknown(&self.registrar));
        self.metrics.pause();
        tracing::info!("the GPU collector is paused, and the driver closed");
        while self.control.is_paused() && !self.control.is_stopped() {
            thread::park_timeout(self.intervals.slow);
            self.renew(Instant::now());
        }
    }

    /// Registers all series again once per slow period.
    fn renew(&mut self, now: Instant) {
        if self.renew_at.is_none_or(|at| at <= now) {
            if self.renew_at.is_some() {
                // A global recorder may have been installed since.
                self.registrar.describe();
                self.metrics.renew(&self.registrar);
                self.devices.values_mut().for_each(|device| device.renew(&self.registrar));
            }
            self.renew_at = Some(now + self.intervals.slow);
        }
    }

    /// Returns whether it ended early because the collector was resumed: the driver is then tried at once.
    fn sleep(&self, pause: Duration) -> bool {
        let due = Instant::now() + pause;
        while !self.control.ends_session() {
            let left = due.saturating_duration_since(Instant::now());
            if self.control.take_resumed() {
                return true;
            }
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
        }
        false
    }
}

impl Drop for Sampler {
    /// However the sampler ends: values that are no longer current become NaN.
    fn drop(&mut self) {
        if self.control.is_abandoned() {
            return;
        }
        self.devices.values_mut().for_each(|device| device.lost(&self.registrar));
        self.metrics.set_up(false);
    }
}
