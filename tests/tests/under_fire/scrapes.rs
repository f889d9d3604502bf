//! A scrape does not wait for a request: no lock of the library is held while code of the embedder runs.

use std::{
    pin::Pin,
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use llm_metrics::{ErrorType, LabelPolicy, LlmMetrics, layer::RequestBody};
use llm_metrics_tests::{MODEL, Watched, stream::*};
use tower::{BoxError, Layer, Service, service_fn};

use crate::{ended, short};

/// Places at which code of the embedder can stop a request for any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The closure that reads a label from the request.
    RequestLabel,
    /// The mapping of a label policy.
    LabelMapping,
    /// The service, when it is called.
    Call,
    /// The service, while its future runs.
    Future,
    /// The request's body.
    RequestBody,
    /// The hook that classifies errors.
    Classify,
    /// The body of the answer, when its length is queried.
    SizeHint,
    /// The body of the answer, instead of its first frame.
    FirstFrame,
    /// The same in the middle of the stream.
    LaterFrame,
    /// The same after the last frame.
    LastFrame,
    /// The inner body, when it is dropped.
    Drop,
}

impl Place {
    const ALL: [Self; 11] = [
        Self::RequestLabel,
        Self::LabelMapping,
        Self::Call,
        Self::Future,
        Self::RequestBody,
        Self::Classify,
        Self::SizeHint,
        Self::FirstFrame,
        Self::LaterFrame,
        Self::LastFrame,
        Self::Drop,
    ];
}

/// Blocks each thread that reaches a place, until it is released.
#[derive(Clone)]
struct Stop {
    place: Place,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    go: bool,
}

impl Stop {
    fn at(place: Place) -> Self {
        Self { place, state: Arc::default() }
    }

    /// Code of the embedder has reached this place.
    fn reached(&self, place: Place) {
        if place == self.place {
            let (state, changed) = &*self.state;
            let mut state = state.lock().unwrap();
            state.stopped = true;
            changed.notify_all();
            drop(changed.wait_while(state, |state| !state.go).unwrap());
        }
    }

    fn wait_until_stopped(&self) {
        let (state, changed) = &*self.state;
        drop(changed.wait_while(state.lock().unwrap(), |state| !state.stopped).unwrap());
    }

    fn go(&self) {
        let (state, changed) = &*self.state;
        state.lock().unwrap().go = true;
        changed.notify_all();
    }
}

/// An answer that may stop at several places.
struct Stopping {
    frames: std::vec::IntoIter<String>,
    stop: Option<Stop>,
}

impl Stopping {
    fn reached(&self, place: Place) {
        if let Some(stop) = &self.stop {
            stop.reached(place);
        }
    }
}

impl Body for Stopping {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.reached(match self.frames.len() {
            0 => Place::LastFrame,
            left if left == short().len() => Place::FirstFrame,
            _ => Place::LaterFrame,
        });
        Poll::Ready(self.frames.next().map(|frame| Ok(Frame::data(frame.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        self.reached(Place::SizeHint);
        SizeHint::default()
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.reached(Place::Drop);
    }
}

/// A request body that may stop.
struct Upload(Full<Bytes>, Option<Stop>);

impl Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(stop) = &self.1 {
            stop.reached(Place::RequestBody);
        }
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// Sends one request through a layer, and reads the answer to its end, on this thread.
fn request(metrics: &LlmMetrics, stop: Option<&Stop>) {
    let reached = {
        let stop = stop.cloned();
        move |place| stop.iter().for_each(|stop: &Stop| stop.reached(place))
    };
    let classify = {
        let reached = reached.clone();
        move |_: &BoxError| {
            reached(Place::Classify);
            ErrorType::Internal
        }
    };
    let fails = stop.is_some_and(|stop| stop.place == Place::Classify);
    let body = stop.cloned();
    let service = service_fn(move |request: Request<RequestBody<Upload>>| {
        reached(Place::Call);
        let (reached, body) = (reached.clone(), body.clone());
        async move {
            request.into_body().collect().await?;
            reached(Place::Future);
            if fails {
                return Err("as the test wants".into());
            }
            let body = Stopping { frames: short().into_iter(), stop: body };
            Ok::<_, BoxError>(Response::builder().header("content-type", "text/event-stream").body(body)?)
        }
    });
    let head = Request::post(CHAT).header("x-stops", if stop.is_some() { "yes" } else { "no" });
    let upload = Upload(Full::new(Bytes::from(ask(MODEL))), stop.cloned());
    let mut service = metrics.layer().classify_error(classify).layer(service);
    let answer = service.call(head.body(upload).unwrap());
    // Nothing here waits, except at the stop.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async move {
        if let Ok(answer) = answer.await {
            answer.into_body().collect().await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_request_is_stopped_anywhere_scrapes_and_other_requests_are_served() {
    for place in Place::ALL {
        let stop = Stop::at(place);
        let (label, mapping) = (stop.clone(), stop.clone());
        let watched = Watched::with(
            |builder| {
                // The label of the request that will be stopped has a special name, by which the mapping recognises it.
                let policy = LabelPolicy::first_accepted(4).map(move |name| {
                    if name == "yes" {
                        mapping.reached(Place::LabelMapping);
                    }
                    name.into()
                });
                builder.request_label("stops", policy, move |parts| {
                    let stops = parts.headers["x-stops"].to_str().unwrap().to_owned();
                    if stops == "yes" {
                        label.reached(Place::RequestLabel);
                    }
                    Some(stops)
                })
            },
            |exporter| exporter,
        )
        .await;
        let stopped = {
            let (metrics, stop) = (watched.metrics.clone(), stop.clone());
            std::thread::spawn(move || request(&metrics, Some(&stop)))
        };
        let (done, other) = tokio::sync::oneshot::channel();
        let (metrics, stops) = (watched.metrics.clone(), stop.clone());
        // On a separate thread, so that a thread that waits forever fails the test instead of blocking it.
        std::thread::spawn(move || {
            stops.wait_until_stopped();
            request(&metrics, None);
            let _ = done.send(());
        });
        let other = tokio::time::timeout(Duration::from_secs(60), other).await;
        assert_eq!(other, Ok(Ok(())), "a request waits for the one that is stopped at {place:?}");
        // The other request was started, and is served: the stopped one does not affect it.
        let page = watched.when(|page| ended(page, "success") >= 1.0).await;
        let open = page.value("llm_requests_started_total", &[]) - page.value("llm_requests_total", &[]);
        assert_eq!(page.value("llm_requests_in_flight", &[]), open, "stopped at {place:?}");
        // Some places are before the request is counted, and some are after it has ended.
        let is_open = !matches!(place, Place::RequestLabel | Place::Drop);
        assert_eq!(open, f64::from(u8::from(is_open)), "stopped at {place:?}");
        assert!(!stopped.is_finished(), "it was stopped at {place:?}");
        stop.go();
        tokio::task::spawn_blocking(move || stopped.join()).await.unwrap().unwrap();
        let page = watched.settled().await;
        let failed = f64::from(u8::from(place == Place::Classify));
        assert_eq!((ended(&page, "success"), ended(&page, "error")), (2.0 - failed, failed), "stopped at {place:?}");
    }
}
