//! The APIs of this server: OpenAI's, Anthropic's and Ollama's, over one engine.

mod answer;
mod anthropic;
mod chat;
mod completions;
mod error;
mod fields;
mod format;
mod messages;
mod models;
mod ollama;
mod openai;
mod responses;
mod settings;
mod sse;
mod text;

pub(crate) use anthropic::{count_tokens, messages};
pub(crate) use error::ApiError;
pub(crate) use format::unix_seconds;
pub(crate) use models::{model, models};
pub(crate) use ollama::{ollama_chat, ollama_generate, ollama_models, ollama_ps, ollama_show, ollama_version};
pub(crate) use responses::responses;

use std::sync::Arc;

use answer::{Call, Deadline};
use axum::{
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::{Method, StatusCode, Uri},
    response::Response,
};
use fields::Fields;
use format::AnswerFormat;

use crate::{engine::Engine, server::App, telemetry::Handle};

/// An API: how requests are parsed, and how responses and errors are written.
struct Api {
    /// The model's name without the additions of this API.
    model: for<'a> fn(&'a str) -> &'a str,
    parse: fn(Fields, &App, &Engine) -> Result<Parsed, ApiError>,
    refuse: fn(ApiError) -> Response,
}

/// The name unchanged.
fn same(name: &str) -> &str {
    name
}

/// The result of parsing a request.
enum Parsed {
    /// The engine generates a response in this format.
    Call(Box<Call>, Box<dyn AnswerFormat>),
    /// There is nothing to generate.
    Answered(Response),
}

/// `POST /v1/chat/completions`.
pub(crate) async fn chat_completions(State(app): State<Arc<App>>, request: Request) -> Response {
    handle(&app, request, &chat::API).await
}

/// `POST /v1/completions`.
pub(crate) async fn completions(State(app): State<Arc<App>>, request: Request) -> Response {
    handle(&app, request, &completions::API).await
}

/// The clock starts before the body is read, and includes the stream.
async fn handle(app: &App, request: Request, api: &Api) -> Response {
    let handle = Handle::of(&request);
    let deadline = Deadline::new(app.limits.request_timeout);
    let work = async {
        let mut fields = Fields::parse(&read(request, app.limits.body).await?)?;
        let asked: Option<String> = fields.take("model")?;
        if let Some(asked) = asked.filter(|asked| (api.model)(asked) != app.name) {
            return Err(ApiError::model_not_found(&asked, &app.name));
        }
        handle.model(&app.name);
        let engine = app.engine().ok_or_else(ApiError::loading)?;
        match (api.parse)(fields, app, engine)? {
            Parsed::Call(call, format) => answer::answer(app, engine, *call, format, handle.clone(), deadline).await,
            Parsed::Answered(response) => Ok(response),
        }
    };
    deadline.limit(&handle, work).await.unwrap_or_else(Err).unwrap_or_else(api.refuse)
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
