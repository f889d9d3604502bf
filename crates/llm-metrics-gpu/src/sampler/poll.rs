//! A tick: reads every device once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{
    Sampler,
    watch::{Generation, Watched},
};
use crate::{
    device::Device,
    source::{ErrorKind, GpuSession, Part, ReadError, SourceError},
};

/// A tick that takes longer is counted as slow.
const SLOW_TICK: Duration = Duration::from_secs(1);

impl Sampler {
    /// Reads every device once.
    pub(crate) fn tick(
        &mut self,
        generation: &mut Generation,
        session: &mut dyn GpuSession,
        now: Instant,
    ) -> Result<(), SourceError> {
        let began = Instant::now();
        self.readings.begin_tick(now);
        self.renew(now);
        self.rediscover(generation, session, now)?;
        let parts = session.slow_parts().max(1);
        let mut answered = false;
        for at in 0..generation.watched.len() {
            let watched = &mut generation.watched[at];
            if watched.lost {
                continue;
            }
            let result = self.read(watched, session, parts, now);
            if self.control.ends_session() {
                return Ok(());
            }
            match result {
                Ok(()) => answered = true,
                Err(ReadError::Lost) => {
                    let uuid = watched.uuid.clone();
                    self.lose(&uuid, generation, now);
                }
                Err(ReadError::Source(error)) => return Err(error),
            }
        }
        self.took(began.elapsed());
        self.count_devices(generation);
        if answered {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            self.metrics.succeeded(now, &self.registrar);
            self.works(generation);
        } else if !generation.watched.is_empty() {
            return Err(SourceError::AllLost);
        }
        Ok(())
    }

    /// Records the duration of a tick.
    pub(crate) fn took(&self, took: Duration) {
        self.metrics.tick.record(took.as_secs_f64());
        if took > SLOW_TICK {
            self.metrics.error(ErrorKind::SlowTick, 1);
        }
    }

    fn read(
        &mut self,
        watched: &mut Watched,
        session: &mut dyn GpuSession,
        parts: usize,
        now: Instant,
    ) -> Result<(), ReadError> {
        // First, because it shows whether the device answers.
        self.read_part(watched, Part::Fast, session, now)?;
        if self.control.ends_session() {
            return Ok(());
        }
        if let Some(device) = self.devices.get_mut(&watched.uuid) {
            if device.answered(&self.registrar) {
                tracing::info!(gpu = watched.index, uuid = watched.uuid, "a GPU is back");
            }
        }
        if watched.fresh || watched.facts.is_due(now) {
            self.read_part(watched, Part::Static, session, now)?;
            if self.readings.failures.contains(&ErrorKind::CallFailed) {
                watched.facts.postpone(now);
            } else {
                watched.facts.reset();
            }
        }
        if std::mem::take(&mut watched.fresh) {
            for part in 0..parts {
                self.read_part(watched, Part::Slow(part), session, now)?;
            }
            watched.slow_at = now + self.intervals.slow / parts as u32;
        }
        for _ in 0..parts {
            if watched.slow_at > now {
                break;
            }
            let part = watched.slow_part;
            watched.slow_part = (part + 1) % parts;
            watched.slow_at += self.intervals.slow / parts as u32;
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
        if self.control.ends_session() {
            return Ok(());
        }
        let Some(since) = self.devices.get(&watched.uuid).map(Device::since) else { return Ok(()) };
        self.readings.start(now, since);
        let result = session.read(watched.index, part, &mut self.readings);
        if self.control.ends_session() {
            return Ok(());
        }
        let Some(device) = self.devices.get_mut(&watched.uuid) else { return Ok(()) };
        match &result {
            Ok(()) => device.apply(part, &self.readings, &self.registrar, &self.metrics),
            Err(_) => self.readings.failures.iter().for_each(|kind| self.metrics.error(*kind, 1)),
        }
        result
    }
}
