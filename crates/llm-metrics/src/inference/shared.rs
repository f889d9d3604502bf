//! The state that several owners share: the request body, the handler, and the response body.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{quality::QualityContext, tracker::RouteFacts};
use crate::{
    quality::{BoundedBytes, Prompt, QualityChecks, ToolNames},
    record::{Hint, LlmMetrics, Model, RawLabels, RequestHandles, inside_map},
    vocabulary::{ErrorType, InspectionFailure, MAX_NAME_BYTES, MAX_PLAUSIBLE_TOKENS, Protocol, SkipReason, Usage},
    wire::{Format, RequestFacts},
};

/// The longest plausible time that an engine spends on one request.
pub(super) const LONGEST_PLAUSIBLE_TIME: Duration = Duration::from_secs(24 * 3600);

/// A bit in the token count that means that the request has ended: one atomic operation adds tokens and reads the bit.
const SETTLED: u64 = 1 << 63;

/// The part of a request's state that several owners write: the request body, the handler, and the response body.
pub(crate) struct SharedRequest {
    pub(super) metrics: LlmMetrics,
    pub(super) route: RouteFacts,
    /// Output tokens that the engine has reported so far, and [`SETTLED`] when no more are accepted.
    tokens: AtomicU64,
    /// The number of reports, modulo 2³².
    steps: AtomicU32,
    /// Output tokens that are already in the counter.
    published: AtomicU64,
    series: OnceLock<Arc<RequestHandles>>,
    /// The embedder's own labels, from the request's head.
    labels: Option<RawLabels>,
    /// The request has named its model.
    named: AtomicBool,
    reports: Mutex<Reports>,
}

#[derive(Default)]
pub(super) struct Reports {
    pub(super) params: RequestParams,
    pub(super) engine: Option<Box<EngineReport>>,
    /// The model whose gauge of requests in flight has this request. Until the series are resolved, it is the model of the present name.
    counted: Option<Model>,
}

/// The facts of the request, as far as it was read.
#[derive(Default)]
pub(super) struct RequestParams {
    pub(super) model: Option<Arc<str>>,
    pub(super) stream: Option<bool>,
    pub(super) max_tokens: SmallNumber,
    pub(super) thinking: Option<bool>,
    /// The number of texts to embed or rank.
    pub(super) inputs: SmallNumber,
    /// The number of choices, known when any part of the request was read.
    pub(super) choices: Option<u16>,
    /// Whether the answer is generated in the background.
    pub(super) background: bool,
}

/// An optional number in four bytes. Values above 2³² are as implausible as 2³² − 2.
#[derive(Clone, Copy, Default)]
pub(super) struct SmallNumber(Option<NonZeroU32>);

impl SmallNumber {
    fn of(number: Option<u64>) -> Self {
        Self(number.map(|number| u32::try_from(number).map_or(NonZeroU32::MAX, |n| NonZeroU32::MIN.saturating_add(n))))
    }

    pub(super) fn get(self) -> Option<u64> {
        self.0.map(|one_more| u64::from(one_more.get() - 1))
    }
}

/// The values that the handler reported.
#[derive(Default)]
pub(super) struct EngineReport {
    pub(super) model: Option<Arc<str>>,
    pub(super) usage: Usage,
    /// Reasoning tokens that were reported step by step.
    pub(super) reasoning_steps: u64,
    pub(super) error: Option<ErrorType>,
    pub(super) queue: Option<Duration>,
    pub(super) prefill: Option<Duration>,
    pub(super) decode: Option<Duration>,
    pub(super) input_truncated: bool,
    /// Facts for the output checks, not only from the handler: the requested output and the request id. Here because most requests have neither.
    pub(super) quality: QualityContext,
}

impl SharedRequest {
    pub(super) fn new(metrics: LlmMetrics, route: RouteFacts, labels: Option<RawLabels>) -> Self {
        Self {
            metrics,
            route,
            tokens: AtomicU64::new(0),
            steps: AtomicU32::new(0),
            published: AtomicU64::new(0),
            series: OnceLock::new(),
            labels,
            named: AtomicBool::new(false),
            reports: Mutex::default(),
        }
    }

    /// Stores the facts of the request read so far, and what the output checks need.
    pub(crate) fn set_params(
        &self,
        facts: &RequestFacts,
        tools: Option<Box<ToolNames>>,
        schema: Option<Box<BoundedBytes>>,
        prompt: Option<Prompt>,
    ) {
        let checks = self.metrics.0.options.quality;
        let name = facts.model.as_ref().map(|name| name.as_str());
        // The first name is looked up here, so that the lock is taken only once.
        let first = name.filter(|_| !self.named.load(Ordering::Relaxed));
        let model = first.and_then(|name| self.enter_model(name));
        let mut reports = self.reports();
        let params = &mut reports.params;
        let renamed = params.model.as_deref() != name;
        if renamed {
            self.named.store(true, Ordering::Relaxed);
            // The label's value needs no other allocation.
            let value = model.as_ref().map(Model::name).filter(|value| Some(&***value) == name);
            params.model = value.cloned().or_else(|| name.map(Into::into));
        }
        params.stream = facts.stream;
        params.max_tokens = SmallNumber::of(facts.max_tokens);
        params.thinking = facts.thinking;
        params.background = facts.background;
        params.inputs = SmallNumber::of(facts.inputs.map(u64::from));
        params.choices =
            Some(facts.choices.map(|n| u16::try_from(n).unwrap_or(u16::MAX)).filter(|n| *n > 0).unwrap_or(1));
        let format = facts.format.and_then(Format::structured);
        if let Some(format) = format.filter(|_| checks.structured_output) {
            reports.engine.get_or_insert_default().quality.requested.format = Some(format);
        }
        reports.expect(tools, schema, prompt.filter(|_| checks.truncation));
        match model {
            Some(model) => {
                let is_right = renamed && self.series.get().is_none() && reports.handlers_model().is_none();
                self.settle_model(model, reports, is_right);
            }
            None if renamed && first.is_none() => self.renamed(reports),
            None => {}
        }
    }

    /// Sets the model's name, instead of the one in the request.
    pub(super) fn set_model(&self, name: &str) {
        let mut reports = self.reports();
        if !self.is_settled() {
            reports.engine.get_or_insert_default().model = Some(name.into());
            self.renamed(reports);
        }
    }

    /// Moves the request to the gauge of the model that its present name stands for, if that is certain.
    fn renamed(&self, mut reports: MutexGuard<'_, Reports>) {
        if self.series.get().is_some() {
            return;
        }
        let before = reports.counted.take();
        let name = reports.model().cloned();
        // Unlocked: a recorder or a label policy's `map` may use this request's handle.
        drop(reports);
        before.iter().for_each(|model| self.metrics.0.left(model));
        let Some(name) = name else { return };
        let Some(model) = self.enter_model(&name) else { return };
        let reports = self.reports();
        let is_right = self.series.get().is_none() && reports.model().is_some_and(|now| Arc::ptr_eq(now, &name));
        self.settle_model(model, reports, is_right);
    }

    /// Counts the request in flight under the model of this name, if that is certain. Call [`settle_model`](Self::settle_model) next: first the
    /// increment, so that a scrape never sees too few requests.
    fn enter_model(&self, name: &str) -> Option<Model> {
        // `map` cannot be called from within itself. The name is looked up again with the series.
        let model = if inside_map() { None } else { self.metrics.0.certain_model(name) };
        model.inspect(|model| self.metrics.0.entered(model))
    }

    /// Counts the request in flight under this model only, whose gauge was incremented, or undoes that if it is not `right`.
    fn settle_model(&self, model: Model, mut reports: MutexGuard<'_, Reports>, is_right: bool) {
        let is_right = is_right && !self.is_settled();
        let no_more = if is_right { reports.counted.replace(model) } else { Some(model) };
        drop(reports);
        no_more.iter().for_each(|model| self.metrics.0.left(model));
    }

    /// Whether the names of the request's tools are needed.
    pub(crate) fn wants_tools(&self) -> bool {
        self.metrics.0.options.quality.tool_calls
    }

    /// Whether answers are validated against the schema of their request.
    pub(crate) fn wants_schema(&self) -> bool {
        let QualityChecks { structured_output, json_schema, .. } = self.metrics.0.options.quality;
        structured_output && json_schema
    }

    /// Ids are only stored if they are used.
    pub(crate) fn set_request_id(&self, id: &str) {
        if self.metrics.0.reports_findings() {
            let mut end = id.len().min(MAX_NAME_BYTES);
            while !id.is_char_boundary(end) {
                end -= 1;
            }
            self.reports().engine.get_or_insert_default().quality.request_id = Some(id[..end].into());
        }
    }

    /// The response head has arrived. Returns whether the request asked for a stream, and for how many choices, as far as it was read.
    pub(super) fn answered(&self, success: bool) -> (Option<bool>, Option<u16>) {
        let reports = self.reports();
        if success && self.series.get().is_none() {
            self.resolve_counted(&reports);
        }
        (reports.params.stream, reports.params.choices)
    }

    /// Whether the request asked for a stream, as far as it was read.
    pub(crate) fn asked_for_stream(&self) -> Option<bool> {
        self.reports().params.stream
    }

    /// Counts a body that was not read.
    pub(crate) fn skipped(&self, reason: SkipReason) {
        self.metrics.0.global().skipped(reason).increment(1);
        if reason == SkipReason::Compressed {
            self.metrics.0.hint(Hint::Compressed);
        }
    }

    /// Whether the handler has reported an error. It then decides about the outcome.
    pub(crate) fn has_error(&self) -> bool {
        self.reports().engine.as_ref().is_some_and(|engine| engine.error.is_some())
    }

    pub(crate) fn hint(&self, hint: Hint) {
        self.metrics.0.hint(hint);
    }

    /// Counts a body or value that could not be read.
    pub(crate) fn failure(&self, kind: InspectionFailure) {
        self.metrics.0.global().failure(self.route.protocol, kind).increment(1);
    }

    pub(super) fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handles to record with. The first call decides the model's name: that of the handler, otherwise that of the request, otherwise that of the
    /// answer. `accepted`: the name may be learnt.
    #[inline]
    pub(super) fn series(&self, answer_model: Option<&str>, accepted: bool) -> &RequestHandles {
        self.series.get().map_or_else(|| self.resolve_by(answer_model, accepted), AsRef::as_ref)
    }

    #[cold]
    fn resolve_by(&self, answer_model: Option<&str>, accepted: bool) -> &RequestHandles {
        match self.named() {
            Some((name, model)) => self.resolve(Some(&name), model, accepted),
            None => self.resolve(answer_model, None, accepted),
        }
    }

    /// The same, unless neither the handler nor the request has named the model.
    pub(super) fn named_series(&self, accepted: bool) -> Option<&RequestHandles> {
        if let Some(series) = self.series.get() {
            return Some(series);
        }
        let (name, model) = self.named()?;
        Some(self.resolve(Some(&name), model, accepted))
    }

    /// No lock is held, because a label policy's `map` belongs to the embedder, and may use this request's handle. If two threads resolve
    /// concurrently, the first result stays.
    fn resolve(&self, name: Option<&str>, model: Option<Model>, accepted: bool) -> &RequestHandles {
        let RouteFacts { endpoint, operation, .. } = self.route;
        let (metrics, labels) = (&self.metrics.0, self.labels.as_ref());
        let series = match model {
            Some(model) => metrics.series_of(endpoint, operation, model, labels, accepted),
            None => metrics.series(endpoint, operation, name, labels, accepted),
        };
        let series = self.series.get_or_init(|| series);
        if !self.is_settled() && self.reports().counted.as_ref() != Some(series.model()) {
            let model = series.model().clone();
            self.metrics.0.entered(&model);
            self.settle_model(model, self.reports(), true);
        }
        series
    }

    /// Resolves the handles if the request is in flight under the model of its present name, and they exist. Calls no code of the embedder, so that
    /// the lock may be held, and the model is the right one until it is released.
    fn resolve_counted(&self, reports: &Reports) {
        let RouteFacts { endpoint, operation, .. } = self.route;
        let metrics = &self.metrics.0;
        let model = reports.counted.as_ref().filter(|model| !metrics.is_other(model));
        if let Some(series) = model.and_then(|model| metrics.existing_series(endpoint, operation, model)) {
            self.series.get_or_init(|| series);
        }
    }

    /// The present name of the model, and its entry, if the name is a label value already.
    pub(super) fn named(&self) -> Option<(Arc<str>, Option<Model>)> {
        let reports = self.reports();
        let model = reports.counted.clone().filter(|model| !self.metrics.0.is_other(model));
        Some((Arc::clone(reports.model()?), model))
    }

    pub(crate) fn knows_model(&self) -> bool {
        self.series.get().is_some() || self.reports().model().is_some()
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed) & !SETTLED
    }

    /// The number of steps in which they were reported, modulo 2³².
    pub(super) fn steps(&self) -> u32 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(super) fn add_tokens(&self, count: u64) {
        if count > MAX_PLAUSIBLE_TOKENS && !self.is_settled() {
            return self.implausible();
        }
        // First, so that a concurrent reader computes steps that are too small, never too large.
        self.steps.fetch_add(u32::from(count > 0), Ordering::Relaxed);
        let before = self.tokens.fetch_add(count.min(MAX_PLAUSIBLE_TOKENS), Ordering::Relaxed);
        if before & SETTLED != 0 {
            return;
        }
        let total = before + count;
        // A label policy's `map` that reports tokens is about to decide the name. These tokens are published with the next ones.
        if inside_map() && self.series.get().is_none() {
            return;
        }
        // An engine that generates tokens has accepted the request, even if its response head was not sent yet.
        if let Some(series) = self.named_series(true) {
            self.publish(series, total);
        }
    }

    /// Counts reported tokens as reasoning tokens.
    pub(super) fn add_reasoning(&self, count: u64) {
        if count <= MAX_PLAUSIBLE_TOKENS {
            self.report(|engine| engine.reasoning_steps = engine.reasoning_steps.saturating_add(count));
        }
    }

    /// Raises the counter of output tokens to `total` for this request, and never lowers it.
    pub(super) fn publish(&self, series: &RequestHandles, total: u64) {
        let before = self.published.fetch_max(total, Ordering::Relaxed);
        if total > before {
            series.output_tokens.increment(total - before);
        }
    }

    /// `usage` without implausible counts; empty after the request has ended.
    pub(super) fn plausible(&self, mut usage: Usage) -> Option<Usage> {
        if self.is_settled() {
            return None;
        }
        let mut implausible = false;
        let Usage { input, cached_input, cache_write, output, reasoning } = &mut usage;
        for count in [input, cached_input, cache_write, output, reasoning] {
            if count.is_some_and(|count| count > MAX_PLAUSIBLE_TOKENS) {
                *count = None;
                implausible = true;
            }
        }
        if implausible {
            self.implausible();
        }
        Some(usage)
    }

    /// Whether no further reports are accepted.
    pub(crate) fn is_settled(&self) -> bool {
        self.tokens.load(Ordering::Relaxed) & SETTLED != 0
    }

    /// Closes the request for its handles, and returns the number of output tokens that they have reported.
    pub(super) fn settle(&self) -> u64 {
        self.tokens.fetch_or(SETTLED, Ordering::Relaxed) & !SETTLED
    }

    /// Takes the facts of the request and the reported values, and removes the request from the gauge of its model.
    pub(super) fn take_reports(&self) -> (RequestParams, EngineReport) {
        let Reports { params, engine, counted } = std::mem::take(&mut *self.reports());
        counted.iter().for_each(|model| self.metrics.0.left(model));
        (params, engine.map(|report| *report).unwrap_or_default())
    }

    pub(super) fn implausible(&self) {
        self.metrics.0.global().failure(Protocol::Handle, InspectionFailure::Implausible).increment(1);
    }

    pub(super) fn report(&self, say: impl FnOnce(&mut EngineReport)) {
        let mut reports = self.reports();
        if !self.is_settled() {
            say(reports.engine.get_or_insert_default());
        }
    }
}

impl Reports {
    fn expect(&mut self, tools: Option<Box<ToolNames>>, schema: Option<Box<BoundedBytes>>, prompt: Option<Prompt>) {
        if tools.is_none() && schema.is_none() && prompt.is_none() && self.engine.is_none() {
            return;
        }
        let quality = &mut self.engine.get_or_insert_default().quality;
        match (&mut quality.prompt, prompt) {
            (Some(known), Some(prompt)) => **known = prompt,
            (known, prompt) => *known = prompt.map(Box::new),
        }
        if schema.is_some() {
            quality.requested.schema = schema;
        }
        match (&mut quality.requested.tools, tools) {
            (Some(known), Some(more)) => known.extend(&more),
            (known @ None, more) => *known = more,
            (Some(_), None) => {}
        }
    }

    /// The name under which requests are recorded: that of the handler, otherwise that of the request.
    pub(super) fn model(&self) -> Option<&Arc<str>> {
        self.handlers_model().or(self.params.model.as_ref())
    }

    fn handlers_model(&self) -> Option<&Arc<str>> {
        self.engine.as_ref().and_then(|engine| engine.model.as_ref())
    }
}
