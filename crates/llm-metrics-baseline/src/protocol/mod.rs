//! Protocols of servers: how to build a request, and how to read a response. Implemented independently of the readers of [`llm_metrics`], so that
//! clients' measurements do not share their mistakes.

mod anthropic;
mod ollama;
mod openai;

use http::{HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::observation::{ErrorKind, Failure};

/// The API of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Protocol {
    /// `POST /v1/chat/completions`: OpenAI, vLLM, SGLang, llama.cpp, mistral.rs …
    #[default]
    OpenAi,
    /// `POST /v1/messages`.
    Anthropic,
    /// `POST /api/chat`.
    Ollama,
}

/// The content of one request.
pub(crate) struct Question<'a> {
    pub(crate) model: &'a str,
    pub(crate) prompt: &'a str,
    pub(crate) output_tokens: u32,
    pub(crate) stream: bool,
    /// `None` for the server's default.
    pub(crate) thinking: Option<bool>,
}

/// The content of one event, line or document of a response.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// It has text, reasoning or a tool call.
    pub(crate) tokens: bool,
    /// It has text that is not reasoning, or a tool call.
    pub(crate) answer: bool,
    /// It has reasoning.
    pub(crate) reasoning: bool,
    /// It has a finish reason.
    pub(crate) finished: bool,
    /// The response ends with it, except for usage.
    pub(crate) complete: bool,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) error: Option<Failure>,
}

/// It is not valid in this protocol.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed;

impl Protocol {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
            Self::Ollama => "/api/chat",
        }
    }

    pub(crate) fn body(self, question: &Question<'_>) -> Value {
        match self {
            Self::OpenAi => openai::body(question),
            Self::Anthropic => anthropic::body(question),
            Self::Ollama => ollama::body(question),
        }
    }

    /// The headers of this protocol: the key, and its version.
    pub(crate) fn headers(self, key: Option<&HeaderValue>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let bearer = |key: &HeaderValue| HeaderValue::from_bytes(&[b"Bearer ", key.as_bytes()].concat()).ok();
        match self {
            Self::Anthropic => {
                headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
                headers.extend(key.map(|key| (http::HeaderName::from_static("x-api-key"), key.clone())));
            }
            Self::OpenAi | Self::Ollama => {
                headers.extend(key.and_then(bearer).map(|value| (http::header::AUTHORIZATION, value)));
            }
        }
        for value in headers.values_mut() {
            value.set_sensitive(true);
        }
        headers
    }
}

/// Reads the response to one request.
pub(crate) struct Reader {
    protocol: Protocol,
    tags: Tags,
}

impl Reader {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self { protocol, tags: Tags::default() }
    }

    /// Reads one event's data, one line, or one document.
    pub(crate) fn read(&mut self, text: &[u8]) -> Result<Facts, Malformed> {
        if self.protocol == Protocol::OpenAi && text == b"[DONE]" {
            return Ok(Facts { complete: true, ..Facts::default() });
        }
        let value: Value = serde_json::from_slice(text).map_err(|_| Malformed)?;
        match self.protocol {
            Protocol::OpenAi => openai::read(&value, &mut self.tags),
            Protocol::Anthropic => anthropic::read(&value, &mut self.tags),
            Protocol::Ollama => ollama::read(&value, &mut self.tags),
        }
    }
}

/// Whether the current text is between `<think>` and `</think>`. Models have one token for each tag, so a tag is never split.
#[derive(Default)]
pub(crate) struct Tags {
    inside: bool,
}

impl Facts {
    /// Text outside the tags is part of the answer, text between them is reasoning.
    fn text(&mut self, text: &str, tags: &mut Tags) {
        self.tokens |= !text.is_empty();
        let mut rest = text;
        while !rest.is_empty() {
            let tag = if tags.inside { "</think>" } else { "<think>" };
            let (part, after) = match rest.find(tag) {
                Some(at) => (&rest[..at], Some(&rest[at + tag.len()..])),
                None => (rest, None),
            };
            let blank = part.trim().is_empty();
            if tags.inside {
                self.reasoning |= !blank
            } else {
                self.answer |= !blank
            }
            tags.inside ^= after.is_some();
            rest = after.unwrap_or("");
        }
    }

    fn thought(&mut self, text: &str) {
        self.tokens |= !text.is_empty();
        self.reasoning |= !text.trim().is_empty();
    }

    fn tool_call(&mut self) {
        self.tokens = true;
        self.answer = true;
    }

    fn failed(&mut self, error: &Value) {
        self.error = Some(Failure::because(in_band(error), &words(error).unwrap_or_default()));
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

/// The maximum number of characters that are kept of a server's error message.
const MOST_WORDS: usize = 200;

/// The error message in the body of an error response, as one line.
pub(crate) fn complaint(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let error = if value["error"].is_null() { &value } else { &value["error"] };
    words(error)
}

/// `{"message": "…"}` (OpenAI, Anthropic), a string (Ollama), or `{"detail": "…"}` (FastAPI).
fn words(error: &Value) -> Option<String> {
    let texts = [error.as_str(), error["message"].as_str(), error["detail"].as_str()];
    let line = texts.into_iter().flatten().next()?.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|character| !character.is_control()).take(MOST_WORDS).collect();
    (!line.is_empty()).then_some(line)
}

/// The kind of an error inside a response, by its code or type.
fn in_band(error: &Value) -> ErrorKind {
    let words = ["code", "type", "status"].map(|key| match &error[key] {
        Value::Number(number) => number.to_string(),
        other => other.as_str().unwrap_or("").to_ascii_lowercase(),
    });
    let says = |what: &[&str]| words.iter().any(|word| what.iter().any(|part| word.contains(part)));
    if says(&["429", "rate_limit"]) {
        ErrorKind::RateLimited
    } else if says(&["503", "529", "overloaded", "unavailable"]) {
        ErrorKind::Overloaded
    } else {
        ErrorKind::StreamError
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(protocol: Protocol, values: &[Value]) -> Vec<Facts> {
        let mut reader = Reader::new(protocol);
        values.iter().map(|value| reader.read(value.to_string().as_bytes()).unwrap()).collect()
    }

    /// (tokens, answer, reasoning, finished, complete)
    fn marks(facts: &[Facts]) -> Vec<(bool, bool, bool, bool, bool)> {
        facts.iter().map(|f| (f.tokens, f.answer, f.reasoning, f.finished, f.complete)).collect()
    }

    const NOTHING: (bool, bool, bool, bool, bool) = (false, false, false, false, false);
    const THOUGHT: (bool, bool, bool, bool, bool) = (true, false, true, false, false);
    const ANSWER: (bool, bool, bool, bool, bool) = (true, true, false, false, false);

    #[test]
    fn openai_stream_roles_and_empty_texts_are_not_tokens_and_usage_comes_last() {
        let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
        let facts = read(
            Protocol::OpenAi,
            &[
                delta(json!({"role": "assistant", "content": ""})),
                delta(json!({"reasoning_content": "Hm"})),
                delta(json!({"reasoning": "Hm"})),
                delta(json!({"content": "Yes"})),
                delta(json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]})),
                json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
                json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4}}),
            ],
        );
        assert_eq!(
            marks(&facts),
            [NOTHING, THOUGHT, THOUGHT, ANSWER, ANSWER, (false, false, false, true, true), NOTHING]
        );
        assert_eq!((facts[6].input_tokens, facts[6].output_tokens), (Some(7), Some(4)));
        assert!(Reader::new(Protocol::OpenAi).read(b"[DONE]").unwrap().complete);
    }

    #[test]
    fn text_between_think_tags_is_reasoning() {
        let delta = |text: &str| json!({"choices": [{"delta": {"content": text}}]});
        let facts = read(
            Protocol::OpenAi,
            &[delta("<think>"), delta("so"), delta("done</think>\n\n"), delta("Yes"), delta("<think>a</think>b")],
        );
        let tag = (true, false, false, false, false);
        assert_eq!(marks(&facts), [tag, THOUGHT, THOUGHT, ANSWER, (true, true, true, false, false)]);
    }

    #[test]
    fn anthropic_stream_is_complete_at_message_stop() {
        let facts = read(
            Protocol::Anthropic,
            &[
                json!({"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 1}}}),
                json!({"type": "ping"}),
                json!({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}),
                json!({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm"}}),
                json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Yes"}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}}),
                json!({"type": "message_stop"}),
            ],
        );
        assert_eq!(
            marks(&facts),
            [
                NOTHING,
                NOTHING,
                NOTHING,
                THOUGHT,
                ANSWER,
                (false, false, false, true, false),
                (false, false, false, false, true)
            ]
        );
        assert_eq!((facts[0].input_tokens, facts[0].output_tokens), (Some(8), None), "a placeholder is not a count");
        assert_eq!(facts[5].output_tokens, Some(12));
    }

    #[test]
    fn ollama_stream_is_complete_when_done() {
        let facts = read(
            Protocol::Ollama,
            &[
                json!({"message": {"role": "assistant", "content": "", "thinking": "Hm"}, "done": false}),
                json!({"message": {"role": "assistant", "content": "Yes"}, "done": false}),
                json!({"message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 2}),
            ],
        );
        assert_eq!(marks(&facts), [THOUGHT, ANSWER, (false, false, false, true, true)]);
        assert_eq!((facts[2].input_tokens, facts[2].output_tokens), (Some(9), Some(2)));
    }

    #[test]
    fn a_document_has_all_facts_in_one_message() {
        let whole = (true, true, false, true, true);
        for (protocol, document) in [
            (
                Protocol::OpenAi,
                json!({"choices": [{"message": {"content": "Yes"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}),
            ),
            (
                Protocol::Anthropic,
                json!({"type": "message", "content": [{"type": "text", "text": "Yes"}], "stop_reason": "end_turn", "usage": {"output_tokens": 1}}),
            ),
            (Protocol::Ollama, json!({"message": {"content": "Yes"}, "done": true, "eval_count": 1})),
        ] {
            let facts = read(protocol, &[document]);
            assert_eq!((marks(&facts), facts[0].output_tokens), (vec![whole], Some(1)), "{protocol:?}");
        }
    }

    #[test]
    fn errors_inside_a_response_are_classified() {
        for (protocol, event, kind) in [
            (Protocol::OpenAi, json!({"error": {"message": "boom"}}), ErrorKind::StreamError),
            (Protocol::OpenAi, json!({"error": {"code": 429}}), ErrorKind::RateLimited),
            (
                Protocol::Anthropic,
                json!({"type": "error", "error": {"type": "overloaded_error"}}),
                ErrorKind::Overloaded,
            ),
            (Protocol::Ollama, json!({"error": "model not found"}), ErrorKind::StreamError),
        ] {
            let error = read(protocol, &[event])[0].error.clone();
            assert_eq!(error.map(|failure| failure.kind), Some(kind), "{protocol:?}");
        }
    }

    #[test]
    fn error_messages_are_shortened_to_one_line() {
        for (body, said) in [
            ("{\"error\": {\"message\": \"no model\\n  x\", \"type\": \"a\"}}", Some("no model x")),
            ("{\"error\": \"model 'x' not found\"}", Some("model 'x' not found")),
            ("{\"detail\": \"Not Found\"}", Some("Not Found")),
            ("{\"object\": \"error\", \"message\": \"too long\"}", Some("too long")),
            ("{\"detail\": [{\"input\": \"a prompt\"}]}", None),
            ("<html>", None),
            ("{\"error\": {}}", None),
        ] {
            assert_eq!(complaint(body.as_bytes()).as_deref(), said, "{body}");
        }
        assert_eq!(complaint(json!({"error": "x".repeat(5000)}).to_string().as_bytes()).unwrap().len(), 200);
        let failed = read(Protocol::OpenAi, &[json!({"error": {"message": "boom", "code": 500}})]);
        assert_eq!(failed[0].error.as_ref().unwrap().to_string(), "stream_error (boom)");
    }

    #[test]
    fn messages_of_other_protocols_are_malformed() {
        for protocol in [Protocol::OpenAi, Protocol::Anthropic, Protocol::Ollama] {
            for garbage in
                ["", "hello", "{}", "[]", "{\"choices\": 3}", "{\"error\": null}", "{\"x\": 1}", "null", "\u{0}"]
            {
                assert_eq!(Reader::new(protocol).read(garbage.as_bytes()), Err(Malformed), "{protocol:?} {garbage:?}");
            }
        }
    }

    #[test]
    fn the_thinking_switch_is_spelled_as_each_server_reads_it() {
        let question =
            |thinking| Question { model: "m", prompt: "p", output_tokens: 32, stream: true, thinking: Some(thinking) };
        let body = Protocol::OpenAi.body(&question(false));
        assert_eq!(body["chat_template_kwargs"]["enable_thinking"], false);
        assert_eq!((&body["max_tokens"], &body["stream_options"]["include_usage"]), (&json!(32), &json!(true)));
        assert_eq!(Protocol::Ollama.body(&question(true))["think"], true);
        assert_eq!(Protocol::Ollama.body(&question(true))["options"]["num_predict"], 32);
        let body = Protocol::Anthropic.body(&question(true));
        assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 1024}));
        assert_eq!(body["max_tokens"], 1024 + 32, "the limit has to be above the budget");
        assert_eq!(Protocol::Anthropic.body(&question(false))["thinking"]["type"], "disabled");
    }

    #[test]
    fn keys_are_sent_in_the_header_of_each_protocol_and_are_not_shown() {
        let key = HeaderValue::from_static("secret");
        assert_eq!(Protocol::OpenAi.headers(Some(&key))["authorization"], "Bearer secret");
        assert_eq!(Protocol::Anthropic.headers(Some(&key))["x-api-key"], "secret");
        assert!(!format!("{:?}", Protocol::Anthropic.headers(Some(&key))).contains("secret"));
        assert!(Protocol::Ollama.headers(None).is_empty());
    }
}
