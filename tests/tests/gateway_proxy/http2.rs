//! HTTP/2 on either side, and on both.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper_util::rt::{TokioExecutor, TokioIo};
use llm_metrics_tests::{
    Client, Gate, Http, Script, Step,
    gateway::{Running, attempts},
    post,
    stream::{CHAT, ask, token, well},
};
use tokio::net::TcpStream;

use crate::recording_upstream::RecordingUpstream;

const SIDES: [(Http, &str); 3] = [(Http::Two, ""), (Http::One, "http2 = true"), (Http::Two, "http2 = true")];

#[tokio::test]
async fn streams_and_trailers_pass() {
    for (client, upstream_speaks) in SIDES {
        let upstream = RecordingUpstream::start(|_, _| {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", "abc".parse().unwrap());
            let steps = well(3).into_iter().map(Step::from).chain([Step::Trailers(trailers)]);
            let mut answer = Script::stream(steps);
            answer.headers_mut().insert("trailer", "x-checksum".parse().unwrap());
            answer
        })
        .await;
        let gateway = Running::before(upstream.server.addr, upstream_speaks).await;
        let mut request = post(gateway.addr, CHAT, ask("m"));
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let mut client = Client::open(client, gateway.addr).await;
        let answer = client.send(request).await;
        let (body, trailers) = answer.finish().await.unwrap();
        assert_eq!(body, well(3).concat());
        assert_eq!(trailers.expect("trailers")["x-checksum"], "abc");
        let (head, _) = upstream.only();
        let two = upstream_speaks.contains("true");
        assert_eq!(head.version, if two { http::Version::HTTP_2 } else { http::Version::HTTP_11 });
        let host = if two {
            head.uri.authority().map(ToString::to_string)
        } else {
            head.headers["host"].to_str().ok().map(Into::into)
        };
        assert_eq!(host, Some(upstream.server.addr.to_string()));
        let page = gateway.ended(1).await;
        assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), 1.0);
        assert_eq!(page.value("llm_output_tokens_total", &[]), 3.0);
        assert_eq!(page.count("llm_gateway_overhead_seconds", &[]), 1.0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_upstreams_stream_with_it() {
    for (client, upstream_speaks) in SIDES {
        let mut upstream =
            RecordingUpstream::start(|_, _| Script::stream([Step::from(token("word")), Step::Hold(Gate::new())])).await;
        let gateway = Running::before(upstream.server.addr, upstream_speaks).await;
        let mut connection = Client::open(client, gateway.addr).await;
        let mut answer = connection.send(post(gateway.addr, CHAT, ask("m"))).await;
        answer.until("word").await;
        drop((answer, connection));
        upstream.answer_dropped().await;
        let page = gateway.ended(1).await;
        assert_eq!(page.value("llm_requests_total", &[("outcome", "cancelled")]), 1.0);
    }
}

#[tokio::test]
async fn many_requests_share_few_connections_and_none_is_lost() {
    // More than the 200 that hyper's server accepts on a connection.
    const REQUESTS: usize = 500;
    let gate = Gate::new();
    let hold = gate.clone();
    let upstream = RecordingUpstream::start(move |_, _| {
        Script::stream([Step::Hold(hold.clone())].into_iter().chain(well(1).into_iter().map(Step::from)))
    })
    .await;
    let gateway = Running::before(upstream.server.addr, "http2 = true").await;
    let addr = gateway.addr;
    let asking: Vec<_> = (0..REQUESTS)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                let answer = client.send(post(addr, CHAT, ask("m"))).await;
                answer.text().await
            })
        })
        .collect();
    gateway.when(|page| attempts(page)[0] == REQUESTS as f64).await;
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.unwrap(), well(1).concat());
    }
    let page = gateway.ended(REQUESTS as u32).await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), REQUESTS as f64);
}

/// All requests share one connection to the upstream.
#[tokio::test]
async fn clients_that_do_not_read_do_not_stop_the_streams_of_others() {
    // More bytes than hyper's window of a connection by default, and more small frames than hyper accepts with this window.
    for (clients, frames, frame) in
        [(4, 48, token(&"word".repeat(16 << 10))), (2, 12_000, ": keep-alive\n\n".to_owned())]
    {
        let long = frame.clone();
        let upstream = RecordingUpstream::start(move |_, request| {
            if request.windows(4).any(|word| word == b"long") {
                Script::stream(std::iter::repeat_n(Bytes::from(long.clone()), frames))
            } else {
                Script::stream(well(3))
            }
        })
        .await;
        let gateway = Running::before(upstream.server.addr, "http2 = true").await;
        let mut slow = Vec::new();
        for _ in 0..clients {
            let mut client = Client::open(Http::Two, gateway.addr).await;
            let answer = client.send(post(gateway.addr, CHAT, ask("long"))).await;
            slow.push((client, answer));
        }
        // Until the gateway holds as much of the answers as it accepts.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut client = Client::open(Http::Two, gateway.addr).await;
        let answer = client.send(post(gateway.addr, CHAT, ask("short"))).await;
        let answer = tokio::time::timeout(Duration::from_secs(20), answer.text()).await;
        assert_eq!(answer.expect("an answer, although others do not read"), well(3).concat());
        for (_client, answer) in slow {
            assert_eq!(answer.text().await.len(), frames * frame.len());
        }
        gateway.ended(clients + 1).await;
    }
}

#[tokio::test]
async fn an_upload_that_the_upstream_does_not_read_does_not_stop_the_others_of_its_connection() {
    const MORE_THAN_SOCKETS_HOLD: usize = 16 << 20;
    let upstream = crate::raw::Upstream::start(|mut peer| async move {
        let mut first = [0; 10];
        tokio::io::AsyncReadExt::read_exact(&mut peer.socket, &mut first).await.unwrap();
        if first.ends_with(b"/slow") {
            std::future::pending::<()>().await;
        }
        peer.request().await;
        peer.write("HTTP/1.1 204 No Content\r\n\r\n").await;
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let socket = TcpStream::connect(gateway.addr).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let send = |path: &str, bytes| sender.clone().send_request(post(gateway.addr, path, vec![b'x'; bytes]));
    let slow = tokio::spawn(send("/slow", MORE_THAN_SOCKETS_HOLD));
    // Until the gateway holds as much of the upload as it accepts.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), send("/fast", 64 << 10)).await;
    assert_eq!(answer.expect("an answer, although another upload is not read").unwrap().status(), 204);
    assert!(!slow.is_finished());
    slow.abort();
    connection.abort();
}

#[tokio::test]
async fn an_upstream_without_http2_is_a_502() {
    let upstream = crate::raw::Upstream::start(|mut peer| async move {
        let mut read = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_buf(&mut peer.socket, &mut read).await;
        peer.write("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let gateway = Running::before(upstream.addr, "http2 = true").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("m"))).await;
    assert_eq!(answer.status(), 502);
    gateway.ended(1).await;
}
