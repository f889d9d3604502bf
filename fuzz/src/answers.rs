//! What an answer says, read from `serde_json` values in the order in which they stand.

use std::time::Duration;

use llm_metrics::fuzzing::Kind;
use llm_metrics::{FinishReason, Usage};
use serde_json::{Map, Value};

use crate::events::{Answer, Event};

type Object = Map<String, Value>;

/// Where the text of a choice stands.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// In an object of this name: `delta` in a stream, else `message`.
    Message(&'static str),
    /// In `text`.
    Text,
}

/// More tokens than any model could have read or written.
const IMPLAUSIBLE: u64 = 1 << 30;

pub fn read(document: &Object, body: Body, answer: &mut Answer) -> Event {
    let mut event = Event::default();
    for (key, value) in document {
        match (key.as_str(), value) {
            ("model", Value::String(name)) if !name.is_empty() => {
                answer.model.get_or_insert_with(|| name.clone());
            }
            ("error", value) => event.error |= !value.is_null(),
            ("usage", Value::Object(usage)) => {
                let usage = read_usage(usage, &mut answer.implausible);
                event.usage.extend((usage != Usage::new()).then_some(usage));
            }
            ("timings", Value::Object(timings)) => {
                let time = |key: &str| {
                    let milliseconds = timings.get(key)?.as_f64()?;
                    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
                };
                let times = (time("prompt_ms"), time("predicted_ms"));
                event.timings.extend((times != (None, None)).then_some(times));
            }
            ("choices", Value::Array(choices)) => {
                let objects = choices.iter().filter_map(Value::as_object);
                objects.zip(0..).for_each(|(choice, ordinal)| read_choice(choice, ordinal, body, &mut event));
            }
            _ => {}
        }
    }
    event
}

fn read_usage(counts: &Object, implausible: &mut bool) -> Usage {
    let mut usage = Usage::new();
    let mut count = |value: &Value, into: &mut Option<u64>| {
        if let Some(count) = value.as_u64() {
            *implausible |= count > IMPLAUSIBLE;
            *into = (count <= IMPLAUSIBLE).then_some(count);
        }
    };
    for (key, value) in counts {
        match key.as_str() {
            "prompt_tokens" => count(value, &mut usage.input),
            "completion_tokens" => count(value, &mut usage.output),
            "reasoning_tokens" => count(value, &mut usage.reasoning),
            "prompt_tokens_details" => count(&value["cached_tokens"], &mut usage.cached_input),
            "completion_tokens_details" => count(&value["reasoning_tokens"], &mut usage.reasoning),
            _ => {}
        }
    }
    usage
}

fn read_choice(choice: &Object, ordinal: u32, body: Body, event: &mut Event) {
    let mut index = ordinal;
    let mut finish = None;
    for (key, value) in choice {
        match (key.as_str(), body) {
            ("index", _) => {
                index = value.as_u64().and_then(|index| u32::try_from(index).ok()).unwrap_or(ordinal);
            }
            ("finish_reason", _) => finish = value.as_str().and_then(finish_reason),
            ("text", Body::Text) => add(Kind::Answer, value, index, event),
            (key, Body::Message(message)) if key == message => read_message(value, index, event),
            _ => {}
        }
    }
    event.choices.entry(index).or_default().finish.extend(finish);
}

fn read_message(message: &Value, index: u32, event: &mut Event) {
    let mut reasoning = None;
    for (key, value) in message.as_object().into_iter().flatten() {
        match key.as_str() {
            "content" => add(Kind::Answer, value, index, event),
            "refusal" => add(Kind::Refusal, value, index, event),
            "reasoning" | "reasoning_content" => {
                let has_text = value.as_str().is_some_and(|text| !text.is_empty());
                // The same text may come under both names.
                if has_text && *reasoning.get_or_insert(key) == key {
                    add(Kind::Reasoning, value, index, event);
                }
            }
            "function_call" => read_function(value, index, event),
            "tool_calls" => {
                for call in value.as_array().into_iter().flatten().filter(|call| call.is_object()) {
                    read_function(&call["function"], index, event);
                }
            }
            _ => {}
        }
    }
}

fn read_function(function: &Value, index: u32, event: &mut Event) {
    for (key, value) in function.as_object().into_iter().flatten() {
        if matches!(key.as_str(), "name" | "arguments") {
            add(Kind::ToolCall, value, index, event);
        }
    }
}

fn add(kind: Kind, value: &Value, index: u32, event: &mut Event) {
    if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
        event.choices.entry(index).or_default().texts.entry(kind).or_default().extend(text.as_bytes());
    }
}

fn finish_reason(word: &str) -> Option<FinishReason> {
    Some(match word {
        "" => return None,
        "stop" | "end_turn" | "stop_sequence" | "eos" | "eos_token" => FinishReason::Stop,
        "length" | "max_tokens" => FinishReason::Length,
        "tool_calls" | "function_call" | "tool_use" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "refusal" => FinishReason::Refusal,
        "repetition" => FinishReason::Repetition,
        "pause" | "pause_turn" => FinishReason::Pause,
        "abort" | "canceled" | "cancelled" => FinishReason::Abort,
        "error" => FinishReason::Error,
        _ => FinishReason::Other,
    })
}
