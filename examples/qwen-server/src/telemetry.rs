//! Everything that the server tells llm-metrics.

use axum::extract::Request;
use llm_metrics::catalog::Naming;
use llm_metrics::prometheus::{Exporter, ExporterError};
use llm_metrics::{
    BuildError, Builder, ErrorType, InferenceHandle, LlmMetrics, LoadedModel, ModelInfo, Objective, QualityChecks,
    Usage,
};
use llm_metrics_gpu::GpuCollector;
use std::time::Duration;

pub(crate) use llm_metrics::EngineMetrics;
pub(crate) use llm_metrics::prometheus::MetricsService;

/// The exporter and the metrics of this process.
pub(crate) struct Telemetry {
    pub(crate) exporter: Exporter,
    pub(crate) metrics: LlmMetrics,
    /// Watches the GPUs for as long as it is kept.
    _gpu: Option<GpuCollector>,
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error(transparent)]
    Exporter(#[from] ExporterError),
    #[error(transparent)]
    Metrics(#[from] BuildError),
}

impl Telemetry {
    /// Installs the exporter first: what is recorded before it is there is lost.
    pub(crate) fn install(
        model: &str,
        objectives: &[Objective],
        watch_gpus: bool,
        checks: QualityChecks,
    ) -> Result<Self, TelemetryError> {
        let exporter = Exporter::builder().catalogue(llm_metrics_gpu::catalog::SECTIONS, Naming::new()).install()?;
        let metrics = LlmMetrics::builder().exporter(&exporter).models([model]).quality(checks);
        let metrics = objectives.iter().cloned().fold(metrics, Builder::objective).build()?;
        let gpu = watch_gpus.then(|| GpuCollector::builder().only_cuda_visible().start());
        Ok(Self { exporter, metrics, _gpu: gpu })
    }
}

/// Publishes that the model is there; dropping the guard says that it is gone.
pub(crate) fn model_loaded(
    metrics: &LlmMetrics,
    model: &str,
    quantization: &str,
    context_length: usize,
    took: Duration,
) -> LoadedModel {
    let info = ModelInfo::new(model)
        .engine("mistral.rs")
        .engine_version("0.8.1")
        .quantization(quantization)
        .context_length(context_length as u64);
    metrics.model_loaded(info, took)
}

/// The request's [`InferenceHandle`], in the words of this server.
#[derive(Clone, Default)]
pub(crate) struct Handle(InferenceHandle);

impl Handle {
    pub(crate) fn of(request: &Request) -> Self {
        // The handler runs inside the request's span; who provides the model is what the layer cannot know.
        tracing::Span::current().record("gen_ai.provider.name", "mistral_rs");
        Self(InferenceHandle::of(request.extensions()))
    }

    pub(crate) fn model(&self, name: &str) {
        self.0.model(name);
    }

    /// Tokens that the engine has just sampled.
    pub(crate) fn tokens(&self, count: u64) {
        self.0.tokens(count);
    }

    /// How long the request waited before the engine got it.
    pub(crate) fn queue_time(&self, time: Duration) {
        self.0.queue_time(time);
    }

    /// Known before the first token, and so also for requests that nobody waits for in the end.
    pub(crate) fn prompt_tokens(&self, prompt: u64) {
        self.0.usage(Usage::new().input(prompt));
    }

    /// The engine has read only a part of the prompt.
    pub(crate) fn prompt_was_cut(&self) {
        self.0.input_truncated();
    }

    pub(crate) fn usage(&self, prompt: u64, output: u64, reasoning: u64) {
        self.0.usage(Usage::new().input(prompt).output(output).reasoning(reasoning));
    }

    /// The request ran into the server's time limit, whatever its status says.
    pub(crate) fn timed_out(&self) {
        self.0.error(ErrorType::Timeout);
    }

    /// The engine failed after the response's head had said 200.
    pub(crate) fn failed(&self) {
        self.0.error(ErrorType::Internal);
    }
}
