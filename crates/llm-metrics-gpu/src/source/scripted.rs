//! A source with scripted values, for tests of code that uses the collector.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    Enumeration, ErrorKind, GpuEvent, GpuIdentity, GpuSession, GpuSource, Part, ReadError, Readings, Ring, Sample,
    Series, SourceError,
};
use crate::catalog::CRITICAL_XIDS;

/// The values of a [`ScriptedSource`]. Clones share them, so that a test can change them while the collector runs.
///
/// ```
/// use llm_metrics_gpu::{GpuCollector, catalog, source::{GpuIdentity, Script, ScriptedGpu, Series}};
///
/// let script = Script::new();
/// let gpu = ScriptedGpu::new(GpuIdentity::new(0, "GPU-a")).gauge(Series::new(&catalog::MEMORY_USED, &[]), 4e9);
/// script.set(vec![gpu]);
/// let collector = GpuCollector::builder().source(script.source()).start();
/// # drop(collector);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    gpus: Vec<ScriptedGpu>,
    fault: Option<SourceError>,
    events: VecDeque<GpuEvent>,
}

impl Script {
    /// A driver without devices.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A source that follows this script.
    #[must_use]
    pub fn source(&self) -> ScriptedSource {
        ScriptedSource { script: self.clone() }
    }

    /// Replaces the devices.
    pub fn set(&self, gpus: Vec<ScriptedGpu>) {
        self.lock().gpus = gpus;
    }

    /// Makes the whole driver fail, or work again.
    pub fn fail(&self, fault: Option<SourceError>) {
        self.lock().fault = fault;
    }

    /// Triggers an event of a device.
    pub fn push(&self, event: GpuEvent) {
        self.lock().events.push_back(event);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values of a scripted device in every tick.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScriptedGpu {
    identity: GpuIdentity,
    lost: bool,
    gauges: Vec<(Series, f64)>,
    counts: Vec<(Series, u64, u64)>,
    utilization: Option<(Option<f64>, Option<Vec<Sample>>)>,
    failures: Vec<ErrorKind>,
}

impl ScriptedGpu {
    /// A device without values.
    #[must_use]
    pub fn new(identity: GpuIdentity) -> Self {
        Self { identity, ..Self::default() }
    }

    /// Whether it is lost.
    #[must_use]
    pub fn lost(mut self, lost: bool) -> Self {
        self.lost = lost;
        self
    }

    /// Adds a gauge.
    #[must_use]
    pub fn gauge(mut self, series: Series, value: f64) -> Self {
        self.gauges.push((series, value));
        self
    }

    /// Adds a count of the driver, of which `per_unit` are one unit of the row.
    #[must_use]
    pub fn count(mut self, series: Series, count: u64, per_unit: u64) -> Self {
        self.counts.push((series, count, per_unit));
        self
    }

    /// Sets the load: the driver's gauge, and its ring of samples if it has one.
    #[must_use]
    pub fn utilization(mut self, gauge: Option<f64>, ring: Option<Vec<Sample>>) -> Self {
        self.utilization = Some((gauge, ring));
        self
    }

    /// Adds an error for a value that cannot be read.
    #[must_use]
    pub fn failure(mut self, kind: ErrorKind) -> Self {
        self.failures.push(kind);
        self
    }
}

/// A source that follows a [`Script`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScriptedSource {
    script: Script,
}

impl GpuSource for ScriptedSource {
    fn session(&mut self, body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError> {
        if let Some(fault) = self.script.lock().fault.clone() {
            return Err(fault);
        }
        body(self);
        Ok(())
    }
}

impl GpuSession for ScriptedSource {
    fn enumerate(&mut self) -> Result<Enumeration, SourceError> {
        let state = self.script.lock();
        if let Some(fault) = &state.fault {
            return Err(fault.clone());
        }
        let found: Vec<_> = state.gpus.iter().filter(|gpu| !gpu.lost).map(|gpu| gpu.identity.clone()).collect();
        let missing = state.gpus.len() - found.len();
        Ok(Enumeration::new(found, missing))
    }

    fn critical_xids(&self, _index: u32) -> Vec<u64> {
        CRITICAL_XIDS.to_vec()
    }

    fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError> {
        let state = self.script.lock();
        if let Some(fault) = &state.fault {
            return Err(fault.clone().into());
        }
        let Some(gpu) = state.gpus.iter().find(|gpu| gpu.identity.index == index && !gpu.lost) else {
            return Err(ReadError::Lost);
        };
        if part != Part::Fast {
            return Ok(());
        }
        gpu.gauges.iter().for_each(|&(series, value)| out.gauge(series, value));
        gpu.counts.iter().for_each(|&(series, count, per_unit)| out.count(series, count, per_unit));
        gpu.failures.iter().for_each(|&kind| out.failed(kind));
        if let Some((gauge, ring)) = &gpu.utilization {
            let newer = |ring: &Vec<Sample>| {
                ring.iter().copied().filter(|sample| sample.timestamp > out.since()).collect::<Vec<_>>()
            };
            let ring = match ring.as_ref().map(newer) {
                None => Ring::Unsupported,
                Some(samples) if samples.is_empty() => Ring::Empty,
                Some(samples) => Ring::New(samples),
            };
            out.utilization(*gauge, ring);
        }
        Ok(())
    }

    fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        let event = self.script.lock().events.pop_front();
        if event.is_none() {
            thread::park_timeout(at_most);
        }
        event
    }
}
