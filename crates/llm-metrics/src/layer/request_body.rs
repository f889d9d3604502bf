use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::observation::for_each_slice;
use crate::{
    inference::Shared,
    wire::{RequestScan, Route},
};

pin_project! {
    /// A request's body, read as it passes on to the service. Frames, trailers, size hint and errors are the inner body's,
    /// unchanged.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        scan: Option<Box<Scan>>,
    }
}

struct Scan {
    scan: RequestScan,
    shared: Arc<Shared>,
}

impl<B> RequestBody<B> {
    pub(super) fn passing(inner: B) -> Self {
        Self { inner, scan: None }
    }

    pub(super) fn read_by(inner: B, route: &'static Route, shared: Arc<Shared>) -> Self {
        Self { inner, scan: Some(Box::new(Scan { scan: route.request_scan(), shared })) }
    }

    /// The body that was wrapped. What is read of it from now on is not seen.
    #[must_use]
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let Some(scan) = this.scan else { return this.inner.poll_frame(cx) };
        let frame = ready!(this.inner.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let complete = for_each_slice(data, |bytes| scan.scan.read(bytes));
                    scan.shared.asked(scan.scan.facts());
                    if !complete {
                        *this.scan = None;
                    }
                }
            }
            _ => *this.scan = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Default> Default for RequestBody<B> {
    fn default() -> Self {
        Self::passing(B::default())
    }
}

impl<B> std::fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestBody").field("read", &self.scan.is_some()).finish_non_exhaustive()
    }
}
