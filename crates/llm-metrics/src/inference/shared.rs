//! The state that several owners share: the request body, the handler, and the response body.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{quality::QualityContext, tracker::RouteFacts};
use crate::{
    quality::{BoundedBytes, Prompt, QualityChecks, ToolNames},
    record::{Hint, LlmMetrics, RawLabels, Series, inside_map},
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
    series: OnceLock<Arc<Series>>,
    /// The embedder's own labels, from the request's head.
    labels: Option<RawLabels>,
    reports: Mutex<Reports>,
}

#[derive(Default)]
pub(super) struct Reports {
    pub(super) params: RequestParams,
    pub(super) engine: Option<Box<EngineReport>>,
}

/// The facts of the request, as far as it was read.
#[derive(Default)]
pub(super) struct RequestParams {
    pub(super) model: Option<Arc<str>>,
    pub(super) stream: Option<bool>,
    /// Values above 2³² are as implausible as 2³² − 1.
    pub(super) max_tokens: Option<u32>,
    pub(super) thinking: Option<bool>,
    /// The number of texts to embed or rank.
    pub(super) inputs: Option<u32>,
    /// The number of choices, known when any part of the request was read.
    pub(super) choices: Option<u16>,
    /// Whether the answer is generated in the background.
    pub(super) background: bool,
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
        let mut reports = self.reports();
        let params = &mut reports.params;
        let model = facts.model.as_ref().map(|name| name.as_str());
        if params.model.as_deref() != model {
            params.model = model.map(Into::into);
        }
        params.stream = facts.stream;
        params.max_tokens = facts.max_tokens.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        params.thinking = facts.thinking;
        params.background = facts.background;
        params.inputs = facts.inputs;
        params.choices =
            Some(facts.choices.map(|n| u16::try_from(n).unwrap_or(u16::MAX)).filter(|n| *n > 0).unwrap_or(1));
        let format = facts.format.and_then(Format::structured);
        if let Some(format) = format.filter(|_| checks.structured_output) {
            reports.engine.get_or_insert_default().quality.requested.format = Some(format);
        }
        reports.expect(tools, schema, prompt.filter(|_| checks.truncation));
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
    pub(super) fn series(&self, answer_model: Option<&str>, accepted: bool) -> &Series {
        self.series.get().map_or_else(|| self.resolve_by(answer_model, accepted), AsRef::as_ref)
    }

    #[cold]
    fn resolve_by(&self, answer_model: Option<&str>, accepted: bool) -> &Series {
        let model = self.model();
        self.resolve(model.as_deref().or(answer_model), accepted)
    }

    /// The same, unless neither the handler nor the request has named the model.
    pub(super) fn named_series(&self, accepted: bool) -> Option<&Series> {
        self.series.get().map(AsRef::as_ref).or_else(|| Some(self.resolve(Some(&self.model()?), accepted)))
    }

    /// No lock is held, because a label policy's `map` belongs to the embedder, and may use this request's handle. If two threads resolve
    /// concurrently, the first result stays.
    fn resolve(&self, model: Option<&str>, accepted: bool) -> &Series {
        let RouteFacts { endpoint, operation, .. } = self.route;
        let series = self.metrics.0.series(endpoint, operation, model, self.labels.as_ref(), accepted);
        self.series.get_or_init(|| series)
    }

    fn model(&self) -> Option<Arc<str>> {
        self.reports().model().cloned()
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
    pub(super) fn publish(&self, series: &Series, total: u64) {
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

    /// Takes the facts of the request and the reported values.
    pub(super) fn take_reports(&self) -> (RequestParams, EngineReport) {
        let Reports { params, engine } = std::mem::take(&mut *self.reports());
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
        self.engine.as_ref().and_then(|engine| engine.model.as_ref()).or(self.params.model.as_ref())
    }
}
