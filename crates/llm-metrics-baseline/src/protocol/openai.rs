use serde_json::{Value, json};

use super::{Facts, Malformed, Question, Tags, text};

pub(super) fn body(question: &Question<'_>) -> Value {
    let mut body = json!({
        "model": question.model,
        "messages": [{"role": "user", "content": question.prompt}],
        "max_tokens": question.output_tokens,
        "stream": question.stream,
    });
    if question.stream {
        body["stream_options"] = json!({"include_usage": true});
    }
    if let Some(thinking) = question.thinking {
        // vLLM, SGLang, llama.cpp and mistral.rs read Qwen's switch here.
        body["chat_template_kwargs"] = json!({"enable_thinking": thinking});
    }
    body
}

pub(super) fn read(value: &Value, tags: &mut Tags) -> Result<Facts, Malformed> {
    let mut facts = Facts::default();
    let error = &value["error"];
    if !error.is_null() {
        facts.failed(error);
        return Ok(facts);
    }
    let choices = value["choices"].as_array();
    if choices.is_none() && !value["usage"].is_object() {
        return Err(Malformed);
    }
    for choice in choices.into_iter().flatten() {
        let said = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
        for key in ["reasoning_content", "reasoning"] {
            facts.thought(text(said, key));
        }
        for part in [text(said, "content"), text(said, "refusal"), text(choice, "text")] {
            facts.text(part, tags);
        }
        if said["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) {
            facts.tool_call();
        }
        facts.finished |= choice["finish_reason"].is_string();
    }
    facts.complete = facts.finished;
    facts.input_tokens = value["usage"]["prompt_tokens"].as_u64();
    facts.output_tokens = value["usage"]["completion_tokens"].as_u64();
    Ok(facts)
}
