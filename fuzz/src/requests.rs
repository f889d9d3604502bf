//! The facts of a request, read from a `serde_json` value in the order of its keys.

use llm_metrics::fuzzing::ParsedRequest;
use serde_json::{Map, Value};

pub fn read(request: &Map<String, Value>) -> ParsedRequest {
    let mut parsed = ParsedRequest::default();
    let (mut limit, mut newer_limit) = (None, None);
    let (mut format, mut grammar) = (None, None);
    let (mut switch, mut effort) = (None, None);
    let word = |value: &Value| value.as_str().map(|effort| effort != "none");
    for (key, value) in request {
        match key.as_str() {
            "model" => parsed.model = value.as_str().filter(|name| !name.is_empty()).map(str::to_owned),
            "stream" => parsed.stream = value.as_bool(),
            "max_tokens" => limit = value.as_u64(),
            "max_completion_tokens" => newer_limit = value.as_u64(),
            "n" => parsed.choices = value.as_u64(),
            "tools" => {
                parsed.tools =
                    value.as_array().is_some_and(|tools| tools.iter().any(|tool| !tool.is_null() && !tool.is_array()))
            }
            "response_format" => format = value["type"].as_str().and_then(format_named),
            "structured_outputs" if value.is_object() => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    match key.as_str() {
                        "json_object" if value == true => grammar = Some("JsonObject"),
                        "json" if !value.is_null() => grammar = Some("JsonSchema"),
                        "regex" | "choice" | "grammar" | "structural_tag" if !value.is_null() => {
                            grammar = Some("Grammar")
                        }
                        _ => {}
                    }
                }
            }
            "grammar" if value.is_object() => {
                if let Some(kind) = value.get("type") {
                    grammar = kind.as_str().map(|kind| match format_named(kind) {
                        None | Some("Text") => "Grammar",
                        Some(format) => format,
                    });
                }
            }
            "guided_regex" | "guided_choice" | "guided_grammar" | "structured_outputs" | "grammar" | "regex"
            | "ebnf"
                if !value.is_null() =>
            {
                grammar = Some("Grammar");
            }
            "guided_json" | "json_schema" if !value.is_null() => grammar = Some("JsonSchema"),
            "enable_thinking" => switch = value.as_bool().or(switch),
            "chat_template_kwargs" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if matches!(key.as_str(), "enable_thinking" | "thinking") {
                        switch = value.as_bool().or(switch);
                    }
                }
            }
            "thinking" => match value["type"].as_str() {
                Some("enabled" | "adaptive") => switch = Some(true),
                Some("disabled") => switch = Some(false),
                _ => {}
            },
            "reasoning_effort" => effort = word(value),
            "reasoning" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    match key.as_str() {
                        "effort" => effort = word(value),
                        "enabled" => switch = value.as_bool().or(switch),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    parsed.max_tokens = newer_limit.or(limit);
    parsed.format = match format {
        None | Some("Text") => grammar.or(format),
        named => named,
    }
    .map(str::to_owned);
    parsed.thinking = switch.or(effort);
    parsed
}

fn format_named(word: &str) -> Option<&'static str> {
    Some(match word {
        "text" => "Text",
        "json_object" => "JsonObject",
        "json_schema" => "JsonSchema",
        "grammar" | "regex" | "lark" | "ebnf" | "structural_tag" => "Grammar",
        _ => return None,
    })
}
