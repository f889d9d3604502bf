//! OpenAI's `POST /v1/responses`, translated into a chat request. Nothing is stored.

mod format;

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use format::ResponseFormat;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, Parsed, chat,
    error::ApiError,
    fields::{self, Fields},
    messages::Content,
};
use crate::{engine::Engine, server::App};

/// The types of parts that are text.
const TEXTS: &[&str] = &["input_text", "output_text", "text"];

static API: Api = Api { model: super::same, parse, refuse: ApiError::into_response };

/// `POST /v1/responses`.
pub(crate) async fn responses(State(app): State<Arc<App>>, request: Request) -> Response {
    super::handle(&app, request, &API).await
}

fn parse(fields: Fields, app: &App, engine: &Engine) -> Result<Parsed, ApiError> {
    let call = chat::call(translate(fields)?, engine)?;
    Ok(Parsed::Call(Box::new(call), Box::new(ResponseFormat::new(&app.name))))
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of items")]
enum Input {
    Text(String),
    Items(Vec<Value>),
}

/// A message has a role, and needs no type.
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<Content>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<Content>,
}

#[derive(Default, Deserialize)]
struct Reasoning {
    effort: Option<String>,
}

#[derive(Default, Deserialize)]
struct Text {
    format: Option<Value>,
}

/// The fields of the equivalent chat request.
fn translate(mut fields: Fields) -> Result<Fields, ApiError> {
    fields.refuse("background", &json!(false), "nothing is stored here")?;
    fields.refuse("previous_response_id", &json!(""), "nothing is stored here; send the conversation as `input`")?;
    fields.refuse("conversation", &json!(""), "nothing is stored here; send the conversation as `input`")?;
    fields.refuse("prompt", &json!(""), "nothing is stored here; send `instructions` and `input`")?;

    let mut chat = Fields::default();
    let mut messages = Vec::new();
    if let Some(instructions) = fields.take::<String>("instructions")? {
        messages.push(json!({"role": "system", "content": instructions}));
    }
    match fields.take("input")? {
        None => return Err(ApiError::invalid("input", "`input` is missing.")),
        Some(Input::Text(text)) => messages.push(json!({"role": "user", "content": text})),
        Some(Input::Items(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                let param = format!("input[{index}]");
                messages.extend(message(&param, fields::parse(&param, item)?)?);
            }
        }
    }
    chat.set("messages", messages);
    // A thinking model thinks by default.
    if let Some(effort) = fields.take::<Reasoning>("reasoning")?.and_then(|reasoning| reasoning.effort) {
        chat.set("enable_thinking", effort != "none");
    }
    if let Some(format) = fields.take::<Text>("text")?.and_then(|text| text.format) {
        chat.set("response_format", response_format(format));
    }
    if let Some(tools) = fields.take::<Vec<Value>>("tools")? {
        chat.set("tools", tools.into_iter().enumerate().map(tool).collect::<Result<Vec<_>, _>>()?);
    }
    if let Some(choice) = fields.take::<Value>("tool_choice")? {
        let named = choice.get("name").map(|name| json!({"type": "function", "function": {"name": name}}));
        chat.set("tool_choice", named.unwrap_or(choice));
    }
    fields.hand_over("max_output_tokens", &mut chat, "max_tokens");
    for same in ["stream", "temperature", "top_p"] {
        fields.hand_over(same, &mut chat, same);
    }
    Ok(chat)
}

/// `None` for reasoning of an earlier turn, which the model does not get again.
fn message(param: &str, item: Item) -> Result<Option<Value>, ApiError> {
    let missing = |field: &str| ApiError::invalid(format!("{param}.{field}"), format!("`{param}.{field}` is missing."));
    Ok(Some(match item.kind.as_deref().unwrap_or("message") {
        "message" => {
            let role = item.role.ok_or_else(|| missing("role"))?;
            let content = item.content.ok_or_else(|| missing("content"))?.text(param, TEXTS)?;
            json!({"role": role, "content": content})
        }
        "function_call" => {
            let function = json!({"name": item.name.ok_or_else(|| missing("name"))?,
                "arguments": item.arguments.unwrap_or_default()});
            json!({"role": "assistant", "tool_calls": [{"id": item.call_id, "function": function}]})
        }
        "function_call_output" => {
            let call = item.call_id.ok_or_else(|| missing("call_id"))?;
            let output = item.output.ok_or_else(|| missing("output"))?.text(param, TEXTS)?;
            json!({"role": "tool", "tool_call_id": call, "content": output})
        }
        "reasoning" => return Ok(None),
        kind => {
            let message = format!("`{param}` is of type `{kind}`, which this server does not take.");
            return Err(ApiError::unsupported(param, message));
        }
    }))
}

/// Chat completions have the name and the schema one level deeper.
fn response_format(format: Value) -> Value {
    if format["type"] == "json_schema" {
        json!({"type": "json_schema", "json_schema": {"name": format["name"], "schema": format["schema"]}})
    } else {
        format
    }
}

fn tool((index, tool): (usize, Value)) -> Result<Value, ApiError> {
    if tool["type"] != "function" {
        let message = format!("`tools[{index}]` is of type {}; this server has functions only.", tool["type"]);
        return Err(ApiError::unsupported("tools", message));
    }
    Ok(json!({"type": "function", "function":
        {"name": tool["name"], "description": tool["description"], "parameters": tool["parameters"]}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(request: Value) -> Result<Fields, ApiError> {
        translate(Fields::parse(request.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn items_become_messages_of_a_chat() {
        let mut chat = translated(json!({"instructions": "Be brief.", "max_output_tokens": 9, "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "Sun"}]}))
        .unwrap();
        assert_eq!(chat.take::<u64>("max_tokens").unwrap(), Some(9));
        assert_eq!(
            chat.take::<Value>("messages").unwrap().unwrap(),
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "Sun"},
            ])
        );
    }

    #[test]
    fn a_request_that_needs_a_store_is_rejected_with_an_alternative() {
        let error = translated(json!({"input": "hi", "previous_response_id": "resp_1"})).err().unwrap();
        assert!(error.message().contains("send the conversation"), "{error:?}");
        assert!(translated(json!({"input": "hi", "background": true})).is_err());
        assert!(translated(json!({"input": "hi", "tools": [{"type": "web_search"}]})).is_err());
    }

    #[test]
    fn a_schema_and_a_named_tool_move_to_where_chat_completions_have_them() {
        let mut chat = translated(json!({"input": "hi", "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}}))
        .unwrap();
        let format = chat.take::<Value>("response_format").unwrap().unwrap();
        assert_eq!(format["json_schema"]["schema"]["type"], "object");
        assert_eq!(chat.take::<Value>("tool_choice").unwrap().unwrap()["function"]["name"], "f");
    }
}
