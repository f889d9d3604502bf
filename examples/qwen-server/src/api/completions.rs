//! `POST /v1/completions`.

use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::{
    Api, Parsed,
    answer::Call,
    error::ApiError,
    fields::Fields,
    messages::ToolUse,
    openai::{OpenAiFormat, Shape},
    settings::Settings,
};
use crate::{
    engine::{Engine, Prompt},
    server::App,
};

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

pub(super) static API: Api = Api { model: super::same, parse, refuse: ApiError::into_response };

fn parse(fields: Fields, app: &App, engine: &Engine) -> Result<Parsed, ApiError> {
    let call = call(fields, engine)?;
    let format = OpenAiFormat::new(Shape::Text, &app.name, call.settings.include_usage);
    Ok(Parsed::Call(Box::new(call), Box::new(format)))
}

/// Parses a request to continue a text.
pub(super) fn call(mut fields: Fields, engine: &Engine) -> Result<Call, ApiError> {
    let text = match fields.take("prompt")? {
        Some(OneOrMore::One(text)) => text,
        Some(OneOrMore::More(mut texts)) if texts.len() == 1 => texts.remove(0),
        Some(OneOrMore::More(_)) => {
            return Err(ApiError::unsupported("prompt", "Several prompts need several requests."));
        }
        None => return Err(ApiError::invalid("prompt", "`prompt` is missing.")),
    };
    if text.is_empty() {
        return Err(ApiError::invalid("prompt", "`prompt` is empty."));
    }
    fields.refuse("suffix", &json!(""), "the model cannot fill in the middle")?;
    fields.refuse("best_of", &json!(1), "ask for `n` choices and take the best")?;
    fields.refuse("logprobs", &json!(0), "mistral.rs 0.8.1 reports them wrongly")?;
    let echo = if fields.take("echo")?.unwrap_or(false) { text.clone() } else { String::new() };
    Ok(Call {
        prompt: Prompt::Text(text),
        prompt_field: "prompt",
        echo,
        settings: Settings::take(&mut fields, engine.facts(), engine.capacity())?,
        tools: ToolUse::None,
    })
}
