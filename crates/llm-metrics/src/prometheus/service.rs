use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tower_service::Service;

use super::{CONTENT_TYPE, UTF8_CONTENT_TYPE, views::Spelling, worker::Worker};

/// Answers `GET` and `HEAD` with the metrics. It does not wait for requests that are being measured.
#[derive(Clone, Debug)]
pub struct MetricsService {
    worker: Arc<Worker>,
}

impl MetricsService {
    pub(super) fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
    }

    pub(super) async fn answer(self, method: Method, headers: HeaderMap) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET to read the metrics\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let spelling = match self.worker.has_dots() && asks_for_utf8_names(&headers) {
            true => Spelling::Dots,
            false => Spelling::Underscores,
        };
        let Some(page) = self.worker.render(spelling).await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the exporter has stopped\n");
        };
        let mut response = Response::new(Full::new(page));
        let content_type = if spelling == Spelling::Dots { UTF8_CONTENT_TYPE } else { CONTENT_TYPE };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

/// Whether the accepted media types include the text format with UTF-8 names. Prometheus 3 asks for it by default.
fn asks_for_utf8_names(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let text = parts.next().is_some_and(|kind| kind == "text/plain");
        let parameters: Vec<(String, String)> = parts
            .filter_map(|part| {
                part.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            })
            .collect();
        let is = |key: &str, value: &str| parameters.iter().any(|(k, v)| k == key && v.trim_matches('"') == value);
        let refused = parameters.iter().any(|(key, value)| key == "q" && value.parse() == Ok(0.0_f32));
        text && is("version", "1.0.0") && is("escaping", "allow-utf-8") && !refused
    })
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
    /// Boxed, because it is an `async` function's future, whose type has no name.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (service, method, headers) = (self.clone(), request.method().clone(), request.headers().clone());
        Box::pin(async move { Ok(service.answer(method, headers).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_utf8_are_sent_only_on_request() {
        let asks = |accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())]);
            asks_for_utf8_names(&headers)
        };
        // Prometheus 3, with its default settings and with `metric_name_escaping_scheme: underscores`.
        assert!(asks(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1"
        ));
        assert!(!asks("text/plain;version=1.0.0;escaping=underscores;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"));
        assert!(asks("Text/Plain; Version=1.0.0; Escaping=\"allow-utf-8\""));
        assert!(!asks("text/plain;version=1.0.0;escaping=allow-utf-8;q=0"));
        assert!(!asks("text/plain;version=0.0.4;escaping=allow-utf-8") && !asks("*/*"));
        assert!(!asks_for_utf8_names(&HeaderMap::new()));
    }
}
