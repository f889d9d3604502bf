// docs: service
use axum::{Json, Router, response::Response, routing::post};
use llm_metrics::LlmMetrics;
use serde_json::{Value, json};

/// Used by `main` and by the test. Both pass their own metrics.
fn app(metrics: &LlmMetrics) -> Router {
    Router::new().route("/v1/chat/completions", post(chat)).layer(metrics.layer())
}

async fn chat(Json(question): Json<Value>) -> Response {
    answer(question["stream"] == true)
}
// end

const EVENTS: [&str; 3] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Yes.\"},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\n",
    "data: [DONE]\n\n",
];

fn answer(stream: bool) -> Response {
    let (content_type, body) = if stream {
        let events = futures_util::stream::iter(EVENTS.map(Ok::<_, std::convert::Infallible>));
        ("text/event-stream", Body::from_stream(events))
    } else {
        let answer = json!({"choices": [{"index": 0, "message": {"content": "Yes."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2}});
        ("application/json", Body::from(answer.to_string()))
    };
    Response::builder().header("content-type", content_type).body(body).unwrap()
}

// docs: question
use axum::{body::Body, http::Request};

fn question(stream: bool) -> Request<Body> {
    let question = json!({"model": "Qwen3-4B", "stream": stream, "messages": []});
    Request::post("/v1/chat/completions")
        .header("content-type", "application/json")
        .body(Body::from(question.to_string()))
        .unwrap()
}
// end

// docs: page
use axum::body::to_bytes;
use llm_metrics::{
    catalog::{OUTPUT_TOKENS, REQUESTS, TIME_TO_FIRST_TOKEN},
    testing,
};
use tower::ServiceExt;

#[tokio::test]
async fn a_chat_counts_its_tokens() {
    let (metrics, page) = testing::metrics();
    let answer = app(&metrics).oneshot(question(true)).await.unwrap();
    to_bytes(answer.into_body(), 1 << 20).await.unwrap(); // a request is counted when its response has ended

    assert_eq!(page.value(&REQUESTS, &[("model", "Qwen3-4B"), ("outcome", "success")]), Some(1.0));
    assert_eq!(page.value(&OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(2.0));
    assert_eq!(page.value(&TIME_TO_FIRST_TOKEN, &[]), Some(1.0)); // for a histogram: the number of samples
}
// end

// docs: recent
use llm_metrics::Outcome;

#[tokio::test]
async fn a_chat_that_is_given_up_is_cancelled() {
    let (metrics, _page) = testing::metrics();
    let answer = app(&metrics).oneshot(question(true)).await.unwrap();
    drop(answer);

    let [request] = &metrics.recent_requests(9)[..] else { panic!("one request") };
    assert_eq!((&*request.model, request.outcome, request.error_type), ("Qwen3-4B", Outcome::Cancelled, None));
    assert!(request.stream && request.time_to_first_token.is_none());
}
// end
