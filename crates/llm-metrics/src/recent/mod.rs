//! What happened lately, in bounded memory: for each model a window of latencies, and for all a ring of finished requests.
//!
//! A scrape every 15 seconds sees a histogram that has grown, and of a spike of two seconds only what a quantile over minutes
//! leaves of it. The window keeps each second apart, so that whoever looks within a minute sees it in the maximum.
//!
//! ```text
//! model ─ latency ─ second │ 0 │ 1 │ … │ 60 │ 0 …    each a histogram of 100 buckets and a maximum, 416 bytes
//! ```
//!
//! A latency of a model takes 61 such slots for a window of 60 seconds, 25 KB, once it has a sample: 76 KB a model that streams.
//! The number of models is bounded by the label policy. The ring is 1,024 requests, some 200 KB.
//!
//! Time comes from the caller, as a monotonic instant. Locks are held for one sample, or while one model's latency is added up,
//! which is microseconds: a scrape never waits for a request, nor a request for a scrape.

mod histogram;
mod ring;
mod window;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

pub(crate) use histogram::Histogram;
pub use ring::RecentRequest;
pub use window::RecentLatency;

use ring::Ring;
use window::Window;

/// Windows and ring of one service.
#[derive(Debug)]
pub(crate) struct Recent {
    clock: Clock,
    models: RwLock<Vec<Arc<Model>>>,
    requests: Ring,
}

/// Counts seconds from the start.
#[derive(Clone, Copy, Debug)]
struct Clock {
    began: Instant,
    /// How many seconds a window looks back.
    back: u32,
}

/// Latencies that have a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Latency {
    Duration,
    FirstToken,
    PerToken,
}

impl Latency {
    pub(crate) const ALL: [Self; 3] = [Self::Duration, Self::FirstToken, Self::PerToken];
}

impl Recent {
    /// With windows that look back by `window`, in whole seconds.
    pub(crate) fn new(began: Instant, window: Duration) -> Self {
        let clock = Clock { began, back: whole_seconds(window) };
        Self { clock, models: RwLock::default(), requests: Ring::default() }
    }

    /// The windows of a model: always the same for the same name.
    pub(crate) fn model(&self, name: &Arc<str>) -> Arc<Model> {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = models.iter().find(|model| model.name == *name) {
            return Arc::clone(known);
        }
        let model = Arc::new(Model { name: Arc::clone(name), clock: self.clock, windows: Mutex::default() });
        models.push(Arc::clone(&model));
        model
    }

    pub(crate) fn models(&self) -> Vec<Arc<Model>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn finished(&self, request: RecentRequest) {
        self.requests.push(request);
    }

    /// The newest first.
    pub(crate) fn requests(&self, limit: usize) -> Vec<RecentRequest> {
        self.requests.newest(limit)
    }
}

/// The windows of one model.
#[derive(Debug)]
pub(crate) struct Model {
    name: Arc<str>,
    clock: Clock,
    windows: Mutex<[Window; Latency::ALL.len()]>,
}

impl Model {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts samples that became known now.
    pub(crate) fn record(&self, now: Instant, samples: impl IntoIterator<Item = (Latency, Duration)>) {
        let second = self.clock.second(now);
        let mut windows = self.windows();
        for (latency, time) in samples {
            windows[latency as usize].record(second, self.clock.back, time.as_secs_f64());
        }
    }

    /// The samples that are in the window now; `None` where there has never been one.
    pub(crate) fn samples(&self, now: Instant, latency: Latency) -> Option<Histogram> {
        let since = self.clock.second(now).saturating_sub(self.clock.back);
        let windows = self.windows();
        let window = &windows[latency as usize];
        window.is_used().then(|| window.samples(since))
    }

    /// What the window says now; `None` where nothing is in it.
    pub(crate) fn latency(&self, now: Instant, latency: Latency) -> Option<RecentLatency> {
        RecentLatency::of(&self.samples(now, latency)?)
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.windows().iter().map(Window::bytes).sum()
    }

    fn windows(&self) -> MutexGuard<'_, [Window; Latency::ALL.len()]> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    fn second(self, now: Instant) -> u32 {
        whole_seconds(now.saturating_duration_since(self.began))
    }
}

/// At most `u32::MAX` of them, 136 years.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
