use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{catch::catch_panic, observe::RequestReader};

pin_project! {
    /// A request body that is read while it passes to the service. Frames, trailers, size hint and errors are those of the inner body, unchanged.
    ///
    /// If the service fails or rejects the request before the model was read, the body is dropped early. Its part in memory is then read, so that the
    /// error counts under the name of its model.
    pub struct RequestBody<B> {
        // `None` after `into_inner`.
        #[pin]
        inner: Option<B>,
        reader: RequestReader,
        // Reads the part of a dropped body that is in memory. A function pointer, because a destructor cannot have bounds on the type.
        read_rest: Option<fn(Pin<&mut B>, &mut RequestReader)>,
    }

    impl<B> PinnedDrop for RequestBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let (Some(read_rest), Some(inner)) = (this.read_rest, this.inner.as_pin_mut()) {
                read_rest(inner, this.reader);
            }
        }
    }
}

/// The limit for reading a dropped body: reading takes a few milliseconds at most.
const REST_BYTES: usize = 1 << 20;
const REST_FRAMES: usize = 64;

fn read_rest<B: Body>(mut body: Pin<&mut B>, reader: &mut RequestReader) {
    if !reader.is_reading() || std::thread::panicking() || reader.knows_model() {
        return;
    }
    // The body is the embedder's and is about to be dropped, so it does not matter if a panic leaves it half changed.
    let _ = catch_panic(|| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut left = REST_BYTES;
        for _ in 0..REST_FRAMES {
            let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut cx) else { return };
            let Some(data) = frame.data_ref() else { continue };
            let Some(rest) = left.checked_sub(data.remaining()) else { return };
            reader.read_buf(data, || false);
            if reader.knows_model() {
                return;
            }
            left = rest;
        }
    });
}

impl<B> RequestBody<B> {
    pub(super) fn passing(inner: B) -> Self {
        Self { inner: Some(inner), reader: RequestReader::default(), read_rest: None }
    }

    pub(super) fn read_by(inner: B, reader: RequestReader) -> Self
    where
        B: Body,
    {
        Self { inner: Some(inner), reader, read_rest: Some(read_rest) }
    }

    /// A reference to the inner body.
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "it is `Some` until `into_inner`")]
    pub fn get_ref(&self) -> &B {
        self.inner.as_ref().expect("it is `Some` until `into_inner`")
    }

    /// A mutable reference to the inner body. Bytes that are read through it are not measured.
    #[allow(clippy::missing_panics_doc, reason = "it is `Some` until `into_inner`")]
    pub fn get_mut(&mut self) -> &mut B {
        self.inner.as_mut().expect("it is `Some` until `into_inner`")
    }

    /// Returns the inner body. Bytes that are read from now on are not measured.
    #[must_use]
    #[allow(clippy::missing_panics_doc, reason = "it is `Some` until here")]
    pub fn into_inner(mut self) -> B {
        self.reader = RequestReader::default();
        self.inner.take().expect("it is `Some` until here")
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let Some(mut inner) = this.inner.as_pin_mut() else { return Poll::Ready(None) };
        let frame = ready!(inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.reader.read_buf(data, || inner.is_end_stream());
                }
            }
            Some(Err(_)) => *this.reader = RequestReader::default(),
            None => this.reader.ended(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B: Default> Default for RequestBody<B> {
    fn default() -> Self {
        Self::passing(B::default())
    }
}

impl<B> std::fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("read", &self.reader.is_reading()).finish_non_exhaustive()
    }
}
