//! Clients of the Qwen server that leave, or do not read: they count as what they are, and nobody else notices.

use std::time::Duration;

use llm_metrics_tests::{
    Page,
    qwen_server::{QwenServer, Seen, TINY},
    stream::{CHAT, COMPLETIONS},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinHandle,
};

/// Generates until the context is full.
fn endless(stream: bool) -> Value {
    json!({"model": TINY, "stream": stream, "ignore_eos": true, "messages": [{"role": "user", "content": "hi"}]})
}

/// Generates long enough for others to come and go.
fn long() -> Value {
    let mut request = endless(true);
    (request["max_tokens"], request["stream_options"]) = (json!(400), json!({"include_usage": true}));
    request
}

#[track_caller]
fn assert_unharmed(seen: &Seen) {
    assert!(seen.done && seen.whole && seen.error.is_none(), "{seen:?}");
    assert_eq!((seen.finish_reasons.as_slice(), seen.told_usage().output), (&["length".to_owned()][..], 400));
}

/// The engine lives and its answers are the known ones.
async fn assert_alive(server: &QwenServer) {
    let request = json!({"temperature": 0, "prompt": "Measure at", "max_tokens": 2});
    assert_eq!(server.ask(COMPLETIONS, &request).await.answer(), " the edge");
}

/// Runs a request that somebody waits for while others leave.
async fn bystander(server: &QwenServer) -> JoinHandle<Seen> {
    let mut reading = server.open(CHAT, &long()).await;
    reading.until_tokens(1).await;
    tokio::spawn(reading.rest())
}

fn cancelled(page: &Page, stream: &str) -> f64 {
    page.value("llm_requests_total", &[("outcome", "cancelled"), ("stream", stream)])
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_is_cancelled_and_its_tokens_discarded() {
    let server = QwenServer::start(&[]).await;
    let bystander = bystander(&server).await;
    let mut leaving = server.open(CHAT, &endless(true)).await;
    leaving.until_tokens(5).await;
    let page = server.scrape().await;
    assert_eq!(page.value("llm_requests_in_flight", &[("operation", "chat"), ("phase", "streaming")]), 2.0);
    assert_eq!(page.value("llm_engine_requests_running", &[("model", TINY)]), 2.0);
    assert!(page.value("llm_output_tokens_total", &[]) >= 6.0, "tokens are counted as they come");
    let left = leaving.hang_up();
    // The engine lets go of it while the other one still runs.
    server
        .when(|page| {
            page.value("llm_requests_in_flight", &[]) <= 1.0 && page.value("llm_engine_requests_running", &[]) <= 1.0
        })
        .await;
    let seen = bystander.await.expect("an answer");
    assert_unharmed(&seen);

    let page = server.settled().await;
    assert_eq!((cancelled(&page, "true"), cancelled(&page, "false")), (1.0, 0.0));
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), 1.0);
    assert_eq!(page.value("llm_request_errors_total", &[]), 0.0);
    let discarded = page.value("llm_discarded_tokens_total", &[("reason", "client_disconnect")]);
    assert!(discarded >= left.token_events as f64, "{discarded}: {left:?}");
    assert_eq!(page.value("llm_discarded_tokens_total", &[]), discarded);
    assert_eq!(page.value("llm_output_tokens_total", &[]), 400.0 + discarded);
    assert_eq!(page.value("llm_input_tokens_total", &[]), 2.0 * seen.told_usage().input as f64);
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "engine"), ("stream", "true")]), 2.0);
    assert_eq!(page.value("llm_finish_reasons_total", &[]), 1.0);
    assert_eq!(page.count("llm_request_output_tokens", &[]), 1.0, "no length of an answer that has no end");
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 2.0);
    assert_eq!(page.count("llm_request_duration_seconds", &[("outcome", "cancelled")]), 1.0);
    assert_alive(&server).await;
}

#[tokio::test]
async fn clients_that_leave_before_the_head_are_cancelled_and_the_engine_is_unharmed() {
    let server = std::sync::Arc::new(QwenServer::start(&[]).await);
    let bystander = bystander(&server).await;
    let leaving: Vec<_> = (0..4)
        .map(|_| {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move { server.ask(CHAT, &endless(false)).await })
        })
        .collect();
    server.when(|page| page.value("llm_engine_requests_running", &[]) >= 2.0).await;
    for client in leaving {
        client.abort();
        assert!(client.await.is_err(), "there is no head before the end");
    }
    assert_unharmed(&bystander.await.expect("an answer"));
    let page = server.settled().await;
    assert!(
        (1.0..=4.0).contains(&cancelled(&page, "false")),
        "a client may be gone before it has asked: {}",
        page.text
    );
    assert_eq!(page.value("llm_requests_total", &[]), 1.0 + cancelled(&page, "false"));
    assert_eq!(page.value("llm_request_errors_total", &[]), 0.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 1.0, "of streams only");
    assert_alive(&server).await;
}

#[tokio::test]
async fn the_tokens_of_a_client_that_left_before_the_head_are_discarded() {
    let server = std::sync::Arc::new(QwenServer::start(&[]).await);
    let asking = std::sync::Arc::clone(&server);
    let leaving = tokio::spawn(async move { asking.ask(CHAT, &endless(false)).await });
    server.when(|page| page.value("llm_engine_requests_running", &[]) == 1.0).await;
    leaving.abort();
    let page = server.settled().await;
    assert_eq!(cancelled(&page, "false"), 1.0);
    let discarded = page.value("llm_discarded_tokens_total", &[("reason", "client_disconnect")]);
    assert!(discarded >= 1.0, "the engine had begun");
    assert_eq!(page.value("llm_output_tokens_total", &[]), discarded);
}

#[tokio::test]
async fn a_stream_that_nobody_waits_for_during_its_prefill_is_cancelled() {
    let server = std::sync::Arc::new(QwenServer::start(&[]).await);
    let asking = std::sync::Arc::clone(&server);
    let prompt = "word ".repeat(250);
    let request = json!({"model": TINY, "stream": true, "ignore_eos": true, "prompt": prompt});
    let leaving = tokio::spawn(async move { asking.ask(COMPLETIONS, &request).await });
    let page = server.when(|page| page.value("llm_engine_requests_waiting", &[]) == 1.0).await;
    assert_eq!(page.value("llm_requests_in_flight", &[("operation", "text_completion"), ("phase", "waiting")]), 1.0);
    leaving.abort();
    let page = server.settled().await;
    assert_eq!(cancelled(&page, "true"), 1.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 0.0);
    assert_alive(&server).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    // The model's name is in every event: with one like this, the sockets' buffers hold a part of the answer only.
    let name = "Qwen".repeat(800);
    let server = QwenServer::start(&["--served-model-name", &name]).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut idle = socket.connect(server.api).await.expect("a connection");
    let mut request = long();
    (request["model"], request["n"]) = (json!(name), json!(8));
    let body = request.to_string();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    idle.write_all((head + &body).as_bytes()).await.expect("a request");
    server.when(|page| page.value("llm_engine_requests_running", &[]) == 1.0).await;

    request["n"] = json!(1);
    assert_unharmed(&server.ask(CHAT, &request).await);
    // The engine's work for the idle one is done before anybody reads it.
    let page = server.when(|page| page.value("llm_engine_requests_running", &[]) == 0.0).await;
    assert_eq!(page.value("llm_requests_in_flight", &[]), 1.0, "what the sockets hold is not all of it");

    let mut text = Vec::new();
    while !text.ends_with(b"data: [DONE]\n\n\r\n") && !text.ends_with(b"0\r\n\r\n") {
        let read = tokio::time::timeout(Duration::from_secs(60), idle.read_buf(&mut text)).await;
        assert!(read.expect("more in time").expect("a connection") > 0, "nothing is lost");
    }
    drop(idle);
    let page = server.settled().await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success"), ("stream", "true")]), 2.0);
    assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", "length")]), 9.0);
}
