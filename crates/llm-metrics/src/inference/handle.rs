//! What two sides know about one request: the bodies on the wire, and the handler that does the work.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::life::Door;
use crate::{
    record::{LlmMetrics, RawLabels, Series},
    vocabulary::{ErrorType, InspectionFailure, Protocol, Usage},
    wire::RequestFacts,
};

/// No model has produced more in one request; what is above would only break counters.
pub(super) const MAX_PLAUSIBLE_TOKENS: u64 = 1 << 30;

/// In the count of tokens, says that the request is settled: one step adds and asks, so that nothing slips in between.
const SETTLED: u64 = 1 << 63;

/// A request's handle for the one who does the work: what it reports is engine truth, and wins over what the wire shows.
///
/// The layer puts one into the extensions of every request that it measures.
///
/// ```
/// use axum::{Extension, Json};
/// use llm_metrics::{InferenceHandle, Usage};
///
/// // `Option`: on a route that the layer does not know, there is no handle.
/// async fn chat(request: Option<Extension<InferenceHandle>>) -> Json<serde_json::Value> {
///     // … the engine runs …
///     if let Some(Extension(request)) = &request {
///         request.usage(Usage::new().input(9).output(18));
///     }
///     Json(serde_json::json!({ "choices": [] }))
/// }
/// ```
///
/// It does not keep the request open: the request is settled when its body ends or is dropped, whatever clones exist, and
/// calls after that do nothing. Times of tokens are the wire's; the handle never overrides them.
#[derive(Clone)]
pub struct InferenceHandle(pub(super) Arc<Shared>);

impl InferenceHandle {
    /// Sets the model's name, instead of the one in the request. Call it before the response's head goes out: what is
    /// recorded under a name stays there.
    pub fn model(&self, name: &str) {
        self.0.report(|engine| engine.model = Some(name.into()));
    }

    /// Says that one step of the engine has just produced `count` more output tokens, over all choices. They are counted as
    /// they come; from then on events on the wire are not.
    pub fn tokens(&self, count: u64) {
        self.0.add_tokens(count);
    }

    /// Sets token counts. Fields that are `None` leave what is known.
    pub fn usage(&self, usage: Usage) {
        let usage = self.0.plausible(usage);
        self.0.report(|engine| engine.usage = usage.or(engine.usage));
    }

    /// Says why the request failed or was rejected, when the status alone would not tell.
    pub fn error(&self, error: ErrorType) {
        self.0.report(|engine| engine.error = Some(error));
    }

    /// Sets the time that the request waited in the engine before its prompt was processed.
    pub fn queue_time(&self, time: Duration) {
        self.0.report(|engine| engine.queue = Some(time));
    }

    /// Sets the time that the engine spent on the prompt.
    pub fn prefill_time(&self, time: Duration) {
        self.0.report(|engine| engine.prefill = Some(time));
    }

    /// Sets the time that the engine spent on the output after its first token.
    pub fn decode_time(&self, time: Duration) {
        self.0.report(|engine| engine.decode = Some(time));
    }
}

impl fmt::Debug for InferenceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferenceHandle").field("settled", &self.0.is_settled()).finish_non_exhaustive()
    }
}

/// The part of a request's state that several owners write: its body going in, its handler, and its body coming out.
pub(crate) struct Shared {
    pub(super) metrics: LlmMetrics,
    pub(super) door: Door,
    /// Output tokens that the engine has reported so far, and [`SETTLED`] once no more are taken.
    tokens: AtomicU64,
    /// How often it has, modulo 2³².
    steps: AtomicU32,
    /// Output tokens that are in the counter already.
    published: AtomicU64,
    series: OnceLock<Arc<Series>>,
    sides: Mutex<Sides>,
}

#[derive(Default)]
pub(super) struct Sides {
    pub(super) asked: Asked,
    /// The embedder's own labels, from the request's head.
    pub(super) labels: Option<RawLabels>,
    pub(super) engine: Option<Box<EngineReport>>,
}

/// What the request asked for, as far as it was read.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) model: Option<Box<str>>,
    pub(super) stream: Option<bool>,
    pub(super) max_tokens: Option<u64>,
    pub(super) thinking: Option<bool>,
}

/// What the handler said.
#[derive(Default)]
pub(super) struct EngineReport {
    pub(super) model: Option<Box<str>>,
    pub(super) usage: Usage,
    pub(super) error: Option<ErrorType>,
    pub(super) queue: Option<Duration>,
    pub(super) prefill: Option<Duration>,
    pub(super) decode: Option<Duration>,
}

impl Shared {
    pub(super) fn new(metrics: LlmMetrics, door: Door, labels: Option<RawLabels>) -> Self {
        Self {
            metrics,
            door,
            tokens: AtomicU64::new(0),
            steps: AtomicU32::new(0),
            published: AtomicU64::new(0),
            series: OnceLock::new(),
            sides: Mutex::new(Sides { labels, ..Sides::default() }),
        }
    }

    /// Takes over what was read of the request so far.
    pub(crate) fn asked(&self, facts: &RequestFacts) {
        let asked = &mut self.sides().asked;
        let model = facts.model.as_ref().map(|name| name.as_str());
        if asked.model.as_deref() != model {
            asked.model = model.map(Into::into);
        }
        asked.stream = facts.stream;
        asked.max_tokens = facts.max_tokens;
        asked.thinking = facts.thinking;
    }

    pub(super) fn sides(&self) -> MutexGuard<'_, Sides> {
        self.sides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handles to record with. The model's name is settled by the first call: the handler's word for it, else the
    /// request's, else the answer's.
    pub(super) fn series(&self, answer_model: Option<&str>, accepted: bool) -> &Series {
        self.series.get().map(AsRef::as_ref).unwrap_or_else(|| {
            let sides = self.sides();
            self.resolve(&sides, sides.model().or(answer_model), accepted)
        })
    }

    /// The same, unless neither the handler nor the request has named the model.
    pub(super) fn named_series(&self, accepted: bool) -> Option<&Series> {
        self.series.get().map(AsRef::as_ref).or_else(|| {
            let sides = self.sides();
            sides.model().map(|model| self.resolve(&sides, Some(model), accepted))
        })
    }

    /// `sides` is locked by whoever calls, so that two who call at once wait here and nowhere else.
    fn resolve(&self, sides: &Sides, model: Option<&str>, accepted: bool) -> &Series {
        let Door { endpoint, operation, .. } = self.door;
        self.series.get_or_init(|| self.metrics.0.series(endpoint, operation, model, sides.labels.as_ref(), accepted))
    }

    pub(super) fn knows_model(&self) -> bool {
        self.series.get().is_some() || self.sides().model().is_some()
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed) & !SETTLED
    }

    /// In how many steps they were reported, modulo 2³².
    pub(super) fn steps(&self) -> u32 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(super) fn add_tokens(&self, count: u64) {
        if count > MAX_PLAUSIBLE_TOKENS && !self.is_settled() {
            return self.implausible();
        }
        // First, so that whoever looks in between sees steps too small, never one too large.
        self.steps.fetch_add(u32::from(count > 0), Ordering::Relaxed);
        let before = self.tokens.fetch_add(count.min(MAX_PLAUSIBLE_TOKENS), Ordering::Relaxed);
        if before & SETTLED != 0 {
            return;
        }
        let total = before + count;
        // An engine that works on a request has accepted it, whether or not its response's head is out.
        if let Some(series) = self.named_series(true) {
            self.publish(series, total);
        }
    }

    /// Brings the counter of output tokens up to `total` for this request, and never down.
    pub(super) fn publish(&self, series: &Series, total: u64) {
        let before = self.published.fetch_max(total, Ordering::Relaxed);
        if total > before {
            series.output_tokens.increment(total - before);
        }
    }

    /// `usage` without the counts that cannot be true.
    pub(super) fn plausible(&self, mut usage: Usage) -> Usage {
        let mut implausible = false;
        for count in [&mut usage.input, &mut usage.cached_input, &mut usage.output, &mut usage.reasoning] {
            if count.is_some_and(|count| count > MAX_PLAUSIBLE_TOKENS) {
                *count = None;
                implausible = true;
            }
        }
        if implausible {
            self.implausible();
        }
        usage
    }

    /// Whether nothing more can be said about the request.
    pub(super) fn is_settled(&self) -> bool {
        self.tokens.load(Ordering::Relaxed) & SETTLED != 0
    }

    /// Closes the request for its handles, and tells how many output tokens they have reported.
    pub(super) fn settle(&self) -> u64 {
        self.tokens.fetch_or(SETTLED, Ordering::Relaxed) & !SETTLED
    }

    pub(super) fn implausible(&self) {
        self.metrics.0.fixed().failure(Protocol::Handle, InspectionFailure::Implausible).increment(1);
    }

    fn report(&self, say: impl FnOnce(&mut EngineReport)) {
        let mut sides = self.sides();
        if !self.is_settled() {
            say(sides.engine.get_or_insert_default());
        }
    }
}

impl Sides {
    /// The name that requests are recorded under: the handler's word, else the request's.
    pub(super) fn model(&self) -> Option<&str> {
        self.engine.as_ref().and_then(|engine| engine.model.as_deref()).or(self.asked.model.as_deref())
    }
}
