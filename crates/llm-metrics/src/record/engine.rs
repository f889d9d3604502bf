//! What an engine tells about itself, pushed by the embedder.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::{Gauge, Label};

use super::{LlmMetrics, Registrar};
use crate::catalog::{self, MetricDef, labels};

impl LlmMetrics {
    /// Gauges for the engine that runs `model`: the three figures that the Kubernetes inference gateway's endpoint picker
    /// needs. Each appears when it is first set; what the engine cannot tell stays absent.
    ///
    /// The name is the embedder's own, so no policy bounds it. Scrapes read what was pushed and ask no engine.
    ///
    /// ```
    /// # let metrics = llm_metrics::LlmMetrics::new();
    /// let engine = metrics.engine("Qwen3-4B");
    /// engine.running(3);
    /// engine.waiting(12);
    /// ```
    pub fn engine(&self, model: impl Into<String>) -> EngineGauges {
        self.0.registrar.describe(&[
            catalog::ENGINE_REQUESTS_RUNNING,
            catalog::ENGINE_REQUESTS_WAITING,
            catalog::ENGINE_KV_CACHE_USAGE,
        ]);
        EngineGauges(Arc::new(Engine {
            registrar: Arc::clone(&self.0.registrar),
            model: Label::new(labels::MODEL, model.into()),
            running: OnceLock::new(),
            waiting: OnceLock::new(),
            kv_cache_usage: OnceLock::new(),
        }))
    }

    /// Says that a model was loaded, and how long it took. When the guard drops, `llm_model_info` goes back to 0.
    ///
    /// ```
    /// use std::time::Duration;
    /// use llm_metrics::ModelInfo;
    /// # let metrics = llm_metrics::LlmMetrics::new();
    ///
    /// let info = ModelInfo::new("Qwen3-4B").engine("mistral.rs").quantization("Q4K").context_length(32768);
    /// let loaded = metrics.model_loaded(info, Duration::from_secs(7));
    /// // … serve …
    /// drop(loaded);
    /// ```
    pub fn model_loaded(&self, model: ModelInfo, took: Duration) -> LoadedModel {
        self.0.registrar.describe(&[catalog::MODEL_LOAD, catalog::MODEL_INFO]);
        let name = Label::new(labels::MODEL, model.name);
        self.0.registrar.histogram(&catalog::MODEL_LOAD, vec![name.clone()]).record(took.as_secs_f64());
        let context_length = model.context_length.map_or_else(String::new, |tokens| tokens.to_string());
        let info = self.0.registrar.gauge(
            &catalog::MODEL_INFO,
            vec![
                name,
                Label::new(labels::ENGINE, model.engine),
                Label::new(labels::ENGINE_VERSION, model.engine_version),
                Label::new(labels::QUANTIZATION, model.quantization),
                Label::new(labels::CONTEXT_LENGTH, context_length),
            ],
        );
        info.increment(1.0);
        LoadedModel { info }
    }
}

/// Gauges of one engine; see [`LlmMetrics::engine`]. Cheap to clone, and to set from the engine's own thread.
#[derive(Clone)]
pub struct EngineGauges(Arc<Engine>);

struct Engine {
    registrar: Arc<Registrar>,
    model: Label,
    running: OnceLock<Gauge>,
    waiting: OnceLock<Gauge>,
    kv_cache_usage: OnceLock<Gauge>,
}

impl EngineGauges {
    /// Sets the number of requests that the engine is producing tokens for.
    pub fn running(&self, requests: u64) {
        self.0.gauge(&self.0.running, &catalog::ENGINE_REQUESTS_RUNNING).set(requests as f64);
    }

    /// Sets the number of requests that the engine has and that have no token yet.
    pub fn waiting(&self, requests: u64) {
        self.0.gauge(&self.0.waiting, &catalog::ENGINE_REQUESTS_WAITING).set(requests as f64);
    }

    /// Sets the share of the KV cache that is in use, from 0 to 1. What is outside is not recorded.
    pub fn kv_cache_usage(&self, ratio: f64) {
        if (0.0..=1.0).contains(&ratio) {
            self.0.gauge(&self.0.kv_cache_usage, &catalog::ENGINE_KV_CACHE_USAGE).set(ratio);
        }
    }
}

impl EngineGauges {
    /// Says that the engine is gone: what was set becomes NaN, which is no value to anybody who reads it. Setting a gauge
    /// again brings it back.
    pub fn gone(&self) {
        for cell in [&self.0.running, &self.0.waiting, &self.0.kv_cache_usage] {
            if let Some(gauge) = cell.get() {
                gauge.set(f64::NAN);
            }
        }
    }
}

impl Engine {
    fn gauge<'a>(&self, cell: &'a OnceLock<Gauge>, row: &MetricDef) -> &'a Gauge {
        cell.get_or_init(|| self.registrar.gauge(row, vec![self.model.clone()]))
    }
}

impl fmt::Debug for EngineGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineGauges").field("model", &self.0.model.value()).finish()
    }
}

/// What `llm_model_info` says about a model. What is not given is an empty label.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ModelInfo {
    name: String,
    engine: String,
    engine_version: String,
    quantization: String,
    context_length: Option<u64>,
}

impl ModelInfo {
    /// A model of this name: the one that requests ask for.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The engine that runs it, `mistral.rs` for example.
    pub fn engine(mut self, engine: impl Into<String>) -> Self {
        self.engine = engine.into();
        self
    }

    /// The version of the engine.
    pub fn engine_version(mut self, version: impl Into<String>) -> Self {
        self.engine_version = version.into();
        self
    }

    /// The quantization of the weights.
    pub fn quantization(mut self, quantization: impl Into<String>) -> Self {
        self.quantization = quantization.into();
        self
    }

    /// The longest context, in tokens.
    pub fn context_length(mut self, tokens: u64) -> Self {
        self.context_length = Some(tokens);
        self
    }
}

/// A model that is loaded; see [`LlmMetrics::model_loaded`].
#[must_use = "dropping it says that the model was unloaded"]
pub struct LoadedModel {
    info: Gauge,
}

impl Drop for LoadedModel {
    fn drop(&mut self) {
        self.info.decrement(1.0);
    }
}

impl fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModel").finish_non_exhaustive()
    }
}
