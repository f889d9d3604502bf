//! Requests that do not pass through the layer.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Instant,
};

use super::{InferenceHandle, RequestTracker, Role, RouteFacts, SharedRequest, verdict::End};
use crate::{
    quality::Part,
    record::{LlmMetrics, RawLabels, inside_map},
    vocabulary::{
        Endpoint, ErrorType, FinishReason, MAX_PLAUSIBLE_TOKENS, Operation, Protocol, StructuredFormat, Usage,
    },
};

impl LlmMetrics {
    /// Starts the clock for a request that does not pass through the layer: in an engine without HTTP, a queue worker, or your own client.
    /// [`inference`](Self::inference) does the same with more settings.
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

    /// Settings for a request that does not pass through the layer. Its clock starts with [`start`](InferenceBuilder::start).
    ///
    /// ```
    /// use llm_metrics::{Endpoint, FinishReason, LabelPolicy, LlmMetrics, Operation};
    ///
    /// // Without the layer, there is no request head from which to read a label.
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
            role: Role::Local,
            streamed: operation.generates(),
            labels: None,
        }
    }
}

/// Settings for a request that is measured without the layer; see [`LlmMetrics::inference`].
#[must_use = "a builder does nothing until `start`"]
pub struct InferenceBuilder<'a> {
    metrics: &'a LlmMetrics,
    model: &'a str,
    route: RouteFacts,
    role: Role,
    streamed: bool,
    labels: Option<RawLabels>,
}

impl InferenceBuilder<'_> {
    /// Sets the endpoint of the request. The default is [`Endpoint::Other`].
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.route.endpoint = endpoint;
        self
    }

    /// Sets a [request label](crate::Builder::request_label), under the policy with which it was declared. A label that is not declared is ignored,
    /// and logged once, at `WARN`.
    pub fn label(mut self, name: &str, value: impl Into<String>) -> Self {
        self.metrics.0.set_label(&mut self.labels, name, value.into());
        self
    }

    /// Sets whether the caller receives tokens as they are generated. If not, no token times are recorded. On by default, except for embeddings and
    /// reranking, which have no tokens.
    pub fn streamed(mut self, streamed: bool) -> Self {
        self.streamed = streamed;
        self
    }

    /// Declares that the request came from another process: its span has the kind `server`.
    pub fn server(mut self) -> Self {
        self.role = Role::Server;
        self
    }

    /// Declares that the request is sent to another server, as [`LlmMetricsLayer::proxy`](crate::LlmMetricsLayer::proxy) does for a layer: its span
    /// has the kind `client`, and [`FinishReason::Error`] counts as `upstream_error` instead of `internal`.
    pub fn client(mut self) -> Self {
        self.role = Role::Client;
        self
    }

    /// Starts the clock.
    pub fn start(self) -> Inference {
        let mut tracker = RequestTracker::start(self.metrics, self.route, self.labels, self.role);
        tracker.handle().model(self.model);
        tracker.set_manual(self.streamed);
        if let Some((_, Some(model))) = tracker.shared().named() {
            tracker.span().name(self.route.operation, &model);
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

/// A request that is measured without the layer; see [`LlmMetrics::start`].
///
/// Its model's name may become a label once it has a token, has finished, or has failed with an error that is not the caller's fault. Dropping it
/// without [`finish`](Self::finish) or [`fail`](Self::fail) records it as cancelled, or as an internal error while panicking.
#[must_use = "dropping it records the request as cancelled"]
pub struct Inference(Arc<ManualRequest>);

impl Inference {
    /// A handle for the engine, which can be sent to another thread. Because there is no response body, tokens that it reports are counted *and* timed, like
    /// those of [`tokens`](Self::tokens). Report each token once, with one of the two.
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
    /// .expect("the engine does not panic");
    /// inference.finish(FinishReason::Stop);
    /// ```
    #[must_use]
    pub fn handle(&self) -> InferenceHandle {
        InferenceHandle::manual(&self.0)
    }

    /// The request's span, in which to run the engine: see [`spans`](crate::spans). Code that keeps a clone or a child of it keeps it open.
    #[cfg(feature = "tracing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        self.0.with(|tracker| tracker.span().get())
    }

    /// Sets whether the caller receives tokens as they are generated; see [`InferenceBuilder::streamed`].
    pub fn streamed(&mut self, streamed: bool) {
        self.0.with(|tracker| tracker.streams(streamed));
    }

    /// Reports that one step of the engine generated `count` answer tokens. The first call is the first token.
    pub fn tokens(&mut self, count: u64) {
        self.0.step(Part::Answer, count);
    }

    /// Reports that one step of the engine generated `count` reasoning tokens.
    pub fn reasoning_tokens(&mut self, count: u64) {
        self.0.step(Part::Reasoning, count);
    }

    /// Declares that the output should be JSON, so that it is checked. Call it before the first text.
    pub fn expects_json(&mut self) {
        self.0.with(|tracker| tracker.show(|outputs, _| outputs.expect(StructuredFormat::JsonObject)));
    }

    /// Passes a piece of the answer's text to the checks of [`Builder::quality`](crate::Builder::quality). It counts no token, and is not stored.
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

    /// Passes a piece of reasoning to the checks.
    pub fn reasoning_text(&mut self, text: &str) {
        self.text(Part::Reasoning, text);
    }

    /// Passes a complete tool call to the checks.
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

    /// Ends the request as a success.
    pub fn finish(self, reason: FinishReason) {
        self.0.with(|tracker| {
            tracker.accept();
            tracker.answer.finish_reason(0, reason);
            tracker.watch_end(reason);
            tracker.end_event();
            tracker.settle(End::Complete);
        });
    }

    /// Ends the request as an error.
    pub fn fail(self, error: ErrorType) {
        self.0.with(|tracker| tracker.settle(End::ServiceError(error)));
    }

    fn text(&self, part: Part, text: &str) {
        self.0.with(|tracker| tracker.show(|outputs, mut emit| outputs.text(0, part, text.as_bytes(), &mut emit)));
    }
}

impl Drop for Inference {
    /// Immediately, even if another thread holds a handle.
    fn drop(&mut self) {
        self.0.with(|tracker| tracker.settle(End::Dropped { panicking: std::thread::panicking() }));
    }
}

impl fmt::Debug for Inference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inference").finish_non_exhaustive()
    }
}

/// A request without a response body, whose steps may be reported by several threads.
pub(super) struct ManualRequest {
    pub(super) shared: Arc<SharedRequest>,
    tracker: Mutex<RequestTracker>,
    /// Steps that were reported while another thread held the lock.
    steps: Mutex<VecDeque<Step>>,
}

struct Step {
    at: Instant,
    part: Part,
    tokens: u64,
}

impl ManualRequest {
    /// Reports that one step of the engine has just generated tokens. This never waits for the lock, because a recorder or a listener may report a
    /// step of the very request for which it was called.
    pub(super) fn step(&self, part: Part, tokens: u64) {
        let at = Instant::now();
        self.shared.add_tokens(tokens);
        if (1..=MAX_PLAUSIBLE_TOKENS).contains(&tokens) {
            lock(&self.steps).push_back(Step { at, part, tokens });
            // A label policy's `map` that reports tokens is about to decide the name, and must not be called again.
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

    /// Applies the steps that were reported, unless another thread holds the lock: it does so afterwards.
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
