//! Metrics of an engine itself, reported by the embedder.

use std::{
    fmt,
    sync::{Arc, OnceLock, PoisonError, Weak},
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
        let model = model.into();
        let mut engines = self.0.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(&model).and_then(Weak::upgrade) {
            return EngineMetrics(engine);
        }
        engines.retain(|_, engine| engine.strong_count() > 0);
        self.0.registrar.describe_rows(&ROWS);
        let engine = Arc::new(Engine {
            registrar: Arc::clone(&self.0.registrar),
            model: labels::MODEL.label(model.clone()),
            series: EngineSeries::default(),
        });
        engines.insert(model, Arc::downgrade(&engine));
        EngineMetrics(engine)
    }
}

/// Reports metrics of an engine; see [`LlmMetrics::engine`]. Cheap to clone, and to call from the engine's own thread. When the last clone is
/// dropped, the engine is [gone](Self::gone). A count above 2³⁰ in one call is not recorded.
#[derive(Clone)]
#[must_use = "dropping it reports that the engine is gone"]
pub struct EngineMetrics(Arc<Engine>);

pub(super) struct Engine {
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
        let requests = requests.into().map(|requests| requests as f64);
        self.0.set(&self.0.series.running, &catalog::ENGINE_REQUESTS_RUNNING, requests);
    }

    /// Sets the number of requests in the engine that have no token yet. `None`, if it is not known any more, is NaN.
    pub fn waiting(&self, requests: impl Into<Option<u64>>) {
        let requests = requests.into().map(|requests| requests as f64);
        self.0.set(&self.0.series.waiting, &catalog::ENGINE_REQUESTS_WAITING, requests);
    }

    /// Sets the share of the KV cache that is in use. `None`, if it is not known any more, is NaN, and so is a value outside of 0 to 1.
    pub fn kv_cache_usage(&self, ratio: impl Into<Option<f64>>) {
        let ratio = ratio.into().filter(|ratio| (0.0..=1.0).contains(ratio));
        self.0.set(&self.0.series.kv_cache_usage, &catalog::ENGINE_KV_CACHE_USAGE, ratio);
    }

    /// Records the number of requests in the batch of one step. Call it once per step.
    pub fn batch_size(&self, requests: u64) {
        self.0.record(&self.0.series.batch_size, &catalog::ENGINE_BATCH_SIZE, requests);
    }

    /// Records the number of prompt and output tokens that the engine processed in one step. Call it once per step. The equivalent in vLLM is
    /// `vllm:iteration_tokens_total`.
    pub fn step_tokens(&self, tokens: u64) {
        self.0.record(&self.0.series.step_tokens, &catalog::ENGINE_STEP_TOKENS, tokens);
    }

    /// Counts requests that the engine removed from its batch before they had ended, to free their space in the KV cache. Call it with 0 to report
    /// that there were none so far.
    pub fn preempted(&self, requests: u64) {
        self.0.count(&self.0.series.preemptions, &catalog::ENGINE_PREEMPTIONS, requests);
    }

    /// Counts prompt tokens that the engine looked up in its prefix cache, and the tokens that it found. If more are found than were looked up,
    /// nothing is recorded.
    pub fn prefix_cache(&self, queried_tokens: u64, hit_tokens: u64) {
        if hit_tokens <= queried_tokens {
            self.0.count(&self.0.series.queried_tokens, &catalog::ENGINE_PREFIX_CACHE_QUERIED_TOKENS, queried_tokens);
            self.0.count(&self.0.series.hit_tokens, &catalog::ENGINE_PREFIX_CACHE_HIT_TOKENS, hit_tokens);
        }
    }

    /// Counts draft tokens of speculative decoding, and the tokens that the model accepted. If more are accepted than drafted, nothing is recorded.
    pub fn drafted(&self, tokens: u64, accepted_tokens: u64) {
        if accepted_tokens <= tokens {
            self.0.count(&self.0.series.draft_tokens, &catalog::ENGINE_DRAFT_TOKENS, tokens);
            self.0.count(&self.0.series.accepted_tokens, &catalog::ENGINE_ACCEPTED_DRAFT_TOKENS, accepted_tokens);
        }
    }

    /// Reports that the engine is gone: its gauges become NaN, until they are set again. Dropping the last clone does the same. Counters keep their
    /// values.
    pub fn gone(&self) {
        self.0.gone();
    }
}

impl Engine {
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

    /// Ignores a count that no engine can reach in one step: a counter that wraps would be wrong from then on.
    fn count(&self, cell: &OnceLock<Counter>, row: &MetricDef, more: u64) {
        if more <= MAX_PLAUSIBLE_TOKENS {
            cell.get_or_init(|| self.registrar.counter(row, self.labels())).increment(more);
        }
    }

    fn record(&self, cell: &OnceLock<Histogram>, row: &MetricDef, value: u64) {
        if value <= MAX_PLAUSIBLE_TOKENS {
            cell.get_or_init(|| self.registrar.histogram(row, self.labels())).record(value as f64);
        }
    }

    fn labels(&self) -> Vec<Label> {
        vec![self.model.clone()]
    }
}

/// A value that was never known stays absent.
fn unknown(gauge: &OnceLock<Gauge>) {
    if let Some(gauge) = gauge.get() {
        gauge.set(f64::NAN);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.gone();
    }
}

impl fmt::Debug for EngineMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineMetrics").field("model", &self.0.model.value()).finish()
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            metrics.0.engines.lock().unwrap().len(),
            2,
            "the handle that is kept, and the last one that is gone"
        );
    }
}
