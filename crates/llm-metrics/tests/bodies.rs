//! Bodies in unusual pieces, and where reading them ends.

mod common;

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use common::*;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tower::{ServiceBuilder, ServiceExt};

/// More slices than are inspected.
const TOO_MANY: usize = 5000;

/// A buffer with many slices.
#[derive(Clone, Default)]
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    fn whole(text: &str) -> Self {
        Self([Bytes::copy_from_slice(text.as_bytes())].into())
    }

    fn cut(text: &str, pieces: usize) -> Self {
        let length = text.len().div_ceil(pieces);
        Self(text.as_bytes().chunks(length).map(Bytes::copy_from_slice).collect())
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |first| first)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.len().min(self.0.len());
        slices.iter_mut().zip(&self.0).for_each(|(slice, piece)| *slice = IoSlice::new(piece));
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.0.front_mut() {
            let step = count.min(first.len());
            first.advance(step);
            count -= step;
            if !first.is_empty() {
                break;
            }
            self.0.pop_front();
        }
    }
}

/// A body of such buffers, one per frame. `None` is a failure of the body.
struct InPieces(VecDeque<Option<Pieces>>);

impl InPieces {
    fn new(frames: impl IntoIterator<Item = Option<Pieces>>) -> Self {
        Self(frames.into_iter().collect())
    }
}

impl Body for InPieces {
    type Data = Pieces;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Pieces>, Broken>>> {
        Poll::Ready(self.0.pop_front().map(|frame| frame.map(Frame::data).ok_or(Broken)))
    }
}

/// The metrics of a request that a handler reads to its end or to its error.
async fn asked(request: Request<InPieces>) -> Recorded {
    let recording = Recording::new();
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request: Request<_>| async {
        let mut body = request.into_body();
        while BodyExt::frame(&mut body).await.is_some() {}
        Ok::<_, Infallible>(stream([Step::Data(HELLO), Step::Data(STOP)]))
    });
    let _ = service.oneshot(request).await.unwrap().into_body().collect().await;
    recording.take()
}

async fn answered(frames: impl IntoIterator<Item = Option<Pieces>>) -> Recorded {
    let recording = Recording::new();
    let response = Response::builder().header("content-type", "text/event-stream").body(InPieces::new(frames)).unwrap();
    let response = std::sync::Mutex::new(Some(response));
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request| {
        let response = response.lock().unwrap().take().unwrap();
        async {
            read(request).await;
            Ok::<_, Infallible>(response)
        }
    });
    let mut body = service.oneshot(post(CHAT, ASK)).await.unwrap().into_body();
    while let Some(Ok(_)) = body.frame().await {}
    recording.take()
}

fn skipped(recorded: &Recorded, reason: &str) -> u64 {
    recorded.counter("llm_metrics_bodies_skipped_total", &[("reason", reason)])
}

#[tokio::test]
async fn a_request_in_many_slices_is_read() {
    let ask = r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":5,"model":"m"}"#;
    for pieces in [1, 2, 33, ask.len()] {
        let body = InPieces::new([Some(Pieces::cut(ask, pieces))]);
        let recorded = asked(Request::post(CHAT).body(body).unwrap()).await;
        assert_eq!(recorded.counter("llm_requests_total", &[("model", "m")]), 1, "{pieces}");
        assert_eq!(recorded.samples("llm_request_max_tokens", &[]), [5.0], "{pieces}");
        assert_eq!(skipped(&recorded, "too_large"), 0);
    }
}

#[tokio::test]
async fn a_request_with_an_uninspected_piece_is_not_read_further() {
    let blank = " ".repeat(TOO_MANY);
    let ask = Some(Pieces::whole(r#"{"model":"m"}"#));
    let body = InPieces::new([Some(Pieces::cut(&blank, TOO_MANY)), ask, Some(Pieces::cut(&blank, TOO_MANY))]);
    let recorded = asked(Request::post(CHAT).body(body).unwrap()).await;
    assert_eq!(skipped(&recorded, "too_large"), 1, "once");
    assert_eq!(recorded.counter("llm_requests_total", &[("model", MODEL)]), 1, "the name is the answer's");
}

#[tokio::test]
async fn a_request_is_not_read_after_an_error() {
    let body =
        InPieces::new([Some(Pieces::whole(r#"{"model":"m","#)), None, Some(Pieces::whole(r#""max_tokens":5}"#))]);
    let recorded = asked(Request::post(CHAT).body(body).unwrap()).await;
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "m")]), 1);
    assert!(recorded.samples("llm_request_max_tokens", &[]).is_empty());
}

#[tokio::test]
async fn a_compressed_request_is_not_parsed_as_json() {
    for (first, read) in [("\u{1f}\u{8b}", false), ("", true)] {
        let body = InPieces::new([Some(Pieces::whole(&format!("{first}{{\"model\":\"m\",\"max_tokens\":5}}")))]);
        let request = Request::post(CHAT).header("content-encoding", "gzip").body(body).unwrap();
        let recorded = asked(request).await;
        assert_eq!(recorded.samples("llm_request_max_tokens", &[]).len(), usize::from(read), "{first:?}");
        assert_eq!(skipped(&recorded, "compressed"), u64::from(!read), "{first:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_not_an_object_and_not_declared_compressed_is_not_compressed() {
    for odd in ["[]", "\"{\"", "model=m", "\u{1f}\u{8b}"] {
        let body = InPieces::new([Some(Pieces::whole(odd))]);
        let recorded = asked(Request::post(CHAT).body(body).unwrap()).await;
        assert_eq!(skipped(&recorded, "compressed"), 0, "{odd:?}");
        for (encoding, compressed) in [("identity", 0), ("Identity", 0), ("gzip", 1)] {
            let body = InPieces::new([Some(Pieces::whole(odd))]);
            let request = Request::post(CHAT).header("content-encoding", encoding).body(body).unwrap();
            assert_eq!(skipped(&asked(request).await, "compressed"), compressed, "{odd:?} {encoding}");
        }
    }
}

#[tokio::test]
async fn an_answer_with_an_unread_piece_is_settled_by_its_clean_end() {
    let hello = Some(Pieces::whole(HELLO));
    let unseen = Some(Pieces::cut(&":\n".repeat(TOO_MANY), TOO_MANY));
    let recorded = answered([hello.clone(), unseen.clone(), hello.clone()]).await;
    recorded.assert_ended("success", None);
    assert_eq!(skipped(&recorded, "too_large"), 1);
    let recorded = answered([hello.clone(), unseen, None]).await;
    recorded.assert_ended("error", Some(("internal", "200")));

    // With as many slices as are inspected, it is read.
    let recorded = answered([Some(Pieces::cut(&[HELLO, WORLD, STOP].concat(), 300))]).await;
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[("finish_reason", "stop")]), 1);
    assert_eq!(skipped(&recorded, "too_large"), 0);
}

#[tokio::test]
async fn an_event_that_a_failure_cuts_is_not_emitted() {
    let cut = STOP.trim_end();
    let recorded = answered([Some(Pieces::whole(HELLO)), Some(Pieces::whole(cut)), None]).await;
    recorded.assert_ended("error", Some(("stream_truncated", "200")));
    assert_eq!(
        recorded.counter("llm_finish_reasons_total", &[("finish_reason", "stop")]),
        1,
        "the reason for its end was read"
    );
    let recorded = answered([Some(Pieces::whole(HELLO)), Some(Pieces::whole(cut))]).await;
    recorded.assert_ended("success", None);
}

#[tokio::test]
async fn an_unread_body_is_complete_if_its_is_end_stream_says_so() {
    let recording = Recording::new();
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request| async {
        read(request).await;
        let body = Steps::new([Step::Data("???"), Step::Data("???")]).exact();
        Ok::<_, Infallible>(Response::builder().header("content-type", "image/png").body(body).unwrap())
    });
    let mut body = service.oneshot(post(CHAT, ASK)).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    assert!(body.is_end_stream());
    // hyper does not poll again, so the body is dropped.
    drop(body);
    recording.take().assert_ended("success", None);
}

#[tokio::test]
async fn bodies_report_the_size_and_end_of_the_bodies_they_wrap() {
    let recording = Recording::new();
    let whole = |text: &'static str| http_body_util::Full::new(Bytes::from_static(text.as_bytes()));
    for text in ["", ASK] {
        let service =
            ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request: Request<_>| async move {
                let body = request.body();
                assert_eq!(Body::is_end_stream(body), text.is_empty());
                assert_eq!(Body::size_hint(body).exact(), Some(text.len() as u64));
                Ok::<_, Infallible>(Response::new(whole(text)))
            });
        let response = service.oneshot(Request::post(CHAT).body(whole(text)).unwrap()).await.unwrap();
        assert_eq!(response.body().is_end_stream(), text.is_empty());
        assert_eq!(response.body().size_hint().exact(), Some(text.len() as u64));
    }
}

/// A service that has reached its limit.
#[derive(Clone)]
struct Full;

impl<R> tower::Service<R> for Full {
    type Response = Answer;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: R) -> Self::Future {
        unreachable!("it is not ready")
    }
}

#[test]
fn a_service_is_ready_when_the_inner_service_is() {
    use tower::{Layer, Service};
    let recording = Recording::new();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut whole = recording.metrics.layer().layer(Full);
    let ready = Service::<Request<http_body_util::Full<Bytes>>>::poll_ready(&mut whole, &mut cx);
    assert!(ready.is_pending());
    let mut answers = recording.metrics.layer().without_request_body().layer(Full);
    let ready = Service::<Request<http_body_util::Full<Bytes>>>::poll_ready(&mut answers, &mut cx);
    assert!(ready.is_pending());
}

#[tokio::test]
async fn a_layer_without_the_request_body_measures_the_response() {
    for (method, measured) in [("POST", 1), ("GET", 0)] {
        let recording = Recording::new();
        let service = ServiceBuilder::new()
            .layer(recording.metrics.layer().without_request_body())
            .service_fn(|_| async { Ok::<_, Infallible>(stream([HELLO, STOP, USAGE, DONE].map(Step::Data))) });
        let request = Request::builder().method(method).uri(CHAT).body(()).unwrap();
        let _ = service.oneshot(request).await.unwrap().into_body().collect().await;
        let recorded = recording.take();
        assert_eq!(recorded.counter("llm_requests_total", &[("stream", "true"), ("outcome", "success")]), measured);
    }
}
