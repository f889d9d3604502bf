//! The OpenAI API.

mod answer;
mod chat;
mod completions;
mod error;
mod fields;
mod messages;
mod models;
mod settings;
mod sse;
mod text;
mod wire;

pub(crate) use error::ApiError;
pub(crate) use models::{model, models};
pub(crate) use wire::unix_seconds;

use crate::engine::Engine;
use crate::server::App;
use crate::telemetry::Handle;
use answer::{Call, Deadline};
use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use fields::Fields;
use std::sync::Arc;

/// `POST /v1/chat/completions`.
pub(crate) async fn chat_completions(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    handle(&app, request, chat::parse).await
}

/// `POST /v1/completions`.
pub(crate) async fn completions(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    handle(&app, request, completions::parse).await
}

/// The clock starts before the body is read, and a stream runs on it too.
async fn handle(
    app: &App,
    request: Request,
    parse: fn(Fields, &Engine) -> Result<Call, ApiError>,
) -> Result<Response, ApiError> {
    let handle = Handle::of(&request);
    let deadline = Deadline::new(app.limits.request_timeout);
    let work = async {
        let body = read(request, app.limits.body).await?;
        let mut fields = Fields::parse(&body)?;
        if let Some(asked) = fields.take::<String>("model")?.filter(|asked| *asked != app.name) {
            return Err(ApiError::model_not_found(&asked, &app.name));
        }
        handle.model(&app.name);
        let engine = app.engine().ok_or_else(ApiError::loading)?;
        let call = parse(fields, engine)?;
        answer::answer(app, engine, call, handle.clone(), deadline).await
    };
    deadline.limit(&handle, work).await?
}

async fn read(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::body_too_large(limit),
        _ => ApiError::malformed("The request body could not be read."),
    })
}

/// Any other path.
pub(crate) async fn not_found(method: Method, uri: Uri) -> ApiError {
    ApiError::no_such_route(method.as_str(), uri.path())
}

/// A known path with another method.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(method.as_str(), uri.path())
}
