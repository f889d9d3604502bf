//! Ten thousand streams at the same time, and a million frames of one byte. Each is counted, and their memory is bounded.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use llm_metrics_tests::{
    Client, Gate, Http, MODEL, MeasuredRequest, Page, Script, Server, Step, Watched, assert_ended,
    memory::{Counting, LIVE, PEAK, alone},
    post, serve,
    stream::*,
};
use tokio::sync::Barrier;
use tower::{BoxError, ServiceBuilder, service_fn};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Over HTTP/2, so that 10,000 streams need 200 sockets and no higher limit of file descriptors.
const CONNECTIONS: usize = 100;
const ON_EACH: usize = 100;
const STREAMS: usize = CONNECTIONS * ON_EACH;

/// How a stream of the test ends, by its number.
fn case(n: usize) -> &'static str {
    ["well", "leaves", "well", "cut"][n % 4]
}

/// The answer to a stream of the test: a token, and the rest after the gate is open.
fn answer(parts: &http::request::Parts, gate: &Gate) -> Response<Script> {
    let end = match parts.headers["x-case"].to_str().unwrap() {
        "well" => vec![Step::from(finish("stop")), Step::from(usage(9, 1)), Step::from(DONE)],
        "leaves" => vec![Step::Hold(Gate::new())],
        _ => vec![],
    };
    Script::stream([Step::from(token("Hi")), Step::Hold(gate.clone())].into_iter().chain(end))
}

/// Opens all streams, waits twice at the barrier, and lets each stream end.
fn crowd(server: &Server, connections: usize, barrier: &Arc<Barrier>) -> Vec<tokio::task::JoinHandle<()>> {
    let connections = (0..connections).map(|_| {
        let (addr, barrier) = (server.addr, Arc::clone(barrier));
        tokio::spawn(async move {
            let mut client = Client::open(Http::Two, addr).await;
            let mut open = Vec::new();
            for n in 0..ON_EACH {
                let mut request = post(addr, CHAT, ask(MODEL));
                request.headers_mut().insert("x-case", case(n).parse().unwrap());
                let mut answer = client.send(request).await;
                answer.until("Hi").await;
                open.push(answer);
            }
            barrier.wait().await;
            barrier.wait().await;
            for (n, answer) in open.into_iter().enumerate() {
                if case(n) == "leaves" {
                    drop(answer);
                } else {
                    answer.finish().await.unwrap();
                }
            }
        })
    });
    connections.collect()
}

/// Holds many streams open, and returns the memory per stream, on both sides.
async fn held(server: &Server, connections: usize, gate: &Gate, at_its_height: impl AsyncFnOnce()) -> isize {
    let before = LIVE.load(Ordering::Relaxed);
    let barrier = Arc::new(Barrier::new(connections + 1));
    let clients = crowd(server, connections, &barrier);
    barrier.wait().await;
    at_its_height().await;
    let held = LIVE.load(Ordering::Relaxed) - before;
    gate.open();
    barrier.wait().await;
    for client in clients {
        client.await.unwrap();
    }
    held / (connections * ON_EACH) as isize
}

/// Runs work in a new runtime. When it ends, its remaining tasks end, too.
fn in_a_runtime_of_its_own<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// The memory of a stream without the layer.
async fn held_by_transport() -> isize {
    let gate = Gate::new();
    let service = {
        let gate = gate.clone();
        service_fn(move |request: Request<Incoming>| {
            let gate = gate.clone();
            async move {
                let (parts, body) = request.into_parts();
                body.collect().await?;
                Ok::<_, BoxError>(answer(&parts, &gate))
            }
        })
    };
    held(&serve(service).await, CONNECTIONS / 5, &gate, async || {}).await
}

#[test]
fn ten_thousand_streams_at_once_are_all_recorded_and_each_takes_little_memory() {
    let _alone = alone();
    let bare = in_a_runtime_of_its_own(held_by_transport());
    in_a_runtime_of_its_own(async move {
        let (watched, gate) = (Watched::start().await, Gate::new());
        let server = {
            let gate = gate.clone();
            watched.answer(move |parts, _| answer(parts, &gate)).await
        };
        let all_open = |page: &Page| page.value("llm_requests_in_flight", &[("phase", "streaming")]) == STREAMS as f64;
        let layered = held(&server, CONNECTIONS, &gate, async || {
            let page = watched.when(all_open).await;
            assert_eq!(page.value("llm_requests_total", &[]), 0.0, "none has ended");
        })
        .await;
        let each = layered - bare;
        println!("a stream holds {each} bytes beside the {bare} of its transport, both sides");
        // A kilobyte as in `bounded`, and the memory of the checks that are on by default.
        assert!(each <= 2688, "{each} bytes a stream");

        let page = watched.settled().await;
        let quarter = (STREAMS / 4) as f64;
        for (outcome, requests) in [("success", 2.0), ("cancelled", 1.0), ("error", 1.0), ("rejected", 0.0)] {
            assert_eq!(page.value("llm_requests_total", &[("outcome", outcome)]), requests * quarter, "{outcome}");
        }
        assert_eq!(page.value("llm_requests_started_total", &[]), STREAMS as f64);
        for phase in ["waiting", "streaming"] {
            assert_eq!(page.value("llm_requests_in_flight", &[("phase", phase)]), 0.0, "{phase}");
        }
        assert_eq!(page.value("llm_output_tokens_total", &[]), 2.0 * quarter);
        assert_eq!(page.value("llm_input_tokens_total", &[]), 18.0 * quarter);
        assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), STREAMS as f64);
        assert_eq!(page.count("llm_request_duration_seconds", &[]), STREAMS as f64);
        assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", "stop")]), 2.0 * quarter);
        let cut = [("error_type", "stream_truncated"), ("status", "200")];
        assert_eq!(page.value("llm_request_errors_total", &cut), quarter);
        assert_eq!(page.value("llm_discarded_tokens_total", &[("reason", "client_disconnect")]), quarter);
    });
}

/// Sends a stream byte by byte, each byte in a separate frame, all available at once.
struct Crumbs(Bytes);

impl Body for Crumbs {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let crumb = (!self.0.is_empty()).then(|| Ok(Frame::data(self.0.split_to(1))));
        Poll::Ready(crumb)
    }
}

#[test]
fn a_million_frames_of_one_byte_are_counted_and_not_stored() {
    const FRAMES: usize = 1_000_000;
    let _alone = alone();
    in_a_runtime_of_its_own(async {
        for (http, frames) in [(Http::One, FRAMES), (Http::Two, FRAMES / 10)] {
            let tokens = frames / token("word").len() + 1;
            let end = [finish("stop"), usage(9, tokens as u64), DONE.to_owned()].concat();
            let stream = Bytes::from(token("word").repeat(tokens) + &end);
            assert!(stream.len() >= frames);
            let watched = Watched::start().await;
            let service = {
                let stream = stream.clone();
                service_fn(move |request: MeasuredRequest| {
                    let body = Crumbs(stream.clone());
                    async move {
                        request.into_body().collect().await?;
                        Ok::<_, BoxError>(Response::builder().header("content-type", "text/event-stream").body(body)?)
                    }
                })
            };
            let server = serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await;
            let mut client = Client::open(http, server.addr).await;
            let mut answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
            let before = LIVE.load(Ordering::Relaxed);
            PEAK.store(before, Ordering::Relaxed);
            let mut rest = &stream[..];
            while let Some(frame) = answer.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                rest = rest.strip_prefix(&data[..]).expect("the same bytes");
            }
            assert!(rest.is_empty());
            let grown = PEAK.load(Ordering::Relaxed) - before;
            println!("{http:?}: {} frames, {grown} bytes at most", stream.len());
            assert!(grown < 4 << 20, "{http:?}: {grown} bytes");

            let page = watched.settled().await;
            assert_ended(&page, 1, "success");
            assert_eq!(page.value("llm_output_tokens_total", &[]), tokens as f64);
            assert_eq!(page.count("llm_inter_token_latency_seconds", &[]), (tokens - 1) as f64, "{http:?}");
            assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0);
        }
    });
}
