//! The readers agree with a plain implementation on `serde_json::Value`.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::generated::{chat, cut, layout, pieces, stream};
use super::support::{SinkCall, chat_document, chat_stream, order, sink_calls, without_templates};
use crate::vocabulary::{FinishReason, InspectionFailure, Usage};
use crate::wire::TextKind;

/// One event, without the order in which its facts were emitted.
#[derive(Debug, Default, PartialEq)]
struct Event {
    choices: BTreeMap<u32, Choice>,
    usage: Option<Usage>,
    timings: Option<(Option<Duration>, Option<Duration>)>,
    timed_usage: Option<Usage>,
    error: bool,
    done: bool,
}

/// The texts of a choice by kind, and its finish reasons.
type Choice = (BTreeMap<u8, Vec<u8>>, Vec<FinishReason>);

#[derive(Debug, Default, PartialEq)]
struct Body {
    events: Vec<Event>,
    model: Option<String>,
    implausible: bool,
}

fn seen(calls: Vec<SinkCall>) -> Body {
    let mut body = Body::default();
    let mut event = Event::default();
    for what in calls {
        match what {
            SinkCall::Choice(index) => {
                event.choices.entry(index).or_default();
            }
            SinkCall::Text(choice, kind, text) => {
                let texts = &mut event.choices.get_mut(&choice).expect("a choice is emitted before its text").0;
                texts.entry(order(kind)).or_default().extend(text);
            }
            SinkCall::Finish(choice, reason) => event.choices.get_mut(&choice).unwrap().1.push(reason),
            SinkCall::Usage(usage) | SinkCall::UsageSoFar(usage) => event.usage = Some(usage),
            SinkCall::Model(name) => assert!(body.model.replace(name).is_none(), "the model was emitted twice"),
            SinkCall::Error | SinkCall::ErrorOf(_) | SinkCall::PlainText => {
                assert!(!std::mem::replace(&mut event.error, true), "an error was emitted twice")
            }
            SinkCall::Done => event.done = true,
            SinkCall::Timings(prefill, decode) => event.timings = Some((prefill, decode)),
            SinkCall::TimedUsage(usage) => event.timed_usage = Some(usage),
            SinkCall::NoGeneration | SinkCall::InBackground | SinkCall::Load(_) => {
                panic!("{what:?} is not a call for OpenAI's protocol")
            }
            SinkCall::EventEnd => body.events.push(std::mem::take(&mut event)),
            SinkCall::Failure(InspectionFailure::Implausible) => body.implausible = true,
            SinkCall::Failure(kind) => panic!("{kind:?} was emitted for a body that is whole"),
        }
    }
    assert_eq!(event, Event::default(), "something was emitted after the last event");
    body
}

/// The facts in a JSON document. `message` is `delta` in a stream.
fn read_document(document: &Value, message: &str, body: &mut Body, event: &mut Event) {
    if let Some(name) = document["model"].as_str().filter(|name| !name.is_empty()) {
        body.model.get_or_insert_with(|| name.to_owned());
    }
    event.error |= !matches!(&document["error"], Value::Null | Value::Bool(false))
        && document["error"] != ""
        && document["error"] != 0;
    let mut count = |value: &Value| {
        let count = value.as_u64()?;
        body.implausible |= count > 1 << 30;
        (count <= 1 << 30).then_some(count)
    };
    let usage = &document["usage"];
    let mut usage = Usage {
        input: count(&usage["prompt_tokens"]),
        cached_input: count(&usage["prompt_tokens_details"]["cached_tokens"]),
        cache_write: None,
        output: count(&usage["completion_tokens"]),
        reasoning: count(&usage["completion_tokens_details"]["reasoning_tokens"]),
    };
    // A part that is larger than the whole was counted in addition to it.
    usage.input = usage.input.map(|input| input + usage.cached_input.filter(|cached| *cached > input).unwrap_or(0));
    usage.output = usage.output.map(|output| output + usage.reasoning.filter(|part| *part > output).unwrap_or(0));
    // Zeros are placeholders.
    usage.input = usage.input.filter(|count| *count > 0);
    usage.output = usage.output.filter(|count| *count > 0 || usage.input.is_some());
    if usage.input.or(usage.output).is_none() {
        usage.cached_input = usage.cached_input.filter(|count| *count > 0);
        usage.reasoning = usage.reasoning.filter(|count| *count > 0);
    }
    event.usage = (usage != Usage::new()).then_some(usage);
    if document["timings"].is_object() {
        let count = |key| document["timings"][key].as_u64();
        event.timed_usage = Some(Usage {
            input: Some(count("prompt_n").unwrap() + count("cache_n").unwrap()),
            cached_input: count("cache_n"),
            output: count("predicted_n"),
            ..Usage::new()
        });
        let time = |key| Some(Duration::from_secs_f64(document["timings"][key].as_f64()? / 1000.0));
        event.timings = Some((time("prompt_ms"), time("predicted_ms")));
    }
    for (ordinal, choice) in document["choices"].as_array().into_iter().flatten().enumerate() {
        let index = choice["index"].as_u64().unwrap_or(ordinal as u64) as u32;
        let (texts, finish) = event.choices.entry(index).or_default();
        let mut add = |kind: TextKind, value: &Value| {
            if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
                texts.entry(order(kind)).or_default().extend(text.as_bytes());
            }
        };
        let message = &choice[message];
        add(TextKind::Answer, &message["content"]);
        add(TextKind::Reasoning, &message["reasoning_content"]);
        add(TextKind::Refusal, &message["refusal"]);
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            add(TextKind::ToolName(0), &call["function"]["name"]);
            add(TextKind::ToolArguments(0), &call["function"]["arguments"]);
        }
        match choice["finish_reason"].as_str() {
            None | Some("" | "null") => {}
            Some("stop") => finish.push(FinishReason::Stop),
            Some("length") => finish.push(FinishReason::Length),
            Some("tool_calls") => finish.push(FinishReason::ToolCalls),
            Some(_) => finish.push(FinishReason::Other),
        }
    }
}

/// Implements the specification of server-sent events literally, for a complete stream.
fn read_stream(stream: &[u8]) -> Body {
    let stream = std::str::from_utf8(stream).unwrap();
    let stream = stream.strip_prefix('\u{FEFF}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
    let mut body = Body::default();
    let (mut data, mut name) = (None::<String>, String::new());
    for line in stream.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            _ if line.is_empty() => {
                let payload = data.take().unwrap_or_default();
                let mut event = Event { error: name == "error", ..Event::default() };
                if payload.is_empty() && !event.error {
                    name.clear();
                    continue;
                }
                match payload.as_str() {
                    "" => {}
                    "[DONE]" => event.done = true,
                    json if json.trim_start().starts_with('{') => {
                        read_document(&serde_json::from_str(json).unwrap(), "delta", &mut body, &mut event);
                    }
                    // JSON that is not an object is padding.
                    json if serde_json::from_str::<Value>(json).is_ok() => {}
                    // Text in an event with another name is a heartbeat.
                    _ => event.error |= name.is_empty() || name == "message",
                }
                name.clear();
                body.events.push(event);
            }
            "data" => {
                data = Some(data.map_or_else(|| value.to_owned(), |data| format!("{data}\n{value}")));
            }
            "event" => name = value.to_owned(),
            _ => {}
        }
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn streams_are_read_as_serde_reads_them_however_they_are_cut(stream in stream(), lengths in pieces()) {
        let expected = read_stream(&stream);
        prop_assert_eq!(&seen(sink_calls(chat_stream(), [&stream[..]])), &expected);
        prop_assert_eq!(&seen(sink_calls(chat_stream(), cut(&stream, &lengths))), &expected);
        prop_assert_eq!(
            sink_calls(chat_stream(), cut(&stream, &lengths)),
            sink_calls(without_templates(chat_stream()), [&stream[..]])
        );
    }

    #[test]
    fn answers_are_read_as_serde_reads_them_however_they_are_cut(
        answer in chat("message"), layout in layout(), lengths in pieces(),
    ) {
        let answer = answer.render(layout);
        let mut expected = Body::default();
        let mut event = Event::default();
        read_document(&serde_json::from_str(&answer).unwrap(), "message", &mut expected, &mut event);
        expected.events.push(event);
        prop_assert_eq!(&seen(sink_calls(chat_document(), [answer.as_bytes()])), &expected);
        prop_assert_eq!(&seen(sink_calls(chat_document(), cut(answer.as_bytes(), &lengths))), &expected);
    }
}
