//! Handles for label sets, the policies that bound the labels, and the recorder that the handles come from.

mod admission;
mod builder;
mod catch;
mod engine;
mod global;
mod hints;
mod model_info;
mod objective;
mod page;
mod policy;
mod quality;
mod recent;
mod registrar;
mod series;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, RwLock, Weak},
    time::Duration,
};

use metrics::SharedString;

pub(crate) use admission::RawLabels;
pub use builder::{BuildError, Builder};
pub(crate) use catch::catch_panic;
pub use engine::EngineMetrics;
pub(crate) use hints::Hint;
pub use model_info::{LoadedModel, ModelInfo};
pub(crate) use objective::Times;
pub use objective::{InvalidObjective, Objective};
pub use page::PageFault;
pub use policy::LabelPolicy;
pub(crate) use policy::inside_map;
#[cfg(feature = "tracing")]
pub(crate) use policy::is_label_value;
pub use quality::QualityFinding;
pub use recent::RecentModel;
pub(crate) use recent::Refreshed;
pub(crate) use registrar::Registrar;
pub(crate) use series::{Series, SeriesKey};

use self::{
    admission::{ExtraLabel, LabelSets},
    engine::Engine,
    global::GlobalHandles,
    hints::Hints,
    policy::LabelValues,
};
use crate::{quality::QualityChecks, recent::Recent};

/// Metrics of one service: what its requests are recorded with.
///
/// Cheap to clone; clones share everything. Nothing is static: two of them may live in one process, each with a recorder,
/// prefix and policies of its own.
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
/// Where no recorder is handed in, by [`recorder`](Builder::recorder) or with an exporter, the global one is used, and resolved
/// when the first request comes; with a declared list of models at construction, and by [`engine`](Self::engine) and
/// [`model_loaded`](Self::model_loaded) for what they set. What is resolved before a recorder is installed does nothing for ever.
#[derive(Clone)]
pub struct LlmMetrics(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: Options,
    registrar: Arc<Registrar>,
    models: LabelValues,
    extra: Vec<ExtraLabel>,
    extra_names: Vec<SharedString>,
    objectives: Vec<Objective>,
    pub(crate) on_finding: quality::FindingListener,
    pub(crate) recent: Recent,
    refreshed: Refreshed,
    engines: Mutex<HashMap<String, Weak<Engine>>>,
    global: OnceLock<GlobalHandles>,
    hints: Hints,
    series: RwLock<LabelSets>,
}

/// What an embedder can switch.
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
        Self(Builder::default().into_inner())
    }

    /// Starts from default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Registers everything that can be known before the first request: descriptions, the metrics about ourselves, and
    /// the series of declared models, all at 0.
    ///
    /// Happens by itself at the first request; call it once the recorder is installed to have the series from the start.
    pub fn register(&self) {
        self.0.global();
        self.0.register_declared();
    }
}

impl Inner {
    /// Whether findings of the checks are reported to anybody.
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
    /// Handles that no model or caller has a say in.
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
