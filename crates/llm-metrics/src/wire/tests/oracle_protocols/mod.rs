//! The readers of Responses, Messages, Ollama and embeddings agree with a simple implementation of each specification on `serde_json::Value`,
//! whatever surrounds the relevant values.

mod answers;
mod reading;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::generated::{Json, Layout, cut, pieces};
use super::support::{SinkCall, document_of, lines_of, order, sink_calls, stream_of};
use crate::vocabulary::{Endpoint, FinishReason, Usage};
use crate::wire::{Reader, TextKind};

/// The facts of one document, without the order in which they are emitted.
#[derive(Debug, Default, PartialEq)]
struct Event {
    texts: BTreeMap<u8, Vec<u8>>,
    finish: Option<FinishReason>,
    usage: Option<Usage>,
    so_far: Option<Usage>,
    load: Option<Duration>,
    times: Option<(Option<Duration>, Option<Duration>)>,
    error: bool,
    done: bool,
    no_generation: bool,
}

#[derive(Debug, Default, PartialEq)]
struct Body {
    model: Option<String>,
    events: Vec<Event>,
    /// A tool was called. A Responses object with a status does not say so in that place.
    called: bool,
}

impl Body {
    fn model(&mut self, name: &Value) {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            self.model.get_or_insert_with(|| name.to_owned());
        }
    }
}

impl Event {
    fn add(&mut self, kind: TextKind, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.texts.entry(order(kind)).or_default().extend(text.as_bytes());
        }
    }

    fn calls(&self) -> bool {
        [TextKind::ToolName(0), TextKind::ToolArguments(0), TextKind::ToolInput]
            .into_iter()
            .any(|kind| self.texts.contains_key(&order(kind)))
    }
}

fn seen(calls: Vec<SinkCall>) -> Body {
    let (mut body, mut event) = (Body::default(), Event::default());
    for what in calls {
        match what {
            SinkCall::Text(_, kind, text) => event.texts.entry(order(kind)).or_default().extend(text),
            SinkCall::Choice(choice) => assert_eq!(choice, 0),
            SinkCall::Finish(_, reason) => assert_eq!(event.finish.replace(reason), None),
            SinkCall::Usage(usage) => assert_eq!(event.usage.replace(usage), None),
            SinkCall::UsageSoFar(usage) => assert_eq!(event.so_far.replace(usage), None),
            SinkCall::Model(name) => assert_eq!(body.model.replace(name), None),
            SinkCall::Error | SinkCall::ErrorOf(_) => event.error = true,
            SinkCall::Done => event.done = true,
            SinkCall::NoGeneration => event.no_generation = true,
            SinkCall::Load(load) => event.load = Some(load),
            SinkCall::Timings(prefill, decode) => event.times = Some((prefill, decode)),
            SinkCall::EventEnd => {
                body.called |= event.calls();
                body.events.push(std::mem::take(&mut event));
            }
            SinkCall::PlainText | SinkCall::InBackground | SinkCall::TimedUsage(_) | SinkCall::Failure(_) => {
                panic!("{what:?} was emitted")
            }
        }
    }
    assert_eq!(event, Event::default(), "something was emitted after the last event");
    body
}

fn agree(
    reader: impl Fn() -> Reader,
    read: fn(&Value, &mut Body) -> Event,
    documents: &[Json],
    bytes: &str,
    lengths: &[usize],
) -> Result<(), TestCaseError> {
    let mut expected = Body::default();
    for document in documents {
        let document = serde_json::from_str(&document.render(Layout::Compact)).unwrap();
        let event = read(&document, &mut expected);
        expected.called |= event.calls();
        expected.events.push(event);
    }
    let whole = sink_calls(reader(), [bytes.as_bytes()]);
    prop_assert_eq!(&sink_calls(reader(), cut(bytes.as_bytes(), lengths)), &whole);
    prop_assert_eq!(seen(whole), expected, "{}", bytes);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn streams_of_messages(made_of in vec(answers::material(), 0..6), lengths in pieces()) {
        let events: Vec<_> = made_of.iter().map(answers::anthropic_event).collect();
        let bytes: String = made_of.iter().zip(&events).map(|(of, event)| of.as_event(event)).collect();
        agree(|| stream_of(Endpoint::Messages), reading::anthropic_event, &events, &bytes, &lengths)?;
    }

    #[test]
    fn streams_of_responses(made_of in vec(answers::material(), 0..6), lengths in pieces()) {
        let events: Vec<_> = made_of.iter().map(answers::responses_event).collect();
        let bytes: String = made_of.iter().zip(&events).map(|(of, event)| of.as_event(event)).collect();
        agree(|| stream_of(Endpoint::Responses), reading::responses_event, &events, &bytes, &lengths)?;
    }

    #[test]
    fn lines_of_ollama(made_of in vec(answers::material(), 0..6), lengths in pieces()) {
        let lines: Vec<_> = made_of.iter().map(answers::ollama_line).collect();
        let bytes: String = lines.iter().map(|line| line.render(Layout::Spaced) + "\n").collect();
        for endpoint in [Endpoint::OllamaChat, Endpoint::OllamaGenerate] {
            agree(|| lines_of(endpoint), reading::ollama, &lines, &bytes, &lengths)?;
        }
    }

    #[test]
    fn whole_answers(of in answers::material(), parts in vec(answers::material(), 0..4), lengths in pieces()) {
        type Plain = fn(&Value, &mut Body) -> Event;
        for (endpoint, document, read) in [
            (Endpoint::Messages, answers::anthropic_message(&of, &parts), reading::anthropic_message as Plain),
            (Endpoint::Responses, answers::response(&of, &parts), reading::response),
            (Endpoint::OllamaChat, answers::ollama_line(&of), reading::ollama),
            (Endpoint::Embeddings, answers::embeddings(&of), reading::embeddings),
        ] {
            let bytes = document.render(of.layout);
            agree(|| document_of(endpoint), read, &[document], &bytes, &lengths)?;
        }
    }
}
