//! A chat server on axum. The model is simulated; everything else is as with a real one.
//!
//! ```text
//! cargo run -p llm-metrics --features prometheus --example axum-server
//! curl -N http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \
//!     -d '{"model":"parrot","stream":true,"messages":[{"role":"user","content":"Who is there?"}]}'
//! curl -s http://127.0.0.1:8080/metrics | grep ^llm_
//! ```

use std::{
    convert::Infallible,
    env,
    error::Error,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    http::Extensions,
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::post,
};
use futures_util::{StreamExt, stream};
use llm_metrics::{InferenceHandle, LlmMetrics, Usage, prometheus::Exporter};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

const MODEL: &str = "parrot";
const ANSWER: [&str; 5] = ["A ", "parrot", ", ", "that ", "is all."];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Installed globally, so that metrics of other crates are on the page as well.
    let exporter = Exporter::builder().install()?;
    // This server has one model. Other model names in requests count under `other`.
    let metrics = LlmMetrics::builder().exporter(&exporter).models([MODEL]).build()?;

    // The layer covers the routes above it, so scrapes are not measured.
    let app = Router::new()
        .route("/v1/chat/completions", post(chat))
        .layer(metrics.layer())
        .route_service("/metrics", exporter.service());

    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Nothing in this function is needed for metrics. The handle reports what is not on the wire. With llm-metrics' feature `axum`, the handle is an
/// extractor itself.
async fn chat(extensions: Extensions, Json(question): Json<Value>) -> Response {
    let measured = InferenceHandle::of(&extensions);
    let prompt = Instant::now();
    sleep(Duration::from_millis(30)).await;
    measured.prefill_time(prompt.elapsed());

    if question["stream"] != true {
        let usage = json!({"prompt_tokens": 4, "completion_tokens": ANSWER.len()});
        let choice = json!({
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER.concat()},
            "finish_reason": "stop",
        });
        return Json(json!({"model": MODEL, "choices": [choice], "usage": usage})).into_response();
    }
    // Most callers do not request the usage of a stream. Without this call, token counts would be estimates.
    measured.usage(Usage::new().input(4).output(ANSWER.len() as u64));
    let words = stream::iter(ANSWER).then(|word| async move {
        sleep(Duration::from_millis(20)).await;
        chunk(&json!({"content": word}), None)
    });
    let end = stream::iter([chunk(&json!({}), Some("stop")), Event::default().data("[DONE]")]);
    Sse::new(words.chain(end).map(Ok::<_, Infallible>)).into_response()
}

fn chunk(delta: &Value, finish_reason: Option<&str>) -> Event {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
    Event::default().data(json!({"model": MODEL, "choices": [choice]}).to_string())
}
