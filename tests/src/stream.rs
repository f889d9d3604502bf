//! Parts of OpenAI streams, as real servers send them.

use serde_json::{Value, json};

/// The path of chat completions.
pub const CHAT: &str = "/v1/chat/completions";
/// The path of completions.
pub const COMPLETIONS: &str = "/v1/completions";
/// The end of a stream.
pub const DONE: &str = "data: [DONE]\n\n";

/// An event with any data.
#[must_use]
pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// A chat chunk with one choice.
#[must_use]
pub fn chunk(delta: &Value, finish_reason: Option<&str>) -> String {
    event(&json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "Qwen3-4B",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }))
}

/// The first chunk of most servers: a role and no token.
#[must_use]
pub fn role() -> String {
    chunk(&json!({"role": "assistant", "content": ""}), None)
}

/// Text of the answer.
#[must_use]
pub fn token(text: &str) -> String {
    chunk(&json!({"content": text}), None)
}

/// Reasoning text, under the key that most servers use.
#[must_use]
pub fn thought(text: &str) -> String {
    chunk(&json!({"reasoning_content": text}), None)
}

/// The last chunk of a choice.
#[must_use]
pub fn finish(reason: &str) -> String {
    chunk(&json!({}), Some(reason))
}

/// Usage in a chunk without choices.
#[must_use]
pub fn usage(input: u64, output: u64) -> String {
    event(&json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "Qwen3-4B", "choices": [],
        "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input.saturating_add(output)},
    }))
}

/// A complete chat stream: a role, tokens, the finish reason, and usage.
#[must_use]
pub fn well(tokens: usize) -> Vec<String> {
    let words = (0..tokens).map(|n| token(&format!("word{n} ")));
    let end = [finish("stop"), usage(9, tokens as u64), DONE.to_owned()];
    std::iter::once(role()).chain(words).chain(end).collect()
}

/// A complete chat completion in one document.
#[must_use]
pub fn completion(text: &str, input: u64, output: u64) -> String {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "Qwen3-4B",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
    })
    .to_string()
}

/// A request for a streamed chat.
#[must_use]
pub fn ask(model: &str) -> String {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "Say hi."}]}).to_string()
}

/// A request for a chat without streaming.
#[must_use]
pub fn ask_whole(model: &str) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": "Say hi."}]}).to_string()
}
