//! Compares the readers with a simple reading by `serde_json`, on recorded answers of real servers in protocols other than OpenAI's chat
//! (`tests/recordings/`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::support::{SinkCall, order, sink_calls, without_templates};
use crate::vocabulary::{Endpoint, FinishReason, Usage};
use crate::wire::{Framing, Reader, Route, TextKind, route};

/// The facts of an answer, without their order.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    texts: BTreeMap<u8, String>,
    finish: Option<FinishReason>,
    usage: Usage,
    model: Option<String>,
    done: bool,
    error: bool,
}

impl Answer {
    fn add(&mut self, kind: TextKind, text: &Value) {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            self.texts.entry(order(kind)).or_default().push_str(text);
        }
    }

    fn count(&mut self, usage: Usage) {
        let Usage { input, cached_input, cache_write, output, reasoning } = usage;
        self.usage = Usage {
            input: self.usage.input.max(input.filter(|count| *count > 0)),
            cached_input: self.usage.cached_input.max(cached_input),
            cache_write: self.usage.cache_write.max(cache_write),
            output: self.usage.output.max(output),
            reasoning: self.usage.reasoning.max(reasoning),
        };
    }

    fn model(&mut self, name: &Value) {
        if let Some(name) = name.as_str() {
            self.model.get_or_insert_with(|| name.to_owned());
        }
    }

    fn of(calls: Vec<SinkCall>) -> Self {
        let mut answer = Self::default();
        for what in calls {
            match what {
                SinkCall::Text(_, kind, text) => {
                    answer.texts.entry(order(kind)).or_default().push_str(std::str::from_utf8(&text).unwrap());
                }
                SinkCall::Finish(_, reason) => answer.finish = Some(reason),
                SinkCall::Usage(usage) | SinkCall::UsageSoFar(usage) => answer.count(usage),
                SinkCall::Model(name) => answer.model = Some(name),
                SinkCall::Done => answer.done = true,
                SinkCall::Error | SinkCall::ErrorOf(_) => answer.error = true,
                SinkCall::PlainText
                | SinkCall::Failure(_)
                | SinkCall::NoGeneration
                | SinkCall::InBackground
                | SinkCall::Load(_) => {
                    panic!("{what:?}")
                }
                SinkCall::Choice(_) | SinkCall::EventEnd | SinkCall::Timings(..) | SinkCall::TimedUsage(_) => {}
            }
        }
        answer
    }
}

/// Anthropic's Messages: an event, or a whole message.
fn message(value: &Value, answer: &mut Answer) {
    let blocks = value["content"].as_array().into_iter().flatten();
    for block in blocks.chain([&value["content_block"], &value["delta"]]) {
        answer.add(TextKind::Answer, &block["text"]);
        answer.add(TextKind::Reasoning, &block["thinking"]);
        answer.add(TextKind::ToolArguments(0), &block["partial_json"]);
        answer.add(TextKind::ToolName(0), &block["name"]);
    }
    for part in [value, &value["message"], &value["delta"]] {
        answer.model(&part["model"]);
        answer.finish = match part["stop_reason"].as_str() {
            None => answer.finish,
            Some("end_turn" | "stop_sequence") => Some(FinishReason::Stop),
            Some("max_tokens") => Some(FinishReason::Length),
            Some("tool_use") => Some(FinishReason::ToolCalls),
            Some(other) => panic!("{other}"),
        };
        let usage = &part["usage"];
        let count = |key: &str| usage[key].as_u64();
        let input = count("input_tokens").map(|input| input + count("cache_read_input_tokens").unwrap_or(0));
        answer.count(Usage {
            input,
            cached_input: count("cache_read_input_tokens"),
            output: count("output_tokens"),
            ..Usage::new()
        });
    }
    answer.done |= value["type"] == "message_stop";
    answer.error |= !value["error"].is_null();
}

/// OpenAI's Responses: an event, or a whole response.
fn response(value: &Value, answer: &mut Answer) {
    let kind = match value["type"].as_str().unwrap_or_default() {
        "response.output_text.delta" => Some(TextKind::Answer),
        "response.reasoning_text.delta" => Some(TextKind::Reasoning),
        "response.function_call_arguments.delta" => Some(TextKind::ToolArguments(0)),
        other => {
            assert!(!other.ends_with(".delta"), "{other}");
            None
        }
    };
    if let Some(kind) = kind {
        answer.add(kind, &value["delta"]);
    }
    let (response, whole) = match value["object"].as_str() {
        Some("response") => (value, true),
        _ => (&value["response"], false),
    };
    answer.model(&response["model"]);
    for item in response["output"].as_array().into_iter().flatten().filter(|_| whole) {
        let kind = if item["type"] == "reasoning" { TextKind::Reasoning } else { TextKind::Answer };
        for part in item["content"].as_array().into_iter().flatten() {
            answer.add(kind, &part["text"]);
        }
        answer.add(TextKind::ToolName(0), &item["name"]);
        answer.add(TextKind::ToolArguments(0), &item["arguments"]);
    }
    let called = [TextKind::ToolName(0), TextKind::ToolArguments(0)]
        .map(order)
        .iter()
        .any(|kind| answer.texts.contains_key(kind));
    let last = whole || value["type"] == "response.completed";
    answer.finish = match response["status"].as_str().filter(|_| last) {
        Some("completed") if called => Some(FinishReason::ToolCalls),
        Some("completed") => Some(FinishReason::Stop),
        Some("incomplete") => Some(FinishReason::Length),
        _ => answer.finish,
    };
    answer.done |= last && !whole;
    let usage = &response["usage"];
    answer.count(Usage {
        input: usage["input_tokens"].as_u64(),
        cached_input: usage["input_tokens_details"]["cached_tokens"].as_u64(),
        cache_write: usage["input_tokens_details"]["cache_write_tokens"].as_u64(),
        output: usage["output_tokens"].as_u64(),
        reasoning: usage["output_tokens_details"]["reasoning_tokens"].as_u64(),
    });
}

/// llama.cpp's own format.
fn native(value: &Value, answer: &mut Answer) {
    answer.add(TextKind::Answer, &value["content"]);
    answer.model(&value["model"]);
    answer.done |= value["stop"] == true;
    answer.finish = match value["stop_type"].as_str() {
        Some("limit") => Some(FinishReason::Length),
        Some("eos" | "word") => Some(FinishReason::Stop),
        _ => answer.finish,
    };
    let count = |key: &str| value[key].as_u64();
    answer.count(Usage { input: count("tokens_evaluated"), output: count("tokens_predicted"), ..Usage::new() });
}

fn embeddings(value: &Value, answer: &mut Answer) {
    answer.model(&value["model"]);
    answer.count(Usage { input: value["usage"]["prompt_tokens"].as_u64(), ..Usage::new() });
}

#[test]
fn answers_of_real_servers_are_read_as_serde_reads_them() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/other-protocols.json");
    let Value::Object(all) = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap() else { panic!() };
    assert_eq!(all.len(), 92);
    let mut read = BTreeMap::new();
    for (name, exchange) in all.iter().filter(|(_, exchange)| exchange["status"] == 200) {
        let (text, body) = (|key: &str| exchange[key].as_str().expect("a text"), exchange["body"].as_str().unwrap());
        let route: &Route = route(&http::Method::POST, text("path"), false).expect("a known endpoint");
        *read.entry(format!("{:?}", route.endpoint)).or_insert(0) += 1;
        let naive = match route.endpoint {
            Endpoint::Messages => message,
            Endpoint::Responses => response,
            Endpoint::LlamaCppCompletion => native,
            Endpoint::Embeddings => embeddings,
            other => panic!("{other:?}"),
        };
        let mut expected = Answer::default();
        if text("content_type").starts_with("text/event-stream") {
            for data in body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
                naive(&serde_json::from_str(data).unwrap(), &mut expected);
            }
            expected.done |= body.contains("data: [DONE]");
        } else {
            naive(&serde_json::from_str(body).unwrap(), &mut expected);
        }
        let reader =
            || -> Reader { route.reader(Framing::of_content_type(text("content_type").as_bytes()), false, None) };
        let bytes = body.as_bytes();
        // The engine was killed in the middle of the stream, so the answer is not complete.
        let whole = sink_calls(reader(), [bytes]);
        let whole: Vec<_> = whole
            .into_iter()
            .filter(|call| !(name.contains("engine-dies") && matches!(call, SinkCall::Failure(_))))
            .collect();
        assert_eq!(Answer::of(whole.clone()), expected, "{name}");
        if !name.contains("engine-dies") {
            assert_eq!(sink_calls(reader(), bytes.chunks(1)), whole, "{name}, byte by byte");
            assert_eq!(sink_calls(reader(), bytes.chunks(7)), whole, "{name}, in sevens");
            assert_eq!(sink_calls(reader(), bytes.split_inclusive(|byte| *byte == b'\n')), whole, "{name}, by lines");
            assert_eq!(sink_calls(without_templates(reader()), [bytes]), whole, "{name}, without templates");
        }
    }
    println!("{read:?}");
    for endpoint in ["Messages", "Responses", "LlamaCppCompletion", "Embeddings"] {
        assert!(read[endpoint] >= 3, "{read:?}");
    }
}
