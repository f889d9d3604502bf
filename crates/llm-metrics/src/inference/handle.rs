//! The handle through which the code that processes a request reports to its metrics.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use http::Extensions;

use super::{
    manual::ManualRequest,
    shared::{EngineReport, LONGEST_PLAUSIBLE_TIME, SharedRequest},
};
use crate::{
    quality::Part,
    record::LlmMetrics,
    vocabulary::{ErrorType, Usage},
};

/// A request's handle, for the code that processes the request. Values that are reported through it come from the engine, and take precedence over those in the response body.
///
/// The layer puts one into the extensions of every request that it measures.
///
/// ```
/// use axum::{Json, http::Extensions};
/// use llm_metrics::{InferenceHandle, Usage};
///
/// async fn chat(extensions: Extensions, Json(question): Json<serde_json::Value>) -> Json<serde_json::Value> {
///     let handle = InferenceHandle::of(&extensions);
///     // … the engine runs …
///     handle.usage(Usage::new().input(9).output(18));
///     Json(serde_json::json!({ "choices": [] }))
/// }
/// ```
///
/// With the feature `axum` it is an extractor, which never fails: `async fn chat(handle: InferenceHandle, …)`. `Extension<InferenceHandle>` fails on a route
/// that the layer does not measure: axum answers 500, *Missing request extension*. The layer gives such a request no handle, because that would allocate
/// memory for each request that it does not measure.
///
/// It does not keep the request open: the request is recorded when its body ends or is dropped, whatever clones exist, and later calls do nothing.
/// The times of tokens are those at which the response body has them, and the handle does not override them. Only an [`Inference`](crate::Inference) has
/// no response body, so its times come from the handle. Calls of the default handle do nothing.
#[derive(Clone, Default)]
pub struct InferenceHandle {
    /// `None` if the request is not measured.
    shared: Option<Arc<SharedRequest>>,
    /// The handle of a request without a response body, whose tokens arrive when they are reported.
    manual: Option<Weak<ManualRequest>>,
}

impl InferenceHandle {
    pub(super) fn new(shared: Arc<SharedRequest>) -> Self {
        Self { shared: Some(shared), manual: None }
    }

    pub(super) fn manual(request: &Arc<ManualRequest>) -> Self {
        Self { shared: Some(Arc::clone(&request.shared)), manual: Some(Arc::downgrade(request)) }
    }

    /// The handle in the extensions of a request. If the request is not measured, because the layer does not know its route or is not installed, the
    /// calls of the returned handle do nothing.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Sets the model's name, instead of the one in the request. Call it before the response head is sent, because values that are already recorded
    /// keep their name.
    pub fn model(&self, name: &str) {
        if let Some(shared) = &self.shared {
            shared.set_model(name);
        }
    }

    /// Reports that one step of the engine has just generated `count` more output tokens, over all choices. They are counted immediately; from then
    /// on, events of the response body are not counted.
    pub fn tokens(&self, count: u64) {
        self.step(Part::Answer, count);
    }

    /// The same for reasoning tokens.
    pub fn reasoning_tokens(&self, count: u64) {
        self.step(Part::Reasoning, count);
    }

    /// Sets token counts. Fields that are `None` keep earlier counts. A count above 2³⁰ is discarded, and counted as implausible.
    pub fn usage(&self, usage: Usage) {
        if let Some(usage) = self.shared.as_ref().and_then(|shared| shared.plausible(usage)) {
            self.report(|engine| engine.usage = usage.or(engine.usage));
        }
    }

    /// Sets the request id in [`QualityFinding`](crate::QualityFinding)s, instead of the header `x-request-id`. Call it before the response head is
    /// sent. Ids over 128 bytes are truncated.
    pub fn request_id(&self, id: &str) {
        if let Some(shared) = &self.shared {
            shared.set_request_id(id);
        }
    }

    /// Reports that the engine has cut the prompt, because it was longer than the context: `llm_input_truncated_total`.
    pub fn input_truncated(&self) {
        self.report(|engine| engine.input_truncated = true);
    }

    /// Sets the reason why the request failed or was rejected, if the status is not precise enough.
    pub fn error(&self, error: ErrorType) {
        self.report(|engine| engine.error = Some(error));
    }

    /// Sets the time that the request waited in the engine before its prompt was processed.
    pub fn queue_time(&self, time: Duration) {
        self.time(time, |engine| &mut engine.queue);
    }

    /// Sets the time that the engine spent processing the prompt.
    pub fn prefill_time(&self, time: Duration) {
        self.time(time, |engine| &mut engine.prefill);
    }

    /// Sets the time that the engine spent on the output after its first token. Together with the number of tokens, it gives the time per output
    /// token, instead of the arrival times of the events.
    pub fn decode_time(&self, time: Duration) {
        self.time(time, |engine| &mut engine.decode);
    }

    /// Whether the request is being measured by these metrics.
    pub(crate) fn is_open_in(&self, metrics: &LlmMetrics) -> bool {
        self.shared.as_ref().is_some_and(|shared| Arc::ptr_eq(&shared.metrics.0, &metrics.0) && !shared.is_settled())
    }

    fn step(&self, part: Part, count: u64) {
        if let Some(request) = self.manual.as_ref().and_then(Weak::upgrade) {
            return request.step(part, count);
        }
        let Some(shared) = &self.shared else { return };
        shared.add_tokens(count);
        if part == Part::Reasoning {
            shared.add_reasoning(count);
        }
    }

    /// A time above a day is discarded, and counted as implausible: added to a sum, it would hide all later values.
    fn time(&self, time: Duration, field: impl FnOnce(&mut EngineReport) -> &mut Option<Duration>) {
        if time <= LONGEST_PLAUSIBLE_TIME {
            self.report(|engine| *field(engine) = Some(time));
        } else if let Some(shared) = self.shared.as_ref().filter(|shared| !shared.is_settled()) {
            shared.implausible();
        }
    }

    fn report(&self, say: impl FnOnce(&mut EngineReport)) {
        if let Some(shared) = &self.shared {
            shared.report(say);
        }
    }
}

impl fmt::Debug for InferenceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settled = self.shared.as_ref().is_none_or(|shared| shared.is_settled());
        f.debug_struct("InferenceHandle").field("settled", &settled).finish_non_exhaustive()
    }
}

/// [`InferenceHandle::of`] as an axum extractor.
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl<S: Sync> axum::extract::FromRequestParts<S> for InferenceHandle {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.extensions))
    }
}
