//! Which models are loaded.

use std::{fmt, time::Duration};

use metrics::Gauge;

use super::LlmMetrics;
use crate::catalog::{self, labels};

impl LlmMetrics {
    /// Reports that a model was loaded, and how long it took. When the guard drops, `llm_model_info` goes back to 0.
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
        self.0.registrar.describe_rows(&[catalog::MODEL_LOAD, catalog::MODEL_INFO]);
        let name = labels::MODEL.label(model.name);
        self.0.registrar.histogram(&catalog::MODEL_LOAD, vec![name.clone()]).record(took.as_secs_f64());
        let context_length = model.context_length.map_or_else(String::new, |tokens| tokens.to_string());
        let info = self.0.registrar.gauge(
            &catalog::MODEL_INFO,
            vec![
                name,
                labels::ENGINE.label(model.engine),
                labels::ENGINE_VERSION.label(model.engine_version),
                labels::QUANTIZATION.label(model.quantization),
                labels::CONTEXT_LENGTH.label(context_length),
            ],
        );
        info.increment(1.0);
        LoadedModel { info }
    }
}

/// The labels of `llm_model_info`. A label that is not set is empty.
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
    /// A model with this name, which requests use.
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
#[must_use = "dropping it reports that the model was unloaded"]
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
