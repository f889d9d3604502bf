use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    inference::End,
    observe::{EndIfPanicking, ObservedResponse},
};

pin_project! {
    /// A response body that is read while it passes. Frames, trailers, size hint and errors are those of the inner body, unchanged.
    ///
    /// The request ends at the first of these: `None`, an error, the trailers, the last byte of a known length, a frame after which the inner body
    /// reports its end (hyper does not poll again then), and drop.
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        observed: ObservedResponse,
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn passing(inner: B) -> Self {
        Self::observed(inner, ObservedResponse::default())
    }

    pub(super) fn observed(inner: B, observed: ObservedResponse) -> Self {
        Self { inner, observed }
    }
}

impl<B> ResponseBody<B> {
    /// A reference to the inner body.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }

    /// A mutable reference to the inner body. Bytes that are read through it are not measured.
    pub fn get_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Returns the inner body. The request ends here, as if the body was dropped: `cancelled`, unless it had ended before.
    #[must_use]
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        if !this.observed.is_open() {
            return this.inner.poll_frame(cx);
        }
        // The frame is not moved: it may hold trailers, and is a hundred bytes long.
        let polled = {
            let observed = EndIfPanicking(&mut *this.observed);
            let _inside = observed.0.enter();
            this.inner.as_mut().poll_frame(cx)
        };
        let Poll::Ready(frame) = &polled else { return polled };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.observed.read_buf(data);
                }
                if frame.is_trailers() || this.inner.is_end_stream() {
                    this.observed.settle(End::Complete);
                }
            }
            Some(Err(_)) => this.observed.settle(End::Failed),
            None => this.observed.settle(End::Complete),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::passing(B::default())
    }
}

impl<B> std::fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").field("observed", &self.observed.is_open()).finish_non_exhaustive()
    }
}
