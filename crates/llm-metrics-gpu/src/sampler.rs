//! The one thread: opens the driver, ticks, waits, and begins again when the driver goes away.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    device::Device,
    select::Selection,
    sink::{Own, Sink},
    source::{Enumeration, ErrorKind, GpuEvent, GpuSession, GpuSource, Part, ReadError, Readings, SourceError},
};

/// The longest sleep in the driver: how long a stop may take.
const SLICE: Duration = Duration::from_millis(100);
/// A tick that takes longer is counted as slow.
const SLOW_TICK: Duration = Duration::from_secs(1);
/// Events taken in between two ticks; a storm of them must not become a busy loop.
const EVENTS: usize = 256;
/// After so many looks for a lost device the driver's library is opened anew; then after twice as many, and so on.
const LOOKS: u32 = 10;
/// How long it takes at most until what could not be read once, and does not change, is read again.
const MOST_PAUSE: Duration = Duration::from_secs(3600);

/// What the collector's handle tells its thread.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    pub(crate) asked: AtomicBool,
    /// Nobody waits any more: what is published now would be of a collector that is gone, and may belie its successor.
    pub(crate) abandoned: AtomicBool,
}

/// How often what is done.
#[derive(Clone, Debug)]
pub(crate) struct Rhythm {
    pub(crate) fast: Duration,
    pub(crate) slow: Duration,
    pub(crate) window: Duration,
    pub(crate) retry: (Duration, Duration),
    pub(crate) look_again: Duration,
}

impl Default for Rhythm {
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
    rhythm: Rhythm,
    selection: Selection,
    sink: Sink,
    stop: Arc<Stop>,
    own: Own,
    /// By UUID, over all sessions.
    devices: BTreeMap<String, Device>,
    readings: Readings,
    /// What was last said in the log, so that it is said once.
    said: Option<SourceError>,
    warned: Option<String>,
    worked: bool,
    up: bool,
    denied: bool,
    renew_at: Option<Instant>,
    /// How many looks for a lost device are made before the driver is opened anew.
    patience: u32,
}

/// Why a session ended, if not because of the driver.
enum End {
    Stopped,
    /// A device stays lost, which a driver that is opened anew may find. The others do not notice.
    Reopen,
}

/// What a session watches.
pub(crate) struct Generation {
    watched: Vec<Watched>,
    missing: usize,
    looks: u32,
    look_at: Instant,
}

struct Watched {
    uuid: String,
    index: u32,
    lost: bool,
    /// Nothing was read yet: everything is, at once.
    fresh: bool,
    slow_part: usize,
    slow_at: Instant,
    /// When what does not change is read, if it is not known yet, and how long to wait if it cannot be.
    facts_at: Option<Instant>,
    facts_pause: Duration,
}

impl Sampler {
    pub(crate) fn new(rhythm: Rhythm, selection: Selection, sink: Sink, stop: Arc<Stop>) -> Self {
        let own = Own::register(&sink);
        Self {
            rhythm,
            selection,
            own,
            sink,
            stop,
            devices: BTreeMap::new(),
            readings: Readings::new(Instant::now()),
            said: None,
            warned: None,
            worked: false,
            up: false,
            denied: false,
            renew_at: None,
            patience: LOOKS,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(&mut self, mut source: Box<dyn GpuSource>) {
        self.sink.describe();
        self.own.up.set(0.0);
        let (first, most) = self.rhythm.retry;
        let mut pause = first;
        while !self.stopped() {
            let began = Instant::now();
            let mut end = Ok(End::Stopped);
            let opened = source.session(&mut |session| end = self.session(session));
            match opened.and(end) {
                Ok(End::Reopen) => continue,
                Ok(End::Stopped) => {}
                Err(error) if !self.stopped() => self.down(&error),
                Err(_) => {}
            }
            if self.stopped() {
                break;
            }
            if began.elapsed() > most {
                pause = first;
            }
            self.sleep(pause);
            pause = (pause * 2).min(most);
            self.renew(Instant::now());
        }
    }

    /// One session, from the first look for devices until the driver goes away or the collector is stopped.
    fn session(&mut self, session: &mut dyn GpuSession) -> Result<End, SourceError> {
        let mut generation = self.begin(session, Instant::now())?;
        let mut due = Instant::now();
        while !self.stopped() {
            let now = Instant::now();
            if let Err(error) = self.tick(&mut generation, session, now) {
                // The XID that says why comes about now, and only to this session.
                self.wait_until(Instant::now() + SLICE, &generation, session);
                return Err(error);
            }
            if generation.looks >= self.patience {
                self.patience = self.patience.saturating_mul(2);
                return Ok(End::Reopen);
            }
            if session.superseded() {
                return Ok(End::Reopen);
            }
            due += self.rhythm.fast;
            let done = Instant::now();
            if due < done {
                // What was missed is not made up for. A slow driver is left in peace, and its events are still waited for.
                due = done + self.rhythm.fast;
            }
            self.wait_until(due, &generation, session);
        }
        Ok(End::Stopped)
    }

    /// Looks for devices for the first time in a session.
    pub(crate) fn begin(&mut self, session: &mut dyn GpuSession, now: Instant) -> Result<Generation, SourceError> {
        let look_at = now + self.rhythm.look_again;
        let mut generation = Generation { watched: Vec::new(), missing: 0, looks: 0, look_at };
        let found = session.enumerate()?;
        if self.stopped() {
            return Ok(generation);
        }
        self.admit(found, &mut generation, now);
        // One that was well when the last session ended may not be there in this one.
        let gone = self.devices.iter_mut().filter(|(uuid, _)| !generation.watched.iter().any(|w| w.uuid == **uuid));
        gone.for_each(|(_, device)| device.lost(&self.sink));
        if self.worked {
            self.own.reinits.add(1);
        }
        if generation.watched.is_empty() {
            self.works(&generation);
        }
        Ok(generation)
    }

    /// The driver answers: a device could be read, or there is none to read.
    fn works(&mut self, generation: &Generation) {
        self.worked = true;
        if !std::mem::replace(&mut self.up, true) {
            self.own.up.set(1.0);
            let (gpus, missing) = (generation.watched.len(), generation.missing);
            tracing::info!(gpus, missing, "collecting GPU metrics");
            self.said = None;
        }
    }

    /// Reads every device once.
    pub(crate) fn tick(
        &mut self,
        generation: &mut Generation,
        session: &mut dyn GpuSession,
        now: Instant,
    ) -> Result<(), SourceError> {
        let began = Instant::now();
        self.renew(now);
        self.look_again(generation, session, now)?;
        let parts = session.slow_parts().max(1);
        let mut answered = false;
        for watched in generation.watched.iter_mut().filter(|watched| !watched.lost) {
            let result = self.read(watched, session, parts, now);
            if self.stopped() {
                return Ok(());
            }
            match result {
                Ok(()) => answered = true,
                Err(ReadError::Lost) => {
                    watched.lost = true;
                    generation.look_at = generation.look_at.max(now + self.rhythm.look_again);
                    self.own.error(ErrorKind::GpuLost, 1);
                    if let Some(device) = self.devices.get_mut(&watched.uuid) {
                        tracing::warn!(gpu = device.index(), uuid = watched.uuid, "a GPU is lost; looking out for it");
                        device.lost(&self.sink);
                    }
                }
                Err(ReadError::Source(error)) => return Err(error),
            }
        }
        let took = began.elapsed();
        self.own.tick.record(took.as_secs_f64());
        if took > SLOW_TICK {
            self.own.error(ErrorKind::SlowTick, 1);
        }
        if answered {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            self.own.succeeded(now, &self.sink);
            self.works(generation);
        } else if !generation.watched.is_empty() {
            return Err(SourceError::AllLost);
        }
        Ok(())
    }

    fn read(
        &mut self,
        watched: &mut Watched,
        session: &mut dyn GpuSession,
        parts: usize,
        now: Instant,
    ) -> Result<(), ReadError> {
        if watched.facts_at.is_some_and(|at| at <= now) {
            self.read_part(watched, Part::Static, session, now)?;
            let failed = self.readings.failures.contains(&ErrorKind::CallFailed);
            watched.facts_at = failed.then(|| now + watched.facts_pause);
            watched.facts_pause = (watched.facts_pause * 2).min(MOST_PAUSE);
        }
        if std::mem::take(&mut watched.fresh) {
            for part in 0..parts {
                self.read_part(watched, Part::Slow(part), session, now)?;
            }
            watched.slow_at = now + self.rhythm.slow / parts as u32;
        }
        self.read_part(watched, Part::Fast, session, now)?;
        for _ in 0..parts {
            if watched.slow_at > now {
                break;
            }
            let part = watched.slow_part;
            watched.slow_part = (part + 1) % parts;
            watched.slow_at += self.rhythm.slow / parts as u32;
            self.read_part(watched, Part::Slow(part), session, now)?;
        }
        watched.slow_at = watched.slow_at.max(now);
        Ok(())
    }

    fn read_part(
        &mut self,
        watched: &Watched,
        part: Part,
        session: &mut dyn GpuSession,
        now: Instant,
    ) -> Result<(), ReadError> {
        if self.stopped() {
            return Ok(());
        }
        let Some(since) = self.devices.get(&watched.uuid).map(Device::since) else { return Ok(()) };
        self.readings.start(now, since);
        let result = session.read(watched.index, part, &mut self.readings);
        if self.stopped() {
            return Ok(());
        }
        let Some(device) = self.devices.get_mut(&watched.uuid) else { return Ok(()) };
        match &result {
            Ok(()) => device.take(part, &self.readings, &self.sink, &self.own),
            Err(_) => self.readings.failures.iter().for_each(|kind| self.own.error(*kind, 1)),
        }
        result
    }

    /// Looks for devices that are missing, from time to time.
    fn look_again(
        &mut self,
        generation: &mut Generation,
        session: &mut dyn GpuSession,
        now: Instant,
    ) -> Result<(), SourceError> {
        let none_missing = generation.missing == 0 && generation.watched.iter().all(|watched| !watched.lost);
        if none_missing && !generation.watched.is_empty() {
            (generation.looks, self.patience) = (0, LOOKS);
            return Ok(());
        }
        if now < generation.look_at {
            return Ok(());
        }
        generation.look_at = now + self.rhythm.look_again;
        generation.looks += 1;
        let found = session.enumerate()?;
        if !self.stopped() {
            self.admit(found, generation, now);
        }
        Ok(())
    }

    /// Takes in what a look for devices found: new devices, and lost ones that are back.
    fn admit(&mut self, found: Enumeration, generation: &mut Generation, now: Instant) {
        generation.missing = found.missing;
        if found.denied > 0 {
            self.own.error(ErrorKind::Permission, found.denied as u64);
            if !std::mem::replace(&mut self.denied, true) {
                let gpus = found.denied;
                tracing::warn!(
                    gpus,
                    "no permission to read these GPUs; check the permissions of the devices and the container"
                );
            }
        }
        let there = found.found.len();
        let mut chosen = self.selection.choose(found);
        if chosen.gpus.is_empty() && there > 0 {
            chosen.warning = Some(format!("no GPU is watched: none of the {there} that are there was asked for"));
        }
        if let Some(warning) = chosen.warning.filter(|warning| self.warned.as_ref() != Some(warning)) {
            tracing::warn!("{warning}");
            self.warned = Some(warning);
        }
        for gpu in chosen.gpus {
            let (uuid, index) = (gpu.uuid.clone(), gpu.index);
            let known = generation.watched.iter_mut().find(|watched| watched.uuid == uuid);
            if known.as_ref().is_some_and(|watched| !watched.lost && watched.index == index) {
                continue;
            }
            let device = self.devices.entry(uuid.clone());
            let device = device.or_insert_with(|| Device::new(gpu.clone(), &self.sink, self.rhythm.window));
            device.found(gpu, &self.sink);
            let fresh = Watched {
                uuid,
                index,
                lost: false,
                fresh: true,
                slow_part: 0,
                slow_at: now,
                facts_at: Some(now),
                facts_pause: self.rhythm.slow,
            };
            match known {
                Some(watched) => {
                    tracing::info!(gpu = index, uuid = fresh.uuid, "a GPU is back");
                    *watched = fresh;
                }
                None => generation.watched.push(fresh),
            }
        }
    }

    /// Sleeps inside the driver, in slices, and takes events in as they come.
    fn wait_until(&mut self, due: Instant, generation: &Generation, session: &mut dyn GpuSession) {
        let mut events = 0;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stopped() {
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

    pub(crate) fn event(&mut self, event: GpuEvent, generation: &Generation) {
        if self.stop.abandoned.load(Ordering::Acquire) {
            return;
        }
        let (index, xid) = match event {
            GpuEvent::Xid { index, xid } => (index, xid),
            GpuEvent::WaitFailed { kind } => return self.own.error(kind, 1),
        };
        let watched = generation.watched.iter().find(|watched| watched.index == index);
        if let Some(device) = watched.and_then(|watched| self.devices.get_mut(&watched.uuid)) {
            if device.xid(xid, &self.sink) {
                tracing::warn!(
                    gpu = index,
                    xid,
                    "the GPU driver reported an error; more of this kind are only counted"
                );
            }
        }
    }

    /// The driver went away, or never was there.
    fn down(&mut self, error: &SourceError) {
        self.devices.values_mut().for_each(|device| device.lost(&self.sink));
        self.up = false;
        self.own.up.set(0.0);
        self.own.error(error.kind(), 1);
        let news = self.said.as_ref().map(std::mem::discriminant) != Some(std::mem::discriminant(error));
        if news && !self.worked && matches!(error, SourceError::NoLibrary { .. }) {
            tracing::info!(%error, "no GPU metrics for now; a driver will be picked up when one appears");
        } else if news {
            tracing::warn!(%error, "no GPU metrics for now; trying again from time to time");
        }
        self.said = Some(error.clone());
    }

    /// Registers all series anew once in a slow period.
    fn renew(&mut self, now: Instant) {
        if self.renew_at.is_none_or(|at| at <= now) {
            if self.renew_at.is_some() {
                if self.sink.recorder.is_none() {
                    // The global recorder may have been installed since.
                    self.sink.describe();
                }
                self.own.renew(self.up, &self.sink);
                self.devices.values_mut().for_each(|device| device.renew(&self.sink));
            }
            self.renew_at = Some(now + self.rhythm.slow);
        }
    }

    fn sleep(&self, pause: Duration) {
        let due = Instant::now() + pause;
        while !self.stopped() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.asked.load(Ordering::Acquire)
    }
}

impl Drop for Sampler {
    /// Whatever ended it: nothing that it said stays as if it were true.
    fn drop(&mut self) {
        if self.stop.abandoned.load(Ordering::Acquire) {
            return;
        }
        self.devices.values_mut().for_each(|device| device.lost(&self.sink));
        self.own.up.set(0.0);
    }
}
