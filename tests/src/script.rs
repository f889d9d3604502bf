//! Scripted bodies.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body::{Body, Frame};
use tokio::sync::watch;

/// One step of a body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// A frame, flushed before the next step.
    Data(Bytes),
    /// A pause.
    Wait(Duration),
    /// A pause until the gate opens.
    Hold(Gate),
    /// Trailers.
    Trailers(HeaderMap),
    /// The body fails.
    Fail,
}

impl From<Bytes> for Step {
    fn from(data: Bytes) -> Self {
        Self::Data(data)
    }
}

impl From<&'static str> for Step {
    fn from(data: &'static str) -> Self {
        Self::Data(Bytes::from_static(data.as_bytes()))
    }
}

impl From<String> for Step {
    fn from(data: String) -> Self {
        Self::Data(data.into())
    }
}

/// A gate that a test opens once. Clones share it.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Opens it permanently.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open.
    pub async fn opened(&self) {
        // The sender exists, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// A body that follows a list of steps. Each frame is sent separately.
pub struct Script {
    steps: std::vec::IntoIter<Step>,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Script {
    /// A body of the given steps.
    pub fn new<I>(steps: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Step>,
    {
        Self { steps: steps.into_iter().map(Into::into).collect::<Vec<_>>().into_iter(), pause: None }
    }

    /// A response with status 200 and this body.
    #[must_use]
    pub fn respond(self, content_type: &str) -> Response<Self> {
        let mut response = Response::new(self);
        response.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().expect("a content type"));
        response
    }

    /// A stream of events.
    pub fn stream<I>(steps: I) -> Response<Self>
    where
        I: IntoIterator,
        I::Item: Into<Step>,
    {
        Self::new(steps).respond("text/event-stream")
    }

    /// A JSON document.
    pub fn json(document: impl Into<Bytes>) -> Response<Self> {
        Self::new([document.into()]).respond("application/json")
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("steps", &self.steps.as_slice()).finish_non_exhaustive()
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            return Poll::Ready(match self.steps.next() {
                None => None,
                Some(Step::Data(data)) => {
                    // A server flushes when no more data is ready.
                    self.pause = Some(Box::pin(tokio::task::yield_now()));
                    Some(Ok(Frame::data(data)))
                }
                Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Step::Fail) => Some(Err("the script says so".into())),
                Some(Step::Wait(time)) => {
                    self.pause = Some(Box::pin(tokio::time::sleep(time)));
                    continue;
                }
                Some(Step::Hold(gate)) => {
                    self.pause = Some(Box::pin(async move { gate.opened().await }));
                    continue;
                }
            });
        }
    }
}
