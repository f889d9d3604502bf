//! Ten thousand streams at once, and memory that does not grow with requests.

#![cfg(target_os = "linux")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{CHAT, Process, read_request, upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

const EVENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}]}\n\n";
const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

fn piece(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_at_once_and_none_is_lost() {
    // One socket per stream in this process and two in the gateway, which raises its own limit.
    let files =
        rlimit::increase_nofile_limit(u64::MAX).map_or(1024, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let streams = 10_000.min((files - 300) / 200 * 200);
    let (go, gone) = watch::channel(false);
    let open = Arc::new(AtomicUsize::new(0));
    let (counter, waiting) = (Arc::clone(&open), gone.clone());
    let (addr, _task) = upstream(move |mut socket| {
        let (open, mut go) = (Arc::clone(&counter), waiting.clone());
        async move {
            if !read_request(&mut socket, &mut Vec::new()).await {
                return;
            }
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let _ = socket.write_all(format!("{head}{}", piece(EVENT)).as_bytes()).await;
            open.fetch_add(1, Ordering::SeqCst);
            let _ = go.wait_for(|go| *go).await;
            let _ = socket.write_all(format!("{}{}0\r\n\r\n", piece(EVENT), piece(END)).as_bytes()).await;
            let _ = socket.read(&mut [0]).await;
        }
    })
    .await;
    let gateway = Process::start(&["--upstream", &format!("http://{addr}"), "--kind", "openai"]);
    let mut asking = Vec::with_capacity(streams);
    for _ in 0..streams / 200 {
        let socket = TcpStream::connect(gateway.addr).await.unwrap();
        let (sender, connection) =
            http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..200 {
            let mut sender = sender.clone();
            asking.push(tokio::spawn(async move {
                let request = Request::post("http://gateway/v1/chat/completions")
                    .body(Full::from("{\"model\":\"m\",\"stream\":true}"))
                    .unwrap();
                let answer = sender.send_request(request).await.unwrap();
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.unwrap().to_bytes()
            }));
        }
        // Not all at once: the listener's queue holds about a hundred connections.
        let begun = asking.len();
        while open.load(Ordering::SeqCst) < begun {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
    assert_eq!(gateway.sample("llm_requests_in_flight{").await, streams as f64);
    let resident = gateway.resident() >> 20;
    println!("{streams} streams at once: {resident} MiB resident");
    assert!(resident < 800, "{resident} MiB for {streams} streams");
    go.send_replace(true);
    let whole = format!("{EVENT}{EVENT}{END}");
    for answer in asking {
        assert_eq!(answer.await.unwrap(), whole);
    }
    let succeeded = "llm_requests_total{model=\"m\",operation=\"chat\",endpoint=\"/v1/chat/completions\",stream=\"true\",thinking=\"false\",outcome=\"success\"";
    while gateway.sample(succeeded).await < streams as f64 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(gateway.sample("llm_requests_total{").await, streams as f64);
    drop(gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_number_of_requests() {
    let (addr, _task) = upstream(|mut socket| async move {
        let mut buffer = Vec::new();
        while read_request(&mut socket, &mut buffer).await {
            let body = "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}";
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            if socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    let gateway = Process::start(&["--upstream", &format!("http://{addr}"), "--kind", "openai"]);
    // LLM_GATEWAY_TEST_REQUESTS=1000000 takes a few minutes with an optimised gateway.
    let all: usize = std::env::var("LLM_GATEWAY_TEST_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    ask(gateway.addr, all / 4).await;
    let before = gateway.resident();
    ask(gateway.addr, all - all / 4).await;
    let after = gateway.resident();
    println!("{all} requests: {} KiB, then {} KiB resident", before >> 10, after >> 10);
    assert!(after < before + (4 << 20), "{before} bytes after a quarter, {after} after all");
    assert_eq!(gateway.sample("llm_requests_total{").await, all as f64);
}

/// Sends this many requests over eight connections; some are closed before the response ends.
async fn ask(addr: std::net::SocketAddr, requests: usize) {
    let each: Vec<_> = (0..8)
        .map(|n| {
            tokio::spawn(async move {
                let mut socket = TcpStream::connect(addr).await.unwrap();
                let mut answer = vec![0; 4096];
                for asked in 0..requests / 8 + usize::from(n < requests % 8) {
                    if asked % 100 == 99 {
                        socket = TcpStream::connect(addr).await.unwrap();
                    }
                    socket.write_all(CHAT.as_bytes()).await.unwrap();
                    let mut read = 0;
                    while !answer[..read].ends_with(b"}}") {
                        let count = socket.read(&mut answer[read..]).await.unwrap();
                        assert!(count > 0, "an answer");
                        read += count;
                    }
                }
            })
        })
        .collect();
    for task in each {
        task.await.unwrap();
    }
}
