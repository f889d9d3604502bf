//! Recent measurements in bounded memory: a window of latencies for each model, and a ring of finished requests for all models.
//!
//! A scrape every 15 seconds sees a histogram that has grown. A spike of two seconds hardly changes a quantile over minutes. The window stores each
//! second separately, so that a scrape within a minute sees the spike in the maximum.
//!
//! ```text
//! model ─ latency ─ second │ 0 │ 1 │ … │ 60 │ 0 …    each a histogram of 100 buckets and a maximum, 416 bytes
//! ```
//!
//! Each latency of a model takes 61 such slots for a window of 60 seconds, 25 KB, after its first sample: 76 KB per model that streams. The number of
//! models is bounded by the label policy. The ring has 1,024 requests, about 200 KB.
//!
//! The caller passes the time, as a monotonic instant. Locks are held for one sample, or while one model's latency is added up, which takes
//! microseconds: scrapes and requests do not wait for each other.

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
    /// The length of a window, in seconds.
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
    /// With windows of length `window`, in whole seconds.
    pub(crate) fn new(began: Instant, window: Duration) -> Self {
        let clock = Clock { began, back: whole_seconds(window) };
        Self { clock, models: RwLock::default(), requests: Ring::default() }
    }

    /// The windows of a model. The same name always returns the same windows.
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

    /// Counts samples that are known since now.
    pub(crate) fn record(&self, now: Instant, samples: impl IntoIterator<Item = (Latency, Duration)>) {
        let second = self.clock.second(now);
        let mut windows = self.windows();
        for (latency, time) in samples {
            windows[latency as usize].record(second, self.clock.back, time.as_secs_f64());
        }
    }

    /// The samples in the window; `None` if there has never been one.
    pub(crate) fn samples(&self, now: Instant, latency: Latency) -> Option<Histogram> {
        let since = self.clock.second(now).saturating_sub(self.clock.back);
        let windows = self.windows();
        let window = &windows[latency as usize];
        window.is_used().then(|| window.samples(since))
    }

    /// The statistics of the window; `None` if it is empty.
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

/// At most `u32::MAX` seconds, 136 years.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
