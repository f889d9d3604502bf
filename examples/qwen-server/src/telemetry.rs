//! All metrics that the server reports through llm-metrics.

use std::time::Duration;

use axum::extract::Request;
use llm_metrics::{
    BuildError, Builder, ErrorType, InferenceHandle, LlmMetrics, LoadedModel, ModelInfo, Objective, QualityChecks,
    Usage,
    catalog::Naming,
    prometheus::{Exporter, ExporterError},
};
use llm_metrics_gpu::GpuCollector;

pub(crate) use llm_metrics::EngineMetrics;
pub(crate) use llm_metrics::prometheus::MetricsService;

/// The exporter and the metrics of this process.
pub(crate) struct Telemetry {
    pub(crate) exporter: Exporter,
    pub(crate) metrics: LlmMetrics,
    /// Collects the metrics of the GPUs until it is dropped.
    _gpu: Option<GpuCollector>,
}

/// Why the metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error(transparent)]
    Exporter(#[from] ExporterError),
    #[error(transparent)]
    Metrics(#[from] BuildError),
}

impl Telemetry {
    /// Installs the exporter first, because earlier values would be lost.
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

/// Reports the loaded model; dropping the guard reports that it was unloaded.
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

/// The request's [`InferenceHandle`], with the terms of this server.
#[derive(Clone, Default)]
pub(crate) struct Handle(InferenceHandle);

impl Handle {
    pub(crate) fn of(request: &Request) -> Self {
        // The handler runs inside the request's span. The layer cannot know the provider.
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

    /// Known before the first token, and so also for requests whose client disconnects.
    pub(crate) fn prompt_tokens(&self, prompt: u64) {
        self.0.usage(Usage::new().input(prompt));
    }

    /// The engine has only read a part of the prompt.
    pub(crate) fn prompt_was_cut(&self) {
        self.0.input_truncated();
    }

    pub(crate) fn usage(&self, prompt: u64, output: u64, reasoning: u64) {
        self.0.usage(Usage::new().input(prompt).output(output).reasoning(reasoning));
    }

    /// The request reached the server's time limit, whatever its status is.
    pub(crate) fn timed_out(&self) {
        self.0.error(ErrorType::Timeout);
    }

    /// The engine failed after the response head was sent with status 200.
    pub(crate) fn failed(&self) {
        self.0.error(ErrorType::Internal);
    }
}
