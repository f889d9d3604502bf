//! Bodies pass unchanged, without delay, reordering or buffering.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, channel::Channel};
use llm_metrics_tests::{Client, Gate, MODEL, MeasuredRequest, Script, Step, Watched, post, serve, stream::*};
use tower::{BoxError, ServiceBuilder, service_fn};

use crate::assert_ended;

/// Random bytes, always the same ones.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect::<Vec<u8>>().into()
}

/// A body in frames of uneven length.
fn frames(bytes: &Bytes) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut at, mut length) = (0, 1);
    while at < bytes.len() {
        let end = (at + length).min(bytes.len());
        steps.push(Step::Data(bytes.slice(at..end)));
        (at, length) = (end, length * 3 % 40_009 + 1);
    }
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_of_any_bytes_pass_unchanged_in_both_directions() {
    for (content_type, seed) in [("text/event-stream", 1), ("application/json", 2), ("application/octet-stream", 3)] {
        for http2 in [false, true] {
            let watched = Watched::start().await;
            let (up, down) = (noise(3_000_000, seed), noise(5_000_000, seed + 7));
            let server = {
                let (up, down) = (up.clone(), down.clone());
                watched
                    .answer(move |_, body| {
                        assert_eq!(*body, up);
                        Script::new(frames(&down)).respond(content_type)
                    })
                    .await
            };
            let mut client =
                if http2 { Client::connect_http2(server.addr).await } else { Client::connect(server.addr).await };
            let answer = client.send(post(server.addr, CHAT, up)).await;
            assert_eq!(answer.status(), 200);
            let (bytes, _) = answer.finish().await.unwrap();
            assert!(bytes == down, "{content_type}: {} bytes instead of {}", bytes.len(), down.len());
            assert_eq!(watched.settled().await.value("llm_requests_total", &[]), 1.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_headers_and_trailers_pass_unchanged() {
    let watched = Watched::start().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "abc".parse().unwrap());
    let server = {
        let trailers = trailers.clone();
        watched
            .answer(move |parts, _| {
                assert_eq!(parts.headers["x-request"], "up");
                assert_eq!(parts.uri.query(), Some("a=1"));
                let steps = well(1).into_iter().map(Step::from).chain([Step::Trailers(trailers.clone())]);
                let mut response = Script::stream(steps);
                response.headers_mut().append("set-cookie", "a=1".parse().unwrap());
                response.headers_mut().append("set-cookie", "b=2".parse().unwrap());
                response.headers_mut().insert("trailer", "x-checksum".parse().unwrap());
                response
            })
            .await
    };
    for http2 in [false, true] {
        let mut client =
            if http2 { Client::connect_http2(server.addr).await } else { Client::connect(server.addr).await };
        let mut request = post(server.addr, &format!("{CHAT}?a=1"), ask(MODEL));
        request.headers_mut().insert("x-request", "up".parse().unwrap());
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let answer = client.send(request).await;
        let cookies: Vec<_> = answer.head.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        let (bytes, got) = answer.finish().await.unwrap();
        assert_eq!(bytes, well(1).concat());
        assert_eq!(got.as_ref(), Some(&trailers), "HTTP/2: {http2}");
    }
    assert_ended(&watched.settled().await, 2, "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_length_stays_exact() {
    let watched = Watched::start().await;
    let document = completion("Hi", 9, 2);
    let service = {
        let document = document.clone();
        service_fn(move |request: MeasuredRequest| {
            let document = document.clone();
            async move {
                assert_eq!(http_body::Body::size_hint(request.body()).exact(), Some(ask_whole(MODEL).len() as u64));
                request.into_body().collect().await?;
                let body = http_body_util::Full::new(Bytes::from(document));
                Ok::<_, BoxError>(Response::builder().header("content-type", "application/json").body(body)?)
            }
        })
    };
    let server = serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await;
    let answer = Client::connect(server.addr).await.send(post(server.addr, CHAT, ask_whole(MODEL))).await;
    assert_eq!(answer.head.headers["content-length"], document.len().to_string());
    assert_eq!(answer.text().await, document);
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.value("llm_output_tokens_total", &[]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_delivered_before_the_next_one_exists() {
    let watched = Watched::start().await;
    let gates: Vec<Gate> = (0..4).map(|_| Gate::new()).collect();
    let server = {
        let gates = gates.clone();
        watched
            .answer(move |_, _| {
                let tokens = gates
                    .iter()
                    .enumerate()
                    .flat_map(|(n, gate)| [Step::Hold(gate.clone()), Step::from(token(&format!("word{n}")))]);
                let end = [Step::from(finish("stop")), Step::from(DONE)];
                Script::stream(tokens.chain(end).collect::<Vec<_>>())
            })
            .await
    };
    let mut client = Client::connect(server.addr).await;
    let mut answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
    for (n, gate) in gates.iter().enumerate() {
        gate.open();
        answer.until(&format!("word{n}")).await;
    }
    assert!(answer.text().await.ends_with(DONE));
    assert_ended(&watched.settled().await, 1, "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_flows_while_the_answer_streams() {
    let watched = Watched::start().await;
    // Echoes each frame of the request when it arrives.
    let service = service_fn(|request: MeasuredRequest| async move {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        tokio::spawn(async move {
            let mut upload = request.into_body();
            while let Some(Ok(frame)) = upload.frame().await {
                if sender.send_data(frame.into_data().unwrap_or_default()).await.is_err() {
                    return;
                }
            }
        });
        Ok::<_, BoxError>(Response::builder().header("content-type", "application/json").body(body)?)
    });
    let server = serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await;
    let (upload, pieces) = tokio::sync::mpsc::channel::<Bytes>(1);
    let stream = stream_of(pieces);
    let request =
        Request::post(server.url(CHAT)).header("host", server.addr.to_string()).body(StreamBody::new(stream)).unwrap();
    let mut client = Client::connect_http2(server.addr).await;
    let pieces =
        ["{\"model\":", "\"Qwen3-4B\",\"choices\":[]", ",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}"];
    upload.send(Bytes::from_static(pieces[0].as_bytes())).await.unwrap();
    let mut answer = client.send(request).await;
    assert_eq!(answer.bytes(pieces[0].len()).await, pieces[0].as_bytes());
    for piece in &pieces[1..] {
        upload.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
        assert_eq!(answer.bytes(piece.len()).await, piece.as_bytes());
    }
    drop(upload);
    assert_eq!(answer.text().await, "");
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.value("llm_requests_total", &[("model", MODEL)]), 1.0);
    assert_eq!(page.value("llm_output_tokens_total", &[("model", MODEL)]), 2.0);
}

fn stream_of(
    mut pieces: tokio::sync::mpsc::Receiver<Bytes>,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
    futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_model_calls_pass_without_being_recorded() {
    let watched = Watched::start().await;
    watched.metrics.register();
    let service = service_fn(|request: MeasuredRequest| async move {
        assert!(request.extensions().get::<llm_metrics::InferenceHandle>().is_none());
        let body = request.into_body().collect().await?.to_bytes();
        Ok::<_, BoxError>(Response::new(http_body_util::Full::new(body)))
    });
    let server = serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await;
    let mut client = Client::connect(server.addr).await;
    // A client polls for a response in the background until it is complete.
    for path in [CHAT, "/v1/responses/resp_1", "/v1/responses/resp_1?stream=true"] {
        let get = Request::get(path).header("host", "localhost").body(http_body_util::Empty::<Bytes>::new()).unwrap();
        assert_eq!(client.send(get).await.text().await, "");
    }
    for path in [
        "/v1/models",
        "/v1/audio/speech",
        "/v1/messages/count_tokens",
        "/v1/responses/resp_1/cancel",
        "/api/chat",
        "/health",
        "/metrics",
    ] {
        assert_eq!(client.send(post(server.addr, path, "as it is")).await.text().await, "as it is");
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let page = watched.scrape().await;
    assert_eq!(page.value("llm_requests_started_total", &[]) + page.value("llm_requests_total", &[]), 0.0);
}
