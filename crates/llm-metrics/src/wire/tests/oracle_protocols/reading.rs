//! The meaning of an answer by the specifications, on `serde_json` values.

use std::time::Duration;

use serde_json::Value;

use super::{Body, Event};
use crate::vocabulary::{FinishReason, Usage};
use crate::wire::TextKind;

/// A count that is known: no prompt is empty, so 0 is unknown.
fn count(value: &Value) -> Option<u64> {
    value.as_u64().filter(|count| *count > 0)
}

fn anthropic_usage(usage: &Value) -> Option<Usage> {
    let part = |key: &str| count(&usage[key]);
    let (cached, written) = (part("cache_read_input_tokens"), part("cache_creation_input_tokens"));
    let mut counts = Usage::new();
    counts.input = part("input_tokens").map(|input| input + cached.unwrap_or(0) + written.unwrap_or(0));
    (counts.cached_input, counts.cache_write, counts.output) = (cached, written, part("output_tokens"));
    (counts != Usage::new()).then_some(counts)
}

fn anthropic_reason(reason: &Value) -> Option<FinishReason> {
    Some(match reason.as_str()? {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::Refusal,
        "pause_turn" => FinishReason::Pause,
        _ => FinishReason::Other,
    })
}

fn anthropic_block(block: &Value, event: &mut Event) {
    event.add(TextKind::Answer, &block["text"]);
    event.add(TextKind::Reasoning, &block["thinking"]);
    event.add(TextKind::ToolName(0), &block["name"]);
}

pub(super) fn anthropic_event(document: &Value, body: &mut Body) -> Event {
    let mut event = Event::default();
    match document["type"].as_str() {
        Some("message_start") => {
            body.model(&document["message"]["model"]);
            event.so_far = anthropic_usage(&document["message"]["usage"]);
        }
        Some("content_block_start") => anthropic_block(&document["content_block"], &mut event),
        Some("content_block_delta") => {
            event.add(TextKind::Answer, &document["delta"]["text"]);
            event.add(TextKind::Reasoning, &document["delta"]["thinking"]);
            event.add(TextKind::ToolArguments(0), &document["delta"]["partial_json"]);
        }
        Some("message_delta") => {
            event.finish = anthropic_reason(&document["delta"]["stop_reason"]);
            event.usage = anthropic_usage(&document["usage"]);
        }
        Some("message_stop") => event.done = true,
        Some("error") => event.error = true,
        _ => {}
    }
    event
}

pub(super) fn anthropic_message(document: &Value, body: &mut Body) -> Event {
    let mut event = Event::default();
    body.model(&document["model"]);
    document["content"].as_array().into_iter().flatten().for_each(|block| anthropic_block(block, &mut event));
    event.finish = anthropic_reason(&document["stop_reason"]);
    event.usage = anthropic_usage(&document["usage"]);
    event
}

fn response_end(response: &Value, body: &mut Body, event: &mut Event) {
    body.model(&response["model"]);
    let usage = &response["usage"];
    let counts = Usage {
        input: count(&usage["input_tokens"]),
        cached_input: usage["input_tokens_details"]["cached_tokens"].as_u64(),
        cache_write: None,
        output: usage["output_tokens"].as_u64(),
        reasoning: usage["output_tokens_details"]["reasoning_tokens"].as_u64(),
    };
    event.usage = (counts != Usage::new()).then_some(counts);
    event.finish = match response["status"].as_str() {
        Some("completed") if body.called => Some(FinishReason::ToolCalls),
        Some("completed") => Some(FinishReason::Stop),
        Some("incomplete") => Some(match response["incomplete_details"]["reason"].as_str() {
            Some("max_output_tokens") => FinishReason::Length,
            Some("content_filter") => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        }),
        Some("cancelled") => Some(FinishReason::Abort),
        Some("failed") => {
            event.error = true;
            Some(FinishReason::Error)
        }
        Some("queued" | "in_progress") => {
            event.no_generation = event.texts.is_empty();
            None
        }
        _ => None,
    };
}

pub(super) fn responses_event(document: &Value, body: &mut Body) -> Event {
    let mut event = Event::default();
    let delta = &document["delta"];
    match document["type"].as_str().unwrap_or_default() {
        "response.created" | "response.in_progress" => body.model(&document["response"]["model"]),
        "response.output_text.delta" => event.add(TextKind::Answer, delta),
        "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
            event.add(TextKind::Reasoning, delta);
        }
        "response.refusal.delta" => event.add(TextKind::Refusal, delta),
        "response.function_call_arguments.delta" => event.add(TextKind::ToolArguments(0), delta),
        "response.custom_tool_call_input.delta" => event.add(TextKind::ToolInput, delta),
        "response.completed" | "response.incomplete" => {
            response_end(&document["response"], body, &mut event);
            event.done = true;
        }
        "response.failed" => {
            response_end(&document["response"], body, &mut event);
            event.error = true;
        }
        "error" => event.error = true,
        _ => {}
    }
    event
}

pub(super) fn response(document: &Value, body: &mut Body) -> Event {
    let mut event = Event::default();
    for item in document["output"].as_array().into_iter().flatten() {
        match item["type"].as_str() {
            Some("message") => {
                for part in item["content"].as_array().into_iter().flatten() {
                    event.add(TextKind::Answer, &part["text"]);
                    event.add(TextKind::Refusal, &part["refusal"]);
                }
            }
            Some("reasoning") => {
                let texts = item["summary"].as_array().into_iter().flatten();
                texts.for_each(|part| event.add(TextKind::Reasoning, &part["text"]));
            }
            Some("function_call") => {
                event.add(TextKind::ToolName(0), &item["name"]);
                event.add(TextKind::ToolArguments(0), &item["arguments"]);
            }
            _ => {}
        }
    }
    body.called |= event.calls();
    response_end(document, body, &mut event);
    event
}

pub(super) fn ollama(document: &Value, body: &mut Body) -> Event {
    let mut event = Event::default();
    body.model(&document["model"]);
    let nanoseconds = |key: &str| count(&document[key]).map(Duration::from_nanos);
    let mut usage = Usage::new();
    (usage.input, usage.output) = (count(&document["prompt_eval_count"]), count(&document["eval_count"]));
    event.usage = (usage != Usage::new()).then_some(usage);
    // A model that is already loaded takes a moment, too.
    event.load = nanoseconds("load_duration").filter(|load| *load > Duration::from_millis(100));
    let times = (nanoseconds("prompt_eval_duration"), nanoseconds("eval_duration"));
    event.times = (times != (None, None)).then_some(times);
    event.error = document["error"].as_str().is_some_and(|error| !error.is_empty());
    event.done = document["done"] == true;
    if document["done_reason"] == "load" || document["done_reason"] == "unload" {
        event.no_generation = true;
        return event;
    }
    event.finish = match document["done_reason"].as_str() {
        None => None,
        Some("stop") => Some(FinishReason::Stop),
        Some("length") => Some(FinishReason::Length),
        Some(_) => Some(FinishReason::Other),
    };
    let message = &document["message"];
    for place in [message, document] {
        event.add(TextKind::Reasoning, &place["thinking"]);
    }
    event.add(TextKind::Answer, &message["content"]);
    event.add(TextKind::Answer, &document["response"]);
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        event.add(TextKind::ToolName(0), &call["function"]["name"]);
    }
    event
}

pub(super) fn embeddings(document: &Value, body: &mut Body) -> Event {
    body.model(&document["model"]);
    let mut usage = Usage::new();
    usage.input = count(&document["usage"]["prompt_tokens"]).or_else(|| count(&document["usage"]["total_tokens"]));
    Event { usage: (usage != Usage::new()).then_some(usage), ..Event::default() }
}
