//! Handles for label sets, the policies that bound the labels, and the recorder that the handles come from.

mod admission;
mod builder;
mod cancelled_ages;
mod engine;
mod global;
mod hints;
mod lazy_histogram;
mod model;
mod model_info;
mod objective;
mod page;
mod policy;
mod quality;
mod recent;
mod recent_gauges;
mod request_handles;

use std::{
    fmt,
    sync::{Arc, OnceLock, RwLock},
    time::Duration,
};

use metrics::SharedString;

pub(crate) use admission::RawLabels;
pub use builder::{BuildError, Builder};
pub use engine::EngineMetrics;
pub(crate) use hints::Hint;
pub(crate) use model::Model;
pub use model_info::{LoadedModel, ModelInfo};
pub(crate) use objective::Times;
pub use objective::{InvalidObjective, Objective};
pub use page::InvalidPage;
pub use policy::LabelPolicy;
pub(crate) use policy::inside_map;
pub use quality::QualityFinding;
pub use recent::RecentModel;
pub(crate) use recent_gauges::RecentGauges;
pub(crate) use request_handles::{LabelSet, RequestHandles};

use self::{
    admission::{ExtraLabel, LabelSets},
    engine::Engines,
    global::GlobalHandles,
    hints::Hints,
    policy::LabelValues,
};
use crate::{
    catalog::{self, Registrar},
    quality::QualityChecks,
    recent::Recent,
};

/// The metrics of one service, with which its requests are recorded.
///
/// Cheap to clone; clones share everything. There is no static state: two of them may exist in one process, each with its own recorder, prefix and
/// policies.
///
/// ```
/// use llm_metrics::{LabelPolicy, LlmMetrics};
///
/// // Defaults: the global recorder, the first 64 model names of accepted requests.
/// let metrics = LlmMetrics::new();
///
/// let metrics = LlmMetrics::builder()
///     .model_labels(LabelPolicy::first_accepted(16))
///     .constant_label("region", "eu-west-1")
///     .build()?;
/// # Ok::<(), llm_metrics::BuildError>(())
/// ```
///
/// # Install the recorder first
/// Without [`recorder`](Builder::recorder) or an exporter, the global recorder is used. Handles are resolved at the first request; with declared
/// models at construction; and [`engine`](Self::engine) and [`model_loaded`](Self::model_loaded) resolve the handles that they use. A handle that is
/// resolved before a recorder is installed never records anything.
#[derive(Clone)]
pub struct LlmMetrics(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: Options,
    registrar: Arc<Registrar>,
    models: LabelValues<Model>,
    /// The entry for models without their own label value.
    other: Model,
    /// The entry for requests without a model name.
    unknown: Model,
    extra: Vec<ExtraLabel>,
    extra_names: Vec<SharedString>,
    objectives: Vec<Objective>,
    pub(crate) on_finding: quality::FindingListener,
    pub(crate) recent: Recent,
    recent_gauges: RecentGauges,
    engines: Engines,
    global: OnceLock<GlobalHandles>,
    hints: Hints,
    series: RwLock<LabelSets>,
}

/// Options of the embedder.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) live_tokens: bool,
    pub(crate) inter_token_latency: bool,
    pub(crate) stall: Duration,
    pub(crate) label_sets: usize,
    pub(crate) quality: QualityChecks,
}

impl LlmMetrics {
    /// Metrics with default settings, recorded with the global recorder.
    #[must_use]
    pub fn new() -> Self {
        Self(Builder::default().into_inner(Registrar::new(catalog::SECTIONS)))
    }

    /// Starts from default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Registers everything that is known before the first request: descriptions, the metrics about this library, and
    /// the series of declared models, all at 0.
    ///
    /// The first request does this, too. Call it after the recorder is installed, so that the series exist from the start.
    pub fn register(&self) {
        self.0.global();
        self.0.register_declared();
    }
}

impl Inner {
    /// Whether findings of the checks are reported to a listener or as events.
    pub(crate) fn reports_findings(&self) -> bool {
        self.options.quality.any() && (self.on_finding.is_set() || cfg!(feature = "tracing"))
    }
}

impl Default for LlmMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LlmMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlmMetrics")
            .field("registrar", &self.0.registrar)
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Handles whose labels depend neither on a model nor on a caller.
    pub(crate) fn global(&self) -> &GlobalHandles {
        if let Some(global) = self.global.get() {
            return global;
        }
        let global = self.global.get_or_init(|| GlobalHandles::new(&self.registrar, &self.extra_names));
        if self.registrar.records_nothing() {
            self.hint(Hint::NoRecorder);
        }
        global
    }
}
