//! Each failure counts once, with its cause.

use std::time::Duration;

use llm_metrics_tests::{
    Client, assert_error,
    gateway::{Running, attempts},
    post,
    stream::{CHAT, ask, completion, role, token, well},
};
use tokio::{net::TcpListener, sync::mpsc};

use crate::raw::{self, END, STREAM, Upstream, Wire, piece, unary};

async fn nobody() -> std::net::SocketAddr {
    // The port was bound, read, and closed again, so there is no listener.
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_502_for_the_requested_model() {
    let upstream = Upstream::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.write(unary(&completion("Hi", 9, 1))).await;
        }
    })
    .await;
    let addr = upstream.addr;
    let gateway = Running::before(addr, "keep_alive = \"0\"").await;
    let mut client = Client::connect(gateway.addr).await;
    let ask = || post(gateway.addr, CHAT, "{\"model\":\"Qwen3-4B\"}");
    assert_eq!(client.send(ask()).await.text().await, completion("Hi", 9, 1));
    drop(upstream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let answer = client.send(ask()).await;
    assert_eq!(answer.status(), 502);
    let body = answer.text().await;
    assert!(
        body.contains("\"type\":\"upstream_unavailable\"") && body.contains("the upstream up cannot be reached"),
        "{body}"
    );
    assert!(!body.contains("127.0.0.1"), "where it is is nobody's business: {body}");
    let page = gateway.ended(2).await;
    assert_error(&page, "upstream_unavailable", "none");
    assert_eq!(page.value("llm_request_errors_total", &[("model", "Qwen3-4B"), ("upstream", "up")]), 1.0);
    assert_eq!(attempts(&page), [1.0, 1.0, 0.0, 0.0, 0.0]);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_a_504_and_its_connection_is_closed() {
    let (gone, mut closed) = mpsc::channel(1);
    let upstream = Upstream::start(move |mut peer| {
        let gone = gone.clone();
        async move {
            peer.request().await;
            peer.closed().await;
            let _ = gone.send(()).await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "timeouts = { head = \"200ms\" }").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("m"))).await;
    assert_eq!(answer.status(), 504);
    assert!(answer.text().await.contains("\"type\":\"timeout\""));
    closed.recv().await.expect("the upstream sees it");
    let page = gateway.ended(1).await;
    assert_error(&page, "timeout", "none");
    assert_eq!(attempts(&page), [0.0, 0.0, 0.0, 1.0, 0.0]);
}

#[tokio::test]
async fn a_connection_that_cannot_be_established_is_a_504() {
    // A listener with a full queue accepts no connection.
    let listener = tokio::net::TcpSocket::new_v4().unwrap();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listener.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(socket)) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(addr)).await
    {
        waiting.push(socket);
    }
    let gateway = Running::before(addr, "timeouts = { connect = \"200ms\" }").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("m"))).await;
    assert_eq!(answer.status(), 504);
    let page = gateway.ended(1).await;
    assert_error(&page, "timeout", "none");
    assert_eq!(attempts(&page), [0.0, 0.0, 0.0, 1.0, 0.0]);
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_broken_off_and_is_a_timeout() {
    let (gone, mut closed) = mpsc::channel(1);
    let upstream = Upstream::start(move |mut peer| {
        let gone = gone.clone();
        async move {
            peer.request().await;
            peer.write(STREAM).await;
            for _ in 0..5 {
                peer.write(piece(&token("word"))).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            peer.closed().await;
            let _ = gone.send(()).await;
        }
    })
    .await;
    // The whole stream takes longer than the limit, but each of its pauses does not.
    let gateway = Running::before(upstream.addr, "timeouts = { idle = \"300ms\" }").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("m"))).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.finish().await.is_err(), "the client must not take it for whole");
    closed.recv().await.expect("the upstream sees it");
    let page = gateway.ended(1).await;
    assert_error(&page, "timeout", "200");
    assert_eq!(page.count("llm_inter_token_latency_seconds", &[]), 4.0, "all five tokens came through");
}

#[tokio::test]
async fn a_reset_in_mid_stream_reaches_the_client_and_counts_as_truncated() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.request().await;
        peer.write(format!("{STREAM}{}{}", piece(&role()), piece(&token("word")))).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer.reset();
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("m"))).await;
    assert!(answer.finish().await.is_err());
    let page = gateway.ended(1).await;
    assert_error(&page, "stream_truncated", "200");
    assert_eq!(attempts(&page), [1.0, 0.0, 0.0, 0.0, 0.0]);
}

#[tokio::test]
async fn a_wrong_content_length_reaches_the_client() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"choices\":")
            .await;
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("m"))).await;
    assert_eq!(answer.head.headers["content-length"], "100");
    assert!(answer.finish().await.is_err());
    assert_error(&gateway.ended(1).await, "upstream_error", "200");
}

#[tokio::test]
async fn bytes_beyond_the_content_length_are_dropped_and_the_connection_is_closed() {
    let upstream = Upstream::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.write(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            )
            .await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    for _ in 0..3 {
        assert_eq!(client.send(post(gateway.addr, "/x", "")).await.text().await, "{}");
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn an_invalid_answer_is_a_502() {
    for (answer, reason) in [
        ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "not valid HTTP"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}".to_owned(), "not valid HTTP"),
        (format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(200_000)), "too long a head"),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(150)), "too long a head"),
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".to_owned(), "not asked for"),
        (String::new(), "closed the connection before it sent a response"),
    ] {
        let upstream = Upstream::start(move |mut peer| {
            let answer = answer.clone();
            async move {
                peer.request().await;
                peer.write(answer).await;
            }
        })
        .await;
        let gateway = Running::before(upstream.addr, "").await;
        let mut client = Client::connect(gateway.addr).await;
        let answer = client.send(post(gateway.addr, CHAT, ask("m"))).await;
        assert_eq!(answer.status(), 502);
        let text = answer.text().await;
        assert!(text.contains(reason), "{text}");
        assert_error(&gateway.ended(1).await, "upstream_error", "none");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_takes_the_upstreams_request_with_it() {
    let (gone, mut closed) = mpsc::channel(1);
    let (came, mut begun) = mpsc::channel(1);
    let upstream = Upstream::start(move |mut peer| {
        let (gone, came) = (gone.clone(), came.clone());
        async move {
            peer.request().await;
            let _ = came.send(()).await;
            peer.closed().await;
            let _ = gone.send(()).await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    client.write(raw::CHAT).await;
    begun.recv().await.expect("the upstream has it");
    drop(client);
    closed.recv().await.expect("the upstream sees it");
    let page = gateway.ended(1).await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "cancelled")]), 1.0);
    assert_eq!(attempts(&page), [0.0, 0.0, 0.0, 0.0, 1.0]);
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_takes_the_upstreams_request_with_it() {
    let (gone, mut closed) = mpsc::channel(1);
    let upstream = Upstream::start(move |mut peer| {
        let gone = gone.clone();
        async move {
            peer.request().await;
            peer.write(format!("{STREAM}{}", piece(&token("word")))).await;
            // While a model thinks, nothing is written, so only the end of the connection shows the disconnect.
            peer.closed().await;
            let _ = gone.send(()).await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Wire::open(gateway.addr).await;
    client.write(raw::CHAT).await;
    client.until("word").await;
    drop(client);
    closed.recv().await.expect("the upstream sees it");
    let page = gateway.ended(1).await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "cancelled")]), 1.0);
    assert_eq!(page.value("llm_discarded_tokens_total", &[("reason", "client_disconnect")]), 1.0);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closes_after_each_stream_costs_no_request() {
    // llama-server does this, although it announces keep-alive.
    let upstream = Upstream::start(|mut peer| async move {
        peer.request().await;
        let head = STREAM.replace("\r\n\r\n", "\r\nkeep-alive: timeout=5, max=100\r\n\r\n");
        let body: String = well(3).iter().map(|event| piece(event)).collect();
        peer.write(format!("{head}{body}{END}")).await;
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    for _ in 0..100 {
        assert_eq!(client.send(post(gateway.addr, CHAT, ask("m"))).await.text().await, well(3).concat());
    }
    let page = gateway.ended(100).await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), 100.0);
    assert_eq!(attempts(&page), [100.0, 0.0, 0.0, 0.0, 0.0]);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_meanwhile_is_noticed_before_the_request_is_sent() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.request().await;
        peer.write(unary("{}")).await;
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    for _ in 0..20 {
        assert_eq!(client.send(post(gateway.addr, "/x", "body")).await.text().await, "{}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((upstream.connections(), upstream.requests()), (20, 20));
}

#[tokio::test]
async fn a_connection_that_stays_open_is_used_again() {
    let upstream = Upstream::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.write(unary("{}")).await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    for _ in 0..20 {
        assert_eq!(client.send(post(gateway.addr, "/x", "body")).await.text().await, "{}");
    }
    assert_eq!((upstream.connections(), upstream.requests()), (1, 20));
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_sent_again() {
    let upstream = Upstream::start(|mut peer| async move {
        if peer.request().await.is_some_and(|request| request.contains("first")) {
            peer.write(unary("{}")).await;
            // The second request is read on the same connection, and gets no answer.
            peer.request().await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "").await;
    let mut client = Client::connect(gateway.addr).await;
    assert_eq!(client.send(post(gateway.addr, "/x", "first")).await.status(), 200);
    let answer = client.send(post(gateway.addr, "/x", "second")).await;
    assert_eq!(answer.status(), 502);
    assert_eq!((upstream.connections(), upstream.requests()), (1, 2));
    let page = gateway.when(|page| attempts(page)[2] > 0.0).await;
    assert_eq!(attempts(&page), [1.0, 0.0, 1.0, 0.0, 0.0]);
}

#[tokio::test]
async fn a_client_that_stalls_in_its_request_gets_a_408() {
    let upstream = Upstream::start(|mut peer| async move {
        peer.closed().await;
    })
    .await;
    let gateway = Running::before(upstream.addr, "timeouts = { head = \"200ms\" }").await;
    let mut client = Wire::open(gateway.addr).await;
    client.write(raw::CHAT.split_at(raw::CHAT.len() - 5).0).await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn a_long_request_may_take_longer_than_the_head() {
    let upstream = Upstream::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.write(unary("{}")).await;
        }
    })
    .await;
    let gateway = Running::before(upstream.addr, "timeouts = { head = \"300ms\" }").await;
    let mut client = Wire::open(gateway.addr).await;
    client.write("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n").await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        client.write("x").await;
    }
    assert!(client.until("{}").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_missing_upstream_is_shown_by_ready_and_the_gauge() {
    let addr = nobody().await;
    let gateway =
        Running::start(&format!("[upstreams.up]\nurl = \"http://{addr}\"\nkind = \"openai\"\nprobe = \"1s\"")).await;
    let page = gateway.when(|page| page.series("llm_gateway_upstream_up", &[]) == 1).await;
    assert_eq!(page.value("llm_gateway_upstream_up", &[("upstream", "up")]), 0.0);
    let (status, body) = gateway.get("/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("\"up\":\"down\"") && body.contains("no upstream answers"), "{body}");
    assert_eq!(gateway.get("/health").await.0, 200, "it is alive all the same");
    let listener = TcpListener::bind(addr).await.expect("its port again");
    let _upstream = Upstream::on(listener, |mut peer| async move { peer.closed().await });
    gateway.when(|page| page.value("llm_gateway_upstream_up", &[("upstream", "up")]) == 1.0).await;
    assert_eq!(gateway.get("/ready").await.0, 200);
}
