//! Requests whose body the service never read. An error still counts under the name of its model.

mod common;

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use common::*;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use llm_metrics::{ErrorType, layer::RequestBody};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// A body with these frames in memory, and then something else.
struct InMemory {
    frames: VecDeque<&'static str>,
    then: Then,
    polled: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
enum Then {
    Ends,
    Waits,
    Fails,
    Panics,
    Repeats(&'static str),
}

impl InMemory {
    fn new(frames: impl IntoIterator<Item = &'static str>, then: Then) -> (Self, Arc<AtomicUsize>) {
        let polled = Arc::default();
        (Self { frames: frames.into_iter().collect(), then, polled: Arc::clone(&polled) }, polled)
    }
}

impl Body for InMemory {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.polled.fetch_add(1, Ordering::Relaxed);
        let frame = |text: &'static str| Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))));
        match (self.frames.pop_front(), self.then) {
            (Some(text), _) | (None, Then::Repeats(text)) => frame(text),
            (None, Then::Ends) => Poll::Ready(None),
            (None, Then::Waits) => Poll::Pending,
            (None, Then::Fails) => Poll::Ready(Some(Err(Broken))),
            (None, Then::Panics) => panic!("a body that does not want to be read"),
        }
    }
}

/// The metrics of a request with this body, if the service sends this status without reading it.
async fn refused(status: u16, body: impl Body<Data = Bytes, Error = Broken>) -> Recorded {
    let recording = Recording::new();
    let service = ServiceBuilder::new()
        .layer(recording.metrics.layer())
        .service(service_fn(|_| async { Ok::<_, Infallible>(answer(status, "application/json", [])) }));
    let response = service.oneshot(Request::post(CHAT).body(body).unwrap()).await.unwrap();
    let _ = response.into_body().collect().await;
    recording.take()
}

fn of(recorded: &Recorded, model: &str) -> u64 {
    recorded.counter("llm_requests_total", &[("model", model)])
}

#[tokio::test]
async fn an_error_counts_under_the_model_that_is_in_memory() {
    for (frames, then) in [
        (vec![ASK], Then::Ends),
        (vec![ASK], Then::Waits),
        (vec![ASK], Then::Fails),
        (vec![ASK], Then::Panics),
        (vec!["{\"messages\":[],\"mo", "del\":\"Qwen3-4B\"", ",\"n\":1}"], Then::Waits),
    ] {
        let recorded = refused(503, InMemory::new(frames, then).0).await;
        recorded.assert_ended("error", Some(("overloaded", "503")));
        assert_eq!(of(&recorded, MODEL), 1);
    }
    // Bytes that are not in memory are not waited for.
    let recorded = refused(503, InMemory::new(["{\"messages\":"], Then::Waits).0).await;
    assert_eq!(of(&recorded, "unknown"), 1);
    let recorded = refused(503, InMemory::new(["{\"messages\":"], Then::Panics).0).await;
    recorded.assert_ended("error", Some(("overloaded", "503")));
    assert_eq!(of(&recorded, "unknown"), 1);
}

#[tokio::test]
async fn no_name_is_learnt_from_a_rejected_request() {
    let recorded = refused(401, InMemory::new([ASK], Then::Ends).0).await;
    recorded.assert_ended("rejected", Some(("unauthorized", "401")));
    assert_eq!(of(&recorded, "other"), 1);
}

#[tokio::test]
async fn the_error_of_a_service_that_did_not_read_has_the_model() {
    let recording = Recording::new();
    let layer = recording.metrics.layer().classify_error(|_: &Broken| ErrorType::UpstreamUnavailable);
    let service = ServiceBuilder::new().layer(layer).service(service_fn(|_| async { Err::<Answer, _>(Broken) }));
    service.oneshot(post(CHAT, ASK)).await.unwrap_err();
    let recorded = recording.take();
    recorded.assert_ended("error", Some(("upstream_unavailable", "none")));
    assert_eq!(of(&recorded, MODEL), 1);
}

#[tokio::test]
async fn the_error_of_a_refused_connection_has_the_model() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let recording = Recording::new();
    let layer = recording
        .metrics
        .layer()
        .proxy()
        .classify_error(|_: &hyper_util::client::legacy::Error| ErrorType::UpstreamUnavailable);
    let mut request = post("/v1/chat/completions", ASK);
    *request.uri_mut() = format!("http://127.0.0.1:{port}/v1/chat/completions").parse().unwrap();
    layer.layer(client).oneshot(request).await.unwrap_err();
    let recorded = recording.take();
    recorded.assert_ended("error", Some(("upstream_unavailable", "none")));
    assert_eq!(of(&recorded, MODEL), 1);
}

#[tokio::test]
async fn a_body_without_end_is_not_read_forever() {
    const PIECE: &str = "\"some text that goes on and on\",";
    let (body, polled) = InMemory::new(["{\"messages\":["], Then::Repeats(PIECE));
    assert_eq!(of(&refused(503, body).await, "unknown"), 1);
    assert_eq!(polled.load(Ordering::Relaxed), 64);

    let large: &'static str = "\"text\",".repeat(40_000).leak();
    let (body, polled) = InMemory::new(["{\"messages\":["], Then::Repeats(large));
    assert_eq!(of(&refused(503, body).await, "unknown"), 1);
    assert_eq!(polled.load(Ordering::Relaxed), 5, "a megabyte at most: three pieces, and a look at the fourth");
}

#[tokio::test]
async fn a_body_that_was_read_is_not_polled_again() {
    for (frames, then, polls) in [
        // To its end; to an error; and only up to the model's name.
        (vec!["{\"messages\":[]}"], Then::Ends, 2),
        (vec!["{\"messages\":"], Then::Fails, 2),
        (vec![ASK], Then::Waits, 1),
    ] {
        let (body, polled) = InMemory::new(frames, then);
        let recording = Recording::new();
        let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(
            move |request: Request<RequestBody<InMemory>>| async move {
                let mut body = request.into_body();
                for _ in 0..polls {
                    let _ = body.frame().await;
                }
                Ok::<_, Infallible>(answer(503, "application/json", []))
            },
        );
        service.oneshot(Request::post(CHAT).body(body).unwrap()).await.unwrap();
        assert_eq!(polled.load(Ordering::Relaxed), polls);
    }
}

#[tokio::test]
async fn a_request_that_has_ended_or_that_panics_is_not_read() {
    let (body, polled) = InMemory::new([ASK], Then::Ends);
    let recording = Recording::new();
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = Arc::clone(&kept);
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(move |request| {
        *keep.lock().unwrap() = Some(request);
        async { Err::<Answer, _>(Broken) }
    });
    service.oneshot(Request::post(CHAT).body(body).unwrap()).await.unwrap_err();
    drop(kept.lock().unwrap().take());
    assert_eq!(polled.load(Ordering::Relaxed), 0, "its name would come too late");

    let (body, polled) = InMemory::new([ASK], Then::Panics);
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(
        |request: Request<RequestBody<InMemory>>| async move {
            let _request = request;
            if true {
                panic!("a handler that panics");
            }
            Ok::<Answer, Infallible>(stream([]))
        },
    );
    assert!(tokio::spawn(service.oneshot(Request::post(CHAT).body(body).unwrap())).await.is_err());
    assert_eq!(polled.load(Ordering::Relaxed), 0, "a second panic would end the process");
}

#[tokio::test]
async fn a_body_that_is_taken_out_is_complete() {
    let recording = Recording::new();
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(
        |request: Request<RequestBody<Full<Bytes>>>| async {
            let body = request.into_body();
            assert_eq!(body.size_hint().exact(), Some(ASK.len() as u64));
            assert!(!body.is_end_stream());
            let bytes = body.into_inner().collect().await.unwrap().to_bytes();
            assert_eq!(bytes, ASK);
            Ok::<_, Infallible>(stream([Step::Data(HELLO), Step::Data(STOP)]))
        },
    );
    let body = service.oneshot(post(CHAT, ASK)).await.unwrap().into_body();
    let _ = body.collect().await;
    recording.take().assert_ended("success", None);
}

/// A gateway in one process. The server passes the request to the client, including its head and extensions.
async fn handed_on(server: &Recording, client: &Recording, times: usize) {
    let mut upstream = client.metrics.layer().proxy().layer(service_fn(|request| async {
        read(request).await;
        Ok::<_, Infallible>(stream([Step::Data(HELLO), Step::Data(STOP), Step::Data(DONE)]))
    }));
    let mut service = ServiceBuilder::new()
        .layer(server.metrics.layer())
        .service_fn(move |request: Request<RequestBody<Full<Bytes>>>| upstream.call(request));
    for _ in 0..times {
        let response = service.ready().await.unwrap().call(post(CHAT, ASK)).await.unwrap();
        let _ = response.into_body().collect().await;
    }
}

#[tokio::test]
async fn two_layers_of_the_same_metrics_count_a_request_once() {
    let recording = Recording::new();
    handed_on(&recording, &recording, 1).await;
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_requests_started_total", &[]), 1);
    assert_eq!(recorded.samples("llm_time_to_first_token_seconds", &[]).len(), 1);
}

#[tokio::test]
async fn two_layers_of_different_metrics_count_it_each() {
    let (server, client) = (Recording::new(), Recording::new());
    handed_on(&server, &client, 2).await;
    for recording in [server, client] {
        assert_eq!(recording.take().counter("llm_requests_total", &[("outcome", "success")]), 2);
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_counted_again() {
    let recording = Recording::new();
    let seen = Arc::new(std::sync::Mutex::new(None));
    let keep = Arc::clone(&seen);
    let mut service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(
        move |request: Request<RequestBody<Full<Bytes>>>| {
            *keep.lock().unwrap() = Some(request.extensions().clone());
            async { Ok::<_, Infallible>(answer(503, "application/json", [])) }
        },
    );
    for _ in 0..3 {
        let mut request = post(CHAT, ASK);
        if let Some(extensions) = seen.lock().unwrap().take() {
            *request.extensions_mut() = extensions;
        }
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        let _ = response.into_body().collect().await;
    }
    assert_eq!(recording.take().counter("llm_requests_total", &[]), 3);
}

#[tokio::test]
async fn the_body_is_not_read_beyond_the_model_name() {
    let recording = Recording::new();
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service(service_fn(
        |request: Request<RequestBody<InMemory>>| async {
            let mut body = request.into_body();
            let _ = body.frame().await;
            drop(body);
            Ok::<_, Infallible>(answer(503, "application/json", []))
        },
    ));
    let (body, polled) = InMemory::new(["{\"model\":\"Qwen3-4B\"", ",\"max_tokens\":7}"], Then::Ends);
    let response = service.oneshot(Request::post(CHAT).body(body).unwrap()).await.unwrap();
    let _ = response.into_body().collect().await;
    assert_eq!((of(&recording.take(), MODEL), polled.load(Ordering::Relaxed)), (1, 1));
}
