//! The layer as a middleware, with real sockets.
#![cfg(feature = "middleware")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{Router, http::StatusCode, routing::post};
use llm_metrics::{
    InferenceHandle, LabelPolicy, Usage,
    catalog::{OUTPUT_TOKENS, REQUEST_ERRORS, REQUESTS},
    testing,
};
use llm_metrics_reqwest::ReqwestLayer;
use reqwest_middleware::{ClientBuilder, Error, Middleware, Next, Result};
use tokio::net::TcpListener;

const CHAT: &str = "/v1/chat/completions";
const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"content":"Yes."},"finish_reason":"stop"}]}"#;

/// A server that fails this many times before it answers.
async fn serve(failures: u32) -> String {
    let asked = Arc::new(AtomicU32::new(0));
    let chat = async move |question: String| {
        assert!(question.contains("Qwen3-4B"));
        match asked.fetch_add(1, Ordering::Relaxed) {
            times if times < failures => (StatusCode::SERVICE_UNAVAILABLE, [("content-type", "text/plain")], ""),
            _ => (StatusCode::OK, [("content-type", "application/json")], ANSWER),
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{CHAT}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, Router::new().route(CHAT, post(chat))).await.unwrap() });
    url
}

fn question() -> String {
    r#"{"model": "Qwen3-4B", "messages": []}"#.to_owned()
}

/// Sends the request again if the server was overloaded.
struct Retry;

#[async_trait::async_trait]
impl Middleware for Retry {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        let again = request.try_clone().expect("the body is in memory, and still one that can be cloned");
        let answer = next.clone().run(request, extensions).await?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE { next.run(again, extensions).await } else { Ok(answer) }
    }
}

/// Reports the number of tokens.
struct ReportsUsage;

#[async_trait::async_trait]
impl Middleware for ReportsUsage {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        InferenceHandle::of(extensions).usage(Usage::new().output(7));
        next.run(request, extensions).await
    }
}

/// Sends a second request while the first answer is being read.
struct Hedge;

#[async_trait::async_trait]
impl Middleware for Hedge {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        let again = request.try_clone().expect("the body is in memory");
        let _first = next.clone().run(request, extensions).await?;
        next.run(again, extensions).await
    }
}

/// Fails before the request is sent.
struct Refuses;

#[async_trait::async_trait]
impl Middleware for Refuses {
    async fn handle(&self, _: reqwest::Request, _: &mut http::Extensions, _: Next<'_>) -> Result<reqwest::Response> {
        Err(Error::middleware(std::io::Error::other("no")))
    }
}

#[tokio::test]
async fn outside_of_retries_a_call_counts_once_and_inside_each_attempt() {
    for (outside, failed) in [(true, None), (false, Some(1.0))] {
        let (metrics, page) = testing::metrics();
        let builder = ClientBuilder::new(reqwest::Client::new());
        let measured = ReqwestLayer::new(metrics.layer());
        let client =
            if outside { builder.with(measured).with(Retry) } else { builder.with(Retry).with(measured) }.build();
        let answer = client.post(serve(1).await).body(question()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), ANSWER);
        assert_eq!(page.value(&REQUESTS, &[("model", "Qwen3-4B"), ("outcome", "success")]), Some(1.0));
        let failures = page.value(&REQUEST_ERRORS, &[("model", "Qwen3-4B"), ("status", "503")]);
        assert_eq!(failures, failed, "{}", page.text());
    }
}

#[tokio::test]
async fn an_attempt_counts_while_another_is_being_read() {
    let (metrics, page) = testing::metrics();
    let builder = ClientBuilder::new(reqwest::Client::new()).with(Hedge);
    let client = builder.with(ReqwestLayer::new(metrics.layer())).build();
    client.post(serve(0).await).body(question()).send().await.unwrap().bytes().await.unwrap();
    for outcome in ["success", "cancelled"] {
        assert_eq!(page.value(&REQUESTS, &[("outcome", outcome)]), Some(1.0), "{}", page.text());
    }
}

#[tokio::test]
async fn middleware_inside_finds_the_handle() {
    let (metrics, page) = testing::metrics();
    let client =
        ClientBuilder::new(reqwest::Client::new()).with(ReqwestLayer::new(metrics.layer())).with(ReportsUsage).build();
    client.post(serve(0).await).body(question()).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(page.value(&OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(7.0));
}

#[tokio::test]
async fn two_layers_of_the_same_metrics_count_once() {
    let (metrics, page) = testing::metrics();
    let layer = ReqwestLayer::new(metrics.layer());
    let client = ClientBuilder::new(reqwest::Client::new()).with(layer.clone()).with(Hedge).with(layer).build();
    client.post(serve(0).await).body(question()).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(page.value(&REQUESTS, &[]), Some(1.0));
}

#[tokio::test]
async fn a_label_is_read_from_the_extensions_of_the_request() {
    #[derive(Clone)]
    struct Tenant(&'static str);

    let (metrics, page) = testing::metrics_with(|builder| {
        builder.request_label("tenant", LabelPolicy::first_accepted(3), |parts| {
            Some(parts.extensions.get::<Tenant>()?.0.to_owned())
        })
    });
    let client = ClientBuilder::new(reqwest::Client::new()).with(ReqwestLayer::new(metrics.layer())).build();
    let request = client.post(serve(0).await).body(question()).with_extension(Tenant("a"));
    request.send().await.unwrap().bytes().await.unwrap();
    assert_eq!(page.value(&REQUESTS, &[("tenant", "a"), ("outcome", "success")]), Some(1.0));
}

#[tokio::test]
async fn errors_are_distinguished() {
    let (metrics, page) = testing::metrics();
    let layer = ReqwestLayer::new(metrics.layer());
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}{CHAT}");
    let client = ClientBuilder::new(reqwest::Client::new()).with(layer.clone()).build();
    assert!(client.post(&url).body(question()).send().await.unwrap_err().is_connect());
    let client = ClientBuilder::new(reqwest::Client::new()).with(layer).with(Refuses).build();
    assert!(client.post(&url).body(question()).send().await.unwrap_err().is_middleware());
    for error in ["upstream_unavailable", "internal"] {
        let labels = [("model", "Qwen3-4B"), ("error_type", error)];
        assert_eq!(page.value(&REQUEST_ERRORS, &labels), Some(1.0), "{}", page.text());
    }
}

#[tokio::test]
async fn requests_that_are_not_model_calls_pass() {
    let (metrics, page) = testing::metrics();
    let client = ClientBuilder::new(reqwest::Client::new()).with(ReqwestLayer::new(metrics.layer())).build();
    let answer = client.get(serve(0).await).send().await.unwrap();
    assert_eq!(answer.status(), 405);
    assert_eq!(page.value(&REQUESTS, &[]).unwrap_or(0.0), 0.0);
}
