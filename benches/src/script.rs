//! A body whose next frame is always ready.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::sample;

/// The frames of a body: some once, some repeatedly, some once at the end.
///
/// A few repeated frames stay in the CPU's cache, like a chunk that was just written.
#[derive(Debug)]
pub struct Script {
    first: Vec<Bytes>,
    again: Vec<Bytes>,
    times: usize,
    last: Vec<Bytes>,
}

impl Script {
    /// A stream: the role, `times` chunks, and the end.
    #[must_use]
    pub fn stream(chunks: Vec<Bytes>, times: usize) -> Arc<Self> {
        Arc::new(Self { first: vec![sample::role_chunk()], again: chunks, times, last: sample::last_chunks(times) })
    }

    /// These frames repeatedly, `times` in total.
    #[must_use]
    pub fn repeated(frames: Vec<Bytes>, times: usize) -> Arc<Self> {
        Arc::new(Self { first: Vec::new(), again: frames, times, last: Vec::new() })
    }

    /// A body in frames of at most `frame` bytes.
    #[must_use]
    pub fn whole(body: &Bytes, frame: usize) -> Arc<Self> {
        let first = (0..body.len()).step_by(frame).map(|at| body.slice(at..body.len().min(at + frame))).collect();
        Arc::new(Self { first, again: Vec::new(), times: 0, last: Vec::new() })
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        Self::whole(&Bytes::new(), 1)
    }

    fn frame(&self, at: usize) -> Option<&Bytes> {
        if let Some(first) = self.first.get(at) {
            return Some(first);
        }
        let at = at - self.first.len();
        if at < self.times { self.again.get(at % self.again.len()) } else { self.last.get(at - self.times) }
    }
}

/// A body that follows a [`Script`].
#[derive(Clone, Debug)]
pub struct Chunks {
    script: Arc<Script>,
    next: usize,
}

impl Chunks {
    /// Starts at the first frame.
    #[must_use]
    pub fn new(script: &Arc<Script>) -> Self {
        Self { script: Arc::clone(script), next: 0 }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.script.frame(self.next).cloned();
        self.next += 1;
        Poll::Ready(frame.map(|data| Ok(Frame::data(data))))
    }
}

/// Passes up to `count` frames of a body to `show`, and returns their number.
pub fn read<B>(body: &mut B, count: usize, mut show: impl FnMut(&Bytes)) -> usize
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut context = Context::from_waker(Waker::noop());
    for read in 0..count {
        match Pin::new(&mut *body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    show(data);
                }
            }
            _ => return read,
        }
    }
    count
}
