//! The one thread: opens the driver, ticks, waits, and begins again when the driver goes away.

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
use crate::{
    backoff::Backoff,
    catalog::LOST_BY_XIDS,
    control::Control,
    device::Device,
    select::Selection,
    sink::{CollectorMetrics, Sink},
    source::{GpuEvent, GpuSession, GpuSource, Readings, Reopen, SourceError},
};

/// The longest sleep in the driver: how long a stop may take.
const SLICE: Duration = Duration::from_millis(100);
/// Events taken in between two ticks; a storm of them must not become a busy loop.
const EVENTS: usize = 256;
/// After so many looks for a lost device the driver's library is opened anew; then after twice as many, and so on.
const LOOKS_BEFORE_REOPENING: u32 = 10;

/// How often things are done.
#[derive(Clone, Debug)]
pub(crate) struct Intervals {
    pub(crate) fast: Duration,
    pub(crate) slow: Duration,
    /// For how long a maximum is held.
    pub(crate) window: Duration,
    /// Between two attempts to open the driver, at first and at most.
    pub(crate) retry: (Duration, Duration),
    pub(crate) look_again: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            fast: Duration::from_secs(1),
            slow: Duration::from_secs(10),
            window: Duration::from_secs(60),
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            look_again: Duration::from_secs(30),
        }
    }
}

pub(crate) struct Sampler {
    intervals: Intervals,
    selection: Selection,
    sink: Sink,
    control: Arc<Control>,
    metrics: CollectorMetrics,
    /// By UUID, over all sessions.
    devices: BTreeMap<String, Device>,
    readings: Readings,
    reported: Reported,
    /// The driver worked once.
    worked: bool,
    /// How many devices that nobody knows the name of are missing, and were counted as lost.
    unknown_missing: usize,
    renew_at: Option<Instant>,
    /// How many looks for a lost device are made before the driver is opened anew.
    looks_before_reopening: u32,
}

/// Why a session ended, if not because of the driver.
enum End {
    /// The collector was stopped or paused.
    Asked,
    /// A device stays lost, which a driver that is opened anew may find. The others do not notice.
    Reopen,
}

impl Sampler {
    pub(crate) fn new(intervals: Intervals, selection: Selection, sink: Sink, control: Arc<Control>) -> Self {
        Self {
            intervals,
            selection,
            metrics: CollectorMetrics::register(&sink),
            sink,
            control,
            devices: BTreeMap::new(),
            readings: Readings::new(Instant::now()),
            reported: Reported::default(),
            worked: false,
            unknown_missing: 0,
            renew_at: None,
            looks_before_reopening: LOOKS_BEFORE_REOPENING,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(&mut self, mut source: Box<dyn GpuSource>) {
        self.sink.describe();
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
            let mut end = Ok(End::Asked);
            let opened = {
                let control = Arc::clone(&self.control);
                let _open = control.driver_opens();
                if self.control.ends_session() {
                    // After the flag was set: whoever pauses either sees it or is seen here.
                    continue;
                }
                source.session(&mut |session| end = self.session(session))
            };
            match opened.and(end) {
                Ok(End::Reopen) => continue,
                Ok(End::Asked) => {}
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

    /// One session, from the first look for devices until the driver goes away or the collector is stopped.
    fn session(&mut self, session: &mut dyn GpuSession) -> Result<End, SourceError> {
        let mut generation = self.begin(session, Instant::now())?;
        let mut due = Instant::now();
        while !self.control.ends_session() {
            let now = Instant::now();
            if let Err(error) = self.tick(&mut generation, session, now) {
                // The XID that says why comes about now.
                self.wait_until(Instant::now() + SLICE, &mut generation, session);
                return Err(error);
            }
            if session.superseded() || self.is_to_reopen(&generation, session) {
                return Ok(End::Reopen);
            }
            due += self.intervals.fast;
            let done = Instant::now();
            if due < done {
                // What was missed is not made up for. A slow driver is left in peace, and its events are still waited for.
                due = done + self.intervals.fast;
            }
            self.wait_until(due, &mut generation, session);
        }
        Ok(End::Asked)
    }

    /// Whether this session, which works for some devices, is to end for the sake of one that stays lost. Not before it is
    /// known that the driver can be opened: a session that works is worth more than the hope of a better one.
    pub(crate) fn is_to_reopen(&mut self, generation: &Generation, session: &mut dyn GpuSession) -> bool {
        if generation.looks() < self.looks_before_reopening {
            return false;
        }
        let answer = session.reopen();
        if answer != Reopen::Pending {
            self.looks_before_reopening = self.looks_before_reopening.saturating_mul(2);
        }
        answer == Reopen::Ready
    }

    /// Sleeps inside the driver, in slices, and takes events in as they come.
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
            // One that this session has not found, and an earlier one had.
            let gone = self.devices.iter().find(|(_, device)| device.index() == index && !device.is_up());
            gone.map(|(uuid, _)| uuid.clone())
        });
        let Some(uuid) = uuid else {
            return tracing::warn!(gpu = index, xid, "the driver reported an error of a GPU that is not watched");
        };
        let Some(device) = self.devices.get_mut(&uuid) else { return };
        if device.xid(xid, &self.sink) {
            tracing::warn!(gpu = index, xid, "the GPU driver reported an error; more of this kind are only counted");
        }
        if LOST_BY_XIDS.contains(&xid) {
            // Each call to it may now take as long as the driver's time-outs, in which no other device is read.
            self.lose(&uuid, generation, Instant::now());
        }
    }

    /// The driver went away, or never was there.
    fn down(&mut self, error: &SourceError) {
        self.devices.values_mut().for_each(|device| device.lost(&self.sink));
        self.metrics.set_up(false);
        if *error != SourceError::AllLost {
            // Those that are lost were counted one by one.
            self.metrics.error(error.kind(), 1);
            self.metrics.devices_are_unknown();
        }
        self.reported.down(error, self.worked);
    }

    /// Leaves the driver in peace until the collector is resumed or stopped.
    fn rest(&mut self) {
        self.devices.values_mut().for_each(|device| device.unknown(&self.sink));
        self.metrics.pause();
        tracing::info!("the GPU collector is paused, and the driver closed");
        while self.control.is_paused() && !self.control.is_stopped() {
            thread::park_timeout(self.intervals.slow);
            self.renew(Instant::now());
        }
    }

    /// Registers all series anew once in a slow period.
    fn renew(&mut self, now: Instant) {
        if self.renew_at.is_none_or(|at| at <= now) {
            if self.renew_at.is_some() {
                if self.sink.recorder.is_none() {
                    // The global recorder may have been installed since.
                    self.sink.describe();
                }
                self.metrics.renew(&self.sink);
                self.devices.values_mut().for_each(|device| device.renew(&self.sink));
            }
            self.renew_at = Some(now + self.intervals.slow);
        }
    }

    /// Says whether it was cut short because somebody wants the driver to be tried now.
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
    /// Whatever ended it: nothing that it said stays as if it were true.
    fn drop(&mut self) {
        if self.control.is_abandoned() {
            return;
        }
        self.devices.values_mut().for_each(|device| device.lost(&self.sink));
        self.metrics.set_up(false);
    }
}
