//! Requests that do not come in by the layer.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Instant,
};

use super::{InferenceHandle, RequestTracker, RouteFacts, SharedRequest, SpanKind, verdict::End};
use crate::{
    quality::Part,
    record::{LlmMetrics, RawLabels, inside_map},
    vocabulary::{
        Endpoint, ErrorType, FinishReason, MAX_PLAUSIBLE_TOKENS, Operation, Protocol, StructuredFormat, Usage,
    },
};

impl LlmMetrics {
    /// Starts the clock for a request that does not come in by the layer: for an engine without HTTP, a queue worker, a
    /// client of one's own. [`inference`](Self::inference) does the same, and takes more settings.
    ///
    /// ```
    /// use llm_metrics::{FinishReason, LlmMetrics, Operation, Usage};
    ///
    /// # let metrics = LlmMetrics::new();
    /// let mut inference = metrics.start(Operation::Chat, "Qwen3-4B");
    /// for _ in 0..18 {
    ///     // … one step of the engine …
    ///     inference.tokens(1);
    /// }
    /// inference.usage(Usage::new().input(9).output(18));
    /// inference.finish(FinishReason::Stop);
    /// ```
    pub fn start(&self, operation: Operation, model: &str) -> Inference {
        self.inference(operation, model).start()
    }

    /// Settings for a request that does not come in by the layer. Its clock starts with [`start`](InferenceBuilder::start).
    ///
    /// ```
    /// use llm_metrics::{Endpoint, FinishReason, LabelPolicy, LlmMetrics, Operation};
    ///
    /// // By hand, a request has no head that a label could be read from.
    /// let metrics = LlmMetrics::builder().request_label("tenant", LabelPolicy::first_accepted(100), |_| None).build()?;
    /// let mut inference = metrics
    ///     .inference(Operation::Chat, "Qwen3-4B")
    ///     .endpoint(Endpoint::ChatCompletions)
    ///     .label("tenant", "acme")
    ///     .client()
    ///     .start();
    /// inference.tokens(1);
    /// inference.finish(FinishReason::Stop);
    /// # Ok::<(), llm_metrics::BuildError>(())
    /// ```
    pub fn inference<'a>(&'a self, operation: Operation, model: &'a str) -> InferenceBuilder<'a> {
        InferenceBuilder {
            metrics: self,
            model,
            route: RouteFacts {
                endpoint: Endpoint::Other,
                operation,
                protocol: Protocol::Handle,
                streams_by_default: false,
            },
            kind: SpanKind::Internal,
            streamed: operation.generates(),
            labels: None,
        }
    }
}

/// Settings for a request that is measured by hand; see [`LlmMetrics::inference`].
#[must_use = "a builder does nothing until `start`"]
pub struct InferenceBuilder<'a> {
    metrics: &'a LlmMetrics,
    model: &'a str,
    route: RouteFacts,
    kind: SpanKind,
    streamed: bool,
    labels: Option<RawLabels>,
}

impl InferenceBuilder<'_> {
    /// The endpoint that the request came in by, or is sent to. The default is [`Endpoint::Other`].
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.route.endpoint = endpoint;
        self
    }

    /// Gives a [request label](crate::Builder::request_label) its value, under the policy that it was declared with. Of one that is not
    /// declared nothing is recorded, which is logged once, at `WARN`.
    pub fn label(mut self, name: &str, value: impl Into<String>) -> Self {
        self.metrics.0.set_label(&mut self.labels, name, value.into());
        self
    }

    /// Whether the caller gets tokens as they come. Where not, no time of tokens is recorded. By default it does, but for embeddings
    /// and rerankings, which have none.
    pub fn streamed(mut self, streamed: bool) -> Self {
        self.streamed = streamed;
        self
    }

    /// Says that the request came from another process: its span is a server's.
    pub fn server(mut self) -> Self {
        self.kind = SpanKind::Server;
        self
    }

    /// Says that the request is sent to another server, as [`LlmMetricsLayer::proxy`](crate::LlmMetricsLayer::proxy) does for a layer: its span is a
    /// client's, and what fails with [`FinishReason::Error`] is an `upstream_error` instead of `internal`.
    pub fn client(mut self) -> Self {
        self.kind = SpanKind::Client;
        self
    }

    /// Starts the clock.
    pub fn start(self) -> Inference {
        let mut tracker = RequestTracker::start(self.metrics, self.route, self.labels, self.kind);
        tracker.handle().model(self.model);
        tracker.set_manual(self.streamed);
        #[cfg(feature = "tracing")]
        if let Some(label) = self.metrics.0.known_model(self.model) {
            tracker.span().name(self.route.operation, &label);
        }
        Inference(Arc::new(ManualRequest {
            shared: Arc::clone(tracker.shared()),
            tracker: Mutex::new(tracker),
            steps: Mutex::default(),
        }))
    }
}

impl fmt::Debug for InferenceBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteFacts { endpoint, operation, .. } = self.route;
        f.debug_struct("InferenceBuilder")
            .field("model", &self.model)
            .field("operation", &operation)
            .field("endpoint", &endpoint)
            .field("streamed", &self.streamed)
            .finish_non_exhaustive()
    }
}

/// A request that is measured by hand; see [`LlmMetrics::start`].
///
/// Its model's name may become a label once it has a token, has finished, or has failed with an error that is not the caller's fault. Dropping it
/// without [`finish`](Self::finish) or [`fail`](Self::fail) records it as cancelled, or as an internal error while panicking.
#[must_use = "dropping it records the request as cancelled"]
pub struct Inference(Arc<ManualRequest>);

impl Inference {
    /// A handle for the engine's side; it can be sent to another thread. There is no wire: tokens that it reports are counted *and* timed, as
    /// those of [`tokens`](Self::tokens) are. Tell each token once, here or there.
    ///
    /// ```
    /// use llm_metrics::{FinishReason, LlmMetrics, Operation};
    ///
    /// # let metrics = LlmMetrics::new();
    /// let inference = metrics.start(Operation::Chat, "Qwen3-4B");
    /// let handle = inference.handle();
    /// std::thread::spawn(move || {
    ///     for _ in 0..18 {
    ///         // … one step of the engine …
    ///         handle.tokens(1);
    ///     }
    /// })
    /// .join()
    /// .expect("the engine is well");
    /// inference.finish(FinishReason::Stop);
    /// ```
    #[must_use]
    pub fn handle(&self) -> InferenceHandle {
        InferenceHandle::manual(&self.0)
    }

    /// The request's span, to run the engine inside it: see [`spans`](crate::spans). What keeps a clone of it, or of a child,
    /// keeps it open.
    #[cfg(feature = "tracing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        self.0.with(|tracker| tracker.span().get())
    }

    /// Says whether the caller gets tokens as they come; see [`InferenceBuilder::streamed`].
    pub fn streamed(&mut self, streamed: bool) {
        self.0.with(|tracker| tracker.streams(streamed));
    }

    /// One step of the engine gave `count` tokens of the answer. The first call is the first token.
    pub fn tokens(&mut self, count: u64) {
        self.0.step(Part::Answer, count);
    }

    /// One step of the engine gave `count` tokens of reasoning.
    pub fn reasoning_tokens(&mut self, count: u64) {
        self.0.step(Part::Reasoning, count);
    }

    /// Says that the output is to be JSON, so that it is judged whether it is. Call it before the first text.
    pub fn expects_json(&mut self) {
        self.0.with(|tracker| tracker.show(|outputs, _| outputs.expect(StructuredFormat::JsonObject)));
    }

    /// Shows a piece of the answer's text to the checks of [`Builder::quality`](crate::Builder::quality). It counts no token, and is not kept.
    ///
    /// ```
    /// use llm_metrics::{FinishReason, LlmMetrics, Operation};
    ///
    /// # let metrics = LlmMetrics::new();
    /// let mut inference = metrics.start(Operation::Chat, "Qwen3-4B");
    /// inference.expects_json();
    /// for piece in ["{\"city\": ", "\"Lima\"}"] {
    ///     inference.tokens(1);
    ///     inference.answer_text(piece);
    /// }
    /// inference.finish(FinishReason::Stop);
    /// ```
    pub fn answer_text(&mut self, text: &str) {
        self.text(Part::Answer, text);
    }

    /// Shows a piece of reasoning to the checks.
    pub fn reasoning_text(&mut self, text: &str) {
        self.text(Part::Reasoning, text);
    }

    /// Shows a whole call of a tool to the checks.
    pub fn tool_call(&mut self, name: &str, arguments: &str) {
        self.0.with(|tracker| {
            tracker.show(|outputs, mut emit| {
                outputs.tool_name(0, 0, name.as_bytes(), &mut emit);
                outputs.tool_arguments(0, 0, arguments.as_bytes(), &mut emit);
            });
        });
    }

    /// Sets token counts; see [`InferenceHandle::usage`].
    pub fn usage(&mut self, usage: Usage) {
        self.handle().usage(usage);
    }

    /// Ends the request with success.
    pub fn finish(self, reason: FinishReason) {
        self.0.with(|tracker| {
            tracker.accept();
            tracker.answer.finish_reason(0, reason);
            tracker.watch_end(reason);
            tracker.end_event();
            tracker.settle(End::Complete);
        });
    }

    /// Ends the request with an error.
    pub fn fail(self, error: ErrorType) {
        self.0.with(|tracker| tracker.settle(End::ServiceError(error)));
    }

    fn text(&self, part: Part, text: &str) {
        self.0.with(|tracker| tracker.show(|outputs, mut emit| outputs.text(0, part, text.as_bytes(), &mut emit)));
    }
}

impl Drop for Inference {
    /// At once, also where a handle is at work with it.
    fn drop(&mut self) {
        self.0.with(|tracker| tracker.settle(End::Dropped { panicking: std::thread::panicking() }));
    }
}

impl fmt::Debug for Inference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inference").finish_non_exhaustive()
    }
}

/// A request without a wire, whose steps may be reported from several threads.
pub(super) struct ManualRequest {
    pub(super) shared: Arc<SharedRequest>,
    tracker: Mutex<RequestTracker>,
    /// Steps that were reported while somebody was at work with the request.
    steps: Mutex<VecDeque<Step>>,
}

struct Step {
    at: Instant,
    part: Part,
    tokens: u64,
}

impl ManualRequest {
    /// One step of the engine has given tokens, now. Nobody waits here: a recorder, or whoever listens to findings, may report a step of the very
    /// request that it was called for.
    pub(super) fn step(&self, part: Part, tokens: u64) {
        let at = Instant::now();
        self.shared.add_tokens(tokens);
        if (1..=MAX_PLAUSIBLE_TOKENS).contains(&tokens) {
            lock(&self.steps).push_back(Step { at, part, tokens });
            // Who maps the model's name is about to settle it, and not to be asked for it.
            if !inside_map() {
                self.catch_up();
            }
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut RequestTracker) -> T) -> T {
        let mut tracker = lock(&self.tracker);
        self.take_steps(&mut tracker);
        let done = work(&mut tracker);
        drop(tracker);
        self.catch_up();
        done
    }

    /// Takes over what was reported, unless somebody else is at work, who does so afterwards.
    fn catch_up(&self) {
        while !lock(&self.steps).is_empty() {
            let mut tracker = match self.tracker.try_lock() {
                Ok(tracker) => tracker,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.take_steps(&mut tracker);
        }
    }

    fn take_steps(&self, tracker: &mut RequestTracker) {
        let next = || lock(&self.steps).pop_front();
        while let Some(Step { at, part, tokens }) = next() {
            tracker.step(at, part, tokens);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
