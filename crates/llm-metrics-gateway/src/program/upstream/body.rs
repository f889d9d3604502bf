//! The body of an upstream's response.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use llm_metrics::{ErrorType, InferenceHandle};
use tokio::time::{Instant, Sleep};

use super::{InFlight, Upstream, multiplexed::Uses, pool::Connection, throttle::RejectionReader};

/// The body of a response. Dropping it before its end closes the connection, or resets its stream on a shared connection.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    transport: Transport,
    /// Whether it is a stream of events or lines.
    streamed: bool,
    silence: Option<Silence>,
    handle: InferenceHandle,
    rejection: Option<Box<RejectionReader>>,
    in_flight: InFlight,
}

/// The source of the body.
pub(crate) enum Transport {
    /// An exclusive connection, driven here. `None` after it was returned to the pool, or has failed.
    One(Option<Box<Connection>>),
    /// A connection that is driven elsewhere.
    Two(#[expect(dead_code, reason = "counts the requests of the connection")] Uses),
    /// A connection for this response only, driven by a task until this is dropped.
    Task(#[expect(dead_code, reason = "ends the task")] AbortOnDrop),
}

/// Aborts a task when dropped.
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long the upstream has been waited for.
struct Silence {
    limit: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why the body of a response ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the upstream closed the connection in the middle of its response")]
    Upstream(#[source] hyper::Error),
    #[error("the upstream has been idle for {0:?}")]
    Silent(Duration),
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, transport: Transport, in_flight: InFlight) -> Self {
        let limit = in_flight.upstream().config.timeouts.idle;
        let silence = limit.map(|limit| Silence { limit, since: None, timer: None });
        let handle = InferenceHandle::default();
        Self { incoming, transport, streamed: false, silence, handle, rejection: None, in_flight }
    }

    /// Reports the failure to this request.
    pub(super) fn handle(mut self, handle: InferenceHandle) -> Self {
        self.handle = handle;
        self
    }

    pub(super) fn streamed(mut self, streamed: bool) -> Self {
        self.streamed = streamed;
        self
    }

    /// Reads the body of a 429 for its reason.
    pub(super) fn rejection(mut self, reader: Option<Box<RejectionReader>>) -> Self {
        self.rejection = reader;
        self
    }

    /// Returns the connection to the pool if the response has no body.
    pub(super) async fn settled(mut self) -> Self {
        if self.incoming.is_end_stream() {
            std::future::poll_fn(|cx| {
                self.ended(cx);
                Poll::Ready(())
            })
            .await;
        }
        self
    }

    fn upstream(&self) -> &Arc<Upstream> {
        self.in_flight.upstream()
    }

    fn ended(&mut self, cx: &mut Context<'_>) {
        if let Transport::One(connection) = &mut self.transport
            && let Some(connection) = connection.take()
        {
            self.in_flight.upstream().pool.put(*connection, self.streamed, cx);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Transport::One(Some(connection)) = &mut self.transport {
            connection.drive(cx);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            let Some(limit) = self.silence.as_mut().and_then(|silence| silence.is_too_long(cx)) else {
                return Poll::Pending;
            };
            self.handle.error(ErrorType::Timeout);
            tracing::warn!(upstream = %self.upstream().config.name, ?limit, "a response was aborted: no more data arrived");
            return Poll::Ready(Some(Err(BodyError::Silent(limit))));
        };
        if let Some(silence) = &mut self.silence {
            silence.since = None;
        }
        match frame {
            Some(Ok(frame)) => {
                if let (Some(rejection), Some(data)) = (&mut self.rejection, frame.data_ref()) {
                    rejection.read(data);
                }
                if self.incoming.is_end_stream() {
                    self.ended(cx);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.transport = Transport::One(None);
                Poll::Ready(Some(Err(BodyError::Upstream(error))))
            }
            None => {
                self.ended(cx);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Silence {
    /// Whether the wait has lasted too long. Time in which the client does not read is not counted: then this is not polled, and the wait starts
    /// again with the next piece.
    fn is_too_long(&mut self, cx: &mut Context<'_>) -> Option<Duration> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let deadline = since + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // One timer for the whole response, because resetting it for each piece would cost more than the piece.
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Some(self.limit);
            }
            timer.as_mut().reset(deadline);
        }
        None
    }
}
