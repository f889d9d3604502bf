//! `POST /v1/chat/completions`.

use axum::response::IntoResponse;
use mistralrs::{Constraint, Tool};
use serde::Deserialize;
use serde_json::json;

use super::{
    Api, Parsed,
    answer::Call,
    error::ApiError,
    fields::Fields,
    messages::{self, ToolUse},
    openai::{OpenAiFormat, Shape},
    settings::Settings,
};
use crate::{
    engine::{Engine, Prompt},
    server::App,
};

/// The switch for thinking in vLLM and SGLang.
#[derive(Default, Deserialize)]
struct TemplateArguments {
    enable_thinking: Option<bool>,
}

pub(super) static API: Api = Api { model: super::same, parse, refuse: ApiError::into_response };

fn parse(fields: Fields, app: &App, engine: &Engine) -> Result<Parsed, ApiError> {
    let call = call(fields, engine)?;
    let format = OpenAiFormat::new(Shape::Chat, &app.name, call.settings.include_usage);
    Ok(Parsed::Call(Box::new(call), Box::new(format)))
}

/// Parses a chat request; other APIs are translated to one.
pub(super) fn call(mut fields: Fields, engine: &Engine) -> Result<Call, ApiError> {
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
    // Tools that may not be called are left out.
    let tools = if tool_use == ToolUse::None { Vec::new() } else { tools };
    Ok(Call {
        prompt: Prompt::Chat { messages, tools, enable_thinking },
        prompt_field: "messages",
        echo: String::new(),
        settings,
        tools: tool_use,
    })
}
