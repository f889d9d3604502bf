//! Services that panic, fail, never answer, or are never ready.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use llm_metrics::ErrorType;
use llm_metrics_tests::{
    Client, Gate, Http, MODEL, MeasuredRequest, Script, Server, Step, Watched, assert_ended, assert_error, post, serve,
    stream::*,
};
use tower::{BoxError, Service, ServiceBuilder, service_fn, timeout::TimeoutLayer};

use crate::{ended, short};

/// Panics without output.
fn panic() -> ! {
    std::panic::resume_unwind(Box::new("as the test wants"))
}

/// The place at which a service panics.
#[derive(Clone, Copy, Debug)]
enum Where {
    /// When it is called.
    Call,
    /// While its future runs.
    Future,
    /// Instead of the frame with this number, of the frames of [`short`].
    Frame(usize),
}

/// A stream that panics instead of sending one of its frames.
struct Panicking {
    frames: std::vec::IntoIter<String>,
    left: usize,
}

impl Body for Panicking {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.left = self.left.checked_sub(1).unwrap_or_else(|| panic());
        Poll::Ready(self.frames.next().map(|frame| Ok(Frame::data(frame.into()))))
    }
}

async fn serve_panicking(watched: &Watched, place: Where) -> Server {
    let service = service_fn(move |request: MeasuredRequest| {
        if matches!(place, Where::Call) {
            panic();
        }
        async move {
            request.into_body().collect().await?;
            let Where::Frame(left) = place else { panic() };
            let body = Panicking { frames: short().into_iter(), left };
            Ok::<_, BoxError>(Response::builder().header("content-type", "text/event-stream").body(body)?)
        }
    });
    serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await
}

/// Sends a request whose answer fails for the client, too: before its head, which may not have been flushed, or after it.
async fn assert_breaks_off(client: &mut Client, request: Request<Full<Bytes>>) {
    if let Ok(answer) = client.try_send(request).await {
        answer.finish().await.expect_err("an answer that breaks off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_anywhere_is_an_internal_error_unless_everything_was_delivered() {
    // The finish reason is in the third frame.
    let frames = (0..=short().len()).map(|n| (Where::Frame(n), n > 2));
    for (place, delivered) in [(Where::Call, false), (Where::Future, false)].into_iter().chain(frames) {
        for http in Http::BOTH {
            let watched = Watched::start().await;
            let server = serve_panicking(&watched, place).await;
            let mut client = Client::open(http, server.addr).await;
            assert_breaks_off(&mut client, post(server.addr, CHAT, ask(MODEL))).await;
            let page = watched.settled().await;
            if delivered {
                assert_ended(&page, 1, "success");
            } else {
                assert_ended(&page, 1, "error");
                assert_error(&page, "internal", if matches!(place, Where::Frame(_)) { "200" } else { "none" });
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_fails_at_each_frame_is_truncated_unless_everything_was_delivered() {
    for http in Http::BOTH {
        for before in 0..=short().len() {
            let watched = Watched::start().await;
            let steps: Vec<_> = short().into_iter().take(before).map(Step::from).chain([Step::Fail]).collect();
            let server = watched.answer(move |_, _| Script::stream(steps.clone())).await;
            let mut client = Client::open(http, server.addr).await;
            assert_breaks_off(&mut client, post(server.addr, CHAT, ask(MODEL))).await;
            let page = watched.settled().await;
            if before > 2 {
                assert_ended(&page, 1, "success");
            } else {
                assert_ended(&page, 1, "error");
                assert_error(&page, "stream_truncated", "200");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_cut_at_any_byte_is_an_internal_error() {
    let watched = Watched::start().await;
    let document = completion("Hi.", 9, 2);
    let server = {
        let document = document.clone();
        watched
            .answer(move |parts, _| {
                let length: usize = parts.headers["x-length"].to_str().unwrap().parse().unwrap();
                Script::new([Step::from(document[..length].to_owned()), Step::Fail]).respond("application/json")
            })
            .await
    };
    let mut client = Client::connect_http2(server.addr).await;
    for length in 0..=document.len() {
        let mut request = post(server.addr, CHAT, ask_whole(MODEL));
        request.headers_mut().insert("x-length", length.into());
        assert_breaks_off(&mut client, request).await;
        let wholes = f64::from(u8::from(length == document.len()));
        if length % 64 == 0 || wholes > 0.0 {
            let page = watched.settled().await;
            assert_eq!(ended(&page, "success"), wholes, "after {length} bytes of {}", document.len());
            assert_eq!(ended(&page, "error"), length as f64 + 1.0 - wholes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_service_has_the_type_of_the_hook_and_passes_unchanged() {
    for http in Http::BOTH {
        let watched = Watched::start().await;
        let layer = watched.metrics.layer().classify_error(|error: &BoxError| {
            if error.to_string() == "the queue is full" { ErrorType::Overloaded } else { ErrorType::Internal }
        });
        let service =
            service_fn(|_: MeasuredRequest| async { Err::<Response<Script>, BoxError>("the queue is full".into()) });
        let server = serve(ServiceBuilder::new().layer(layer).service(service)).await;
        let mut client = Client::open(http, server.addr).await;
        assert!(client.try_send(post(server.addr, CHAT, ask(MODEL))).await.is_err());
        let page = watched.settled().await;
        assert_ended(&page, 1, "error");
        assert_error(&page, "overloaded", "none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_answers_ends_when_the_client_leaves() {
    for http in Http::BOTH {
        let watched = Watched::start().await;
        let service = service_fn(|_: MeasuredRequest| std::future::pending::<Result<Response<Script>, BoxError>>());
        let server = serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await;
        let mut client = Client::open(http, server.addr).await;
        let request = post(server.addr, CHAT, ask(MODEL));
        let asking = tokio::spawn(async move { client.try_send(request).await.map(drop) });
        watched.when(|page| page.value("llm_requests_in_flight", &[("phase", "waiting")]) == 1.0).await;
        asking.abort();
        assert_ended(&watched.settled().await, 1, "cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_answers_ends_by_a_timeout_inside_the_layer() {
    for http in Http::BOTH {
        let watched = Watched::start().await;
        let layer = watched.metrics.layer().classify_error(|error: &BoxError| {
            if error.is::<tower::timeout::error::Elapsed>() { ErrorType::Timeout } else { ErrorType::Internal }
        });
        let service = service_fn(|_: MeasuredRequest| std::future::pending::<Result<Response<Script>, BoxError>>());
        let inside = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_millis(10))).service(service);
        let server = serve(ServiceBuilder::new().layer(layer).service(inside)).await;
        let mut client = Client::open(http, server.addr).await;
        assert!(client.try_send(post(server.addr, CHAT, ask(MODEL))).await.is_err());
        let page = watched.settled().await;
        assert_ended(&page, 1, "error");
        assert_error(&page, "timeout", "none");
    }
}

/// Is ready as scripted, and answers successfully.
#[derive(Clone)]
struct Readiness {
    /// `None`: never.
    ready: Option<Result<(), &'static str>>,
    asked: Gate,
}

impl Service<MeasuredRequest> for Readiness {
    type Response = Response<Script>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.asked.open();
        self.ready.map_or(Poll::Pending, |ready| Poll::Ready(ready.map_err(Into::into)))
    }

    fn call(&mut self, request: MeasuredRequest) -> Self::Future {
        assert_eq!(self.ready, Some(Ok(())), "only a service that is ready is called");
        Box::pin(async move {
            request.into_body().collect().await?;
            Ok(Script::stream(short()))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_never_ready_or_fails_to_become_ready_counts_no_request() {
    for http in Http::BOTH {
        for (ready, requests) in [(Some(Ok(())), 1.0), (Some(Err("gone for good")), 0.0), (None, 0.0)] {
            let watched = Watched::start().await;
            watched.metrics.register();
            let asked = Gate::new();
            let service = Readiness { ready, asked: asked.clone() };
            let server = serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await;
            let mut client = Client::open(http, server.addr).await;
            let request = post(server.addr, CHAT, ask(MODEL));
            let asking = tokio::spawn(async move { client.try_send(request).await?.finish().await });
            asked.opened().await;
            if ready.is_none() {
                asking.abort();
            }
            let answered = asking.await.is_ok_and(|answer| answer.is_ok());
            assert_eq!(answered, requests > 0.0);
            let page = watched.settled().await;
            assert_eq!(page.value("llm_requests_started_total", &[]), requests, "{http:?}, {ready:?}");
            assert_eq!(ended(&page, "success"), requests);
        }
    }
}

/// The layer passes the result of `poll_ready` on unchanged.
#[tokio::test]
async fn readiness_passes_through_the_layer_unchanged() {
    let watched = Watched::start().await;
    for ready in [Some(Ok(())), Some(Err("gone for good")), None] {
        let service = Readiness { ready, asked: Gate::new() };
        let mut service = ServiceBuilder::new().layer(watched.metrics.layer()).service(service);
        let poll = std::future::poll_fn(|cx| {
            let poll = <_ as Service<Request<hyper::body::Incoming>>>::poll_ready(&mut service, cx);
            Poll::Ready(poll.map_err(|error: BoxError| error.to_string()))
        });
        let expected = ready.map_or(Poll::Pending, |ready| Poll::Ready(ready.map_err(str::to_owned)));
        assert_eq!(poll.await, expected);
    }
}
