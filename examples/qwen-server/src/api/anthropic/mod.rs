//! Anthropic's `POST /v1/messages`, translated into a chat request.

mod format;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use format::MessageFormat;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, Parsed, chat,
    error::ApiError,
    fields::{self, Fields},
    read,
};
use crate::{engine::Engine, server::App};

static API: Api = Api { model: super::same, parse, refuse };

/// `POST /v1/messages`.
pub(crate) async fn messages(State(app): State<Arc<App>>, request: Request) -> Response {
    super::handle(&app, request, &API).await
}

/// `POST /v1/messages/count_tokens`.
pub(crate) async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Response {
    let count = async {
        let mut fields = Fields::parse(&read(request, app.limits.body).await?)?;
        if let Some(asked) = fields.take::<String>("model")?.filter(|asked| *asked != app.name) {
            return Err(ApiError::model_not_found(&asked, &app.name));
        }
        let engine = app.engine().ok_or_else(ApiError::loading)?;
        let prompt = chat::call(translate(fields)?, engine)?.prompt;
        Ok(Json(json!({"input_tokens": engine.prompt_tokens(prompt).await?})).into_response())
    };
    count.await.unwrap_or_else(refuse)
}

fn parse(mut fields: Fields, app: &App, engine: &Engine) -> Result<Parsed, ApiError> {
    let limit: Option<u64> = fields.take("max_tokens")?;
    let limit = limit.ok_or_else(|| ApiError::invalid("max_tokens", "`max_tokens` is missing."))?;
    fields.set("max_tokens", limit);
    let call = chat::call(translate(fields)?, engine)?;
    Ok(Parsed::Call(Box::new(call), Box::new(MessageFormat::new(&app.name))))
}

fn refuse(error: ApiError) -> Response {
    error.respond(body(&error))
}

/// `{"type": "error", "error": {"type", "message"}}`.
fn body(error: &ApiError) -> Value {
    let kind = match error.status() {
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": error.message()}})
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of content blocks")]
enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
    },
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
    ToolResult {
        tool_use_id: String,
        content: Option<Content>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Message {
    role: Role,
    content: Content,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Role {
    User,
    Assistant,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    description: Option<String>,
    input_schema: Option<Value>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ToolChoice {
    Auto,
    Any,
    Tool { name: String },
    None,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Thinking {
    Enabled,
    Adaptive,
    Disabled,
}

/// The fields of the equivalent chat request.
fn translate(mut fields: Fields) -> Result<Fields, ApiError> {
    let mut chat = Fields::default();
    let list: Option<Vec<Value>> = fields.take("messages")?;
    let list = list.ok_or_else(|| ApiError::invalid("messages", "`messages` is missing."))?;
    let mut messages = Vec::new();
    if let Some(system) = fields.take("system")? {
        messages.push(json!({"role": "system", "content": text("system", system)?}));
    }
    for (index, message) in list.into_iter().enumerate() {
        let param = format!("messages[{index}]");
        push_messages(&param, fields::parse(&param, message)?, &mut messages)?;
    }
    chat.set("messages", messages);
    chat.set("enable_thinking", matches!(fields.take("thinking")?, Some(Thinking::Enabled | Thinking::Adaptive)));
    if let Some(tools) = fields.take::<Vec<Tool>>("tools")? {
        let function = |tool: Tool| {
            json!({"type": "function", "function": {"name": tool.name,
            "description": tool.description, "parameters": tool.input_schema}})
        };
        chat.set("tools", tools.into_iter().map(function).collect::<Vec<_>>());
    }
    if let Some(choice) = fields.take("tool_choice")? {
        chat.set(
            "tool_choice",
            match choice {
                ToolChoice::Auto => json!("auto"),
                ToolChoice::Any => json!("required"),
                ToolChoice::None => json!("none"),
                ToolChoice::Tool { name } => json!({"type": "function", "function": {"name": name}}),
            },
        );
    }
    fields.hand_over("stop_sequences", &mut chat, "stop");
    for same in ["max_tokens", "stream", "temperature", "top_p", "top_k"] {
        fields.hand_over(same, &mut chat, same);
    }
    Ok(chat)
}

/// In a chat, tool results are separate messages before the user's next message.
fn push_messages(param: &str, message: Message, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let blocks = match message.content {
        Content::Text(text) => vec![Block::Text { text }],
        Content::Blocks(blocks) => blocks,
    };
    let (mut texts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        match block {
            Block::Text { text } => texts.push(text),
            Block::Thinking { thinking } => thoughts.push(thinking),
            Block::ToolUse { id, name, input } => {
                calls.push(json!({"id": id, "function": {"name": name, "arguments": input.to_string()}}));
            }
            Block::ToolResult { tool_use_id, content } => {
                let content = content.map(|content| text(param, content)).transpose()?.unwrap_or_default();
                messages.push(json!({"role": "tool", "tool_call_id": tool_use_id, "content": content}));
            }
            Block::Other => return Err(text_only(param)),
        }
    }
    let role = if message.role == Role::User { "user" } else { "assistant" };
    if message.role == Role::Assistant || !texts.is_empty() {
        let mut message = json!({"role": role, "content": texts.join("\n")});
        if !thoughts.is_empty() {
            message["reasoning_content"] = json!(thoughts.join("\n"));
        }
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        messages.push(message);
    }
    Ok(())
}

fn text(param: &str, content: Content) -> Result<String, ApiError> {
    match content {
        Content::Text(text) => Ok(text),
        Content::Blocks(blocks) => {
            let texts = blocks.into_iter().map(|block| match block {
                Block::Text { text } => Ok(text),
                _ => Err(text_only(param)),
            });
            Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
    }
}

fn text_only(param: &str) -> ApiError {
    ApiError::invalid(
        format!("{param}.content"),
        format!("`{param}.content` has a block of a type that this server does not take; it takes text and tool use."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(request: Value) -> Result<Value, ApiError> {
        let fields = Fields::parse(request.to_string().as_bytes()).unwrap();
        translate(fields)?.take("messages").map(Option::unwrap_or_default)
    }

    #[test]
    fn system_tool_use_and_results_become_messages_of_a_chat() {
        let request = json!({"system": [{"type": "text", "text": "Be brief."}], "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"day": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "Sun"},
                {"type": "text", "text": "And now?"}]}]});
        assert_eq!(
            translated(request).unwrap(),
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": "", "reasoning_content": "hm",
                    "tool_calls": [{"id": "t1", "function": {"name": "f", "arguments": "{\"day\":1}"}}]},
                {"role": "tool", "tool_call_id": "t1", "content": "Sun"},
                {"role": "user", "content": "And now?"},
            ])
        );
    }

    #[test]
    fn an_image_is_rejected_with_its_position() {
        let image = json!({"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}});
        let error = translated(json!({"messages": [{"role": "user", "content": [image]}]})).unwrap_err();
        assert!(error.message().contains("messages[0].content"), "{error:?}");
        assert_eq!(body(&error)["error"]["type"], "invalid_request_error");
    }
}
