//! Clients of the Qwen server that disconnect or do not read. Each counts as such, and does not affect others.

use llm_metrics_tests::{
    Page,
    qwen_server::{QwenServer, Seen, TINY},
    stream::{CHAT, COMPLETIONS},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle};

/// Generates until the context is full.
fn endless(stream: bool) -> Value {
    json!({"model": TINY, "stream": stream, "ignore_eos": true, "messages": [{"role": "user", "content": "hi"}]})
}

/// Generates for long enough for other clients to come and leave.
fn long() -> Value {
    let mut request = endless(true);
    (request["max_tokens"], request["stream_options"]) = (json!(400), json!({"include_usage": true}));
    request
}

#[track_caller]
fn assert_unharmed(seen: &Seen) {
    assert!(seen.done && seen.whole && seen.error.is_none(), "{seen:?}");
    assert_eq!((seen.finish_reasons.as_slice(), seen.reported_usage().output), (&["length".to_owned()][..], 400));
}

/// The engine works, and gives the known answers.
async fn assert_alive(server: &QwenServer) {
    let request = json!({"temperature": 0, "prompt": "Measure at", "max_tokens": 2});
    assert_eq!(server.ask(COMPLETIONS, &request).await.answer(), " the edge");
}

/// Runs a request whose client waits while others leave.
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
    // The engine drops the request while the other one still runs.
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
    assert_eq!(page.value("llm_input_tokens_total", &[]), 2.0 * seen.reported_usage().input as f64);
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
async fn a_stream_whose_client_leaves_during_the_prefill_is_cancelled() {
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
async fn a_client_that_does_not_read_blocks_no_other() {
    let server = QwenServer::start(&[]).await;
    let mut request = long();
    request["n"] = json!(2);
    let mut idle = TcpStream::connect(server.api).await.expect("a connection");
    idle.write_all(&http2(CHAT, &request.to_string())).await.expect("a request");
    server.when(|page| page.value("llm_engine_requests_running", &[]) == 1.0).await;

    assert_unharmed(&bystander(&server).await.await.expect("an answer"));
    // The engine has finished the work for the idle client before anyone reads it.
    let page = server.when(|page| page.value("llm_engine_requests_running", &[]) == 0.0).await;
    assert_eq!(page.value("llm_requests_in_flight", &[]), 1.0, "the window holds a part of the answer only");
    drop(idle);

    let page = server.settled().await;
    assert_eq!((cancelled(&page, "true"), page.value("llm_requests_total", &[])), (1.0, 2.0));
    assert_eq!(page.value("llm_discarded_tokens_total", &[("reason", "client_disconnect")]), 800.0);
    assert_alive(&server).await;
}

/// The bytes of a request whose answer stops after 64 KiB, the initial window of an HTTP/2 stream. The buffers of a socket would hold all of it.
fn http2(path: &str, body: &str) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).expect("a short frame").to_be_bytes();
        [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let length = u8::try_from(path.len()).expect("a short path");
    // `:method: POST` and `:scheme: http` by their index, then `:path` and `:authority`.
    let fields = [&[0x83, 0x86, 0x04, length], path.as_bytes(), &[0x01, 1, b'x']].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    [preface, frame(4, 0, 0, &[]), frame(1, 4, 1, &fields), frame(0, 1, 1, body.as_bytes())].concat()
}
