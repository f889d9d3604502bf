use serde_json::{Value, json};

use super::{Facts, Malformed, Question, Tags, text};

pub(super) fn body(question: &Question<'_>) -> Value {
    let mut body = json!({
        "model": question.model,
        "messages": [{"role": "user", "content": question.prompt}],
        "options": {"num_predict": question.output_tokens},
        "stream": question.stream,
    });
    if let Some(thinking) = question.thinking {
        body["think"] = thinking.into();
    }
    body
}

pub(super) fn read(value: &Value, tags: &mut Tags) -> Result<Facts, Malformed> {
    let mut facts = Facts::default();
    if !value["error"].is_null() {
        facts.failed(&value["error"]);
        return Ok(facts);
    }
    let done = value["done"].as_bool().ok_or(Malformed)?;
    let message = &value["message"];
    facts.thought(text(message, "thinking"));
    facts.text(text(message, "content"), tags);
    if message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) {
        facts.tool_call();
    }
    facts.finished = done;
    facts.complete = done;
    facts.input_tokens = value["prompt_eval_count"].as_u64();
    facts.output_tokens = value["eval_count"].as_u64();
    Ok(facts)
}
