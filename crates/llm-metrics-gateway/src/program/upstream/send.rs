//! Sends requests: attempts, timeouts, and the meaning of failures.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request::Parts, uri::PathAndQuery,
};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2},
};
use llm_metrics::{ErrorType, InferenceHandle};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    InFlight, Upstream, UpstreamBody,
    body::Transport,
    connect::ConnectError,
    multiplexed::Uses,
    pool::{Connection, driven},
    throttle,
    upload::{Progress, Source, Upload},
};
use crate::program::{
    headers,
    record::{Attempt, UpstreamMetrics},
    serve::Interim,
};

/// The maximum number of attempts for a request of which nothing was sent.
const ATTEMPTS: usize = 3;

/// How much of the body of a failed request is read, to find its model.
const READ_ANYWAY: u64 = 1 << 20;
const READ_ANYWAY_TIME: Duration = Duration::from_secs(1);

/// Why no response was received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the upstream closed the connection before it sent a response")]
    Reset(#[source] hyper::Error),
    #[error("the upstream sent a response that is not valid HTTP, or has too long a head")]
    Invalid(#[source] hyper::Error),
    #[error("the upstream switched to another protocol, which the client had not asked for")]
    Switched,
    #[error("the upstream sent no response head within {0:?}")]
    HeadTimeout(Duration),
    #[error("the client did not send its whole request within {0:?}")]
    ClientTimeout(Duration),
    #[error("the path is not valid for the upstream")]
    Path(#[from] http::uri::InvalidUri),
}

impl SendError {
    /// The status for the client.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Connect(ConnectError::Timeout { .. }) | Self::HeadTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect(_) | Self::Reset(_) | Self::Invalid(_) | Self::Switched => StatusCode::BAD_GATEWAY,
            Self::ClientTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Path(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The result of the attempt in the metrics.
    pub(crate) fn error_type(&self) -> ErrorType {
        match self {
            Self::Connect(ConnectError::Timeout { .. }) | Self::HeadTimeout(_) | Self::ClientTimeout(_) => {
                ErrorType::Timeout
            }
            Self::Connect(_) => ErrorType::UpstreamUnavailable,
            Self::Reset(_) | Self::Invalid(_) | Self::Switched => ErrorType::UpstreamError,
            Self::Path(_) => ErrorType::InvalidRequest,
        }
    }

    /// The meaning of an error of a connection.
    pub(super) fn broken(error: hyper::Error) -> Self {
        if error.is_parse() { Self::Invalid(error) } else { Self::Reset(error) }
    }
}

/// A connection for a request.
enum Line {
    One(Box<Connection>),
    Two(http2::SendRequest<Upload>, Uses),
}

impl Upstream {
    /// Sends a request, and waits for the head of the response. Headers and path are the client's; the rest is set here.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut parts: Parts,
        body: Source,
        in_flight: InFlight,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let handle = InferenceHandle::of(&parts.extensions);
        let interim = parts.extensions.remove::<Interim>();
        parts.extensions = http::Extensions::new();
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| "/".parse().expect("a path"));
        let target = self.target(&path)?;
        headers::of_request(&mut parts.headers, self.config.accept_encoding);
        parts.headers.remove(header::HOST);
        let (upload, progress) = Upload::new(body);
        let mut request = Request::from_parts(parts, upload);
        if let Some(interim) = interim {
            hyper::ext::on_informational(&mut request, move |answer| {
                // This side sends `100 Continue`, when the upstream accepts the body.
                if answer.status() != StatusCode::CONTINUE {
                    interim.send(answer.status(), answer.headers());
                }
            });
        }
        let (answer, transport) = self.tried(request, &target, &progress, Some(&self.metrics)).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::Switched);
        }
        Ok(self.answer(answer, transport, handle, in_flight).await)
    }

    /// Sends a request of the gateway itself, which is not counted.
    pub(super) async fn ask(
        self: &Arc<Self>,
        request: Request<Source>,
        target: PathAndQuery,
    ) -> Result<(StatusCode, UpstreamBody), SendError> {
        let (parts, body) = request.into_parts();
        let (upload, progress) = Upload::new(body);
        let (answer, transport) = self.tried(Request::from_parts(parts, upload), &target, &progress, None).await?;
        let (parts, incoming) = answer.into_parts();
        let in_flight = InFlight::new(self, &Method::GET);
        Ok((parts.status, UpstreamBody::new(incoming, transport, in_flight).settled().await))
    }

    /// Tries until there is a response, or until something was sent and there is none.
    async fn tried(
        &self,
        mut request: Request<Upload>,
        target: &PathAndQuery,
        progress: &Progress,
        metrics: Option<&UpstreamMetrics>,
    ) -> Result<(Response<Incoming>, Transport), SendError> {
        let mut attempt = 1;
        loop {
            let trying = Trying(metrics);
            let line = match self.line(attempt > 1).await {
                Ok(line) => line,
                Err(error) => {
                    let refused = !matches!(error, ConnectError::Timeout { .. });
                    trying.ended(if refused { Attempt::Refused } else { Attempt::Timeout });
                    // The model of the failed request is needed for the metrics, and is in the body.
                    Box::pin(read_anyway(request.into_body())).await;
                    return Err(error.into());
                }
            };
            self.address(&mut request, target, matches!(line, Line::Two(..)));
            match self.head(line, request, progress).await {
                Ok(answered) => {
                    trying.ended(Attempt::Answered);
                    return Ok(answered);
                }
                Err(Failed::Timeout(error)) => {
                    trying.ended(Attempt::Timeout);
                    return Err(error);
                }
                Err(Failed::Unsent(returned, error)) => {
                    trying.ended(Attempt::Reset);
                    if attempt == ATTEMPTS {
                        Box::pin(read_anyway(returned.into_body())).await;
                        return Err(SendError::broken(error));
                    }
                    request = *returned;
                    attempt += 1;
                }
                Err(Failed::Reset(error)) => {
                    trying.ended(Attempt::Reset);
                    return Err(SendError::broken(error));
                }
            }
        }
    }

    /// A connection: an idle one, unless `fresh` forbids it, otherwise a new one.
    async fn line(&self, fresh: bool) -> Result<Line, ConnectError> {
        if let Some((sender, uses)) = self.multiplexed.take() {
            return Ok(Line::Two(sender, uses));
        }
        if !fresh {
            let open = std::future::poll_fn(|cx| Poll::Ready(self.pool.take(cx))).await;
            if let Some(connection) = open {
                return Ok(Line::One(Box::new(connection)));
            }
        }
        // A separate future, because otherwise each request would need its memory.
        Box::pin(self.new_line()).await
    }

    async fn new_line(&self) -> Result<Line, ConnectError> {
        let broken = |error: hyper::Error| self.broken(error);
        if self.config.http2 || self.multiplexed.is_spoken() {
            let (sender, uses) = self.multiplexed.open_with(self.connector.connect(), broken).await?;
            return Ok(Line::Two(sender, uses));
        }
        let stream = self.connector.connect().await?;
        if stream.negotiated_http2() {
            let (sender, uses) = self.multiplexed.start(stream).await.map_err(broken)?;
            return Ok(Line::Two(sender, uses));
        }
        Ok(Line::One(Box::new(Connection::start(stream).await.map_err(broken)?)))
    }

    fn broken(&self, error: hyper::Error) -> ConnectError {
        let address = self.config.url.authority().to_string();
        ConnectError::Refused { address, source: std::io::Error::other(error) }
    }

    /// Formats the URI as the protocol requires.
    fn address(&self, request: &mut Request<Upload>, target: &PathAndQuery, http2: bool) {
        let url = &self.config.url;
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(target.clone());
        if http2 {
            uri.scheme = Some(url.scheme().clone());
            uri.authority = Some(url.authority().clone());
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(header::HOST);
        } else {
            *request.version_mut() = Version::HTTP_11;
            if let Ok(host) = HeaderValue::from_str(url.authority().as_str()) {
                request.headers_mut().insert(header::HOST, host);
            }
        }
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
    }

    /// Sends the request on a connection, and waits for the head of the response.
    async fn head(
        &self,
        line: Line,
        request: Request<Upload>,
        progress: &Progress,
    ) -> Result<(Response<Incoming>, Transport), Failed> {
        match line {
            Line::One(mut connection) => {
                let mut answer = pin!(connection.sender.try_send_request(request));
                // The future does not borrow the connection.
                let waiting = driven(&mut connection, |cx| answer.as_mut().poll(cx));
                let answer = self.in_time(waiting, progress).await?;
                Ok((answer, Transport::One(Some(connection))))
            }
            Line::Two(mut sender, uses) => {
                let answer = self.in_time(sender.try_send_request(request), progress).await;
                if let Err(Failed::Unsent(..)) = &answer {
                    self.multiplexed.forget(&uses);
                }
                Ok((answer?, Transport::Two(uses)))
            }
        }
    }

    /// The timeout of the head starts at the last piece of the request.
    async fn in_time(
        &self,
        answer: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>>,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Failed> {
        let Some(limit) = self.config.timeouts.head else { return answer.await.map_err(Failed::new) };
        let mut answer = pin!(answer);
        loop {
            let deadline = Instant::from_std(progress.last() + limit);
            if let Ok(answer) = timeout_at(deadline, answer.as_mut()).await {
                return answer.map_err(Failed::new);
            }
            if Instant::from_std(progress.last() + limit) <= Instant::now() {
                let done = progress.is_done();
                let error = if done { SendError::HeadTimeout(limit) } else { SendError::ClientTimeout(limit) };
                return Err(Failed::Timeout(error));
            }
        }
    }

    async fn answer(
        self: &Arc<Self>,
        answer: Response<Incoming>,
        transport: Transport,
        handle: InferenceHandle,
        in_flight: InFlight,
    ) -> Response<UpstreamBody> {
        let (mut parts, incoming) = answer.into_parts();
        let rejection = throttle::observe(self, parts.status, &parts.headers);
        headers::of_answer(&mut parts.headers);
        parts.version = Version::HTTP_11;
        let body = UpstreamBody::new(incoming, transport, in_flight)
            .handle(handle)
            .streamed(is_stream(&parts.headers))
            .rejection(rejection)
            .settled()
            .await;
        Response::from_parts(parts, body)
    }
}

/// A stream of events or lines.
fn is_stream(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/x-ndjson")
}

/// An attempt in progress. If it is dropped, it counts as cancelled.
struct Trying<'a>(Option<&'a UpstreamMetrics>);

impl Trying<'_> {
    fn ended(mut self, attempt: Attempt) {
        if let Some(metrics) = self.0.take() {
            metrics.attempt(attempt);
        }
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if let Some(metrics) = self.0.take() {
            metrics.attempt(Attempt::Cancelled);
        }
    }
}

enum Failed {
    /// Nothing was sent: returns the request.
    Unsent(Box<Request<Upload>>, hyper::Error),
    Reset(hyper::Error),
    Timeout(SendError),
}

impl Failed {
    fn new(mut error: TrySendError<Request<Upload>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request), error.into_error()),
            None => Self::Reset(error.into_error()),
        }
    }
}

/// Reads a body that is not sent, so that the layer sees the request.
async fn read_anyway(mut body: Upload) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = next(&mut body).await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > READ_ANYWAY {
                return;
            }
        }
    };
    let _ = timeout(READ_ANYWAY_TIME, reading).await;
}

async fn next(body: &mut Upload) -> Option<Result<http_body::Frame<bytes::Bytes>, hyper::Error>> {
    std::future::poll_fn(|cx: &mut Context<'_>| Pin::new(&mut *body).poll_frame(cx)).await
}
