//! Answers in the format of OpenAI's chat completions and completions.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    error::ApiError,
    format::{AnswerFormat, Counts, unique_id, unix_seconds},
    sse,
    text::{CallDelta, Delta},
};

/// Which of the two endpoints answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Text,
}

/// The fields that all chunks of one response share.
pub(super) struct OpenAiFormat {
    shape: Shape,
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

impl OpenAiFormat {
    /// `include_usage`: a stream ends with the token counts.
    pub(super) fn new(shape: Shape, model: &str, include_usage: bool) -> Self {
        let prefix = match shape {
            Shape::Chat => "chatcmpl-",
            Shape::Text => "cmpl-",
        };
        Self { shape, id: unique_id(prefix), created: unix_seconds(), model: model.to_owned(), include_usage }
    }

    /// The first chunk of a chat choice, with the role and no text.
    fn role_chunk(&self, index: usize) -> Option<Vec<u8>> {
        (self.shape == Shape::Chat).then(|| {
            let delta = json!({"role": "assistant", "content": ""});
            self.chunk(json!([{"index": index, "delta": delta, "finish_reason": null}]), None)
        })
    }

    fn delta_chunk(&self, index: usize, delta: &Delta) -> Vec<u8> {
        let choice = match self.shape {
            Shape::Text => json!({"index": index, "text": delta.spoken(), "logprobs": null,
                "finish_reason": delta.finish_reason}),
            Shape::Chat => json!({"index": index, "delta": chat_fields(delta, true),
                "finish_reason": delta.finish_reason}),
        };
        self.chunk(json!([choice]), None)
    }

    /// The last chunk if the client requested usage: it has no choices.
    fn usage_chunk(&self, counts: Counts) -> Vec<u8> {
        self.chunk(json!([]), Some(usage(counts)))
    }

    fn answer(&self, choices: &[Delta], counts: Counts) -> Vec<u8> {
        let choices = choices.iter().enumerate().map(|(index, all)| match self.shape {
            Shape::Text => json!({"index": index, "text": all.spoken(), "logprobs": null,
                "finish_reason": all.finish_reason}),
            Shape::Chat => {
                let mut message = chat_fields(all, false);
                message.insert("role".into(), json!("assistant"));
                message.entry("content").or_insert(Value::Null);
                json!({"index": index, "message": message, "logprobs": null, "finish_reason": all.finish_reason})
            }
        });
        let object = match self.shape {
            Shape::Chat => "chat.completion",
            Shape::Text => "text_completion",
        };
        self.frame(object, choices.collect(), Some(usage(counts)))
    }

    fn chunk(&self, choices: Value, usage: Option<Value>) -> Vec<u8> {
        let object = match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        };
        self.frame(object, choices, usage)
    }

    fn frame(&self, object: &'static str, choices: Value, usage: Option<Value>) -> Vec<u8> {
        let frame = Document { id: &self.id, object, created: self.created, model: &self.model, choices, usage };
        // Strings, numbers and values: serialising them cannot fail.
        serde_json::to_vec(&frame).unwrap_or_default()
    }
}

impl AnswerFormat for OpenAiFormat {
    fn begin(&mut self, frame: &mut Vec<u8>, choices: usize, _prompt_tokens: u64) {
        for role in (0..choices).filter_map(|index| self.role_chunk(index)) {
            sse::push_event(frame, &role);
        }
    }

    fn delta(&mut self, frame: &mut Vec<u8>, choice: usize, delta: &Delta) {
        sse::push_event(frame, &self.delta_chunk(choice, delta));
    }

    fn end(&mut self, frame: &mut Vec<u8>, counts: Counts) {
        if self.include_usage {
            sse::push_event(frame, &self.usage_chunk(counts));
        }
        frame.extend_from_slice(sse::DONE);
    }

    /// An error instead of `[DONE]`.
    fn fail(&mut self, frame: &mut Vec<u8>, error: &ApiError) {
        sse::push_event(frame, error.body().to_string().as_bytes());
    }

    fn document(&mut self, choices: &[Delta], counts: Counts) -> Vec<u8> {
        self.answer(choices, counts)
    }
}

/// The fields of a chat delta or message. In a stream, tool calls have their index.
fn chat_fields(delta: &Delta, streamed: bool) -> Map<String, Value> {
    let mut fields = Map::new();
    if !delta.refusal.is_empty() {
        fields.insert("refusal".into(), json!(delta.refusal));
    } else if !delta.content.is_empty() || (!streamed && delta.calls.is_empty()) {
        fields.insert("content".into(), json!(delta.content));
    }
    if !delta.reasoning.is_empty() {
        fields.insert("reasoning_content".into(), json!(delta.reasoning));
    }
    if !delta.calls.is_empty() {
        let calls: Vec<Value> = delta.calls.iter().map(|call| call_json(call, streamed)).collect();
        fields.insert("tool_calls".into(), json!(calls));
    }
    fields
}

fn call_json(call: &CallDelta, streamed: bool) -> Value {
    let mut json = json!({"function": {"arguments": call.arguments}});
    if let (Some(id), Some(name)) = (&call.id, &call.name) {
        json["id"] = json!(id);
        json["type"] = json!("function");
        json["function"]["name"] = json!(name);
    }
    if streamed {
        json["index"] = json!(call.index);
    }
    json
}

fn usage(counts: Counts) -> Value {
    json!({
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.output,
        "total_tokens": counts.prompt + counts.output,
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(frame: &[u8]) -> Value {
        serde_json::from_slice(frame).unwrap()
    }

    fn call() -> Delta {
        let call = CallDelta { index: 0, id: Some("call_1".into()), name: Some("f".into()), arguments: "{}".into() };
        Delta { calls: vec![call], finish_reason: Some("tool_calls"), ..Delta::default() }
    }

    #[test]
    fn a_chat_answer_has_a_message_and_usage() {
        let delta = Delta { content: "hi".into(), finish_reason: Some("stop"), ..Delta::default() };
        let counts = Counts { prompt: 3, output: 5, reasoning: 2 };
        let answer = parsed(&OpenAiFormat::new(Shape::Chat, "m", false).answer(&[delta], counts));
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["choices"][0]["message"], json!({"role": "assistant", "content": "hi"}));
        assert_eq!(answer["usage"]["total_tokens"], 8);
        assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
    }

    #[test]
    fn a_chunk_has_no_usage_and_the_usage_chunk_no_choices() {
        let envelope = OpenAiFormat::new(Shape::Text, "m", false);
        let chunk = parsed(&envelope.delta_chunk(1, &Delta { content: "a".into(), ..Delta::default() }));
        assert_eq!(chunk["choices"][0], json!({"index": 1, "text": "a", "logprobs": null, "finish_reason": null}));
        assert!(chunk.get("usage").is_none());
        assert_eq!(parsed(&envelope.usage_chunk(Counts::default()))["choices"], json!([]));
    }

    #[test]
    fn a_tool_call_has_an_index_only_in_a_stream() {
        let envelope = OpenAiFormat::new(Shape::Chat, "m", false);
        let streamed = parsed(&envelope.delta_chunk(0, &call()))["choices"][0]["delta"].take();
        assert_eq!(streamed["tool_calls"][0]["index"], 0);
        let message = parsed(&envelope.answer(&[call()], Counts::default()))["choices"][0]["message"].take();
        assert_eq!(message["content"], Value::Null);
        assert_eq!(
            message["tool_calls"],
            json!([{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}])
        );
    }
}
