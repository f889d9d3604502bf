//! Whether the process is alive, and whether it is ready.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::server::App;

/// `GET /health`: the process is alive. Restart it if this fails.
pub(crate) async fn health() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// `GET /ready`: the model is loaded and the server is not shutting down. Send requests only then.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let status = if app.is_draining() {
        "draining"
    } else if app.engine().is_none() {
        "loading"
    } else {
        return Json(json!({"status": "ready"})).into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], Json(json!({"status": status}))).into_response()
}
