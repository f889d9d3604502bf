use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::observation::{EndIfPanicking, Observation};
use crate::inference::End;

pin_project! {
    /// An answer's body, read as it passes. Frames, trailers, size hint and errors are the inner body's, unchanged.
    ///
    /// The request ends at the first of: `None`, an error, the trailers, the last byte of a known length or a frame after which
    /// the inner body says that it is at its end (hyper does not poll on then), and drop.
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        observation: Option<Box<Observation>>,
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn passing(inner: B) -> Self {
        Self { inner, observation: None }
    }

    pub(super) fn observed(inner: B, observation: Box<Observation>) -> Self
    where
        B: Body,
    {
        let mut observation = Some(observation);
        if inner.is_end_stream() {
            end(&mut observation, End::Complete);
        }
        Self { inner, observation }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        if this.observation.is_none() {
            return this.inner.poll_frame(cx);
        }
        let frame = {
            let observation = EndIfPanicking(&mut *this.observation);
            let _inside = observation.0.as_ref().map(|observation| observation.enter());
            ready!(this.inner.as_mut().poll_frame(cx))
        };
        match &frame {
            Some(Ok(frame)) => {
                let data = frame.data_ref();
                let delivered = data.zip(this.observation.as_mut()).is_some_and(|(data, seen)| seen.read(data));
                if delivered || frame.is_trailers() || this.inner.is_end_stream() {
                    end(this.observation, End::Complete);
                }
            }
            Some(Err(_)) => end(this.observation, End::Failed),
            None => end(this.observation, End::Complete),
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

fn end(observation: &mut Option<Box<Observation>>, end: End) {
    if let Some(observation) = observation.take() {
        observation.end(end);
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::passing(B::default())
    }
}

impl<B> std::fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").field("observed", &self.observation.is_some()).finish_non_exhaustive()
    }
}
