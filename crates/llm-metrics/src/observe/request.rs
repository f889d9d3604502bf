use std::sync::Arc;

use bytes::Buf;
use http::request::Parts;

use super::{
    ObservedResponse, ResponseHead,
    passed::Passed,
    response::{Observation, for_each_slice, is_encoded},
};
use crate::{
    inference::{InferenceHandle, RequestTracker, Role, RouteFacts, SharedRequest},
    record::{Hint, LlmMetrics},
    vocabulary::{ErrorType, SkipReason},
    wire::{RequestScan, Route},
};

/// A request without a response head so far. If it is dropped now, it counts as cancelled.
#[derive(Default)]
#[must_use = "dropping it records the request as cancelled"]
pub struct ObservedRequest(State);

#[derive(Default)]
enum State {
    /// It is not measured.
    #[default]
    Unmeasured,
    /// Its path is unknown.
    Passing(Passed),
    Measured {
        measured: Box<Observation>,
        /// Whether its body is compressed. Not in the box, which may live for a long time.
        encoded: bool,
    },
}

impl ObservedRequest {
    pub(super) fn passing(passed: Passed) -> Self {
        Self(State::Passing(passed))
    }

    /// Starts the clock, and reads the embedder's labels from the head.
    pub(super) fn start(metrics: &LlmMetrics, route: &'static Route, head: &Parts, proxy: bool) -> Self {
        let labels = metrics.0.reads_labels().then(|| metrics.0.read_labels(head));
        let route_facts = RouteFacts::of(route);
        let role = if proxy { Role::Client } else { Role::Server };
        // Built inside its box, because it is large and would otherwise be copied.
        let measured = Box::new(Observation::new(RequestTracker::start(metrics, route_facts, labels, role), route));
        let tracker = &measured.tracker;
        if proxy {
            tracker.span().server(&head.uri);
        }
        if metrics.0.reports_findings() {
            if let Some(id) = head.headers.get("x-request-id").and_then(|id| id.to_str().ok()) {
                tracker.shared().set_request_id(id);
            }
        }
        Self(State::Measured { measured, encoded: is_encoded(&head.headers) })
    }

    fn measured(&self) -> Option<&Observation> {
        if let State::Measured { measured, .. } = &self.0 { Some(measured) } else { None }
    }

    /// Whether it is measured: it is a `POST` to a known endpoint, and no other observer or layer of the same metrics measures it.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.measured().is_some()
    }

    /// The handle for the code that processes the request, if it is measured: put it into the request's extensions.
    #[must_use]
    pub fn handle(&self) -> Option<InferenceHandle> {
        self.measured().map(|measured| measured.tracker.handle())
    }

    /// A reader for the bytes of the request body. If the request is not measured, the reader ignores them.
    #[must_use = "the request is only known if its body is read"]
    pub fn body_reader(&self) -> RequestReader {
        let State::Measured { measured, encoded } = &self.0 else { return RequestReader::default() };
        let (route, shared) = (measured.route, measured.tracker.shared());
        let mut reading = Box::new(Reading { scan: route.request_scan(*encoded), route, shared: Arc::clone(shared) });
        if shared.wants_tools() {
            reading.scan.want_tools();
        }
        if shared.wants_schema() {
            reading.scan.want_schema();
        }
        RequestReader(Some(reading))
    }

    /// The request's span, in which to process the request; see [`spans`](crate::spans).
    #[cfg(feature = "tracing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        self.measured().map_or_else(tracing::Span::none, |measured| measured.tracker.span().get())
    }

    /// Makes the request's span the current one until the returned guard is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> impl Sized + '_ {
        self.measured().map(|measured| measured.tracker.span().enter())
    }

    pub(crate) fn is_proxy(&self) -> bool {
        self.measured().is_some_and(|measured| measured.tracker.is_proxy())
    }

    /// Call it with the response head.
    pub fn response(self, head: ResponseHead<'_>) -> ObservedResponse {
        match self.0 {
            State::Unmeasured => ObservedResponse::default(),
            State::Passing(passed) => {
                passed.answered(&head);
                ObservedResponse::default()
            }
            State::Measured { measured, .. } => ObservedResponse::begin(measured, &head),
        }
    }

    /// Call it before `fail` if nothing has classified the error, which is of the type `error`.
    pub(crate) fn unclassified(&self, error: &'static str, counted: ErrorType) {
        if let Some(shared) = self.measured().map(|measured| measured.tracker.shared()) {
            if !shared.has_error() {
                shared.hint(Hint::UnclassifiedError { error, counted });
            }
        }
    }

    /// Call it if there is no response, because the service has failed.
    pub fn fail(self, error: ErrorType) {
        if let State::Measured { mut measured, .. } = self.0 {
            measured.fail(error);
        }
    }
}

impl std::fmt::Debug for ObservedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedRequest").field("measured", &self.is_measured()).finish_non_exhaustive()
    }
}

/// Reads a request body as it passes; see [`ObservedRequest::body_reader`]. It may be used before, during and after the response, and on another
/// thread.
///
/// The bytes that are read before the response head decide under which model the request counts. If a request is rejected before its body was read,
/// read those of its bytes that are in memory nevertheless.
#[derive(Default)]
pub struct RequestReader(Option<Box<Reading>>);

struct Reading {
    scan: RequestScan,
    route: &'static Route,
    shared: Arc<SharedRequest>,
}

impl RequestReader {
    /// Reads the next bytes of the body, split at any place.
    pub fn read(&mut self, bytes: &[u8]) {
        self.read_buf(&bytes, || false);
    }

    /// Call it at the end of the body. Dropping the reader instead is not counted as a malformed body.
    pub fn end(mut self) {
        self.ended();
    }

    pub(crate) fn ended(&mut self) {
        if let Some(mut reading) = self.0.take() {
            if let Some(failure) = reading.scan.failure(true) {
                reading.shared.failure(failure);
            }
        }
    }

    /// Whether further bytes are of use.
    pub(crate) fn is_reading(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn knows_model(&self) -> bool {
        self.0.as_ref().is_none_or(|reading| reading.shared.knows_model())
    }

    pub(crate) fn read_buf(&mut self, data: &impl Buf, is_last: impl FnOnce() -> bool) {
        if self.0.as_mut().is_some_and(|reading| !reading.read(data, is_last)) {
            self.0 = None;
        }
    }
}

impl Reading {
    /// Returns `false` if further bytes are of no use.
    fn read(&mut self, data: &impl Buf, is_last: impl FnOnce() -> bool) -> bool {
        let complete = for_each_slice(data, |bytes| self.scan.read(bytes));
        let prompt = self.route.prompt(&self.scan);
        let (tools, schema) = (self.scan.take_tools(), self.scan.take_schema());
        self.shared.set_params(self.scan.facts(), tools, schema, prompt);
        let skipped = if complete {
            self.scan.is_compressed().then_some(SkipReason::Compressed)
        } else {
            Some(SkipReason::TooLarge)
        };
        if let Some(reason) = skipped {
            self.shared.skipped(reason);
            return false;
        }
        if let Some(failure) = self.scan.failure(is_last()) {
            self.shared.failure(failure);
        }
        true
    }
}

impl std::fmt::Debug for RequestReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestReader").field("reading", &self.is_reading()).finish()
    }
}
