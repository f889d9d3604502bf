//! Handles for label sets, the policies that bound the labels, and the recorder that the handles come from.

mod builder;
mod engine;
mod objective;
mod policy;
mod recent;
mod registrar;
mod series;

use std::{
    array,
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use foldhash::fast::RandomState;
use http::request::Parts;
use metrics::{Counter, Gauge, Label, SharedString};

pub use builder::{BuildError, Builder};
pub use engine::{EngineGauges, LoadedModel, ModelInfo};
pub(crate) use objective::Times;
pub use objective::{InvalidObjective, Objective};
#[cfg(feature = "tracing")]
pub(crate) use policy::is_label_value;
pub use policy::{LabelPolicy, MAX_NAME_BYTES};
pub use recent::RecentModel;
pub(crate) use recent::Refreshed;
pub(crate) use registrar::Registrar;
pub(crate) use series::{Series, SeriesKey};

use self::{policy::LabelValues, recent::RecentGauges};
use crate::{
    catalog::{self, labels},
    recent::Recent,
    vocabulary::{Endpoint, InspectionFailure, Operation, Phase, Protocol, SkipReason},
};

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
    pub(crate) recent: Recent,
    recent_gauges: Mutex<Vec<RecentGauges>>,
    fixed: OnceLock<Fixed>,
    series: RwLock<HashMap<SeriesKey, Arc<Series>, RandomState>>,
}

/// What an embedder can switch.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) live_tokens: bool,
    pub(crate) inter_token_latency: bool,
    pub(crate) stall: Duration,
    pub(crate) label_sets: usize,
}

/// A label that the embedder reads from the request's head.
pub(crate) struct ExtraLabel {
    name: SharedString,
    values: LabelValues,
    read: ReadLabel,
}

type ReadLabel = Box<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// Values of the extra labels as a request brought them, not bounded yet.
pub(crate) type RawLabels = Box<[Option<String>]>;

impl LlmMetrics {
    /// Metrics with default settings, recorded with the global recorder.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Builder::default().into_inner()))
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
        self.0.fixed();
        self.0.register_declared();
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
    /// Reads the embedder's labels from a request's head; `None` where there are none to read.
    pub(crate) fn reads_labels(&self) -> bool {
        !self.extra.is_empty()
    }

    pub(crate) fn read_labels(&self, parts: &Parts) -> RawLabels {
        self.extra.iter().map(|label| (label.read)(parts)).collect()
    }

    /// The handles for a request. A name that is over its cap, and every name that came with a request that was not
    /// accepted and is not known, counts under `other`.
    pub(crate) fn series(
        &self,
        endpoint: Endpoint,
        operation: Operation,
        model: Option<&str>,
        raw: Option<&RawLabels>,
        accepted: bool,
    ) -> Arc<Series> {
        let model = self.bounded(labels::MODEL, &self.models, model, accepted);
        let extra = self.reads_labels().then(|| {
            let raw = |at: usize| raw.and_then(|raw| raw.get(at)?.as_deref());
            self.extra
                .iter()
                .enumerate()
                .map(|(at, label)| self.bounded(&label.name, &label.values, raw(at), accepted))
                .collect()
        });
        let mut key = SeriesKey { model, endpoint, operation, extra };
        if let Some(series) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(series);
        }
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= self.options.label_sets && !all.contains_key(&key) {
            self.fold(&mut key, |key| all.contains_key(key));
        }
        let register = || {
            let recent = self.recent.model(&key.model);
            Arc::new(Series::new(&self.registrar, &key, &self.extra_names, &self.objectives, recent))
        };
        Arc::clone(all.entry(key.clone()).or_insert_with(register))
    }

    /// Brings a set of labels that is one too many down to one that is known, or to the last resort that every endpoint has.
    fn fold(&self, key: &mut SeriesKey, is_known: impl Fn(&SeriesKey) -> bool) {
        if let Some(extra) = &mut key.extra {
            for (label, value) in self.extra.iter().zip(Arc::make_mut(extra)) {
                if **value != *labels::OTHER {
                    *value = constant(labels::OTHER);
                    self.fixed().overflowed(&label.name);
                }
            }
        }
        if !is_known(key) && *key.model != *labels::OTHER {
            key.model = constant(labels::OTHER);
            self.fixed().overflowed(labels::MODEL);
        }
    }

    /// The label of a model that has one already.
    #[cfg(feature = "tracing")]
    pub(crate) fn known_model(&self, name: &str) -> Option<Arc<str>> {
        self.models.admit(name, false)
    }

    /// Handles that no model or caller has a say in.
    pub(crate) fn fixed(&self) -> &Fixed {
        self.fixed.get_or_init(|| Fixed::new(&self.registrar, &self.extra_names))
    }

    fn register_declared(&self) {
        for model in self.models.declared() {
            self.series(Endpoint::ChatCompletions, Operation::Chat, Some(model), None, true);
            self.series(Endpoint::Completions, Operation::TextCompletion, Some(model), None, true);
        }
    }

    fn bounded(&self, label: &str, values: &LabelValues, raw: Option<&str>, accepted: bool) -> Arc<str> {
        let Some(raw) = raw.filter(|raw| !raw.is_empty()) else { return constant(labels::UNKNOWN) };
        values.admit(raw, accepted).unwrap_or_else(|| {
            // A name that came with a request that was not accepted takes nobody's place.
            if accepted {
                self.fixed().overflowed(label);
            }
            constant(labels::OTHER)
        })
    }
}

/// The two values that stand for others, without an allocation a request.
fn constant(value: &'static str) -> Arc<str> {
    static OTHER: OnceLock<Arc<str>> = OnceLock::new();
    static UNKNOWN: OnceLock<Arc<str>> = OnceLock::new();
    let cell = if value == labels::OTHER { &OTHER } else { &UNKNOWN };
    Arc::clone(cell.get_or_init(|| value.into()))
}

/// Handles whose labels are closed sets.
pub(crate) struct Fixed {
    registrar: Arc<Registrar>,
    started: [[OnceLock<Counter>; Endpoint::ALL.len()]; Operation::ALL.len()],
    in_flight: [[OnceLock<Gauge>; Phase::ALL.len()]; Operation::ALL.len()],
    overflow: Vec<(SharedString, Counter)>,
    failures: [[Counter; InspectionFailure::ALL.len()]; Protocol::ALL.len()],
    skipped: [Counter; SkipReason::ALL.len()],
}

impl Fixed {
    fn new(registrar: &Arc<Registrar>, extra_names: &[SharedString]) -> Self {
        registrar.with_recorder(|recorder| {
            for row in catalog::all() {
                row.describe(&registrar.naming, recorder);
            }
        });
        let version = Label::from_static_parts(labels::VERSION, env!("CARGO_PKG_VERSION"));
        registrar.gauge(&catalog::BUILD_INFO, vec![version]).set(1.0);
        let overflow = |name: &SharedString| {
            let label = Label::new(labels::LABEL, name.clone());
            (name.clone(), registrar.counter(&catalog::LABEL_OVERFLOW, vec![label]))
        };
        let failure = |protocol: usize, kind: usize| {
            let protocol = Label::from_static_parts(labels::PROTOCOL, Protocol::WORDS[protocol]);
            let kind = Label::from_static_parts(labels::KIND, InspectionFailure::WORDS[kind]);
            registrar.counter(&catalog::INSPECTION_FAILURES, vec![protocol, kind])
        };
        let skipped = |reason: usize| {
            let reason = Label::from_static_parts(labels::REASON, SkipReason::WORDS[reason]);
            registrar.counter(&catalog::BODIES_SKIPPED, vec![reason])
        };
        let fixed = Self {
            overflow: [SharedString::const_str(labels::MODEL)].iter().chain(extra_names).map(overflow).collect(),
            failures: array::from_fn(|protocol| array::from_fn(|kind| failure(protocol, kind))),
            skipped: array::from_fn(skipped),
            started: Default::default(),
            in_flight: Default::default(),
            registrar: Arc::clone(registrar),
        };
        for (operation, endpoint) in
            [(Operation::Chat, Endpoint::ChatCompletions), (Operation::TextCompletion, Endpoint::Completions)]
        {
            fixed.started(operation, endpoint);
            for phase in Phase::ALL {
                fixed.in_flight(operation, *phase);
            }
        }
        fixed
    }

    pub(crate) fn started(&self, operation: Operation, endpoint: Endpoint) -> &Counter {
        self.started[operation as usize][endpoint as usize].get_or_init(|| {
            let operation = Label::from_static_parts(labels::OPERATION, operation.as_str());
            let endpoint = Label::from_static_parts(labels::ENDPOINT, endpoint.as_str());
            self.registrar.counter(&catalog::REQUESTS_STARTED, vec![operation, endpoint])
        })
    }

    pub(crate) fn in_flight(&self, operation: Operation, phase: Phase) -> &Gauge {
        self.in_flight[operation as usize][phase as usize].get_or_init(|| {
            let operation = Label::from_static_parts(labels::OPERATION, operation.as_str());
            let phase = Label::from_static_parts(labels::PHASE, phase.as_str());
            self.registrar.gauge(&catalog::REQUESTS_IN_FLIGHT, vec![operation, phase])
        })
    }

    pub(crate) fn failure(&self, protocol: Protocol, kind: InspectionFailure) -> &Counter {
        &self.failures[protocol as usize][kind as usize]
    }

    pub(crate) fn skipped(&self, reason: SkipReason) -> &Counter {
        &self.skipped[reason as usize]
    }

    fn overflowed(&self, label: &str) {
        if let Some((_, counter)) = self.overflow.iter().find(|(name, _)| name.as_ref() == label) {
            counter.increment(1);
        }
    }
}
