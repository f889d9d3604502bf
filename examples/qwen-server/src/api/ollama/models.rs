//! Ollama's endpoints about the server and its one model.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{
    super::{error::ApiError, fields::Fields, read},
    refuse, untagged,
};
use crate::server::App;

/// `GET /api/version`.
pub(crate) async fn ollama_version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /api/tags`: the model, once it is loaded.
pub(crate) async fn ollama_models(State(app): State<Arc<App>>) -> Json<Value> {
    let loaded: Vec<Value> = app.engine().map(|_| describe(&app)).into_iter().collect();
    Json(json!({"models": loaded}))
}

/// `GET /api/ps`: the same, because the model is in memory as long as the server runs.
pub(crate) async fn ollama_ps(State(app): State<Arc<App>>) -> Json<Value> {
    let running = app.engine().map(|engine| {
        let mut model = describe(&app);
        model["context_length"] = json!(engine.facts().context_length);
        model
    });
    Json(json!({"models": running.into_iter().collect::<Vec<_>>()}))
}

/// `POST /api/show`.
pub(crate) async fn ollama_show(State(app): State<Arc<App>>, request: Request) -> Response {
    let shown = async {
        let mut fields = Fields::parse(&read(request, app.limits.body).await?)?;
        let asked: Option<String> = fields.take("model")?.or(fields.take("name")?);
        let asked = asked.ok_or_else(|| ApiError::invalid("model", "`model` is missing."))?;
        if untagged(&asked) != app.name {
            return Err(ApiError::model_not_found(&asked, &app.name));
        }
        let facts = app.engine().ok_or_else(ApiError::loading)?.facts();
        let capabilities: &[&str] =
            if facts.has_chat_template { &["completion", "tools", "thinking"] } else { &["completion"] };
        Ok(Json(json!({
            "details": details(),
            "model_info": {"general.architecture": "qwen3", "qwen3.context_length": facts.context_length},
            "capabilities": capabilities,
            "modified_at": modified(&app),
        }))
        .into_response())
    };
    shown.await.unwrap_or_else(refuse)
}

/// Size and digest are left out, because they belong to Ollama's own files.
fn describe(app: &App) -> Value {
    json!({"name": app.name, "model": app.name, "modified_at": modified(app),
        "details": details()})
}

fn details() -> Value {
    json!({"family": "qwen3", "families": ["qwen3"]})
}

/// The model was loaded when the server started.
fn modified(app: &App) -> Option<String> {
    DateTime::from_timestamp(i64::try_from(app.created).ok()?, 0).map(timestamp)
}

/// The current time in RFC 3339.
pub(super) fn now() -> String {
    timestamp(Utc::now())
}

fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
