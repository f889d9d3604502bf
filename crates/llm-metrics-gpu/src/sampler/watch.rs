//! The devices that a session monitors: the first search, and searches for missing devices.

use std::{
    collections::btree_map::Entry,
    time::{Duration, Instant},
};

use super::{SEARCHES_BEFORE_REOPENING, Sampler};
use crate::{
    backoff::Backoff,
    device::Device,
    select::Selection,
    source::{Enumeration, ErrorKind, GpuIdentity, GpuSession, SourceError},
};

/// The longest time after which a constant value that could not be read is read again.
const LONGEST_FACTS_PAUSE: Duration = Duration::from_secs(3600);

/// The devices that a session monitors.
pub(crate) struct Generation {
    pub(super) watched: Vec<Watched>,
    /// The number of devices that did not answer, and of those without permission, at the last search.
    missing: usize,
    denied: usize,
    /// The number of devices that were lost after that search.
    lost_since: usize,
    searches: u32,
    look_at: Instant,
}

pub(super) struct Watched {
    pub(super) uuid: String,
    pub(super) index: u32,
    pub(super) lost: bool,
    /// Nothing was read yet: everything is read now.
    pub(super) fresh: bool,
    pub(super) slow_part: usize,
    pub(super) slow_at: Instant,
    /// When constant values that could not be read are read again.
    pub(super) facts: Backoff,
}

impl Generation {
    const fn new(look_at: Instant) -> Self {
        Self { watched: Vec::new(), missing: 0, denied: 0, lost_since: 0, searches: 0, look_at }
    }

    /// The number of unsuccessful searches for a missing device.
    pub(super) const fn searches(&self) -> u32 {
        self.searches
    }

    pub(super) fn uuid_of(&self, index: u32) -> Option<String> {
        self.watched.iter().find(|watched| watched.index == index).map(|watched| watched.uuid.clone())
    }

    fn found(&self) -> usize {
        self.watched.iter().filter(|watched| !watched.lost).count()
    }
}

impl Sampler {
    /// Searches for devices for the first time in a session.
    pub(crate) fn begin(&mut self, session: &mut dyn GpuSession, now: Instant) -> Result<Generation, SourceError> {
        let mut generation = Generation::new(now + self.intervals.rediscovery);
        let found = session.enumerate()?;
        if self.control.ends_session() {
            return Ok(generation);
        }
        let (there, missing) = (found.found.len(), found.missing);
        self.admit(found, &mut generation, session, now);
        // A device that worked when the last session ended may be missing in this one.
        let mut lost = 0;
        for (uuid, device) in &mut self.devices {
            if !generation.watched.iter().any(|watched| watched.uuid == *uuid) {
                device.lost(&self.registrar);
                lost += u64::from(device.is_newly_lost());
            }
        }
        self.metrics.error(ErrorKind::GpuLost, lost);
        self.count_devices(&generation);
        if there == 0 && missing > 0 {
            return Err(SourceError::AllLost);
        }
        if self.worked {
            self.metrics.reinits.add(1);
        }
        if generation.watched.is_empty() {
            self.works(&generation);
        }
        Ok(generation)
    }

    /// The driver answers: a device could be read, or there is no device.
    pub(super) fn works(&mut self, generation: &Generation) {
        self.worked = true;
        if self.metrics.set_up(true) {
            self.reported.up(generation.found(), self.missing(generation));
        }
    }

    /// Searches for missing devices from time to time, and for new ones if that costs nothing.
    pub(super) fn rediscover(
        &mut self,
        generation: &mut Generation,
        session: &mut dyn GpuSession,
        now: Instant,
    ) -> Result<(), SourceError> {
        let none_missing = !generation.watched.is_empty() && self.missing(generation) == 0;
        if none_missing {
            (generation.searches, self.searches_before_reopening) = (0, SEARCHES_BEFORE_REOPENING);
        }
        if now < generation.look_at {
            return Ok(());
        }
        generation.look_at = now + self.intervals.rediscovery;
        if none_missing && !session.has_changed() {
            return Ok(());
        }
        if !none_missing {
            generation.searches = generation.searches.saturating_add(1);
        }
        let found = session.enumerate()?;
        if self.control.ends_session() {
            return Ok(());
        }
        // A device that is not found is lost, without a call to it that may take long to fail.
        let watched = generation.watched.iter().filter(|watched| !watched.lost);
        let gone = watched.filter(|watched| !found.found.iter().any(|gpu| gpu.uuid == watched.uuid));
        for uuid in gone.map(|watched| watched.uuid.clone()).collect::<Vec<_>>() {
            self.lose(&uuid, generation, now);
        }
        self.admit(found, generation, session, now);
        self.count_devices(generation);
        Ok(())
    }

    /// A device stopped answering.
    pub(super) fn lose(&mut self, uuid: &str, generation: &mut Generation, now: Instant) {
        let Some(watched) = generation.watched.iter_mut().find(|watched| watched.uuid == uuid && !watched.lost) else {
            return;
        };
        watched.lost = true;
        generation.lost_since += 1;
        generation.look_at = generation.look_at.max(now + self.intervals.rediscovery);
        if let Some(device) = self.devices.get_mut(uuid) {
            device.lost(&self.registrar);
            if device.is_newly_lost() {
                self.metrics.error(ErrorKind::GpuLost, 1);
                tracing::warn!(gpu = device.index(), uuid, "a GPU is lost; searching for it");
            }
        }
        self.count_devices(generation);
    }

    /// Applies the result of a search: new devices, and lost ones that are back.
    fn admit(&mut self, found: Enumeration, generation: &mut Generation, session: &dyn GpuSession, now: Instant) {
        (generation.missing, generation.denied, generation.lost_since) = (found.missing, found.denied, 0);
        if found.denied > 0 {
            self.metrics.error(ErrorKind::Permission, found.denied as u64);
            self.reported.denied(found.denied);
        }
        let chosen = self.selection.choose(found);
        if let Some(warning) = chosen.warning {
            self.reported.selection(warning);
        }
        for gpu in chosen.gpus {
            self.watch(gpu, generation, session, now);
        }
    }

    fn watch(&mut self, gpu: GpuIdentity, generation: &mut Generation, session: &dyn GpuSession, now: Instant) {
        let (uuid, index) = (gpu.uuid.clone(), gpu.index);
        let known = generation.watched.iter_mut().find(|watched| watched.uuid == uuid);
        if known.as_ref().is_some_and(|watched| !watched.lost && watched.index == index) {
            return;
        }
        let device = match self.devices.entry(uuid.clone()) {
            Entry::Occupied(known) => {
                let device = known.into_mut();
                device.found(gpu, &self.registrar);
                device
            }
            Entry::Vacant(new) => new.insert(Device::new(gpu, self.intervals.window)),
        };
        device.expect_xids(&session.critical_xids(index), &self.registrar);
        let fresh = Watched {
            uuid,
            index,
            lost: false,
            fresh: true,
            slow_part: 0,
            slow_at: now,
            facts: Backoff::new(self.intervals.slow, LONGEST_FACTS_PAUSE),
        };
        match known {
            Some(watched) => *watched = fresh,
            None => generation.watched.push(fresh),
        }
    }

    /// Publishes the number of devices, and counts missing ones without a known name.
    pub(super) fn count_devices(&mut self, generation: &Generation) {
        let missing = self.missing(generation);
        self.metrics.set_devices([generation.found(), missing, generation.denied], &self.registrar);
        let unknown = missing.saturating_sub(self.known_lost());
        self.metrics.error(ErrorKind::GpuLost, unknown.saturating_sub(self.unknown_missing) as u64);
        self.unknown_missing = unknown;
    }

    /// The number of expected devices that do not answer. A driver does not report the names of devices that it cannot reach; if UUIDs were
    /// configured, they are known.
    fn missing(&self, generation: &Generation) -> usize {
        match &self.selection {
            Selection::Uuids(uuids) => uuids.len().saturating_sub(generation.found()),
            Selection::All | Selection::Cuda(_) => (generation.missing + generation.lost_since).max(self.known_lost()),
        }
    }

    fn known_lost(&self) -> usize {
        self.devices.values().filter(|device| device.is_lost()).count()
    }
}
