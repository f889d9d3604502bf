use serde_json::{Value, json};

use super::{Facts, Malformed, Question, Tags, text};

/// The minimum that the API accepts.
const THINKING_BUDGET: u32 = 1024;

pub(super) fn body(question: &Question<'_>) -> Value {
    let mut body = json!({
        "model": question.model,
        "messages": [{"role": "user", "content": question.prompt}],
        "max_tokens": question.output_tokens,
        "stream": question.stream,
    });
    match question.thinking {
        Some(true) => {
            body["thinking"] = json!({"type": "enabled", "budget_tokens": THINKING_BUDGET});
            body["max_tokens"] = (THINKING_BUDGET + question.output_tokens).into();
        }
        Some(false) => body["thinking"] = json!({"type": "disabled"}),
        None => {}
    }
    body
}

pub(super) fn read(value: &Value, tags: &mut Tags) -> Result<Facts, Malformed> {
    let mut facts = Facts::default();
    match text(value, "type") {
        "message_start" => facts.input_tokens = input_tokens(&value["message"]["usage"]),
        "content_block_delta" => block(&value["delta"], &mut facts, tags),
        "message_delta" => {
            facts.finished = value["delta"]["stop_reason"].is_string();
            facts.input_tokens = input_tokens(&value["usage"]);
            facts.output_tokens = value["usage"]["output_tokens"].as_u64();
        }
        "message_stop" => facts.complete = true,
        "error" => facts.failed(&value["error"]),
        "message" => {
            for part in value["content"].as_array().into_iter().flatten() {
                block(part, &mut facts, tags);
            }
            facts.finished = true;
            facts.complete = true;
            facts.input_tokens = input_tokens(&value["usage"]);
            facts.output_tokens = value["usage"]["output_tokens"].as_u64();
        }
        "content_block_start" if value["content_block"]["type"] == "tool_use" => facts.tool_call(),
        // The API's documentation announces that there may be new types of events, so unknown ones are ignored.
        "" => return Err(Malformed),
        _ => {}
    }
    Ok(facts)
}

fn block(block: &Value, facts: &mut Facts, tags: &mut Tags) {
    facts.text(text(block, "text"), tags);
    facts.thought(text(block, "thinking"));
    if !text(block, "partial_json").is_empty() || block["type"] == "tool_use" {
        facts.tool_call();
    }
}

/// Tokens read from and written to a cache are not included in `input_tokens`.
fn input_tokens(usage: &Value) -> Option<u64> {
    let cached = ["cache_read_input_tokens", "cache_creation_input_tokens"].map(|key| usage[key].as_u64().unwrap_or(0));
    cached.into_iter().try_fold(usage["input_tokens"].as_u64()?, u64::checked_add)
}
