//! A server with OpenAI's API, on a real socket.

use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Serves until the test ends, and returns its address without a path. The model `busy` is always overloaded.
pub(crate) async fn start() -> String {
    let app = Router::new().route("/v1/chat/completions", post(chat));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    url
}

/// An address without a listener.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// The value of the label `upstream` for an address.
pub(crate) fn authority(url: &str) -> &str {
    url.trim_start_matches("http://")
}

async fn chat(Json(question): Json<Value>) -> Response {
    let model = &question["model"];
    if model == "busy" {
        let error = json!({"error": {"message": "try later", "type": "server_error", "param": null, "code": null}});
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")], Json(error)).into_response();
    }
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11});
    if question["stream"] != true {
        let message = json!({"role": "assistant", "content": "Hello!"});
        return Json(json!({
            "id": "1", "object": "chat.completion", "created": 1, "model": model, "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }))
        .into_response();
    }
    let chunk = |choices: Value, usage: &Value| {
        let chunk = json!({
            "id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices, "usage": usage,
        });
        format!("data: {chunk}\n\n")
    };
    let events = [
        chunk(json!([{"index": 0, "delta": {"content": "Hello!"}, "finish_reason": null}]), &Value::Null),
        chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), &Value::Null),
        chunk(json!([]), &usage),
        "data: [DONE]\n\n".to_owned(),
    ];
    ([(header::CONTENT_TYPE, "text/event-stream")], events.concat()).into_response()
}
