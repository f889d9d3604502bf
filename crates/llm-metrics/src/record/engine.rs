//! Metrics of an engine itself, reported by the embedder.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use metrics::{Counter, Gauge, Histogram, Label};

use super::LlmMetrics;
use crate::{
    catalog::{self, MetricDef, Registrar, labels},
    vocabulary::MAX_PLAUSIBLE_TOKENS,
};

const ROWS: [MetricDef; 10] = [
    catalog::ENGINE_REQUESTS_RUNNING,
    catalog::ENGINE_REQUESTS_WAITING,
    catalog::ENGINE_KV_CACHE_USAGE,
    catalog::ENGINE_BATCH_SIZE,
    catalog::ENGINE_STEP_TOKENS,
    catalog::ENGINE_PREEMPTIONS,
    catalog::ENGINE_PREFIX_CACHE_QUERIED_TOKENS,
    catalog::ENGINE_PREFIX_CACHE_HIT_TOKENS,
    catalog::ENGINE_DRAFT_TOKENS,
    catalog::ENGINE_ACCEPTED_DRAFT_TOKENS,
];

impl LlmMetrics {
    /// A handle for the metrics of the engine that runs `model`: its queue, its batch, its caches. Each series appears when its first value is
    /// reported. Values that the engine cannot report stay absent.
    ///
    /// The embedder chooses the name, so no policy bounds it; check a name that another program reports with
    /// [`LabelPolicy::is_label_value`](crate::LabelPolicy::is_label_value). A scrape reads the reported values and does not call the engine.
    ///
    /// Keep the returned handle for as long as the engine runs. When the last handle for this model is dropped, including clones, the gauges of the
    /// engine become NaN.
    ///
    /// ```
    /// # let metrics = llm_metrics::LlmMetrics::new();
    /// let engine = metrics.engine("Qwen3-4B");
    /// engine.running(3);
    /// engine.waiting(12);
    ///
    /// // After each step:
    /// engine.batch_size(3);
    /// engine.step_tokens(514); // a prompt of 512 tokens, and one token for each of two others
    /// engine.prefix_cache(512, 256);
    /// // … serve …
    /// drop(engine);
    /// ```
    pub fn engine(&self, model: impl Into<String>) -> EngineMetrics {
        EngineMetrics(self.0.engines.handle(model.into(), &self.0.registrar))
    }
}

/// The engines that have a handle.
#[derive(Clone, Default)]
pub(super) struct Engines(Arc<Mutex<ByModel>>);

type ByModel = HashMap<String, (Arc<Engine>, Weak<Handle>)>;

impl Engines {
    fn handle(&self, model: String, registrar: &Arc<Registrar>) -> Arc<Handle> {
        let mut engines = self.lock();
        let (engine, handle) = engines.entry(model).or_insert_with_key(|model| {
            registrar.describe_rows(&ROWS);
            (Arc::new(Engine::new(model, registrar)), Weak::new())
        });
        handle.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Handle { engine: Arc::clone(engine), engines: self.clone() });
            *handle = Arc::downgrade(&new);
            new
        })
    }

    /// The engine is gone, unless it has got another handle while its last one was dropped.
    fn release(&self, engine: &Engine) {
        let mut engines = self.lock();
        let model = engine.model.value();
        if engines.get(model).is_some_and(|(_, handle)| handle.strong_count() == 0) {
            engine.gone();
            engines.remove(model);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ByModel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports metrics of an engine; see [`LlmMetrics::engine`]. Cheap to clone, and to call from the engine's own thread. When the last clone is
/// dropped, the engine is [gone](Self::gone). No engine has counts above 2³⁰: a call that passes one records nothing, and a gauge becomes NaN.
#[derive(Clone)]
#[must_use = "dropping it reports that the engine is gone"]
pub struct EngineMetrics(Arc<Handle>);

struct Handle {
    engine: Arc<Engine>,
    engines: Engines,
}

struct Engine {
    registrar: Arc<Registrar>,
    model: Label,
    series: EngineSeries,
}

/// Each handle exists after its first value.
#[derive(Default)]
struct EngineSeries {
    running: OnceLock<Gauge>,
    waiting: OnceLock<Gauge>,
    kv_cache_usage: OnceLock<Gauge>,
    batch_size: OnceLock<Histogram>,
    step_tokens: OnceLock<Histogram>,
    preemptions: OnceLock<Counter>,
    queried_tokens: OnceLock<Counter>,
    hit_tokens: OnceLock<Counter>,
    draft_tokens: OnceLock<Counter>,
    accepted_tokens: OnceLock<Counter>,
}

impl EngineMetrics {
    /// Sets the number of requests for which the engine is generating tokens. `None`, if it is not known any more, is NaN.
    pub fn running(&self, requests: impl Into<Option<u64>>) {
        let engine = &self.0.engine;
        engine.set(&engine.series.running, &catalog::ENGINE_REQUESTS_RUNNING, count(requests.into()));
    }

    /// Sets the number of requests in the engine that have no token yet. `None`, if it is not known any more, is NaN.
    pub fn waiting(&self, requests: impl Into<Option<u64>>) {
        let engine = &self.0.engine;
        engine.set(&engine.series.waiting, &catalog::ENGINE_REQUESTS_WAITING, count(requests.into()));
    }

    /// Sets the share of the KV cache that is in use. `None`, if it is not known any more, is NaN, and so is a value outside of 0 to 1.
    pub fn kv_cache_usage(&self, ratio: impl Into<Option<f64>>) {
        let engine = &self.0.engine;
        let ratio = ratio.into().filter(|ratio| (0.0..=1.0).contains(ratio));
        engine.set(&engine.series.kv_cache_usage, &catalog::ENGINE_KV_CACHE_USAGE, ratio);
    }

    /// Records the number of requests in the batch of one step. Call it once per step.
    pub fn batch_size(&self, requests: u64) {
        let engine = &self.0.engine;
        engine.record(&engine.series.batch_size, &catalog::ENGINE_BATCH_SIZE, requests);
    }

    /// Records the number of prompt and output tokens that the engine processed in one step. Call it once per step. The equivalent in vLLM is
    /// `vllm:iteration_tokens_total`.
    pub fn step_tokens(&self, tokens: u64) {
        let engine = &self.0.engine;
        engine.record(&engine.series.step_tokens, &catalog::ENGINE_STEP_TOKENS, tokens);
    }

    /// Counts requests that the engine removed from its batch before they had ended, to free their space in the KV cache. Call it with 0 to report
    /// that there were none so far.
    pub fn preempted(&self, requests: u64) {
        let engine = &self.0.engine;
        if is_plausible(requests) {
            engine.count(&engine.series.preemptions, &catalog::ENGINE_PREEMPTIONS, requests);
        }
    }

    /// Counts prompt tokens that the engine looked up in its prefix cache, and the tokens that it found. If more are found than were looked up,
    /// nothing is recorded.
    pub fn prefix_cache(&self, queried_tokens: u64, hit_tokens: u64) {
        let engine = &self.0.engine;
        if hit_tokens <= queried_tokens && is_plausible(queried_tokens) {
            engine.count(&engine.series.queried_tokens, &catalog::ENGINE_PREFIX_CACHE_QUERIED_TOKENS, queried_tokens);
            engine.count(&engine.series.hit_tokens, &catalog::ENGINE_PREFIX_CACHE_HIT_TOKENS, hit_tokens);
        }
    }

    /// Counts draft tokens of speculative decoding, and the tokens that the model accepted. If more are accepted than drafted, nothing is recorded.
    pub fn drafted(&self, tokens: u64, accepted_tokens: u64) {
        let engine = &self.0.engine;
        if accepted_tokens <= tokens && is_plausible(tokens) {
            engine.count(&engine.series.draft_tokens, &catalog::ENGINE_DRAFT_TOKENS, tokens);
            engine.count(&engine.series.accepted_tokens, &catalog::ENGINE_ACCEPTED_DRAFT_TOKENS, accepted_tokens);
        }
    }

    /// Reports that the engine is gone: its gauges become NaN, until they are set again. Dropping the last clone does the same. Counters keep their
    /// values.
    pub fn gone(&self) {
        self.0.engine.gone();
    }
}

impl Engine {
    fn new(model: &str, registrar: &Arc<Registrar>) -> Self {
        Self {
            registrar: Arc::clone(registrar),
            model: labels::MODEL.label(model.to_owned()),
            series: EngineSeries::default(),
        }
    }

    fn gone(&self) {
        let EngineSeries { running, waiting, kv_cache_usage, .. } = &self.series;
        [running, waiting, kv_cache_usage].into_iter().for_each(unknown);
    }

    fn set(&self, cell: &OnceLock<Gauge>, row: &MetricDef, value: Option<f64>) {
        match value {
            Some(value) => cell.get_or_init(|| self.registrar.gauge(row, self.labels())).set(value),
            None => unknown(cell),
        }
    }

    fn count(&self, cell: &OnceLock<Counter>, row: &MetricDef, more: u64) {
        cell.get_or_init(|| self.registrar.counter(row, self.labels())).increment(more);
    }

    fn record(&self, cell: &OnceLock<Histogram>, row: &MetricDef, value: u64) {
        if is_plausible(value) {
            cell.get_or_init(|| self.registrar.histogram(row, self.labels())).record(value as f64);
        }
    }

    fn labels(&self) -> Vec<Label> {
        vec![self.model.clone()]
    }
}

/// Whether an engine can have this many requests or tokens in one step. A counter that wraps would be wrong from then on.
fn is_plausible(count: u64) -> bool {
    count <= MAX_PLAUSIBLE_TOKENS
}

fn count(requests: Option<u64>) -> Option<f64> {
    requests.filter(|count| is_plausible(*count)).map(|count| count as f64)
}

/// A value that was never known stays absent.
fn unknown(gauge: &OnceLock<Gauge>) {
    if let Some(gauge) = gauge.get() {
        gauge.set(f64::NAN);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.engines.release(&self.engine);
    }
}

impl fmt::Debug for EngineMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineMetrics").field("model", &self.0.engine.model.value()).finish()
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;

    #[test]
    fn engines_that_are_gone_leave_no_memory_allocated() {
        let metrics = LlmMetrics::new();
        let kept = metrics.engine("kept");
        for n in 0..3 {
            drop(metrics.engine(format!("m{n}")));
        }
        let same = metrics.engine("kept");
        assert!(Arc::ptr_eq(&kept.0, &same.0));
        assert_eq!(metrics.0.engines.lock().len(), 1);
    }

    #[test]
    fn an_engine_that_gets_a_handle_while_its_last_one_is_dropped_is_not_gone() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let metrics = LlmMetrics::builder().recorder(recorder).build().unwrap();
        let first = metrics.engine("m");
        first.running(3);
        let engine = Arc::clone(&first.0.engine);
        // The last handle, as it is before its `drop` gets the lock.
        let Some(dropped) = Arc::into_inner(first.0) else { panic!("it is the only one") };
        let second = metrics.engine("m");
        assert!(Arc::ptr_eq(&second.0.engine, &engine));
        drop(dropped);
        let running = || {
            let series = snapshotter.snapshot().into_vec().into_iter();
            let of_row = series.filter(|(key, ..)| key.key().name() == catalog::ENGINE_REQUESTS_RUNNING.name);
            of_row.map(|(.., value)| value).collect::<Vec<_>>()
        };
        assert_eq!(running(), [DebugValue::Gauge(3.0.into())]);
        drop(second);
        assert_eq!(running(), [DebugValue::Gauge(f64::NAN.into())]);
    }
}
