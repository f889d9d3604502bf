//! A service that answers at once, with and without the layer.

use std::{
    convert::Infallible,
    future::{self, Ready},
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body;
use llm_metrics::{
    LlmMetrics, QualityChecks,
    prometheus::{Exporter, ExporterError, ExporterRecorder},
};
use tower::{Layer, Service};

use crate::{
    sample,
    script::{Chunks, Script, read},
};

/// Reads the whole request, and answers with the script.
#[derive(Clone, Debug)]
pub struct Handler {
    script: Arc<Script>,
    content_type: HeaderValue,
}

impl Handler {
    /// Answers with a stream of events.
    #[must_use]
    pub fn streaming(script: &Arc<Script>) -> Self {
        Self { script: Arc::clone(script), content_type: HeaderValue::from_static("text/event-stream") }
    }

    /// Answers with one JSON document per line.
    #[must_use]
    pub fn lines(script: &Arc<Script>) -> Self {
        Self { script: Arc::clone(script), content_type: HeaderValue::from_static("application/x-ndjson") }
    }

    /// Answers in one piece.
    #[must_use]
    pub fn unary(script: &Arc<Script>) -> Self {
        Self { script: Arc::clone(script), content_type: HeaderValue::from_static("application/json") }
    }
}

impl<B> Service<Request<B>> for Handler
where
    B: Body<Data = Bytes> + Unpin,
{
    type Response = Response<Chunks>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        read(request.body_mut(), usize::MAX, |data| {
            black_box(data);
        });
        let mut response = Response::new(Chunks::new(&self.script));
        response.headers_mut().insert(header::CONTENT_TYPE, self.content_type.clone());
        future::ready(Ok(response))
    }
}

/// Sends a request to a service, and waits for the head of the response.
pub fn call<S, B>(service: &mut S, request: Request<Chunks>) -> Response<B>
where
    S: Service<Request<Chunks>, Response = Response<B>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    let mut answer = pin!(service.call(request));
    match answer.as_mut().poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Ready(Err(never)) => match never {},
        Poll::Pending => unreachable!("the handler answers at once"),
    }
}

/// Sends a request to a service, and reads the whole response.
pub fn request<S, B>(service: &mut S, request: Request<Chunks>)
where
    S: Service<Request<Chunks>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin,
{
    let mut response = call(service, request);
    read(response.body_mut(), usize::MAX, |data| {
        black_box(data);
    });
}

/// A request for a chat.
#[must_use]
pub fn chat(body: &Arc<Script>) -> Request<Chunks> {
    post("/v1/chat/completions", body)
}

/// A request that is not an LLM call.
#[must_use]
pub fn other(body: &Arc<Script>) -> Request<Chunks> {
    let mut request = post("/v1/models", body);
    *request.method_mut() = Method::GET;
    request
}

/// A request to an endpoint.
#[must_use]
pub fn post(path: &'static str, body: &Arc<Script>) -> Request<Chunks> {
    let mut request = Request::new(Chunks::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

/// Metrics whose recorder does nothing, so that only the cost of the layer itself remains.
///
/// # Errors
/// Never, as long as the defaults are valid.
pub fn free() -> Result<LlmMetrics, llm_metrics::BuildError> {
    LlmMetrics::builder().recorder(metrics::NoopRecorder).quality(QualityChecks::none()).build()
}

/// The same, with all output checks.
///
/// # Errors
/// Never, as long as the defaults are valid.
pub fn checked() -> Result<LlmMetrics, llm_metrics::BuildError> {
    LlmMetrics::builder().recorder(metrics::NoopRecorder).quality(QualityChecks::all()).build()
}

/// Metrics with an exporter behind them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exported {
    /// The source of the layer.
    pub metrics: LlmMetrics,
    /// The recorder that the metrics use.
    pub recorder: Arc<ExporterRecorder>,
    /// Renders them.
    pub exporter: Exporter,
}

impl Exported {
    /// Everything as in a real service, except for the process metrics and the output checks.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let (recorder, exporter) =
            Exporter::builder().process_metrics(false).build().map_err(Box::<ExporterError>::from)?;
        let metrics = LlmMetrics::builder().exporter(&exporter).quality(QualityChecks::none()).build()?;
        Ok(Self { metrics, recorder, exporter })
    }
}

/// The handler behind the layer.
pub fn layered(metrics: &LlmMetrics, handler: &Handler) -> <llm_metrics::LlmMetricsLayer as Layer<Handler>>::Service {
    metrics.layer().layer(handler.clone())
}

/// The handler behind a layer that also knows Ollama's paths.
pub fn layered_for_ollama(
    metrics: &LlmMetrics,
    handler: &Handler,
) -> <llm_metrics::LlmMetricsLayer as Layer<Handler>>::Service {
    metrics.layer().ollama().layer(handler.clone())
}

/// Serves each of `models` models once in each way: streamed, unary, and with an early disconnect.
pub fn many_models(metrics: &LlmMetrics, models: usize) {
    for model in 0..models {
        let model = format!("organisation/model-{model}");
        let named = |body| Script::whole(&sample::named(&body, &model), usize::MAX);
        let unary = Handler::unary(&Script::whole(&sample::document(), usize::MAX));
        let streaming = Handler::streaming(&Script::stream(sample::text_chunks(), 32));
        request(&mut layered(metrics, &unary), chat(&named(sample::question(false))));
        request(&mut layered(metrics, &streaming), chat(&named(sample::question(true))));
        drop(call(&mut layered(metrics, &streaming), chat(&named(sample::question(true)))));
    }
}
