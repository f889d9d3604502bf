//! Streams of every protocol with hostile texts, in every order. Splits and templates never change the calls.

use proptest::collection::vec;
use proptest::prelude::*;

use super::generated::{Layout, cut, damage, damaged, junk, pieces, text};
use super::support::{SinkCall, lines_of, sink_calls, stream_of, without_templates};
use crate::vocabulary::Endpoint;
use crate::wire::Reader;

/// Events, with `@` for a text of the model, and `~` for any text.
const ANTHROPIC: [&str; 9] = [
    r#"{"type":"message_start","message":{"model":"m","usage":{"input_tokens":2,"output_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":@}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":@}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":@}}"#,
    r#"{"type":"content_block_delta","delta":{"partial_json":@,"type":"input_json_delta"},"index":0}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"signature":@},"x":~}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}"#,
    r#"{"type":"message_stop"}"#,
    r#"{"type":"error","error":{"type":"overloaded_error","message":@}}"#,
];

const RESPONSES: [&str; 12] = [
    r#"{"type":"response.output_text.delta","sequence_number":~,"item_id":"m","delta":@,"logprobs":[]}"#,
    r#"{"content_index":0,"delta":@,"item_id":"m","logprobs":~,"sequence_number":~,"type":"response.output_text.delta"}"#,
    r#"{"type":"response.output_text.delta","delta":@}"#,
    r#"{"type":"response.output_text.delta","delta":@,"logprobs":~}"#,
    r#"{"delta":@,"type":"response.output_text.delta"}"#,
    r#"{"delta":@,"type":"response.reasoning_text.delta"}"#,
    r#"{"type":"response.function_call_arguments.delta","sequence_number":4,"delta":@}"#,
    r#"{"delta":@}"#,
    r#"{"delta":@,"type":~}"#,
    r#"{"item":{"type":"reasoning","x":~},"type":"response.output_item.added"}"#,
    r#"{"item":{"type":"message"},"type":"response.output_item.added"}"#,
    r#"{"type":"response.completed","response":{"status":"completed","output":~,"usage":{"input_tokens":3}}}"#,
];

const OLLAMA: [&str; 6] = [
    r#"{"model":"m","message":{"role":"assistant","content":@},"done":false}"#,
    r#"{"model":"m","created_at":@,"message":{"role":"assistant","content":@},"done":false}"#,
    r#"{"model":"m","message":{"role":"assistant","content":"","thinking":@},"done":false}"#,
    r#"{"model":"m","message":{"tool_calls":[{"function":{"name":@,"arguments":~}}]},"done":false}"#,
    r#"{"model":"m","response":@,"done":true,"done_reason":"stop","eval_count":3,"x":~}"#,
    r#"{"error":@}"#,
];

#[derive(Clone, Copy, Debug)]
enum Frame {
    /// Whether an event has its type as its name.
    Events(bool),
    Lines,
}

fn body(pool: &'static [&'static str], frame: impl Strategy<Value = Frame>) -> impl Strategy<Value = Vec<u8>> {
    let event = (prop::sample::select(pool.to_vec()), text(), junk(), frame);
    // Repeated, as in real streams.
    let events = vec((event, 1..4_usize), 0..8);
    events.prop_map(|events| {
        let mut body = String::new();
        for ((event, text, junk, frame), times) in events {
            let (text, junk) = (text.render(Layout::Compact), junk.render(Layout::Compact));
            let fill = |piece: &str| piece.replace('@', &text);
            let data = event.split('~').map(fill).collect::<Vec<_>>().join(&junk);
            let name = event.split_once(r#""type":""#).and_then(|(_, rest)| rest.split_once('"'));
            for _ in 0..times {
                match (frame, name) {
                    (Frame::Lines, _) => body.push_str(&format!("{data}\n")),
                    (Frame::Events(true), Some((name, _))) => {
                        body.push_str(&format!("event: {name}\ndata: {data}\n\n"));
                    }
                    (Frame::Events(_), _) => body.push_str(&format!("data: {data}\n\n")),
                }
            }
        }
        body.into_bytes()
    })
}

fn alike(reader: impl Fn() -> Reader, body: &[u8], lengths: &[usize]) -> Result<(), TestCaseError> {
    let expected = sink_calls(without_templates(reader()), [body]);
    let failed = |call: &SinkCall| matches!(call, SinkCall::Failure(_) | SinkCall::PlainText);
    prop_assert!(!expected.iter().any(failed), "{:?}", expected);
    prop_assert_eq!(&sink_calls(reader(), [body]), &expected);
    prop_assert_eq!(&sink_calls(reader(), cut(body, lengths)), &expected);
    let events: Vec<_> = body.split_inclusive(|byte| *byte == b'\n').collect();
    prop_assert_eq!(&sink_calls(reader(), events), &expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn anthropic(body in body(&ANTHROPIC, any::<bool>().prop_map(Frame::Events)), lengths in pieces()) {
        alike(|| stream_of(Endpoint::Messages), &body, &lengths)?;
    }

    #[test]
    fn responses(body in body(&RESPONSES, any::<bool>().prop_map(Frame::Events)), lengths in pieces()) {
        alike(|| stream_of(Endpoint::Responses), &body, &lengths)?;
    }

    #[test]
    fn ollama(body in body(&OLLAMA, Just(Frame::Lines)), lengths in pieces()) {
        alike(|| lines_of(Endpoint::OllamaChat), &body, &lengths)?;
    }

    #[test]
    fn any_bytes(endpoint in 0..crate::wire::ROUTES.len(), body in vec(any::<u8>(), 0..300), lengths in pieces()) {
        let endpoint = crate::wire::ROUTES[endpoint].endpoint;
        for reader in [stream_of, lines_of] {
            prop_assert_eq!(sink_calls(reader(endpoint), cut(&body, &lengths)), sink_calls(reader(endpoint), [&body[..]]));
        }
    }
}

/// Events with a text at `@`, and at `#` a value that may differ.
const DIFFERING: [(Endpoint, &str); 7] = [
    (
        Endpoint::Responses,
        r#"{"type":"response.output_text.delta","sequence_number":#,"item_id":"m","output_index":0,"delta":@,"logprobs":[]}"#,
    ),
    (
        Endpoint::Responses,
        r#"{"delta":@,"item_id":"m","logprobs":[],"sequence_number":#,"type":"response.output_text.delta"}"#,
    ),
    (Endpoint::Responses, r#"{"type":"response.refusal.delta","sequence_number":#,"delta":@,"obfuscation":#}"#),
    (Endpoint::Responses, r#"{"obfuscation":#,"sequence_number":#,"type":"response.output_text.delta","delta":@}"#),
    (Endpoint::OllamaChat, r#"{"model":"m","created_at":#,"message":{"role":"assistant","content":@},"done":false}"#),
    (Endpoint::OllamaGenerate, r#"{"created_at":#,"response":@,"done":false}"#),
    (Endpoint::ChatCompletions, r#"{"obfuscation":#,"choices":[{"index":0,"delta":{"content":@}}],"usage":null}"#),
];

/// Values for that place, and texts that are not one value, or not one of its kind.
const VALUES: [&str; 22] = [
    "1",
    "12",
    "\"2026-01-01T00:00:00Z\"",
    "\"2026-01-01T00:00:01Z\"",
    "\"\"",
    "-1",
    "1.5",
    "1e3",
    "007",
    "null",
    "[]",
    "{}",
    "{\"delta\":\"x\"}",
    "[[],\"\"]",
    "\"a\\\"b\"",
    "\"a\\\\\"",
    "\"a\\",
    "\"a\nb\"",
    "1,\"delta\":\"x\"",
    "\"a\",\"response\":\"x\"",
    "1,\"type\":\"error\"",
    " 1 ",
];

fn differing() -> impl Strategy<Value = (Endpoint, Vec<String>)> {
    let value =
        prop_oneof![3 => prop::sample::select(VALUES[..4].to_vec()), 1 => prop::sample::select(VALUES.to_vec())];
    let events = vec((text(), value.clone(), value), 1..8);
    (prop::sample::select(DIFFERING.to_vec()), any::<bool>(), events).prop_map(|((endpoint, event), named, values)| {
        let fill = |(text, first, second): (_, &str, &str)| {
            let text: super::generated::Json = text;
            let data = event.replacen('#', first, 1).replace('#', second).replace('@', &text.render(Layout::Compact));
            let name = event.split_once(r#""type":""#).and_then(|(_, rest)| rest.split_once('"'));
            match (endpoint, name) {
                (Endpoint::OllamaChat | Endpoint::OllamaGenerate, _) => format!("{data}\n"),
                (_, Some((name, _))) if named => format!("event: {name}\ndata: {data}\n\n"),
                _ => format!("data: {data}\n\n"),
            }
        };
        (endpoint, values.into_iter().map(fill).collect())
    })
}

fn reader_of(endpoint: Endpoint) -> Reader {
    if matches!(endpoint, Endpoint::OllamaChat | Endpoint::OllamaGenerate) {
        lines_of(endpoint)
    } else {
        stream_of(endpoint)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn differing_values_do_not_change_the_calls(
        (endpoint, events) in differing(),
        damage in damage(),
        lengths in pieces(),
    ) {
        let events = damaged(events, damage);
        let read = |reader, pieces: Vec<&[u8]>| sink_calls(reader, pieces);
        let whole = events.concat();
        let by_event: Vec<&[u8]> = events.iter().map(Vec::as_slice).collect();
        let expected = read(without_templates(reader_of(endpoint)), vec![&whole]);
        prop_assert_eq!(&read(reader_of(endpoint), vec![&whole]), &expected);
        prop_assert_eq!(&read(reader_of(endpoint), by_event), &expected);
        prop_assert_eq!(&read(reader_of(endpoint), cut(&whole, &lengths)), &expected);
    }
}

/// The number of events that were recognised from the first byte to the last, and of those that were not split into lines.
fn known(mut reader: Reader, events: impl Iterator<Item = String>) -> (u8, u8) {
    for event in events {
        reader.read(event.as_bytes(), &mut super::support::Recorder::default());
    }
    let probe = &super::support::template(&mut reader).probe;
    (probe.known, probe.split)
}

#[test]
fn events_have_templates_in_every_protocol_also_where_a_time_or_a_number_differs() {
    for (endpoint, event) in [
        (
            Endpoint::Messages,
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"t#\"}}\n\n",
        ),
        // OpenAI's, vLLM's, llama-server's, and one whose events have no names.
        (
            Endpoint::Responses,
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":#,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"t#\",\"logprobs\":[],\"obfuscation\":\"x#\"}\n\n",
        ),
        (
            Endpoint::Responses,
            "event: response.output_text.delta\ndata: {\"content_index\":0,\"delta\":\"t#\",\"item_id\":\"msg_1\",\"logprobs\":[],\"output_index\":0,\"sequence_number\":#,\"type\":\"response.output_text.delta\"}\n\n",
        ),
        (
            Endpoint::Responses,
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"delta\":\"t#\"}\n\n",
        ),
        (
            Endpoint::Responses,
            "data: {\"type\":\"response.output_text.delta\",\"sequence_number\":#,\"item_id\":\"msg_1\",\"delta\":\"t#\"}\n\n",
        ),
        (
            Endpoint::OllamaChat,
            "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:#Z\",\"message\":{\"role\":\"assistant\",\"content\":\"t#\"},\"done\":false}\n",
        ),
        (
            Endpoint::OllamaGenerate,
            "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:#Z\",\"response\":\"t#\",\"done\":false}\n",
        ),
    ] {
        let events = (0..100).map(|turn| event.replace('#', &turn.to_string()));
        assert_eq!(known(reader_of(endpoint), events), (99, 99), "{event}");
    }
}

#[test]
fn events_that_never_begin_like_the_previous_one_are_no_longer_learnt() {
    let mut reader = stream_of(Endpoint::Responses);
    let mut learnt = 0;
    for turn in 0..100 {
        // Two values differ. Only one may differ, and the other must be the same.
        let event = format!(
            "data: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{turn},\"item_id\":\"m{turn}\",\"delta\":\"t\"}}\n\n"
        );
        reader.read(event.as_bytes(), &mut super::support::Recorder::default());
        learnt += usize::from(super::support::template(&mut reader).learns());
    }
    assert_eq!(super::support::template(&mut reader).probe.known, 0);
    assert_eq!(learnt, 31, "events that were learnt for nothing, before the last try");
}

#[test]
fn a_number_that_is_missing_is_not_one_that_differs() {
    let event = |number: &str| {
        format!(
            "data: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{number},\"item_id\":\"m\",\"delta\":\"t\"}}\n\n"
        )
    };
    let events = ["1", "2", "", "-", "3"].map(event);
    let pieces = || events.iter().map(String::as_bytes);
    let reader = || stream_of(Endpoint::Responses);
    assert_eq!(sink_calls(reader(), pieces()), sink_calls(without_templates(reader()), pieces()));
}
