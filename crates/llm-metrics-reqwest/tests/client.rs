//! Requests to real servers, sent by reqwest with the layer around it.

use std::{
    convert::Infallible,
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use flate2::{Compression, write::GzEncoder};
use futures_util::{StreamExt, stream};
use llm_metrics::{
    LabelPolicy, LlmMetrics,
    catalog::{DISCARDED_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, REQUEST_ERRORS, REQUESTS, TIME_TO_FIRST_TOKEN},
    testing::{self, Page},
};
use llm_metrics_reqwest::{ReqwestLayer, ReqwestService};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

const CHAT: &str = "/v1/chat/completions";
const EVENTS: [&str; 4] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello!\"},\"finish_reason\":null}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n\n",
    "data: [DONE]\n\n",
];

/// Serves until the test ends.
async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    address
}

fn events(events: &'static [&'static str]) -> Response {
    let body = Body::from_stream(stream::iter(events).map(|event| Ok::<_, Infallible>(*event)));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// A chat server that reads the request to its end, and answers with a stream.
fn chat() -> Router {
    Router::new().route(CHAT, post(async |_: String| events(&EVENTS)))
}

fn client(metrics: &LlmMetrics) -> ReqwestService<reqwest::Client> {
    ReqwestLayer::new(metrics.layer()).layer(reqwest::Client::new())
}

fn question(address: SocketAddr) -> reqwest::Request {
    let question = json!({"model": "Qwen3-4B", "stream": true, "messages": []});
    reqwest::Client::new().post(format!("http://{address}{CHAT}")).json(&question).build().unwrap()
}

#[track_caller]
fn assert_ended(page: &Page, outcome: &str) {
    assert_eq!(page.value(&REQUESTS, &[("model", "Qwen3-4B"), ("outcome", outcome)]), Some(1.0), "{}", page.text());
    let all: f64 = page.value(&REQUESTS, &[]).unwrap();
    assert!((all - 1.0).abs() < 0.5, "one request is counted once, not {all}");
}

#[track_caller]
fn assert_error(page: &Page, error: &str) {
    assert_ended(page, "error");
    assert_eq!(
        page.value(&REQUEST_ERRORS, &[("model", "Qwen3-4B"), ("error_type", error)]),
        Some(1.0),
        "{}",
        page.text()
    );
}

#[tokio::test]
async fn a_stream_is_measured_while_it_is_read() {
    let (metrics, page) = testing::metrics();
    let mut answer = client(&metrics).execute(question(serve(chat()).await)).await.unwrap();
    assert!(answer.url().path().ends_with(CHAT), "the address is that of the request: {}", answer.url());
    assert!(answer.remote_addr().is_some());
    assert_eq!(page.value(&REQUESTS, &[("outcome", "success")]), Some(0.0), "nothing has ended yet");
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    assert_eq!(String::from_utf8(text).unwrap(), EVENTS.concat());
    assert_ended(&page, "success");
    assert_eq!(page.value(&INPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(2.0));
    assert_eq!(page.value(&OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(3.0));
    assert_eq!(page.value(&TIME_TO_FIRST_TOKEN, &[("model", "Qwen3-4B")]), Some(1.0));
}

#[tokio::test]
async fn an_answer_in_one_piece_keeps_its_length() {
    let answer = json!({"choices": [{"index": 0, "message": {"content": "Yes."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 2}})
    .to_string();
    let length = answer.len() as u64;
    let app =
        Router::new().route(CHAT, post(async move |_: String| ([(header::CONTENT_TYPE, "application/json")], answer)));
    let (metrics, page) = testing::metrics();
    let answer = client(&metrics).execute(question(serve(app).await)).await.unwrap();
    assert_eq!(answer.content_length(), Some(length));
    assert_eq!(answer.json::<Value>().await.unwrap()["choices"][0]["message"]["content"], "Yes.");
    assert_ended(&page, "success");
    assert_eq!(page.value(&OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(2.0));
}

#[tokio::test]
async fn a_stream_that_is_not_read_to_its_end_is_cancelled() {
    let waits = stream::iter(&EVENTS[..1]).map(|event| Ok::<_, Infallible>(*event)).chain(stream::pending());
    let body = Arc::new(Mutex::new(Some(waits)));
    let app = Router::new().route(
        CHAT,
        post(async move |_: String| {
            let body = Body::from_stream(body.lock().unwrap().take().unwrap());
            ([(header::CONTENT_TYPE, "text/event-stream")], body)
        }),
    );
    let (metrics, page) = testing::metrics();
    let mut answer = client(&metrics).execute(question(serve(app).await)).await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    drop(answer);
    assert_ended(&page, "cancelled");
    assert_eq!(page.value(&DISCARDED_TOKENS, &[("reason", "client_disconnect")]), Some(1.0));
}

#[tokio::test]
async fn a_stream_that_stops_in_the_middle_is_truncated() {
    let app = Router::new().route(CHAT, post(async |_: String| events(&EVENTS[..1])));
    let (metrics, page) = testing::metrics();
    client(&metrics).execute(question(serve(app).await)).await.unwrap().bytes().await.unwrap();
    assert_error(&page, "stream_truncated");
}

#[tokio::test]
async fn a_port_without_a_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (metrics, page) = testing::metrics();
    let error = client(&metrics).execute(question(address)).await.unwrap_err();
    assert!(error.is_connect());
    assert_error(&page, "upstream_unavailable");
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time() {
    let app = Router::new().route(CHAT, post(async || std::future::pending::<()>().await));
    let mut question = question(serve(app).await);
    *question.timeout_mut() = Some(Duration::from_millis(100));
    let (metrics, page) = testing::metrics();
    let error = client(&metrics).execute(question).await.unwrap_err();
    assert!(error.is_timeout());
    assert_error(&page, "timeout");
}

#[tokio::test]
async fn a_timeout_while_the_answer_is_read_is_a_timeout() {
    let waits = || {
        let body = stream::iter(&EVENTS[..1]).map(|event| Ok::<_, Infallible>(*event)).chain(stream::pending());
        ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body))
    };
    let app = Router::new().route(CHAT, post(async move |_: String| waits()));
    let mut question = question(serve(app).await);
    *question.timeout_mut() = Some(Duration::from_millis(300));
    let (metrics, page) = testing::metrics();
    let answer = client(&metrics).execute(question).await.unwrap();
    assert!(answer.bytes().await.unwrap_err().is_timeout());
    assert_error(&page, "stream_truncated");
}

#[tokio::test]
async fn a_server_that_closes_without_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            connection.readable().await.unwrap();
            drop(connection);
        }
    });
    let (metrics, page) = testing::metrics();
    client(&metrics).execute(question(address)).await.unwrap_err();
    assert_error(&page, "upstream_error");
}

#[tokio::test]
async fn a_server_that_fails_is_an_upstream_error() {
    let app = Router::new().route(CHAT, post(async || StatusCode::INTERNAL_SERVER_ERROR));
    let (metrics, page) = testing::metrics();
    let answer = client(&metrics).execute(question(serve(app).await)).await.unwrap();
    assert_eq!(answer.status(), 500);
    drop(answer);
    assert_error(&page, "upstream_error");
}

#[tokio::test]
async fn a_timeout_of_tower_is_a_timeout() {
    let app = Router::new().route(CHAT, post(async || std::future::pending::<()>().await));
    let (metrics, page) = testing::metrics();
    let mut client = ServiceBuilder::new()
        .layer(ReqwestLayer::new(metrics.layer()))
        .timeout(Duration::from_millis(100))
        .service(reqwest::Client::new());
    let error: BoxError = client.ready().await.unwrap().call(question(serve(app).await)).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    assert_error(&page, "timeout");
}

#[tokio::test]
async fn a_boxed_error_is_recognised() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (metrics, page) = testing::metrics();
    let boxed = reqwest::Client::new().map_err(BoxError::from);
    ReqwestLayer::new(metrics.layer()).layer(boxed).oneshot(question(address)).await.unwrap_err();
    assert_error(&page, "upstream_unavailable");
}

#[tokio::test]
async fn a_question_in_memory_can_be_sent_again_after_a_redirect() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (moved, arrived) = (Arc::clone(&heard), Arc::clone(&heard));
    let app = Router::new()
        .route(
            "/moved/v1/chat/completions",
            post(async move |question: String| {
                moved.lock().unwrap().push(question);
                Redirect::temporary(CHAT)
            }),
        )
        .route(
            CHAT,
            post(async move |question: String| {
                arrived.lock().unwrap().push(question);
                events(&EVENTS)
            }),
        );
    let address = serve(app).await;
    let body = json!({"model": "Qwen3-4B", "stream": true}).to_string();
    let url = format!("http://{address}/moved/v1/chat/completions");
    let question = reqwest::Client::new().post(url).body(body.clone()).build().unwrap();
    let (metrics, page) = testing::metrics();
    let answer = client(&metrics).execute(question).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.url().path(), CHAT, "the address that answered");
    answer.bytes().await.unwrap();
    assert_ended(&page, "success");
    assert_eq!(*heard.lock().unwrap(), [body.clone(), body]);
}

#[tokio::test]
async fn a_question_that_is_a_stream_is_read_as_it_passes() {
    let parts = ["{\"model\": \"Qwen", "3-4B\", \"stream\": true}"];
    let app = Router::new().route(
        CHAT,
        post(async move |question: String| {
            assert_eq!(question, parts.concat());
            events(&EVENTS)
        }),
    );
    let body = reqwest::Body::wrap_stream(stream::iter(parts.map(Ok::<_, Infallible>)));
    let mut question = question(serve(app).await);
    *question.body_mut() = Some(body);
    let (metrics, page) = testing::metrics();
    let answer = client(&metrics).execute(question).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap();
    assert_ended(&page, "success");
}

/// Images make requests large, and the model may come after them.
#[tokio::test]
async fn a_large_question_in_memory_is_read_to_its_end() {
    let chat = async |question: Body| {
        axum::body::to_bytes(question, usize::MAX).await.unwrap();
        events(&EVENTS)
    };
    let picture = "x".repeat(2 << 20);
    let mut question = question(serve(Router::new().route(CHAT, post(chat))).await);
    *question.body_mut() = Some(format!(r#"{{"messages": ["{picture}"], "model": "Qwen3-4B"}}"#).into());
    let (metrics, page) = testing::metrics();
    client(&metrics).execute(question).await.unwrap().bytes().await.unwrap();
    assert_ended(&page, "success");
}

#[tokio::test]
async fn requests_that_are_not_model_calls_pass() {
    let echo =
        async |headers: HeaderMap, body: String| format!("{} {body}", headers["content-length"].to_str().unwrap());
    let app = Router::new().route("/echo", post(echo)).route(CHAT, get(async || "got"));
    let address = serve(app).await;
    let (metrics, page) = testing::metrics();
    let client = client(&metrics);
    let http = reqwest::Client::new();
    let posted = http.post(format!("http://{address}/echo")).body("Hello?").build().unwrap();
    assert_eq!(client.execute(posted).await.unwrap().text().await.unwrap(), "6 Hello?");
    let got = http.get(format!("http://{address}{CHAT}")).build().unwrap();
    assert_eq!(client.execute(got).await.unwrap().text().await.unwrap(), "got");
    let empty = http.post(format!("http://{address}/echo")).header("content-length", "0").build().unwrap();
    assert_eq!(client.execute(empty).await.unwrap().text().await.unwrap(), "0 ");
    assert_eq!(page.value(&REQUESTS, &[]).unwrap_or(0.0), 0.0);
}

#[tokio::test]
async fn an_answer_that_reqwest_decompresses_is_read() {
    let answer = json!({"choices": [{"index": 0, "message": {"content": "Yes."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 2}});
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    compressed.write_all(answer.to_string().as_bytes()).unwrap();
    let compressed = compressed.finish().unwrap();
    let chat = async move |headers: HeaderMap, _: String| {
        assert_eq!(headers[header::ACCEPT_ENCODING], "gzip");
        ([(header::CONTENT_TYPE, "application/json"), (header::CONTENT_ENCODING, "gzip")], compressed)
    };
    let (metrics, page) = testing::metrics();
    let address = serve(Router::new().route(CHAT, post(chat))).await;
    let read: Value = client(&metrics).execute(question(address)).await.unwrap().json().await.unwrap();
    assert_eq!(read, answer);
    assert_eq!(page.value(&OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(2.0));
}

#[tokio::test]
async fn upstreams_are_distinguished() {
    let (metrics, page) = testing::metrics_with(|builder| builder.upstream_label(LabelPolicy::first_accepted(1)));
    let client = client(&metrics);
    let first = serve(chat()).await;
    for address in [first, serve(chat()).await] {
        client.execute(question(address)).await.unwrap().bytes().await.unwrap();
    }
    let first = first.to_string();
    for upstream in [first.as_str(), "other"] {
        assert_eq!(page.value(&REQUESTS, &[("upstream", upstream), ("outcome", "success")]), Some(1.0));
    }
}

#[tokio::test]
async fn keys_in_an_address_reach_no_label() {
    let (metrics, page) = testing::metrics_with(|builder| builder.upstream_label(LabelPolicy::first_accepted(1)));
    let address = serve(chat()).await;
    let mut question = question(address);
    *question.url_mut() = format!("http://user:secret@{address}{CHAT}").parse().unwrap();
    client(&metrics).execute(question).await.unwrap().bytes().await.unwrap();
    assert_eq!(page.value(&REQUESTS, &[("upstream", &address.to_string()), ("outcome", "success")]), Some(1.0));
    assert!(!page.text().contains("secret"));
}

#[test]
fn the_inner_client_can_be_read_changed_and_returned() {
    let (metrics, _) = testing::metrics();
    let mut service = ReqwestLayer::new(metrics.layer()).layer(1);
    *service.get_mut() += 1;
    assert_eq!((*service.get_ref(), service.into_inner()), (2, 2));
}
