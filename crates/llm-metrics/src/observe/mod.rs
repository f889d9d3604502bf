//! Measures requests without tower: an adapter passes heads and bytes to this module.
//!
//! The [layer](crate::layer) is built on this. With it, an adapter can be written for any framework: actix-web, poem,
//! pingora, a client that is not a tower service, or recorded bytes. The calls are made in this order:
//!
//! ```text
//! Observer ──request(head)──► ObservedRequest ──response(head)──► ObservedResponse ──end()──►
//!                                    │                                   │ read(bytes), as they pass
//!                                    └─ body_reader(): RequestReader     └─ dropped: cancelled
//! ```
//!
//! The types enforce the order. Dropping an [`ObservedRequest`] or an
//! [`ObservedResponse`] means that the client disconnected, and records the request as cancelled (as an internal error while panicking). The cost is
//! that of the layer: one allocation for the state of a request, one for the reader of its body, none for a chunk.
//!
//! ```
//! use http::Request;
//! use llm_metrics::{LlmMetrics, observe::ResponseHead};
//!
//! let metrics = LlmMetrics::new();
//! let observer = metrics.observer();
//!
//! let (head, ()) = Request::post("/v1/chat/completions").body(())?.into_parts();
//! let request = observer.request(&head);
//! assert!(request.is_measured());
//! let mut body = request.body_reader();
//! body.read(br#"{"model": "Qwen3-4B", "stream": true}"#);
//! body.end();
//!
//! let mut response = request.response(ResponseHead::new(200).content_type("text/event-stream"));
//! response.read(b"data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"Yes.\"}, \"finish_reason\": \"stop\"}]}\n\n");
//! response.read(b"data: [DONE]\n\n");
//! response.end();
//! assert_eq!(&*metrics.recent_requests(1)[0].model, "Qwen3-4B");
//! # Ok::<(), http::Error>(())
//! ```

mod passed;
mod request;
mod response;
mod routes;

use std::sync::Arc;

use http::{Method, request::Parts};

use self::{
    passed::Passed,
    routes::{RouteMatch, Routes},
};
pub use self::{
    request::{ObservedRequest, RequestReader},
    response::{ObservedResponse, ResponseHead},
};
pub(crate) use response::EndIfPanicking;

use crate::{inference::InferenceHandle, record::LlmMetrics, vocabulary::Endpoint};

impl LlmMetrics {
    /// Creates an observer of requests, which is fed with heads and bytes; see [`observe`](crate::observe).
    pub fn observer(&self) -> Observer {
        self.0.observed();
        Observer { metrics: self.clone(), proxy: false, routes: Routes::default() }
    }
}

/// Observes the requests of one service or client; see the [module's documentation](self). Cheap to clone.
#[derive(Clone, Debug)]
#[must_use = "an observer does nothing until it gets a request"]
pub struct Observer {
    metrics: LlmMetrics,
    proxy: bool,
    routes: Routes,
}

impl Observer {
    /// Measures Ollama's own API, too; see [`LlmMetricsLayer::ollama`](crate::LlmMetricsLayer::ollama).
    pub fn ollama(mut self) -> Self {
        self.routes.ollama = true;
        self
    }

    /// Measures `POST`s to another path; see [`LlmMetricsLayer::path`](crate::LlmMetricsLayer::path).
    pub fn path(mut self, path: impl Into<Arc<str>>, endpoint: Endpoint) -> Self {
        self.routes.own(path.into(), endpoint);
        self
    }

    /// Chooses the endpoint by a function of the request's head; see [`LlmMetricsLayer::endpoint_fn`](crate::LlmMetricsLayer::endpoint_fn).
    pub fn endpoint_fn(mut self, endpoint: impl Fn(&Parts) -> Option<Endpoint> + Send + Sync + 'static) -> Self {
        self.routes.by_function(Arc::new(endpoint));
        self
    }

    /// Declares that the service is a proxy or a client; see [`LlmMetricsLayer::proxy`](crate::LlmMetricsLayer::proxy).
    pub fn proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    /// Observes a new request, and starts its clock if it is to be measured. Call it before the body is read.
    ///
    /// A request whose extensions have an [`InferenceHandle`] is already measured by another observer or layer of the same [`LlmMetrics`], and is not
    /// measured again.
    pub fn request(&self, head: &Parts) -> ObservedRequest {
        if self.observes_method(&head.method) {
            self.metrics.0.post_arrived();
        }
        if head.extensions.get().is_some_and(|handle: &InferenceHandle| handle.is_open_in(&self.metrics)) {
            return ObservedRequest::default();
        }
        match self.routes.find(head) {
            RouteMatch::Known(route) => ObservedRequest::start(&self.metrics, route, head, self.proxy),
            RouteMatch::Unknown { word } => ObservedRequest::passing(Passed::new(&self.metrics, word)),
            RouteMatch::NotMeasured => ObservedRequest::default(),
        }
    }

    /// Whether such a request needs to be observed at all.
    pub(crate) fn observes_method(&self, method: &Method) -> bool {
        *method == Method::POST
    }
}
