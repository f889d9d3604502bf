//! Anthropic's responses: content blocks, one after the other.

use serde_json::{Value, json};

use super::super::{
    error::ApiError,
    format::{AnswerFormat, Counts, unique_id},
    sse::push_typed_event,
    text::{CallDelta, Delta},
};

pub(super) struct MessageFormat {
    id: String,
    model: String,
    /// The content block that is open, if any, and how many were closed.
    open: Option<Kind>,
    closed: usize,
    refused: bool,
    /// How the text ended.
    stop: (Value, Value),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Thinking,
    Text,
    /// The call with this index.
    ToolUse(usize),
}

impl MessageFormat {
    pub(super) fn new(model: &str) -> Self {
        let (id, model) = (unique_id("msg_"), model.to_owned());
        Self { id, model, open: None, closed: 0, refused: false, stop: (Value::Null, Value::Null) }
    }

    /// Opens a content block, unless it is open.
    fn block(&mut self, frame: &mut Vec<u8>, kind: Kind, block: impl FnOnce() -> Value) {
        if self.open == Some(kind) {
            return;
        }
        self.close(frame);
        self.open = Some(kind);
        let start = json!({"type": "content_block_start", "index": self.closed, "content_block": block()});
        push_typed_event(frame, "content_block_start", &start);
    }

    fn block_delta(&self, frame: &mut Vec<u8>, delta: Value) {
        let delta = json!({"type": "content_block_delta", "index": self.closed, "delta": delta});
        push_typed_event(frame, "content_block_delta", &delta);
    }

    fn close(&mut self, frame: &mut Vec<u8>) {
        if self.open.take().is_some() {
            let stop = json!({"type": "content_block_stop", "index": self.closed});
            push_typed_event(frame, "content_block_stop", &stop);
            self.closed += 1;
        }
    }

    fn call(&mut self, frame: &mut Vec<u8>, call: &CallDelta) {
        self.block(
            frame,
            Kind::ToolUse(call.index),
            || json!({"type": "tool_use", "id": tool_id(call), "name": call.name, "input": {}}),
        );
        if !call.arguments.is_empty() {
            self.block_delta(frame, json!({"type": "input_json_delta", "partial_json": call.arguments}));
        }
    }

    fn message(&self, content: &[Value], stop: (Value, Value), usage: Value) -> Value {
        let (reason, sequence) = stop;
        json!({"id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": reason, "stop_sequence": sequence, "usage": usage})
    }
}

impl AnswerFormat for MessageFormat {
    fn begin(&mut self, frame: &mut Vec<u8>, _choices: usize, prompt_tokens: u64) {
        let usage = json!({"input_tokens": prompt_tokens, "output_tokens": 0});
        let message = self.message(&[], (Value::Null, Value::Null), usage);
        push_typed_event(frame, "message_start", &json!({"type": "message_start", "message": message}));
    }

    fn delta(&mut self, frame: &mut Vec<u8>, _choice: usize, delta: &Delta) {
        if !delta.reasoning.is_empty() {
            self.block(frame, Kind::Thinking, || json!({"type": "thinking", "thinking": "", "signature": ""}));
            self.block_delta(frame, json!({"type": "thinking_delta", "thinking": delta.reasoning}));
        }
        let spoken = delta.spoken();
        if !spoken.is_empty() {
            self.block(frame, Kind::Text, || json!({"type": "text", "text": ""}));
            self.block_delta(frame, json!({"type": "text_delta", "text": spoken}));
        }
        self.refused |= !delta.refusal.is_empty();
        for call in &delta.calls {
            self.call(frame, call);
        }
        if delta.finish_reason.is_some() {
            self.stop = stop(delta, self.refused);
        }
    }

    fn end(&mut self, frame: &mut Vec<u8>, counts: Counts) {
        self.close(frame);
        let (reason, sequence) = std::mem::take(&mut self.stop);
        let delta = json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": {"output_tokens": counts.output}});
        push_typed_event(frame, "message_delta", &delta);
        push_typed_event(frame, "message_stop", &json!({"type": "message_stop"}));
    }

    fn fail(&mut self, frame: &mut Vec<u8>, error: &ApiError) {
        push_typed_event(frame, "error", &super::body(error));
    }

    fn keep_alive(&self) -> Option<&'static [u8]> {
        Some(b"event: ping\ndata: {\"type\":\"ping\"}\n\n")
    }

    fn document(&mut self, choices: &[Delta], counts: Counts) -> Vec<u8> {
        let mut content = Vec::new();
        let mut stopped = (Value::Null, Value::Null);
        for all in choices {
            if !all.reasoning.is_empty() {
                content.push(json!({"type": "thinking", "thinking": all.reasoning, "signature": ""}));
            }
            let spoken = all.spoken();
            if !spoken.is_empty() {
                content.push(json!({"type": "text", "text": spoken}));
            }
            content.extend(all.calls.iter().map(|call| {
                // A truncated call is not valid JSON.
                let input = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
                json!({"type": "tool_use", "id": tool_id(call), "name": call.name, "input": input})
            }));
            stopped = stop(all, !all.refusal.is_empty());
        }
        let usage = json!({"input_tokens": counts.prompt, "output_tokens": counts.output});
        self.message(&content, stopped, usage).to_string().into_bytes()
    }
}

/// Stop reason and stop sequence.
fn stop(delta: &Delta, refused: bool) -> (Value, Value) {
    let reason = match (delta.finish_reason, &delta.stop_sequence) {
        (None, _) => return (Value::Null, Value::Null),
        // There is one word for refusals of the model and of a filter.
        (Some("content_filter"), _) => "refusal",
        (Some("stop"), None) if refused => "refusal",
        (Some("length"), _) => "max_tokens",
        (Some("tool_calls"), _) => "tool_use",
        (Some(_), Some(_)) => "stop_sequence",
        (Some(_), None) => "end_turn",
    };
    (json!(reason), json!(delta.stop_sequence))
}

fn tool_id(call: &CallDelta) -> String {
    call.id.as_deref().map(|id| id.replace("call_", "toolu_")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(frame: &[u8]) -> Vec<Value> {
        let events = std::str::from_utf8(frame).unwrap().split_terminator("\n\n");
        events.map(|event| serde_json::from_str(event.split_once("\ndata: ").unwrap().1).unwrap()).collect()
    }

    #[test]
    fn blocks_open_and_close_in_turn() {
        let mut format = MessageFormat::new("m");
        let mut frame = Vec::new();
        format.begin(&mut frame, 1, 7);
        let call = CallDelta { index: 0, id: Some("call_1".into()), name: Some("f".into()), arguments: "{".into() };
        let rest = CallDelta { index: 0, id: None, name: None, arguments: "}".into() };
        for delta in [
            Delta { reasoning: "hm".into(), ..Delta::default() },
            Delta { content: "Hi".into(), ..Delta::default() },
            Delta { content: " there".into(), ..Delta::default() },
            Delta { calls: vec![call, rest], finish_reason: Some("tool_calls"), ..Delta::default() },
        ] {
            format.delta(&mut frame, 0, &delta);
        }
        format.end(&mut frame, Counts { prompt: 7, output: 5, reasoning: 1 });
        let events = events(&frame);
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let (start, delta, stop) = ("content_block_start", "content_block_delta", "content_block_stop");
        assert_eq!(
            kinds,
            [
                &["message_start", start, delta, stop, start, delta, delta, stop, start, delta, delta, stop][..],
                &["message_delta", "message_stop"],
            ]
            .concat()
        );
        assert_eq!(events[8]["content_block"]["id"], "toolu_1");
        assert_eq!(events[8]["index"], 2);
        assert_eq!(events[12]["delta"]["stop_reason"], "tool_use");
        assert_eq!(events[12]["usage"]["output_tokens"], 5);
    }

    #[test]
    fn a_stop_sequence_is_named() {
        let all = Delta {
            content: "Hi".into(),
            finish_reason: Some("stop"),
            stop_sequence: Some("!".into()),
            ..Delta::default()
        };
        let document = MessageFormat::new("m").document(&[all], Counts { prompt: 3, output: 2, reasoning: 0 });
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!((&document["stop_reason"], &document["stop_sequence"]), (&json!("stop_sequence"), &json!("!")));
        assert_eq!(document["content"], json!([{"type": "text", "text": "Hi"}]));
        assert_eq!(document["usage"], json!({"input_tokens": 3, "output_tokens": 2}));
    }
}
