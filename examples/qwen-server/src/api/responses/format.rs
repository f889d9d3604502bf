//! Responses of the Responses API: items, and an event for every change of them.

use serde_json::{Value, json};

use super::super::{
    error::ApiError,
    format::{AnswerFormat, Counts, unique_id, unix_seconds},
    sse::push_typed_event,
    text::Delta,
};

pub(super) struct ResponseFormat {
    id: String,
    created: u64,
    model: String,
    /// The number of the next event.
    sequence: u64,
    /// The last of these is being written, if `open`.
    items: Vec<Item>,
    open: bool,
    finish: Option<&'static str>,
}

/// An item of the output, as far as it was written.
struct Item {
    id: String,
    kind: Kind,
    text: String,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    Refusal,
    Call { index: usize, id: String, name: String },
}

impl Kind {
    fn prefix(&self) -> &'static str {
        match self {
            Self::Reasoning => "rs_",
            Self::Message | Self::Refusal => "msg_",
            Self::Call { .. } => "fc_",
        }
    }

    /// The events for a piece of its text, and for its end.
    fn events(&self) -> (&'static str, &'static str) {
        match self {
            Self::Reasoning => ("response.reasoning_text.delta", "response.reasoning_text.done"),
            Self::Message => ("response.output_text.delta", "response.output_text.done"),
            Self::Refusal => ("response.refusal.delta", "response.refusal.done"),
            Self::Call { .. } => ("response.function_call_arguments.delta", "response.function_call_arguments.done"),
        }
    }
}

impl Item {
    fn new(kind: Kind) -> Self {
        Self { id: unique_id(kind.prefix()), kind, text: String::new() }
    }

    /// Its only content part; a call has none.
    fn part(&self) -> Option<Value> {
        match self.kind {
            Kind::Reasoning => Some(json!({"type": "reasoning_text", "text": self.text})),
            Kind::Message => Some(json!({"type": "output_text", "text": self.text, "annotations": []})),
            Kind::Refusal => Some(json!({"type": "refusal", "refusal": self.text})),
            Kind::Call { .. } => None,
        }
    }

    fn json(&self, status: &str) -> Value {
        let content: Vec<Value> = self.part().filter(|_| status != "in_progress").into_iter().collect();
        match &self.kind {
            Kind::Reasoning => json!({"id": self.id, "type": "reasoning", "summary": [], "content": content}),
            Kind::Message | Kind::Refusal => {
                json!({"id": self.id, "type": "message", "role": "assistant", "status": status, "content": content})
            }
            Kind::Call { id, name, .. } => json!({"id": self.id, "type": "function_call", "call_id": id, "name": name,
                "arguments": self.text, "status": status}),
        }
    }
}

impl ResponseFormat {
    pub(super) fn new(model: &str) -> Self {
        Self {
            id: unique_id("resp_"),
            created: unix_seconds(),
            model: model.to_owned(),
            sequence: 0,
            items: Vec::new(),
            open: false,
            finish: None,
        }
    }

    fn event(&mut self, frame: &mut Vec<u8>, kind: &str, mut fields: Value) {
        fields["type"] = json!(kind);
        fields["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        push_typed_event(frame, kind, &fields);
    }

    /// An event about the item being written.
    fn item_event(&mut self, frame: &mut Vec<u8>, kind: &str, mut fields: Value) {
        fields["output_index"] = json!(self.items.len().saturating_sub(1));
        self.event(frame, kind, fields);
    }

    /// Opens an item, unless one like it is open.
    fn open(&mut self, frame: &mut Vec<u8>, kind: Kind) {
        if self.open && self.items.last().is_some_and(|item| item.kind == kind) {
            return;
        }
        self.close(frame);
        let item = Item::new(kind);
        let (added, part, id) = (item.json("in_progress"), item.part(), item.id.clone());
        self.items.push(item);
        self.open = true;
        self.item_event(frame, "response.output_item.added", json!({"item": added}));
        if let Some(part) = part {
            self.item_event(
                frame,
                "response.content_part.added",
                json!({"item_id": id, "content_index": 0, "part": part}),
            );
        }
    }

    fn text(&mut self, frame: &mut Vec<u8>, text: &str) {
        let Some(item) = self.items.last_mut().filter(|_| !text.is_empty()) else { return };
        item.text.push_str(text);
        let ((delta, _), part, id) = (item.kind.events(), item.part(), item.id.clone());
        self.item_event(frame, delta, with_part(json!({"item_id": id, "delta": text}), part.is_some()));
    }

    fn close(&mut self, frame: &mut Vec<u8>) {
        let Some(item) = self.items.last().filter(|_| self.open) else { return };
        let ((_, done), part, id, text) = (item.kind.events(), item.part(), item.id.clone(), item.text.clone());
        let whole = item.json(self.item_status());
        let field = match item.kind {
            Kind::Reasoning | Kind::Message => "text",
            Kind::Refusal => "refusal",
            Kind::Call { .. } => "arguments",
        };
        self.open = false;
        self.item_event(frame, done, with_part(json!({"item_id": id, field: text}), part.is_some()));
        if let Some(part) = part {
            self.item_event(
                frame,
                "response.content_part.done",
                json!({"item_id": id, "content_index": 0, "part": part}),
            );
        }
        self.item_event(frame, "response.output_item.done", json!({"item": whole}));
    }

    /// The reason if the text is incomplete.
    fn cut_by(&self) -> Option<&'static str> {
        match self.finish {
            Some("length") => Some("max_output_tokens"),
            Some("content_filter") => Some("content_filter"),
            _ => None,
        }
    }

    fn item_status(&self) -> &'static str {
        if self.cut_by().is_some() { "incomplete" } else { "completed" }
    }

    fn response(&self, status: &str, error: Value, counts: Option<Counts>) -> Value {
        let cut_by = self.cut_by().filter(|_| status == "incomplete");
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": error,
            "incomplete_details": cut_by.map(|reason| json!({"reason": reason})),
            "model": self.model,
            "output": self.items.iter().map(|item| item.json(self.item_status())).collect::<Vec<_>>(),
            "parallel_tool_calls": true,
            "store": false,
            "tool_choice": "auto",
            "tools": [],
            "usage": counts.map(|counts| json!({
                "input_tokens": counts.prompt,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": counts.output,
                "output_tokens_details": {"reasoning_tokens": counts.reasoning},
                "total_tokens": counts.prompt + counts.output,
            })),
        })
    }
}

impl AnswerFormat for ResponseFormat {
    fn begin(&mut self, frame: &mut Vec<u8>, _choices: usize, _prompt_tokens: u64) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress", Value::Null, None);
            self.event(frame, kind, json!({"response": response}));
        }
    }

    fn delta(&mut self, frame: &mut Vec<u8>, _choice: usize, delta: &Delta) {
        if !delta.reasoning.is_empty() {
            self.open(frame, Kind::Reasoning);
            self.text(frame, &delta.reasoning);
        }
        if !delta.content.is_empty() {
            self.open(frame, Kind::Message);
            self.text(frame, &delta.content);
        }
        if !delta.refusal.is_empty() {
            self.open(frame, Kind::Refusal);
            self.text(frame, &delta.refusal);
        }
        for call in &delta.calls {
            if let (Some(id), Some(name)) = (&call.id, &call.name) {
                self.open(frame, Kind::Call { index: call.index, id: id.clone(), name: name.clone() });
            }
            self.text(frame, &call.arguments);
        }
        self.finish = delta.finish_reason.or(self.finish);
    }

    fn end(&mut self, frame: &mut Vec<u8>, counts: Counts) {
        self.close(frame);
        let status = self.item_status();
        let response = self.response(status, Value::Null, Some(counts));
        self.event(frame, &format!("response.{status}"), json!({"response": response}));
    }

    fn fail(&mut self, frame: &mut Vec<u8>, error: &ApiError) {
        let error = json!({"code": error.code().unwrap_or("server_error"), "message": error.message()});
        let response = self.response("failed", error, None);
        self.event(frame, "response.failed", json!({"response": response}));
    }

    fn document(&mut self, choices: &[Delta], counts: Counts) -> Vec<u8> {
        // The same items as in a stream, without its events.
        let mut events = Vec::new();
        for all in choices {
            self.delta(&mut events, 0, all);
        }
        self.response(self.item_status(), Value::Null, Some(counts)).to_string().into_bytes()
    }
}

/// Text is in a content part; the arguments of a call are not.
fn with_part(mut fields: Value, has_part: bool) -> Value {
    if has_part {
        fields["content_index"] = json!(0);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::super::super::text::CallDelta;
    use super::*;

    fn deltas(finish: &'static str) -> [Delta; 3] {
        let call = CallDelta { index: 0, id: Some("call_1".into()), name: Some("f".into()), arguments: "{}".into() };
        [
            Delta { reasoning: "hm".into(), ..Delta::default() },
            Delta { content: "Hi".into(), ..Delta::default() },
            Delta { calls: vec![call], finish_reason: Some(finish), ..Delta::default() },
        ]
    }

    #[test]
    fn events_are_numbered_and_the_last_one_has_everything() {
        let mut format = ResponseFormat::new("m");
        let mut frame = Vec::new();
        format.begin(&mut frame, 1, 7);
        for delta in deltas("tool_calls") {
            format.delta(&mut frame, 0, &delta);
        }
        format.end(&mut frame, Counts { prompt: 7, output: 5, reasoning: 1 });
        let frame = String::from_utf8(frame).unwrap();
        let events: Vec<(&str, Value)> = frame
            .split_terminator("\n\n")
            .map(|event| event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap())
            .map(|(kind, data)| (kind, serde_json::from_str(data).unwrap()))
            .collect();
        for (number, (kind, data)) in events.iter().enumerate() {
            assert_eq!((&data["type"], &data["sequence_number"]), (&json!(kind), &json!(number)));
        }
        let bearing: Vec<&str> = events.iter().map(|(kind, _)| *kind).filter(|kind| kind.ends_with(".delta")).collect();
        assert_eq!(
            bearing,
            ["response.reasoning_text.delta", "response.output_text.delta", "response.function_call_arguments.delta"]
        );
        let (kind, last) = events.last().unwrap();
        assert_eq!(*kind, "response.completed");
        let response = &last["response"];
        assert_eq!(response["output"][1]["content"][0]["text"], "Hi");
        assert_eq!(response["output"][2]["call_id"], "call_1");
        assert_eq!(response["usage"]["output_tokens_details"]["reasoning_tokens"], 1);
    }

    #[test]
    fn a_cut_answer_is_incomplete_and_a_failure_failed() {
        let [_, said, _] = deltas("stop");
        let cut = Delta { finish_reason: Some("length"), ..said };
        let document = ResponseFormat::new("m").document(&[cut], Counts::default());
        let document: Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["status"], "incomplete");
        assert_eq!(document["incomplete_details"]["reason"], "max_output_tokens");
        assert_eq!(document["output"][0]["status"], "incomplete");

        let mut frame = Vec::new();
        ResponseFormat::new("m").fail(&mut frame, &ApiError::overloaded());
        let frame = String::from_utf8(frame).unwrap();
        assert!(frame.starts_with("event: response.failed\n") && frame.contains(r#""code":"overloaded""#), "{frame}");
    }

    #[test]
    fn a_second_call_is_a_separate_item() {
        let mut format = ResponseFormat::new("m");
        let call = |index: usize| CallDelta {
            index,
            id: Some(format!("call_{index}")),
            name: Some("f".into()),
            arguments: format!("{{\"n\":{index}}}"),
        };
        let all = Delta { calls: vec![call(0), call(1)], finish_reason: Some("tool_calls"), ..Delta::default() };
        let document: Value = serde_json::from_slice(&format.document(&[all], Counts::default())).unwrap();
        let arguments: Vec<&Value> =
            document["output"].as_array().unwrap().iter().map(|item| &item["arguments"]).collect();
        assert_eq!(arguments, [&json!("{\"n\":0}"), &json!("{\"n\":1}")]);
    }
}
