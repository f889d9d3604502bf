//! Responses to clients, and the time that the gateway itself works for them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use llm_metrics::layer::ResponseBody;
use pin_project_lite::pin_project;
use serde_json::json;

use crate::program::upstream::{BodyError, Upstream, UpstreamBody};

/// A body of any kind.
pub(crate) enum Source {
    /// The upstream's, inside the layer.
    Measured(ResponseBody<UpstreamBody>),
    /// The upstream's, without the layer.
    Plain(UpstreamBody),
    /// The gateway's own.
    Own(Full<Bytes>),
}

/// A response, and its upstream.
pub(crate) struct Answer {
    pub(crate) response: Response<Source>,
    pub(crate) upstream: Option<Arc<Upstream>>,
}

impl Answer {
    /// A response of the gateway itself.
    pub(crate) fn own(response: Response<Full<Bytes>>) -> Self {
        Self { response: response.map(Source::Own), upstream: None }
    }

    /// An error, in the format of OpenAI's API, which clients expect.
    pub(crate) fn error(status: StatusCode, kind: &str, message: &str) -> Self {
        let error = json!({"error": {"message": message, "type": kind, "param": null, "code": status.as_u16()}});
        Self::own(json_response(status, &error))
    }
}

/// A JSON document.
pub(crate) fn json_response(status: StatusCode, document: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{document}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pin_project! {
    /// Measures the time that is spent polling the future. Waiting is not included.
    pub(crate) struct Timed<F> {
        #[pin]
        inner: F,
        spent: Duration,
    }
}

impl<F> Timed<F> {
    pub(crate) fn new(inner: F) -> Self {
        Self { inner, spent: Duration::ZERO }
    }
}

impl<F: Future<Output = Answer>> Future for Timed<F> {
    type Output = Response<AnswerBody>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let start = Instant::now();
        let polled = this.inner.poll(cx);
        *this.spent += start.elapsed();
        let Answer { response, upstream } = ready!(polled);
        let overhead = upstream.map(|upstream| Overhead { upstream, spent: *this.spent });
        Poll::Ready(response.map(|source| AnswerBody { source, overhead, failed: None }))
    }
}

/// The body of a response. When it is dropped, the gateway's own time for the response is recorded.
pub(crate) struct AnswerBody {
    source: Source,
    overhead: Option<Overhead>,
    failed: Option<BodyError>,
}

struct Overhead {
    upstream: Arc<Upstream>,
    spent: Duration,
}

impl Drop for Overhead {
    fn drop(&mut self) {
        self.upstream.metrics.overhead(self.spent);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { source, overhead, failed } = &mut *self;
        if let Some(error) = failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let start = overhead.is_some().then(Instant::now);
        let frame = source.poll_frame(cx);
        if let (Some(overhead), Some(start)) = (overhead, start) {
            overhead.spent += start.elapsed();
        }
        match frame {
            // hyper closes the connection immediately, and loses data that it has not written yet. Waiting lets it write the data.
            Poll::Ready(Some(Err(error))) => {
                *failed = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Measured(body) => body.is_end_stream(),
            Source::Plain(body) => body.is_end_stream(),
            Source::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Measured(body) => body.size_hint(),
            Source::Plain(body) => body.size_hint(),
            Source::Own(body) => body.size_hint(),
        }
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Measured(body) => Pin::new(body).poll_frame(cx),
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }
}
