//! Settings, checked before anything runs.

use std::{
    sync::{Arc, OnceLock, RwLock},
    time::{Duration, Instant},
};

use http::request::Parts;
use metrics::{Recorder, SharedString};

use super::{
    Inner, InvalidObjective, LabelPolicy, LlmMetrics, Objective, Options, QualityFinding, RecentGauges,
    admission::ExtraLabel,
    engine::Engines,
    hints::Hints,
    model::Model,
    policy::{LabelValue, LabelValues},
    quality::FindingListener,
};
use crate::{
    catalog::{self, InvalidLabel, LabelValueRule, Naming, Registrar, labels},
    quality::QualityChecks,
    recent::Recent,
};

/// The longest recent window: each of its seconds is stored separately.
const RECENT_WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// Settings for [`LlmMetrics`].
///
/// ```
/// use llm_metrics::{LabelPolicy, LlmMetrics, catalog::Naming};
///
/// let metrics = LlmMetrics::builder()
///     .naming(Naming::new().prefix("qwen")?)
///     .models(["Qwen3-4B", "Qwen3-14B"])
///     .constant_label("service", "assistant")
///     .request_label("tenant", LabelPolicy::first_accepted(100), |parts| {
///         Some(parts.headers.get("x-tenant")?.to_str().ok()?.to_owned())
///     })
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    recorder: Option<Arc<dyn Recorder + Send + Sync>>,
    pub(crate) naming: Naming,
    models: LabelPolicy,
    constant: Vec<(String, String)>,
    extra: Vec<ExtraLabel>,
    objectives: Vec<Objective>,
    recent_window: Duration,
    recent_gauges: RecentGauges,
    labels_of_dialects: Vec<String>,
    on_finding: FindingListener,
    options: Options,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            recorder: None,
            naming: Naming::new(),
            models: LabelPolicy::default(),
            constant: Vec::new(),
            extra: Vec::new(),
            objectives: Vec::new(),
            recent_window: Duration::from_secs(60),
            recent_gauges: RecentGauges::default(),
            labels_of_dialects: Vec::new(),
            on_finding: FindingListener::default(),
            options: Options {
                live_tokens: false,
                inter_token_latency: true,
                stall: Duration::from_secs(5),
                label_sets: 500,
                quality: QualityChecks::all(),
            },
        }
    }
}

impl Builder {
    /// Records with `recorder` instead of the global one: for tests, for several services in one process, and to be independent of the order of
    /// start-up.
    ///
    /// If the recorder or one of its handles panics, that value is lost, and the request continues.
    pub fn recorder(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.recorder = Some(Arc::new(recorder));
        self
    }

    /// Spells the names with `naming`. The exporter needs the same naming; `exporter` takes it from the exporter.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// Uses exactly these names as values of `model`; every other name counts under `other`.
    ///
    /// Short for [`model_labels`](Self::model_labels) with [`LabelPolicy::only`]. The series of all these models exist at 0 from construction on.
    pub fn models<I>(self, models: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Arc<str>>,
    {
        self.model_labels(LabelPolicy::only(models))
    }

    /// Decides which names become values of `model`. The default is the first 64 names of accepted requests.
    pub fn model_labels(mut self, policy: LabelPolicy) -> Self {
        self.models = policy;
        self
    }

    /// Adds a label with the same value to every series, such as service or region. The value must be a
    /// [label value](LabelPolicy::is_label_value).
    pub fn constant_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.constant.push((name.into(), value.into()));
        self
    }

    /// Adds a label whose value `read` takes from the head of each request, such as tenant or priority.
    ///
    /// It is added to every series of a request that has the label `model` (not to `llm_recent_…`, which are over all requests of a model), and
    /// multiplies their number: each set of model, endpoint and values of such labels is about 60 to 250 lines of a scrape. Therefore each such label
    /// has its own policy: a value over the cap counts under `other`, an absent value under `unknown`. See also
    /// [`max_label_sets`](Self::max_label_sets).
    ///
    /// If `read` panics, the value is `other`, and the request continues.
    pub fn request_label(
        mut self,
        name: impl Into<String>,
        policy: LabelPolicy,
        read: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let name = SharedString::from(name.into());
        self.extra.push(ExtraLabel { name, values: LabelValues::new(policy), read: Box::new(read) });
        self
    }

    /// Adds the label `upstream`, for clients and gateways: the host that a request is sent to, with the port if one is given. A request without a
    /// host in its URI, as servers receive it, has `unknown`. The same as
    ///
    /// ```
    /// # use llm_metrics::{LabelPolicy, LlmMetrics};
    /// let metrics = LlmMetrics::builder().request_label("upstream", LabelPolicy::first_accepted(20), |parts| {
    ///     let authority = parts.uri.authority()?;
    ///     Some(authority.port().map_or_else(|| authority.host().into(), |port| format!("{}:{port}", authority.host())))
    /// });
    /// ```
    ///
    /// and in lower case.
    pub fn upstream_label(self, policy: LabelPolicy) -> Self {
        self.request_label("upstream", policy, |parts| {
            let authority = parts.uri.authority()?;
            let port = authority.port().map(|port| format!(":{port}")).unwrap_or_default();
            Some(authority.host().to_ascii_lowercase() + &port)
        })
    }

    /// Creates at most this many sets of model, endpoint and request labels; the default is 500. Caps of single labels do not bound their
    /// combinations. Beyond this limit, the request labels of further sets count under `other`, and so do their models unless they are declared.
    ///
    /// Declared models are not part of this limit: each has one set per endpoint in which all request labels are `other` or `unknown`. Only accepted
    /// requests create sets. A rejected request whose set does not exist counts without its request labels, except [reserved](LabelPolicy::reserved)
    /// values.
    pub fn max_label_sets(mut self, sets: usize) -> Self {
        self.options.label_sets = sets;
        self
    }

    /// Counts a gap inside a stream that is longer than this as a stall. The default is 5 s, long enough for the pauses of a model that reasons.
    pub fn stall_threshold(mut self, threshold: Duration) -> Self {
        self.options.stall = threshold;
        self
    }

    /// Whether `llm_output_tokens_total` grows with each event that carries a token, if no better count is known before the end. Off by default: one
    /// event is *about* one token, so the counter is an estimate until the usage arrives, and stays one if it never does.
    pub fn live_tokens(mut self, on: bool) -> Self {
        self.options.live_tokens = on;
        self
    }

    /// Whether every gap between tokens is recorded: the only cost per token. On by default.
    pub fn inter_token_latency(mut self, on: bool) -> Self {
        self.options.inter_token_latency = on;
        self
    }

    /// Counts the requests that meet or miss an objective, in `llm_slo_requests_total`. Call it once per objective.
    pub fn objective(mut self, objective: Objective) -> Self {
        self.objectives.push(objective);
        self
    }

    /// The length of the window of `llm_recent_…` and [`LlmMetrics::recent_models`], in whole seconds from 1 to 600. The default is 60. No scrape
    /// misses a spike if scrapes are at most this far apart. Each second takes up to 1.3 KB per model.
    pub fn recent_window(mut self, window: Duration) -> Self {
        self.recent_window = window;
        self
    }

    /// The checks of model output. All of them by default. `docs/quality.md` in the repository lists what each check can and cannot detect, and
    /// `benches/README.md` has their cost.
    pub fn quality(mut self, checks: QualityChecks) -> Self {
        self.options.quality = checks;
        self
    }

    /// Calls `listener` for each finding of a check of [`quality`](Self::quality), at the moment of the finding: a loop while it continues, invalid
    /// structured output at its end. The listener runs in the task that reads the response, and delays it for as long as it runs. A panic in the
    /// listener does not affect the request.
    ///
    /// With the feature `tracing`, each finding is also an event: see the module `spans`.
    ///
    /// ```
    /// use llm_metrics::LlmMetrics;
    ///
    /// let metrics = LlmMetrics::builder()
    ///     .on_finding(|finding| eprintln!("{:?}: {} {}", finding.request_id, finding.metric, finding.kind))
    ///     .build()?;
    /// # Ok::<(), llm_metrics::BuildError>(())
    /// ```
    pub fn on_finding(mut self, listener: impl Fn(&QualityFinding<'_>) + Send + Sync + 'static) -> Self {
        self.on_finding = FindingListener::new(listener);
        self
    }

    /// Shows recent windows together with those of other metrics.
    #[cfg(any(test, feature = "prometheus"))]
    pub(crate) fn recent_gauges(mut self, gauges: RecentGauges) -> Self {
        self.recent_gauges = gauges;
        self
    }

    /// Rejects labels with these names, which the dialects of the exporter use.
    #[cfg(feature = "prometheus")]
    pub(crate) fn labels_of_dialects(mut self, names: Vec<String>) -> Self {
        self.labels_of_dialects = names;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// If the name of a label is invalid or in use, if the value of a constant label, the name of a declared model or a declared value of a request label is not a valid
    /// label value, if an objective is invalid, or if the recent window is too short or too long.
    pub fn build(mut self) -> Result<LlmMetrics, BuildError> {
        let registrar = self.registrar()?;
        if let Some(name) = self.models.first_invalid() {
            return Err(BuildError::ModelName { name: name.to_owned() });
        }
        if let Some((label, value)) =
            self.extra.iter().find_map(|label| Some((&label.name, label.values.first_invalid()?)))
        {
            return Err(BuildError::LabelValue { label: label.as_ref().to_owned(), value: value.to_owned() });
        }
        if !RECENT_WINDOWS.contains(&self.recent_window) || self.recent_window.subsec_nanos() > 0 {
            return Err(BuildError::RecentWindow { window: self.recent_window });
        }
        self.objectives = checked(self.objectives, &self.models)?;
        let metrics = LlmMetrics(self.into_inner(registrar));
        if metrics.0.registrar.has_recorder() || !metrics.0.models.declared().is_empty() {
            metrics.register();
        }
        Ok(metrics)
    }

    /// The registrar, with the embedder's labels.
    fn registrar(&self) -> Result<Registrar, InvalidLabel> {
        let mut registrar = Registrar::new(catalog::SECTIONS).naming(self.naming.clone());
        if let Some(recorder) = &self.recorder {
            registrar = registrar.recorder(Arc::clone(recorder));
        }
        let constant = self.constant.iter().map(|(name, _)| name.as_str());
        let mut names = constant.chain(self.extra.iter().map(|label| label.name.as_ref()));
        if let Some(name) = names.find(|name| self.labels_of_dialects.iter().any(|taken| taken == name)) {
            return Err(InvalidLabel::Taken { name: name.to_owned() });
        }
        for (name, value) in &self.constant {
            registrar = registrar.constant_label(name, value)?;
        }
        self.extra.iter().try_fold(registrar, |registrar, label| registrar.additional_label(&label.name))
    }

    pub(super) fn into_inner(self, registrar: Registrar) -> Arc<Inner> {
        let recent_gauges = self.recent_gauges.clone();
        let inner = Arc::new(Inner {
            options: self.options,
            registrar: Arc::new(registrar),
            models: LabelValues::new(self.models),
            other: Model::of(labels::OTHER.into()),
            unknown: Model::of(labels::UNKNOWN.into()),
            extra_names: self.extra.iter().map(|label| label.name.clone()).collect(),
            extra: self.extra,
            objectives: self.objectives,
            on_finding: self.on_finding,
            recent: Recent::new(Instant::now(), self.recent_window),
            recent_gauges: self.recent_gauges,
            engines: Engines::default(),
            global: OnceLock::new(),
            hints: Hints::default(),
            series: RwLock::default(),
        });
        recent_gauges.add(&inner);
        inner
    }
}

fn checked(objectives: Vec<Objective>, models: &LabelPolicy) -> Result<Vec<Objective>, BuildError> {
    let mut checked: Vec<Objective> = Vec::with_capacity(objectives.len());
    for objective in objectives {
        let name = Arc::clone(objective.name());
        let taken = checked.iter().any(|other| *other.name() == name);
        let valid = if taken { Err(InvalidObjective::Taken) } else { objective.checked(models) };
        checked.push(valid.map_err(|source| BuildError::Objective { name: name.as_ref().to_owned(), source })?);
    }
    Ok(checked)
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("naming", &self.naming)
            .field("models", &self.models)
            .field("constant", &self.constant)
            .field("objectives", &self.objectives)
            .field("recent_window", &self.recent_window)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Why metrics could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A label has an invalid name, or one that is in use.
    #[error(transparent)]
    Label(#[from] InvalidLabel),
    /// The name of a declared model is not a valid label value.
    #[error(
        "the model name {name:?} is not a valid label value: {LabelValueRule}. This also applies to the result of the policy's `map`"
    )]
    ModelName {
        /// The name.
        name: String,
    },
    /// A declared value of a request label is not a valid label value.
    #[error(
        "the value {value:?} of the label {label:?} is not a valid label value: {LabelValueRule}. This also applies to the result of the policy's `map`"
    )]
    LabelValue {
        /// The label.
        label: String,
        /// The value.
        value: String,
    },
    /// An objective is invalid; the source says why.
    #[error("the objective {name:?} is invalid")]
    Objective {
        /// Its name.
        name: String,
        /// Why it is invalid.
        source: InvalidObjective,
    },
    /// The recent window is too short, too long, or not a whole number of seconds.
    #[error("the recent window {window:?} is invalid: use whole seconds from 1 to 600")]
    RecentWindow {
        /// The given window.
        window: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(builder: Builder) -> BuildError {
        builder.build().unwrap_err()
    }

    #[test]
    fn a_label_name_that_prometheus_rejects_is_rejected() {
        for name in ["", "1st", "a-b", "__name__", "größe"] {
            assert_eq!(
                error(LlmMetrics::builder().constant_label(name, "x")),
                InvalidLabel::Name { name: name.to_owned() }.into()
            );
        }
    }

    #[test]
    fn a_label_name_that_is_in_use_is_rejected() {
        for name in ["model", "outcome", "le", "quantile"] {
            assert_eq!(
                error(LlmMetrics::builder().constant_label(name, "x")),
                InvalidLabel::Taken { name: name.to_owned() }.into()
            );
        }
        let twice = LlmMetrics::builder().constant_label("tenant", "x").request_label(
            "tenant",
            LabelPolicy::first_accepted(1),
            |_| None,
        );
        assert_eq!(error(twice), InvalidLabel::Taken { name: "tenant".to_owned() }.into());
    }

    #[test]
    fn a_declared_value_that_is_not_a_valid_label_value_is_rejected() {
        for value in ["", "a\nb", "a\\b", &"x".repeat(129)] {
            let model = error(LlmMetrics::builder().models(["m", value]));
            assert_eq!(model, BuildError::ModelName { name: value.to_owned() });
            let label = LlmMetrics::builder().request_label("tier", LabelPolicy::only(["free", value]), |_| None);
            let expected = BuildError::LabelValue { label: "tier".to_owned(), value: value.to_owned() };
            assert_eq!(error(label), expected);
        }
    }

    fn objective_error(objective: Objective) -> InvalidObjective {
        match error(LlmMetrics::builder().models(["Qwen3-4B"]).objective(objective)) {
            BuildError::Objective { source, .. } => source,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_invalid_objective_is_rejected_with_the_reason() {
        let second = Duration::from_secs(1);
        let named = |name: &str| Objective::new(name).duration(second);
        for name in ["", "a\nb", "a\\b", &"x".repeat(129)] {
            assert_eq!(objective_error(named(name)), InvalidObjective::Name, "{name:?}");
        }
        assert_eq!(objective_error(Objective::new("chat")), InvalidObjective::NoLimit);
        for limit in [Duration::ZERO, Duration::from_secs(24 * 3600) + Duration::from_nanos(1), Duration::MAX] {
            let chat = Objective::new("chat");
            for objective in [
                chat.clone().duration(limit),
                chat.clone().time_to_first_token(limit),
                chat.duration(second).time_per_output_token(limit),
            ] {
                assert_eq!(objective_error(objective), InvalidObjective::Limit { limit });
            }
        }
        assert_eq!(objective_error(named("chat").models([""; 0])), InvalidObjective::NoModel);
        let model = "Qwen3-14B".to_owned();
        assert_eq!(objective_error(named("chat").models([&model])), InvalidObjective::Model { model });
        let twice = LlmMetrics::builder().objective(named("chat")).objective(named("chat"));
        let taken = BuildError::Objective { name: "chat".to_owned(), source: InvalidObjective::Taken };
        assert_eq!(error(twice), taken);
        assert!(LlmMetrics::builder().objective(named("chat").models(["any"])).build().is_ok(), "it may be learnt");
        let learnt = LlmMetrics::builder().objective(named("chat").models(["a\nb"]));
        assert!(matches!(error(learnt), BuildError::Objective { source: InvalidObjective::Model { .. }, .. }));
    }

    #[test]
    fn the_longest_limit_is_a_day() {
        let day = Objective::new("chat").duration(Duration::from_secs(24 * 3600));
        assert!(LlmMetrics::builder().objective(day).build().is_ok());
    }

    /// Whether building metrics registers anything with the global recorder.
    fn registers(builder: Builder) -> bool {
        let recorder = metrics_util::debugging::DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || drop(builder.build().unwrap()));
        !recorder.snapshotter().snapshot().into_vec().is_empty()
    }

    #[test]
    fn nothing_is_resolved_before_it_is_needed_unless_models_are_declared() {
        assert!(!registers(LlmMetrics::builder()), "a recorder may be installed later");
        assert!(registers(LlmMetrics::builder().models(["m"])));
    }

    #[test]
    fn an_invalid_recent_window_is_rejected() {
        for window in
            [Duration::ZERO, Duration::from_millis(999), Duration::from_millis(1500), Duration::from_secs(601)]
        {
            assert_eq!(error(LlmMetrics::builder().recent_window(window)), BuildError::RecentWindow { window });
        }
        for seconds in [1, 600] {
            assert!(LlmMetrics::builder().recent_window(Duration::from_secs(seconds)).build().is_ok());
        }
    }
}
