//! The body of a request to the upstream.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use llm_metrics::layer::RequestBody;

use crate::program::client_body::ClientBody;

/// A body of any kind.
#[derive(Debug)]
pub(crate) struct Upload {
    source: Source,
    progress: Arc<Progress>,
}

/// The source of the bytes.
#[derive(Debug)]
pub(crate) enum Source {
    /// From the client, through the layer.
    Measured(RequestBody<ClientBody>),
    /// From the client, without the layer.
    Plain(ClientBody),
    /// No body.
    Empty,
}

/// The progress of a body, for the code that waits for the response.
#[derive(Debug)]
pub(crate) struct Progress {
    last: Mutex<Instant>,
    done: AtomicBool,
}

impl Upload {
    pub(crate) fn new(source: Source) -> (Self, Arc<Progress>) {
        let progress =
            Arc::new(Progress { last: Mutex::new(Instant::now()), done: AtomicBool::new(source.is_end_stream()) });
        (Self { source, progress: Arc::clone(&progress) }, progress)
    }
}

impl Progress {
    /// When a piece of the body was last sent.
    pub(crate) fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the whole body was sent.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    fn now(&self, done: bool) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if done {
            self.done.store(true, Ordering::Relaxed);
        }
    }
}

impl From<RequestBody<ClientBody>> for Source {
    fn from(body: RequestBody<ClientBody>) -> Self {
        Self::Measured(body)
    }
}

impl From<ClientBody> for Source {
    fn from(body: ClientBody) -> Self {
        Self::Plain(body)
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Measured(body) => Pin::new(body).poll_frame(cx),
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Measured(body) => body.is_end_stream(),
            Self::Plain(body) => body.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Measured(body) => body.size_hint(),
            Self::Plain(body) => body.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.source).poll_frame(cx));
        self.progress.now(frame.is_none() || self.source.is_end_stream());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
