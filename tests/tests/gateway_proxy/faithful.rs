//! Everything passes unchanged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full, StreamBody};
use llm_metrics_tests::{
    Client, Script, Step,
    gateway::{Running, attempts},
    post,
    stream::{CHAT, ask, completion, well},
};
use tokio::io::AsyncWriteExt;

use crate::{
    raw::{END, STREAM, Upstream, Wire, piece, unary},
    recording_upstream::RecordingUpstream,
};

#[tokio::test]
async fn a_request_passes_byte_for_byte_with_the_headers_that_are_for_the_upstream() {
    let upstream = RecordingUpstream::start(|_, _| Script::json(completion("Hi", 9, 1))).await;
    let gateway = Running::before(upstream.server.addr, "").await;
    // Not JSON, and longer than any buffer.
    let body: Vec<u8> = (0..1_500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let request = Request::post(format!("http://{}/any/path?a=%2F+b&&c=ü%C3", gateway.addr).replace('ü', "%C3%BC"))
        .header("host", "gateway.example")
        .header("authorization", "Bearer secret")
        .header("x-tenant", "a")
        .header("x-tenant", "b")
        .header("connection", "keep-alive, x-private")
        .header("x-private", "1")
        .header("accept-encoding", "gzip, br")
        .body(Full::new(Bytes::from(body.clone())))
        .unwrap();
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(request).await;
    assert_eq!(answer.status(), 200);
    let (head, received) = upstream.only();
    assert_eq!(received, body);
    assert_eq!(head.uri, "/any/path?a=%2F+b&&c=%C3%BC%C3", "the path is not touched");
    assert_eq!(head.headers["host"], upstream.server.addr.to_string());
    assert_eq!(head.headers["authorization"], "Bearer secret");
    assert_eq!(head.headers.get_all("x-tenant").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(head.headers["accept-encoding"], "identity");
    assert_eq!(head.headers["content-length"], "1500000");
    for absent in ["connection", "x-private", "transfer-encoding", "via", "x-forwarded-for"] {
        assert!(!head.headers.contains_key(absent), "{absent}");
    }
}

#[tokio::test]
async fn the_clients_encoding_passes_if_configured_and_compressed_bodies_are_not_read() {
    let upstream = RecordingUpstream::start(|_, _| {
        let mut answer = Script::json(Bytes::from_static(b"\x1f\x8b not really"));
        answer.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
        answer
    })
    .await;
    let gateway = Running::before(upstream.server.addr, "accept_encoding = \"pass\"").await;
    let mut request = post(gateway.addr, CHAT, ask("Qwen3-4B"));
    request.headers_mut().insert("accept-encoding", HeaderValue::from_static("gzip"));
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(request).await;
    assert_eq!(answer.head.headers["content-encoding"], "gzip");
    assert_eq!(answer.finish().await.unwrap().0, &b"\x1f\x8b not really"[..]);
    assert_eq!(upstream.only().0.headers["accept-encoding"], "gzip");
    let page = gateway.ended(1).await;
    assert_eq!(page.value("llm_metrics_bodies_skipped_total", &[("reason", "compressed")]), 1.0);
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), 1.0);
}

#[tokio::test]
async fn an_answer_passes_byte_for_byte_and_is_measured_under_its_upstream() {
    let upstream = RecordingUpstream::start(|_, _| {
        let mut answer = Script::stream(well(5));
        let headers = answer.headers_mut();
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_static("b=2"));
        headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        answer
    })
    .await;
    let gateway = Running::before(upstream.server.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("Qwen3-4B"))).await;
    assert_eq!(answer.head.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert!(!answer.head.headers.contains_key("keep-alive"));
    assert_eq!(answer.text().await, well(5).concat());
    let page = gateway.ended(1).await;
    let labels = [("upstream", "up"), ("outcome", "success"), ("stream", "true")];
    assert_eq!(page.value("llm_requests_total", &labels), 1.0);
    assert_eq!(page.value("llm_output_tokens_total", &[("upstream", "up")]), 5.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[("upstream", "up")]), 1.0);
    assert_eq!(page.count("llm_gateway_overhead_seconds", &[("upstream", "up")]), 1.0);
    assert_eq!(attempts(&page), [1.0, 0.0, 0.0, 0.0, 0.0]);
}

#[tokio::test]
async fn the_time_that_the_upstream_takes_is_not_the_gateways() {
    let steps = || [Step::Wait(Duration::from_millis(300)), "data: [DONE]\n\n".into()];
    let upstream = RecordingUpstream::start(move |_, _| Script::stream(steps())).await;
    let gateway = Running::before(upstream.server.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("Qwen3-4B"))).await;
    answer.text().await;
    let page = gateway.ended(1).await;
    assert!(page.histogram("llm_request_duration_seconds", &[]).sum >= 0.3);
    let overhead = page.histogram("llm_gateway_overhead_seconds", &[]).sum;
    assert!(overhead > 0.0 && overhead < 0.3, "{overhead}");
}

#[tokio::test]
async fn one_byte_at_a_time_is_the_same_answer() {
    let upstream = Upstream::start(|mut peer| async move {
        while peer.request().await.is_some() {
            let body: String = well(2).iter().map(|event| piece(event)).collect();
            for byte in format!("{STREAM}{body}{END}").bytes() {
                peer.write([byte]).await;
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("Qwen3-4B"))).await;
    assert_eq!(answer.text().await, well(2).concat());
    assert_eq!(gateway.ended(1).await.value("llm_output_tokens_total", &[]), 2.0);
}

#[tokio::test]
async fn trailers_pass() {
    let upstream = RecordingUpstream::start(|_, _| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("abc"));
        let steps = [Step::from("data: [DONE]\n\n"), Step::Trailers(trailers)];
        let mut answer = Script::stream(steps);
        answer.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
        answer
    })
    .await;
    let gateway = Running::before(upstream.server.addr, "").await;
    let mut request = post(gateway.addr, CHAT, ask("Qwen3-4B"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(request).await;
    let (_, trailers) = answer.finish().await.unwrap();
    assert_eq!(trailers.expect("trailers")["x-checksum"], "abc");
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let upstream = RecordingUpstream::start(|_, _| Script::json("{}")).await;
    let gateway = Running::before(upstream.server.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    client.write("POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 100 Continue\r\n"));
    client.write("body").await;
    assert!(client.until("{}").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(upstream.only().1, "body");
}

#[tokio::test]
async fn an_interim_answer_passes_before_the_answer() {
    let upstream = Upstream::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.write("HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            peer.write("HTTP/1.1 102 Processing\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            peer.write(unary("{}")).await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    for _ in 0..2 {
        client.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let answer = client.until("{}").await;
        let order = [
            "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n",
            "HTTP/1.1 102 Processing\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
        ];
        let places: Vec<_> = order.iter().map(|part| answer.find(part)).collect();
        assert!(places[0] == Some(0) && places.is_sorted() && places[1] > places[0], "{answer}");
    }
}

#[tokio::test]
async fn a_websocket_passes_both_ways_until_one_side_closes() {
    let upstream = Upstream::start(|mut peer| async move {
        let request = peer.request().await.expect("a request");
        assert!(request.contains("upgrade: websocket\r\n") && request.contains("connection: upgrade\r\n"), "{request}");
        assert!(request.contains("sec-websocket-key: k\r\n"), "{request}");
        peer.write("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: a\r\n\r\nhello").await;
        let mut echoed = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut peer.socket, &mut echoed).await.expect("four bytes");
        peer.write(echoed).await;
    })
    .await;
    let mut gateway = Running::before(upstream.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    client
        .write("GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n")
        .await;
    let head = client.until("hello").await;
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && head.contains("sec-websocket-accept: a\r\n"),
        "{head}"
    );
    // A tunnel is a request like any other: it may continue while the gateway stops.
    gateway.start_stopping();
    client.write("ping").await;
    assert_eq!(client.rest().await, "ping");
    drop(client);
    assert!(gateway.finished().await, "it waited for the tunnel");
}

/// Java's client does this with its first request to a server. The offer is declined, and the request is answered with HTTP/1.1 and measured.
#[tokio::test]
async fn an_offer_of_http2_on_an_open_connection_is_answered_in_http1_and_measured() {
    let upstream = Upstream::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            for absent in ["upgrade", "http2-settings", "connection:"] {
                assert!(!request.to_ascii_lowercase().contains(absent), "{request}");
            }
            peer.write(unary(&completion("Hi", 9, 1))).await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    for _ in 0..2 {
        let offer = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
        let (question, length) = (ask("m"), ask("m").len());
        let request = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n{offer}content-length: {length}\r\n\r\n{question}");
        client.write(request).await;
        let answer = client.until("\"total_tokens\":10}}").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!(gateway.ended(2).await.value("llm_requests_total", &[("outcome", "success")]), 2.0);
    assert_eq!(upstream.connections(), 1, "its connection is kept like any other");
}

#[tokio::test]
async fn an_options_request_for_the_whole_server_has_no_path() {
    let upstream = Upstream::start(|mut peer| async move {
        let request = peer.request().await.expect("a request");
        assert!(request.starts_with("OPTIONS * HTTP/1.1\r\n"), "{request}");
        peer.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    })
    .await;
    let gateway = Running::start(&format!(
        "[upstreams.a]\nurl = \"http://{}/base\"\nkind = \"openai\"\nprobe = \"0\"\nrefresh_models = \"0\"",
        upstream.addr
    ))
    .await;
    let mut client = Wire::open(gateway.addr).await;
    client.write("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 204 No Content\r\n"));
}

#[tokio::test]
async fn an_answer_without_a_body_passes() {
    let upstream = Upstream::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            peer.write(match &request[..4] {
                "HEAD" => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
                "GET " => "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
                _ => "HTTP/1.1 204 No Content\r\n\r\n",
            })
            .await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    for (method, first, header) in [
        ("HEAD", "HTTP/1.1 200 OK\r\n", "content-length: 1234\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\n", "etag: \"x\"\r\n"),
        ("DELETE", "HTTP/1.1 204 No Content\r\n", ""),
    ] {
        client.write(format!("{method} / HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let answer = client.until("\r\n\r\n").await;
        assert!(answer.starts_with(first) && answer.contains(header) && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    assert_eq!(upstream.connections(), 1, "the connection was kept");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_passes_completely() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await;
        for event in well(3) {
            peer.write(event).await;
        }
        let _ = peer.socket.shutdown().await;
        peer.closed().await;
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("Qwen3-4B"))).await;
    assert_eq!(answer.text().await, well(3).concat());
    assert_eq!(gateway.ended(1).await.value("llm_requests_total", &[("outcome", "success")]), 1.0);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_passes() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.socket.readable().await.expect("a request");
        peer.write("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n\r\n{}").await;
        peer.closed().await;
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    client.write("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nbegins").await;
    assert!(client.until("{}").await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_hundred_megabytes_pass_and_a_client_that_does_not_read_holds_the_upstream_back() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 1600;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let upstream = Upstream::start(move |mut peer| {
        let written = Arc::clone(&counter);
        async move {
            peer.request().await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PIECE * PIECES);
            peer.write(head).await;
            for n in 0..PIECES {
                if peer.socket.write_all(&vec![n as u8; PIECE]).await.is_err() {
                    return;
                }
                written.fetch_add(PIECE, Ordering::SeqCst);
            }
            peer.closed().await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    let request = Request::get(format!("http://{}/big", gateway.addr)).header("host", "x");
    let mut answer = client.send(request.body(Full::new(Bytes::new())).unwrap()).await;
    // The client does not read, so writing stops when sockets and buffers are full.
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = written.load(Ordering::SeqCst);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(before < 40 << 20, "{before} bytes are on their way, and nobody reads");
    let mut read = 0;
    while let Some(frame) = answer.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        for (at, byte) in data.iter().enumerate().step_by(4093) {
            assert_eq!(*byte, ((read + at) / PIECE) as u8);
        }
        read += data.len();
    }
    assert_eq!(read, PIECE * PIECES);
}

#[tokio::test]
async fn a_request_without_a_known_length_passes() {
    let upstream = RecordingUpstream::start(|_, _| Script::json("{}")).await;
    let gateway = Running::before(upstream.server.addr, "").await;
    let pieces =
        ["{\"model\":", "\"m\"}"].map(|piece| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(piece))));
    let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync();
    let request = Request::post(format!("http://{}{CHAT}", gateway.addr)).header("host", "x").body(body).unwrap();
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(request).await;
    assert_eq!(answer.text().await, "{}");
    let (head, body) = upstream.only();
    assert_eq!(
        (body, head.headers["transfer-encoding"].as_bytes()),
        (Bytes::from("{\"model\":\"m\"}"), &b"chunked"[..])
    );
}

#[tokio::test]
async fn a_pipelined_request_gets_its_answer_after_the_one_before() {
    let upstream = Upstream::start(|mut peer| async move {
        while let Some(request) = peer.request().await {
            peer.write(unary(if request.starts_with("GET /1") { "{\"n\":1}" } else { "{\"n\":2}" })).await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    client.write("GET /1 HTTP/1.1\r\nhost: x\r\n\r\nGET /2 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answers = client.until("{\"n\":2}").await;
    assert!(answers.find("{\"n\":1}") < answers.find("{\"n\":2}") && answers.contains("{\"n\":1}"), "{answers}");
}

#[tokio::test]
async fn a_request_with_two_lengths_is_one_request() {
    let upstream = RecordingUpstream::start(|_, _| Script::json("{}")).await;
    let gateway = Running::before(upstream.server.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    // A server that trusted the length would read the rest as another request.
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let head =
        "POST /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write(format!("{head}{}{END}", piece(smuggled))).await;
    client.rest().await;
    let (head, body) = upstream.only();
    assert_eq!((head.uri.path(), body.as_ref()), ("/x", smuggled.as_bytes()));
    assert!(!head.headers.contains_key("content-length"));
}
