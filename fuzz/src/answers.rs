//! The facts of an answer, read from `serde_json` values in their order.

use std::time::Duration;

use llm_metrics::fuzzing::Kind;
use llm_metrics::{FinishReason, Usage};
use serde_json::{Map, Value};

use crate::events::{Answer, Event};

type Object = Map<String, Value>;

/// The place of a choice's text.
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
            ("error", value) => event.error |= says_something(value),
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
                let count = |key: &str| timings.get(key).and_then(Value::as_u64);
                let cached_input = count("cache_n");
                let input = count("prompt_n").map(|input| input + cached_input.unwrap_or(0));
                let mut timed = Usage::new();
                (timed.input, timed.cached_input, timed.output) = (input, cached_input, count("predicted_n"));
                let timed = believable(timed);
                event.timed_usage.extend((timed != Usage::new()).then_some(timed));
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
    let (mut usage, mut total) = (Usage::new(), None);
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
            "total_tokens" => count(value, &mut total),
            "prompt_tokens_details" => count(&value["cached_tokens"], &mut usage.cached_input),
            "completion_tokens_details" => count(&value["reasoning_tokens"], &mut usage.reasoning),
            _ => {}
        }
    }
    // Cached tokens that are more than the whole input are reported in addition to it.
    usage.input = usage.input.map(|input| input + usage.cached_input.filter(|part| *part > input).unwrap_or(0));
    let sum =
        total.filter(|total| *total > 0).zip(usage.input).map(|(total, input): (u64, u64)| total.saturating_sub(input));
    if let (Some(output), Some(reasoning)) = (usage.output, usage.reasoning) {
        let beside = sum == Some(output + reasoning) || (reasoning > output && sum != Some(output));
        usage.output = Some(output + if beside { reasoning } else { 0 });
    }
    believable(usage)
}

/// Removes zeros that are only placeholders.
fn believable(mut usage: Usage) -> Usage {
    let some = |count: &u64| *count > 0;
    usage.input = usage.input.filter(some);
    if usage.input.is_none() {
        usage.output = usage.output.filter(some);
    }
    if usage.input.or(usage.output).is_none() {
        usage.cached_input = usage.cached_input.filter(some);
        usage.reasoning = usage.reasoning.filter(some);
    }
    usage
}

fn says_something(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_u64() != Some(0),
        _ => true,
    }
}

/// Whether this simple reader can read the document completely. Names of vendors, lists of parts, other forms of errors, and floats are compared with
/// `serde_json` in the crate's own tests.
/// are held against `serde_json` by the crate's own tests.
pub fn knows(value: &Value) -> bool {
    const OTHERS: [&str; 22] = [
        "input_tokens",
        "output_tokens",
        "input_tokens_details",
        "output_tokens_details",
        "prompt_cache_hit_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_write_tokens",
        "cache_creation_tokens",
        "x_groq",
        "error_type",
        "error_message",
        "audio",
        "custom",
        "reasoning_details",
        "insufficient_system_resource",
        "network_error",
        "timed_out",
        "timeout",
        "model_length",
        "sensitive",
        "COMPLETE",
    ];
    const WORDS: [&str; 5] = ["word", "limit", "max_output_tokens", "model_context_window_exceeded", "error"];
    match value {
        Value::Object(members) => {
            let has = |key: &str| members.contains_key(key);
            members.iter().all(|(key, value)| !OTHERS.contains(&key.as_str()) && knows(value))
                && !(has("code") && has("message"))
                // Counts and errors in a choice; counts in a usage object that are Moonshot's.
                && !((has("delta") || has("message") || has("text") || has("index") || has("finish_reason"))
                    && (has("usage") || has("error")))
                && members.get("usage").is_none_or(|usage| usage.get("cached_tokens").is_none())
                && !members.get("content").is_some_and(Value::is_array)
                && members.get("object").is_none_or(|object| object != "error")
        }
        Value::Array(elements) => elements.iter().all(knows),
        Value::Number(number) => {
            number.as_u64().is_some() || number.as_i64().is_some() || number.as_f64().is_some_and(|f| f.fract() != 0.0)
        }
        Value::String(word) => !OTHERS.contains(&word.as_str()) && !WORDS.contains(&word.as_str()),
        _ => true,
    }
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
        "" | "null" | "none" => return None,
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
