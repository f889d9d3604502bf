//! `POST /v1/chat/completions`.

use super::answer::Call;
use super::error::ApiError;
use super::fields::Fields;
use super::messages::{self, ToolUse};
use super::settings::Settings;
use super::wire::Shape;
use crate::engine::{Engine, Prompt};
use mistralrs::{Constraint, Tool};
use serde::Deserialize;
use serde_json::json;

/// The way to switch thinking that vLLM and SGLang have.
#[derive(Default, Deserialize)]
struct TemplateArguments {
    enable_thinking: Option<bool>,
}

pub(super) fn parse(mut fields: Fields, engine: &Engine) -> Result<Call, ApiError> {
    let Some(list) = fields.take("messages")? else {
        return Err(ApiError::invalid("messages", "`messages` is missing."));
    };
    let messages = messages::translate(list)?;
    if !engine.facts().has_chat_template {
        return Err(ApiError::unsupported("messages", "This model has no chat template; use /v1/completions."));
    }
    let tools: Vec<Tool> = fields.take("tools")?.unwrap_or_default();
    let tool_use = messages::tool_use(fields.take("tool_choice")?, &tools)?;
    let arguments: TemplateArguments = fields.take("chat_template_kwargs")?.unwrap_or_default();
    let mut enable_thinking = fields.take("enable_thinking")?.or(arguments.enable_thinking);
    fields.refuse("logprobs", &json!(0), "mistral.rs 0.8.1 reports them wrongly")?;

    let mut settings = Settings::take(&mut fields, engine.facts(), engine.capacity())?;
    if let ToolUse::Forced(name) = &tool_use {
        if !matches!(settings.constraint, Constraint::None) {
            return Err(ApiError::invalid("tool_choice", "A forced tool call excludes any other constraint."));
        }
        settings.constraint = Constraint::JsonSchema(messages::parameters(&tools, name));
        enable_thinking = Some(false);
    }
    // Tools that may not be called need not be shown.
    let tools = if tool_use == ToolUse::None { Vec::new() } else { tools };
    Ok(Call {
        shape: Shape::Chat,
        prompt: Prompt::Chat { messages, tools, enable_thinking },
        prompt_field: "messages",
        echo: String::new(),
        settings,
        tools: tool_use,
    })
}
