//! Ollama's API: `POST /api/chat` and `POST /api/generate`, translated to chat requests, and the endpoints about the model.

mod format;
mod models;

pub(crate) use models::{ollama_models, ollama_ps, ollama_show, ollama_version};

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use format::{OllamaFormat, Shape};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Api, Parsed, chat, completions,
    error::ApiError,
    fields::{self, Fields},
};
use crate::{engine::Engine, server::App};

static CHAT: Api = Api { model: untagged, parse: parse_chat, refuse };
static GENERATE: Api = Api { model: untagged, parse: parse_generate, refuse };

/// `POST /api/chat`.
pub(crate) async fn ollama_chat(State(app): State<Arc<App>>, request: Request) -> Response {
    super::handle(&app, request, &CHAT).await
}

/// `POST /api/generate`.
pub(crate) async fn ollama_generate(State(app): State<Arc<App>>, request: Request) -> Response {
    super::handle(&app, request, &GENERATE).await
}

/// Ollama's clients add the tag of the latest version.
fn untagged(name: &str) -> &str {
    name.strip_suffix(":latest").unwrap_or(name)
}

fn refuse(error: ApiError) -> Response {
    error.respond(body(&error))
}

fn body(error: &ApiError) -> Value {
    json!({"error": error.message()})
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: String,
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Vec<ToolCall>,
    tool_name: Option<String>,
    #[serde(default)]
    images: Vec<Value>,
}

#[derive(Deserialize)]
struct ToolCall {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: Value,
}

/// A switch, or an effort.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a boolean, or how much to think")]
enum Think {
    Switch(bool),
    Level(#[allow(dead_code, reason = "this server can think or not")] String),
}

fn parse_chat(mut fields: Fields, app: &App, engine: &Engine) -> Result<Parsed, ApiError> {
    let list: Vec<Value> = fields.take("messages")?.unwrap_or_default();
    if list.is_empty() {
        return load_or_unload(&mut fields, &app.name, Shape::Chat);
    }
    let messages = list.into_iter().enumerate().map(|(index, message)| {
        let param = format!("messages[{index}]");
        translate(&param, fields::parse(&param, message)?)
    });
    let mut chat = Fields::default();
    chat.set("messages", messages.collect::<Result<Vec<_>, _>>()?);
    fields.hand_over("tools", &mut chat, "tools");
    settings(&mut fields, &mut chat)?;
    answer(chat::call(chat, engine)?, app, Shape::Chat)
}

fn parse_generate(mut fields: Fields, app: &App, engine: &Engine) -> Result<Parsed, ApiError> {
    fields.refuse("suffix", &json!(""), "the model cannot fill in the middle")?;
    fields.refuse("images", &json!([]), "this server takes text only")?;
    fields.refuse("template", &json!(""), "the model's own template is used; `raw` uses none")?;
    fields.refuse("context", &json!([]), "use /api/chat, and send the conversation")?;
    let prompt: String = fields.take("prompt")?.unwrap_or_default();
    if prompt.is_empty() {
        return load_or_unload(&mut fields, &app.name, Shape::Generate);
    }
    let system: Option<String> = fields.take("system")?.filter(|system: &String| !system.is_empty());
    let raw = fields.take("raw")?.unwrap_or(false);
    let mut request = Fields::default();
    settings(&mut fields, &mut request)?;
    let call = if raw {
        request.set("prompt", prompt);
        completions::call(request, engine)?
    } else {
        let system = system.map(|system| json!({"role": "system", "content": system}));
        let messages = system.into_iter().chain([json!({"role": "user", "content": prompt})]);
        request.set("messages", messages.collect::<Vec<_>>());
        chat::call(request, engine)?
    };
    answer(call, app, Shape::Generate)
}

fn answer(call: super::answer::Call, app: &App, shape: Shape) -> Result<Parsed, ApiError> {
    Ok(Parsed::Call(Box::new(call), Box::new(OllamaFormat::new(shape, &app.name))))
}

/// Without a prompt, Ollama loads the model, or unloads it if `keep_alive` is 0. This server always keeps its model.
fn load_or_unload(fields: &mut Fields, model: &str, shape: Shape) -> Result<Parsed, ApiError> {
    let keep_alive: Option<Value> = fields.take("keep_alive")?;
    let unload = keep_alive.is_some_and(|value| value == 0 || value == "0" || value == "0s");
    let reason = if unload { "unload" } else { "load" };
    Ok(Parsed::Answered(Json(format::nothing_generated(shape, model, reason)).into_response()))
}

fn translate(param: &str, message: Message) -> Result<Value, ApiError> {
    if !message.images.is_empty() {
        let images = format!("{param}.images");
        return Err(ApiError::invalid(images.as_str(), format!("`{images}`: this server takes text only.")));
    }
    let mut translated = json!({"role": message.role, "content": message.content});
    if let Some(thinking) = message.thinking {
        translated["reasoning_content"] = json!(thinking);
    }
    if let Some(tool) = message.tool_name {
        translated["name"] = json!(tool);
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.into_iter().map(
            |call| json!({"function": {"name": call.function.name, "arguments": call.function.arguments.to_string()}}),
        );
        translated["tool_calls"] = calls.collect();
    }
    Ok(translated)
}

/// The fields that chat and generate share. Streams by default.
fn settings(fields: &mut Fields, request: &mut Fields) -> Result<(), ApiError> {
    request.set("stream", fields.take("stream")?.unwrap_or(true));
    match fields.take("think")? {
        Some(Think::Switch(think)) => request.set("enable_thinking", think),
        Some(Think::Level(_)) => request.set("enable_thinking", true),
        None => {}
    }
    match fields.take::<Value>("format")? {
        None => {}
        Some(Value::String(word)) if word.is_empty() => {}
        Some(Value::String(word)) if word == "json" => request.set("response_format", json!({"type": "json_object"})),
        Some(schema @ Value::Object(_)) => {
            request.set("response_format", json!({"type": "json_schema", "json_schema": {"schema": schema}}));
        }
        Some(_) => return Err(ApiError::invalid("format", "`format` must be \"json\" or a JSON schema.")),
    }
    let mut options = Fields::from(fields.take::<Map<String, Value>>("options")?.unwrap_or_default());
    // -1, -2 and 0 mean no limit.
    if let Some(limit) = options.take::<i64>("num_predict")?.filter(|limit| *limit > 0) {
        request.set("max_tokens", limit);
    }
    options.hand_over("repeat_penalty", request, "repetition_penalty");
    for same in ["temperature", "top_k", "top_p", "min_p", "stop", "presence_penalty", "frequency_penalty"] {
        options.hand_over(same, request, same);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(request: Value) -> Fields {
        Fields::parse(request.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn options_move_to_where_chat_completions_have_them() {
        let mut request = Fields::default();
        let asked = json!({"think": "high", "format": {"type": "object"},
            "options": {"num_predict": 5, "repeat_penalty": 1.1, "num_ctx": 4096, "stop": ["x"]}});
        settings(&mut fields(asked), &mut request).unwrap();
        assert_eq!(request.take::<bool>("stream").unwrap(), Some(true));
        assert_eq!(request.take::<bool>("enable_thinking").unwrap(), Some(true));
        assert_eq!(request.take::<u64>("max_tokens").unwrap(), Some(5));
        assert_eq!(request.take::<f64>("repetition_penalty").unwrap(), Some(1.1));
        assert_eq!(request.take::<Value>("stop").unwrap(), Some(json!(["x"])));
        assert_eq!(request.take::<Value>("response_format").unwrap().unwrap()["type"], "json_schema");
    }

    #[test]
    fn a_limit_of_zero_is_no_limit_and_an_unknown_format_is_rejected() {
        let mut request = Fields::default();
        for limit in [-1, -2, 0] {
            let asked = json!({"options": {"num_predict": limit}, "format": "", "stream": false});
            settings(&mut fields(asked), &mut request).unwrap();
            assert_eq!(request.take::<u64>("max_tokens").unwrap(), None);
        }
        assert_eq!(request.take::<bool>("stream").unwrap(), Some(false));
        assert!(settings(&mut fields(json!({"format": "xml"})), &mut request).is_err());
    }

    #[test]
    fn arguments_of_a_call_become_text() {
        let message = json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]});
        let translated = translate("messages[0]", serde_json::from_value(message).unwrap()).unwrap();
        assert_eq!(translated["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
    }
}
