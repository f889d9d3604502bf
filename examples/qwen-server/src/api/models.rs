//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::error::ApiError;
use crate::server::App;

/// The one model, once it is loaded.
pub(crate) async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    let loaded: Vec<Value> = app.engine().map(|_| describe(&app)).into_iter().collect();
    Json(json!({"object": "list", "data": loaded}))
}

/// The name may hold slashes, as Hugging Face ids do.
pub(crate) async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    if id != app.name {
        return Err(ApiError::model_not_found(&id, &app.name));
    }
    app.engine().map(|_| Json(describe(&app))).ok_or_else(ApiError::loading)
}

fn describe(app: &App) -> Value {
    json!({"id": app.name, "object": "model", "created": app.created, "owned_by": "qwen-server",
        "max_model_len": app.engine().map(|engine| engine.facts().context_length)})
}
