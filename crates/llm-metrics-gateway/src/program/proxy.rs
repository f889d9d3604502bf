//! Forwards a client's request, until the head of its response.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use llm_metrics::{ErrorType, LlmMetrics, layer::LlmMetricsService};
use tower_layer::Layer;
use tower_service::Service;

use crate::program::{
    answer::{Answer, Source as AnswerSource},
    client_body::ClientBody,
    config::{Kind, Limits},
    headers,
    peek::{self, PeekError},
    route::Routes,
    upstream::{InFlight, SendError, Source, Tunnel, Upstream, UpstreamBody},
};

/// The client with the layer around it.
type Measured = LlmMetricsService<Send, fn(&SendError) -> ErrorType>;

/// One client per set of protocols that an upstream may have.
struct ByProtocol {
    /// Protocols with unambiguous paths.
    usual: Measured,
    /// Ollama's own protocol as well, whose `/api/chat` is a path of many other servers, too.
    ollama: Measured,
}

/// Forwards requests.
pub(crate) struct Proxy {
    routes: Routes,
    limits: Limits,
    /// `None` if nothing is measured.
    measured: Option<ByProtocol>,
}

impl Proxy {
    pub(crate) fn new(routes: Routes, limits: Limits, metrics: Option<&LlmMetrics>) -> Self {
        Self { routes, limits, measured: metrics.map(ByProtocol::new) }
    }

    /// Sends a request to its upstream. `tunnel` is kept while an upgraded connection is open.
    pub(crate) async fn forward(&self, request: Request<Incoming>, tunnel: impl FnOnce() -> Tunnel) -> Answer {
        if request.method() == Method::CONNECT {
            let message = "this is a gateway to language models, not a proxy to other hosts";
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message);
        }
        if headers::asks_for_upgrade(request.headers()) {
            return self.upgrade(request, tunnel()).await;
        }
        let mut request = request.map(ClientBody::new);
        let upstream = match self.upstream(&mut request).await {
            Ok(upstream) => upstream,
            Err(answer) => return *answer,
        };
        request.extensions_mut().insert(Routed(Arc::clone(&upstream)));
        let sent = match &self.measured {
            Some(measured) => {
                measured.of(&upstream).call(request).await.map(|answer| answer.map(AnswerSource::Measured))
            }
            None => Send.call(request).await.map(|answer| answer.map(AnswerSource::Plain)),
        };
        match sent {
            Ok(response) => Answer { response, upstream: Some(upstream) },
            Err(error) => failed(&upstream, &error),
        }
    }

    /// The upstream of a request; its prefix is removed from the path.
    async fn upstream(&self, request: &mut Request<ClientBody>) -> Result<Arc<Upstream>, Box<Answer>> {
        if let Some(upstream) = self.by_path(request)? {
            return Ok(upstream);
        }
        let model = if self.routes.need_model() && *request.method() == Method::POST {
            let Limits { model_lookup_bytes, header_timeout, .. } = self.limits;
            peek::model(request.body_mut(), model_lookup_bytes, header_timeout).await.map_err(unread)?
        } else {
            None
        };
        self.routes.by_model(model.as_deref()).cloned().ok_or_else(|| Box::new(nobody()))
    }

    fn by_path<B>(&self, request: &mut Request<B>) -> Result<Option<Arc<Upstream>>, Box<Answer>> {
        let Some((upstream, path)) = self.routes.by_path(request.uri()) else { return Ok(None) };
        let upstream = Arc::clone(upstream);
        let path = path.map_err(|error| Box::new(failed(&upstream, &error.into())))?;
        *request.uri_mut() = path.into();
        Ok(Some(upstream))
    }

    async fn upgrade(&self, mut request: Request<Incoming>, tunnel: Tunnel) -> Answer {
        let upstream = match self.by_path(&mut request) {
            Ok(Some(upstream)) => upstream,
            Ok(None) => match self.routes.by_model(None) {
                Some(upstream) => Arc::clone(upstream),
                None => return nobody(),
            },
            Err(answer) => return *answer,
        };
        match upstream.upgrade(request, tunnel).await {
            Ok(response) => Answer { response: response.map(AnswerSource::Plain), upstream: None },
            Err(error) => failed(&upstream, &error),
        }
    }
}

impl ByProtocol {
    fn new(metrics: &LlmMetrics) -> Self {
        let classify: fn(&SendError) -> _ = SendError::error_type;
        let layer = metrics.layer().proxy().classify_error(classify);
        Self { usual: layer.layer(Send), ollama: layer.ollama().layer(Send) }
    }

    /// The client for an upstream: one of unknown kind may be an Ollama.
    fn of(&self, upstream: &Upstream) -> Measured {
        match upstream.kind() {
            Kind::Ollama | Kind::Auto => self.ollama.clone(),
            Kind::OpenAi | Kind::Anthropic | Kind::LlamaCpp | Kind::Vllm => self.usual.clone(),
        }
    }
}

fn unread(error: PeekError) -> Box<Answer> {
    let (status, kind, message) = match error {
        PeekError::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "the request did not arrive in time"),
        PeekError::Body => (StatusCode::BAD_REQUEST, "invalid_request_error", "the request is incomplete"),
    };
    Box::new(Answer::error(status, kind, message))
}

fn nobody() -> Answer {
    let message = "no upstream is configured for this path or model";
    Answer::error(StatusCode::NOT_FOUND, "not_found_error", message)
}

/// The response to the client if the upstream has not answered. The cause is logged, and not sent to the client.
fn failed(upstream: &Upstream, error: &SendError) -> Answer {
    let name = &upstream.config.name;
    let cause = std::iter::successors(std::error::Error::source(error), |error| error.source()).last();
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    upstream.warn(format_args!("{error}{cause}"));
    let message = match error {
        SendError::Connect(_) => format!("the upstream {name} cannot be reached"),
        _ => error.to_string(),
    };
    Answer::error(error.status(), error.error_type().as_str(), &message)
}

/// The upstream of a request, in its extensions.
#[derive(Clone)]
pub(crate) struct Routed(Arc<Upstream>);

impl Routed {
    pub(crate) fn name(&self) -> &str {
        &self.0.config.name
    }
}

/// Sends a request to the upstream in its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Send;

impl<B: Into<Source>> Service<Request<B>> for Send {
    type Response = Response<UpstreamBody>;
    type Error = SendError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, SendError>> + std::marker::Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let Routed(upstream) = parts.extensions.remove().expect("the proxy puts it there");
        let (body, in_flight) = (body.into(), InFlight::new(&upstream, &parts.method));
        Box::pin(async move { upstream.send(parts, body, in_flight).await })
    }
}
