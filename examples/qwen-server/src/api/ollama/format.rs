//! Ollama's responses: one JSON object per line.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    super::{
        error::ApiError,
        format::{AnswerFormat, Counts},
        text::{CallDelta, Delta},
    },
    models::now,
};

/// Which of the two endpoints answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Generate,
}

pub(super) struct OllamaFormat {
    shape: Shape,
    model: String,
    started: Instant,
    /// The times of the first and the last text.
    texts: Option<(Instant, Instant)>,
    /// Tool calls are sent complete, with their arguments as an object.
    calls: Vec<CallDelta>,
    finish: Option<&'static str>,
}

impl OllamaFormat {
    pub(super) fn new(shape: Shape, model: &str) -> Self {
        let (started, model) = (Instant::now(), model.to_owned());
        Self { shape, model, started, texts: None, calls: Vec::new(), finish: None }
    }

    fn line(&self, thinking: &str, text: &str, calls: &[Value]) -> Value {
        let mut line = json!({"model": self.model, "created_at": now(), "done": false});
        let place = match self.shape {
            Shape::Chat => {
                line["message"] = json!({"role": "assistant", "content": text});
                &mut line["message"]
            }
            Shape::Generate => {
                line["response"] = json!(text);
                &mut line
            }
        };
        if !thinking.is_empty() {
            place["thinking"] = json!(thinking);
        }
        if !calls.is_empty() {
            place["tool_calls"] = json!(calls);
        }
        line
    }

    /// Adds the fields of the last line. `prompt_eval_duration` is absent, because the engine does not separate waiting from prefill.
    fn finish(&self, line: &mut Value, counts: Counts) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        line["done"] = json!(true);
        line["done_reason"] = json!(if self.finish == Some("length") { "length" } else { "stop" });
        line["total_duration"] = json!(nanoseconds(self.started.elapsed()));
        line["prompt_eval_count"] = json!(counts.prompt);
        line["eval_count"] = json!(counts.output);
        if let Some((first, last)) = self.texts.filter(|(first, last)| last > first) {
            line["eval_duration"] = json!(nanoseconds(last - first));
        }
    }

    fn take_calls(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.calls).iter().map(call_json).collect()
    }
}

impl AnswerFormat for OllamaFormat {
    fn stream_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn begin(&mut self, _frame: &mut Vec<u8>, _choices: usize, _prompt_tokens: u64) {}

    fn delta(&mut self, frame: &mut Vec<u8>, _choice: usize, delta: &Delta) {
        self.finish = delta.finish_reason.or(self.finish);
        for part in &delta.calls {
            match self.calls.iter_mut().find(|call| call.index == part.index) {
                Some(call) => call.arguments += &part.arguments,
                None => self.calls.push(part.clone()),
            }
        }
        let calls = if delta.finish_reason.is_some() { self.take_calls() } else { Vec::new() };
        let spoken = delta.spoken();
        if delta.reasoning.is_empty() && spoken.is_empty() && calls.is_empty() {
            return;
        }
        let now = Instant::now();
        self.texts.get_or_insert((now, now)).1 = now;
        push_line(frame, &self.line(&delta.reasoning, &spoken, &calls));
    }

    fn end(&mut self, frame: &mut Vec<u8>, counts: Counts) {
        let mut line = self.line("", "", &[]);
        self.finish(&mut line, counts);
        push_line(frame, &line);
    }

    fn fail(&mut self, frame: &mut Vec<u8>, error: &ApiError) {
        push_line(frame, &super::body(error));
    }

    /// Clients ignore no line.
    fn keep_alive(&self) -> Option<&'static [u8]> {
        None
    }

    fn document(&mut self, choices: &[Delta], counts: Counts) -> Vec<u8> {
        let all = choices.first().map(|all| {
            self.finish = all.finish_reason;
            let calls: Vec<Value> = all.calls.iter().map(call_json).collect();
            self.line(&all.reasoning, &all.spoken(), &calls)
        });
        let mut line = all.unwrap_or_default();
        self.finish(&mut line, counts);
        line.to_string().into_bytes()
    }
}

/// The answer to a request without a prompt.
pub(super) fn nothing_generated(shape: Shape, model: &str, reason: &str) -> Value {
    let mut line = OllamaFormat::new(shape, model).line("", "", &[]);
    line["done"] = json!(true);
    line["done_reason"] = json!(reason);
    line
}

fn push_line(frame: &mut Vec<u8>, line: &Value) {
    frame.extend_from_slice(line.to_string().as_bytes());
    frame.push(b'\n');
}

fn call_json(call: &CallDelta) -> Value {
    // A truncated call is not valid JSON.
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
    json!({"function": {"name": call.name, "arguments": arguments}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_lines_and_the_last_one_counts() {
        let mut format = OllamaFormat::new(Shape::Chat, "m");
        let mut frame = Vec::new();
        format.begin(&mut frame, 1, 7);
        format.delta(&mut frame, 0, &Delta { reasoning: "hm".into(), ..Delta::default() });
        format.delta(&mut frame, 0, &Delta { content: "Hi".into(), finish_reason: Some("length"), ..Delta::default() });
        format.end(&mut frame, Counts { prompt: 7, output: 2, reasoning: 1 });
        let lines: Vec<Value> =
            std::str::from_utf8(&frame).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["message"], json!({"role": "assistant", "content": "", "thinking": "hm"}));
        assert_eq!((&lines[1]["message"]["content"], &lines[1]["done"]), (&json!("Hi"), &json!(false)));
        assert_eq!((&lines[2]["done"], &lines[2]["done_reason"]), (&json!(true), &json!("length")));
        assert_eq!((&lines[2]["prompt_eval_count"], &lines[2]["eval_count"]), (&json!(7), &json!(2)));
    }

    #[test]
    fn a_tool_call_is_sent_in_one_piece() {
        let mut format = OllamaFormat::new(Shape::Chat, "m");
        let part = |name: Option<&str>, arguments: &str| CallDelta {
            index: 0,
            id: name.map(|_| "call_1".into()),
            name: name.map(Into::into),
            arguments: arguments.into(),
        };
        let mut frame = Vec::new();
        format.delta(&mut frame, 0, &Delta { calls: vec![part(Some("f"), "{\"a\"")], ..Delta::default() });
        assert!(frame.is_empty());
        let rest = Delta { calls: vec![part(None, ":1}")], finish_reason: Some("tool_calls"), ..Delta::default() };
        format.delta(&mut frame, 0, &rest);
        let line: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(line["message"]["tool_calls"], json!([{"function": {"name": "f", "arguments": {"a": 1}}}]));
    }
}
