//! Converts chat messages and tools from OpenAI's format to that of chat templates.

use mistralrs::{MessageContent, Tool};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{error::ApiError, fields};
use crate::engine::Message;

#[derive(Deserialize)]
struct OpenAiMessage {
    role: Role,
    content: Option<Content>,
    name: Option<String>,
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolCall>>,
    tool_call_id: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// OpenAI's name since o1.
    #[serde(alias = "developer")]
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of parts")]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
pub(super) struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Deserialize)]
struct ToolCall {
    id: Option<String>,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: String,
}

/// Translates the `messages` of a request.
pub(super) fn translate(messages: Vec<Value>) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "`messages` must have at least one message."));
    }
    messages.into_iter().enumerate().map(|(index, message)| one(&format!("messages[{index}]"), message)).collect()
}

fn one(param: &str, message: Value) -> Result<Message, ApiError> {
    let message: OpenAiMessage = fields::parse(param, message)?;
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let content = match message.content {
        Some(content) => content.text(param, &["text"])?,
        None if message.role == Role::Assistant => String::new(),
        None => return Err(ApiError::invalid(format!("{param}.content"), format!("`{param}.content` is missing."))),
    };
    let mut translated = Message::new();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            translated.insert(key.to_owned(), MessageContent::Left(value));
        }
    };
    set("role", Some(role.to_owned()));
    set("content", Some(content));
    set("name", message.name);
    set("reasoning_content", message.reasoning_content);
    set("tool_call_id", message.tool_call_id);
    if let Some(calls) = message.tool_calls.filter(|calls| !calls.is_empty()) {
        let calls = calls.into_iter().map(|call| {
            let function = json!({"name": call.function.name, "arguments": call.function.arguments});
            let id = call.id.map_or(Value::Null, Value::String);
            [("id", id), ("type", json!("function")), ("function", function)]
                .map(|(key, value)| (key.to_owned(), value))
                .into_iter()
                .collect()
        });
        translated.insert("tool_calls".to_owned(), MessageContent::Right(calls.collect()));
    }
    Ok(translated)
}

impl Content {
    /// The parts of these types, which have a text, one per line. URLs in a request are never fetched.
    pub(super) fn text(self, param: &str, types: &[&str]) -> Result<String, ApiError> {
        let parts = match self {
            Self::Text(text) => return Ok(text),
            Self::Parts(parts) => parts,
        };
        let texts = parts.into_iter().map(|part| match part {
            Part { kind, text: Some(text) } if types.contains(&kind.as_str()) => Ok(text),
            Part { kind, .. } => Err(ApiError::invalid(
                format!("{param}.content"),
                format!("`{param}.content` has a part of type `{kind}`; this server takes text only."),
            )),
        });
        Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }
}

/// How the model may use the tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToolUse {
    None,
    /// The model decides, and writes `<tool_call>` to call one.
    Auto,
    /// The whole answer is the arguments of a call of this function.
    Forced(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected none, auto, required, or a function")]
enum ToolChoice {
    Mode(Mode),
    Named { function: FunctionName },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    None,
    Auto,
    Required,
}

#[derive(Deserialize)]
struct FunctionName {
    name: String,
}

/// The meaning of `tool_choice` for these tools.
pub(super) fn tool_use(choice: Option<Value>, tools: &[Tool]) -> Result<ToolUse, ApiError> {
    let choice = choice.map(|choice| fields::parse("tool_choice", choice)).transpose()?;
    let refuse = |message: String| Err(ApiError::invalid("tool_choice", message));
    match (choice, tools) {
        (None | Some(ToolChoice::Mode(Mode::None | Mode::Auto)), []) => Ok(ToolUse::None),
        (Some(_), []) => refuse("`tool_choice` asks for a tool, but there are no `tools`.".into()),
        (Some(ToolChoice::Mode(Mode::None)), _) => Ok(ToolUse::None),
        (None | Some(ToolChoice::Mode(Mode::Auto)), _) => Ok(ToolUse::Auto),
        (Some(ToolChoice::Mode(Mode::Required)), [only]) => Ok(ToolUse::Forced(only.function.name.clone())),
        (Some(ToolChoice::Mode(Mode::Required)), _) => Err(ApiError::unsupported(
            "tool_choice",
            "`tool_choice: required` works with one tool only; with several, name the function.",
        )),
        (Some(ToolChoice::Named { function }), tools) => {
            if tools.iter().any(|tool| tool.function.name == function.name) {
                Ok(ToolUse::Forced(function.name))
            } else {
                refuse(format!("`tool_choice` names `{}`, which is not among the `tools`.", function.name))
            }
        }
    }
}

/// The schema of a function's arguments.
pub(super) fn parameters(tools: &[Tool], name: &str) -> Value {
    let parameters = tools.iter().find(|tool| tool.function.name == name).and_then(|t| t.function.parameters.clone());
    parameters.map_or_else(|| json!({"type": "object"}), |p| Value::Object(Map::from_iter(p)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(error: ApiError) -> Value {
        error.body()["error"]["param"].clone()
    }

    #[test]
    fn text_parts_are_joined_and_developer_is_system() {
        let parts = json!({"role": "developer", "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        let messages = translate(vec![parts]).unwrap();
        assert_eq!(messages[0]["role"], MessageContent::Left("system".into()));
        assert_eq!(messages[0]["content"], MessageContent::Left("a\nb".into()));
    }

    #[test]
    fn a_complaint_names_the_message() {
        let user = json!({"role": "user", "content": "hi"});
        let image = json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]});
        assert_eq!(param(translate(vec![user.clone(), image]).unwrap_err()), "messages[1].content");
        assert_eq!(param(translate(vec![user, json!({"role": "wizard"})]).unwrap_err()), "messages[1]");
        assert_eq!(param(translate(vec![]).unwrap_err()), "messages");
    }

    #[test]
    fn a_tool_choice_must_be_one_of_the_tools() {
        let tools: Vec<Tool> =
            serde_json::from_value(json!([{"type": "function", "function": {"name": "f"}}])).unwrap();
        let named = |name: &str| Some(json!({"type": "function", "function": {"name": name}}));
        assert_eq!(tool_use(None, &tools).unwrap(), ToolUse::Auto);
        assert_eq!(tool_use(Some(json!("none")), &tools).unwrap(), ToolUse::None);
        assert_eq!(tool_use(Some(json!("required")), &tools).unwrap(), ToolUse::Forced("f".into()));
        assert_eq!(tool_use(named("f"), &tools).unwrap(), ToolUse::Forced("f".into()));
        assert!(tool_use(named("g"), &tools).is_err());
        assert!(tool_use(Some(json!("required")), &[]).is_err());
    }
}
