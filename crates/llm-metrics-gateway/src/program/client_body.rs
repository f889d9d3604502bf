//! The body of a client's request, whose beginning may already have been read.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The frames that were read, and the rest of the body.
#[derive(Debug)]
pub(crate) struct ClientBody {
    read: VecDeque<Frame<Bytes>>,
    rest: Incoming,
}

impl ClientBody {
    pub(crate) fn new(rest: Incoming) -> Self {
        Self { read: VecDeque::new(), rest }
    }

    /// Appends a frame to those that were read, for the next reader of the body.
    pub(crate) fn hold(&mut self, frame: Frame<Bytes>) {
        self.read.push_back(frame);
    }

    /// The next frame from the client.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    /// Whether the whole body was read.
    pub(crate) fn rest_is_end_stream(&self) -> bool {
        self.rest.is_end_stream()
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.poll_rest(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read: usize = self.read.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read as u64));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read as u64));
        }
        hint
    }
}
