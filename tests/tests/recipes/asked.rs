//! The requests that the server of every framework gets, and the metrics that they must cause.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use llm_metrics::{
    ErrorType, LlmMetrics, Outcome, RecentRequest,
    catalog::{OUTPUT_TOKENS, REQUESTS},
    testing::Page,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const EVENTS: [&str; 4] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Yes.\"},\"finish_reason\":null}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n",
    "data: [DONE]\n\n",
];
const JSON: &str = r#"{"choices":[{"index":0,"message":{"content":"Yes."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#;

/// The kind of answer.
pub(crate) enum Answer<S> {
    Events(S),
    Json(&'static str),
    /// 503, without a body.
    Busy,
    /// An error of the framework that becomes a 500.
    Broken,
}

/// The answer to a request, which depends on the requested model.
pub(crate) fn answer(question: &Value) -> Answer<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<>> {
    let events = |count| stream::iter(EVENTS).take(count).map(|event| Ok(Bytes::from_static(event.as_bytes())));
    match (question["model"].as_str(), question["stream"] == true) {
        (Some("endless"), _) => Answer::Events(events(1).chain(keep_alive()).left_stream().left_stream()),
        (Some("silent"), _) => Answer::Events(events(1).chain(stream::pending()).right_stream().left_stream()),
        (Some("busy"), _) => Answer::Busy,
        (Some("broken"), _) => Answer::Broken,
        (_, true) => Answer::Events(events(EVENTS.len()).right_stream()),
        (_, false) => Answer::Json(JSON),
    }
}

/// Sends keep-alives, as engines do: with them, any server notices a disconnected client.
fn keep_alive() -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(Bytes::from_static(b": keep-alive\n\n"))
    })
}

/// Sends each kind of request to the server, and waits for the measurements.
pub(crate) async fn assert_measured(url: &str, metrics: &LlmMetrics, page: &Page) {
    assert_all(url, metrics, page, ErrorType::Internal).await;
}

/// The same for a proxy in front of such a server.
#[allow(dead_code, reason = "there is none among the servers of one of the two packages")]
pub(crate) async fn assert_proxied(url: &str, metrics: &LlmMetrics, page: &Page) {
    assert_all(url, metrics, page, ErrorType::UpstreamError).await;
}

async fn assert_all(url: &str, metrics: &LlmMetrics, page: &Page, broken: ErrorType) {
    let client = reqwest::Client::new();
    let ask = async |model: &str, stream: bool| {
        let question = json!({"model": model, "stream": stream, "messages": []});
        client.post(format!("{url}/v1/chat/completions")).json(&question).send().await.unwrap()
    };

    let answer = ask("Qwen3-4B", true).await;
    assert_eq!(answer.text().await.unwrap(), EVENTS.concat(), "the bytes are as they were");
    let request = ended(metrics, 1).await;
    assert_eq!((&*request.model, request.outcome, request.error_type), ("Qwen3-4B", Outcome::Success, None));
    assert!(request.stream && request.time_to_first_token.is_some());
    assert_eq!(page.value(&OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(2.0));

    let answer = ask("Qwen3-4B", false).await;
    assert_eq!(answer.content_length(), Some(JSON.len() as u64), "the length is as it was");
    assert_eq!(answer.text().await.unwrap(), JSON);
    let request = ended(metrics, 2).await;
    assert_eq!((request.stream, request.outcome), (false, Outcome::Success));
    assert_eq!(page.value(&OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(5.0));

    hang_up_after_the_first_event(url, "endless").await;
    let request = ended(metrics, 3).await;
    assert_eq!((&*request.model, request.outcome, request.error_type), ("endless", Outcome::Cancelled, None));
    assert!(request.time_to_first_token.is_some());

    assert_eq!(ask("busy", true).await.status(), 503);
    let request = ended(metrics, 4).await;
    assert_eq!((&*request.model, request.error_type), ("busy", Some(ErrorType::Overloaded)));

    assert_eq!(ask("broken", true).await.status(), 500);
    let request = ended(metrics, 5).await;
    assert_eq!((&*request.model, request.error_type), ("broken", Some(broken)));

    // Requests that are not model calls pass.
    client.get(format!("{url}/v1/models")).send().await.unwrap();
    assert_eq!(page.value(&REQUESTS, &[]), Some(5.0));
}

/// Called last: a disconnected client is noticed although nothing is written to it.
#[allow(dead_code, reason = "not every server notices")]
pub(crate) async fn assert_hang_up_is_noticed_in_silence(url: &str, metrics: &LlmMetrics) {
    hang_up_after_the_first_event(url, "silent").await;
    let request = ended(metrics, 6).await;
    assert_eq!((&*request.model, request.outcome), ("silent", Outcome::Cancelled));
}

/// Closes the connection at once. reqwest would wait for more data.
async fn hang_up_after_the_first_event(url: &str, model: &str) {
    let mut connection = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let question = json!({"model": model, "stream": true, "messages": []}).to_string();
    let length = question.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{question}"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(EVENTS[0].len()).any(|bytes| bytes == EVENTS[0].as_bytes()) {
        let read = tokio::time::timeout(Duration::from_secs(30), connection.read_buf(&mut answer)).await;
        let so_far = String::from_utf8_lossy(&answer);
        assert_ne!(read.unwrap_or_else(|_| panic!("no event came: {so_far}")).unwrap(), 0, "closed: {so_far}");
    }
}

/// The last of this many requests that have ended.
pub(crate) async fn ended(metrics: &LlmMetrics, count: usize) -> RecentRequest {
    let all = async {
        loop {
            let requests = metrics.recent_requests(9);
            if requests.len() == count {
                return requests;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let requests = tokio::time::timeout(Duration::from_secs(30), all).await;
    requests.unwrap_or_else(|_| panic!("request {count} has not ended")).into_iter().next().unwrap()
}
