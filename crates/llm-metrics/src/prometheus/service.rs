use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tower_service::Service;

use super::{CONTENT_TYPE, worker::Worker};

/// Answers `GET` and `HEAD` with the metrics. Never waits for a request that is being measured.
#[derive(Clone, Debug)]
pub struct MetricsService {
    worker: Arc<Worker>,
}

impl MetricsService {
    pub(super) fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
    }

    pub(super) async fn answer(self, method: Method) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "metrics are to be read with GET\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let Some(page) = self.worker.render().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the exporter has stopped\n");
        };
        let mut response = Response::new(Full::new(page));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        response
    }
}

pub(super) fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl<B> Service<Request<B>> for MetricsService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (service, method) = (self.clone(), request.method().clone());
        Box::pin(async move { Ok(service.answer(method).await) })
    }
}
