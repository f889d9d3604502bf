//! Invalid and hostile bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::generated::{cut, pieces, stream};
use super::support::{
    NullSink, Recorder, SinkCall, chat_document, chat_stream, completion_stream, sink_calls, text, without_templates,
};
use crate::vocabulary::{Endpoint, FinishReason, InspectionFailure, Usage};
use crate::wire::TextKind::{Answer, ToolArguments, ToolName};
use crate::wire::json::Shape;
use crate::wire::{ROUTES, Reader, RequestFacts, RequestScan, Route};

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let bytes = vec(prop::sample::select(b"{}[]\",:\\u\n\r dataevnt0123.-truefalsn\xF0\x9F\x98\x80".to_vec()), 0..200);
    let words = vec(
        prop::sample::select(vec![
            "data: ",
            "data:",
            "event: error",
            "\n",
            "\r\n",
            "\r",
            "{\"choices\":[{\"delta\":{\"content\":\"",
            "\"}}]}",
            "\\ud83d",
            "\\ude00",
            "\\",
            "[DONE]",
            "\"usage\":{",
            "}",
            "null",
            ",",
            "1e9",
            "\u{FEFF}",
            ":",
        ]),
        0..30,
    )
    .prop_map(|words| words.concat().into_bytes());
    prop_oneof![vec(any::<u8>(), 0..200), bytes, words]
}

/// The facts of a request that arrives in these pieces, and the reason why it could not be read.
fn scanned<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (RequestFacts, Option<InspectionFailure>) {
    let mut scan = Route::of(Endpoint::Completions).unwrap().request_scan(false);
    pieces.into_iter().for_each(|piece| scan.read(piece));
    (*scan.facts(), scan.failure(true))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_the_same_calls_however_they_are_cut(soup in soup(), lengths in pieces()) {
        for reader in [chat_stream, chat_document, completion_stream] {
            prop_assert_eq!(sink_calls(reader(), cut(&soup, &lengths)), sink_calls(reader(), [&soup[..]]));
        }
        prop_assert_eq!(scanned(cut(&soup, &lengths)), scanned([&soup[..]]));
    }

    #[test]
    fn damaged_streams_give_the_same_calls_however_they_are_cut(
        stream in stream(), lengths in pieces(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut stream = stream;
        for (at, byte) in damage {
            if !stream.is_empty() {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
        }
        let expected = sink_calls(without_templates(chat_stream()), [&stream[..]]);
        prop_assert_eq!(sink_calls(without_templates(chat_stream()), cut(&stream, &lengths)), expected);
    }
}

#[test]
fn depth_is_limited_and_costs_nothing() {
    let deep = |depth: usize| {
        format!("{{\"x\":{}{},\"usage\":{{\"prompt_tokens\":1}}}}", "[".repeat(depth), "]".repeat(depth))
    };
    let expected = [SinkCall::Usage(Usage::new().input(1)), SinkCall::EventEnd];
    assert_eq!(sink_calls(chat_document(), [deep(50_000).as_bytes()]), expected);
    assert_eq!(
        sink_calls(chat_document(), [deep(1_000_000).as_bytes()]),
        [SinkCall::Failure(InspectionFailure::TooLarge)]
    );
    let stream = format!("data: {}\n\ndata: [DONE]\n\n", deep(1_000_000));
    let expected =
        [SinkCall::Failure(InspectionFailure::TooLarge), SinkCall::EventEnd, SinkCall::Done, SinkCall::EventEnd];
    assert_eq!(sink_calls(chat_stream(), [stream.as_bytes()]), expected);
}

#[test]
fn long_lines_and_long_values_are_read_in_place() {
    for (length, step) in [(1 << 14, 1), (1 << 20, 1460), (1 << 20, usize::MAX)] {
        let long = "x".repeat(length);
        let stream = format!(
            ": {long}\n{long}: {long}\ndata: {{\"{long}\":\"{long}\",\"choices\":[{{\"delta\":{{\"content\":\"{long}\"}},\"finish_reason\":\"{long}\"}}],\"usage\":{{\"prompt_tokens\":{}}}}}\n\n",
            "7".repeat(length)
        );
        let calls = sink_calls(chat_stream(), stream.as_bytes().chunks(step));
        assert_eq!(
            calls,
            [SinkCall::Choice(0), text(0, Answer, &long), SinkCall::Finish(0, FinishReason::Other), SinkCall::EventEnd]
        );
    }
}

#[test]
fn each_kind_of_failure_is_reported_once() {
    let stream =
        "data: {\"a\" 1}\n\ndata: {\"a\":\n\ndata: {}}\n\ndata: {\"usage\":{\"prompt_tokens\":9999999999}}\n\n"
            .repeat(3);
    let calls = sink_calls(chat_stream(), [stream.as_bytes()]);
    let failures: Vec<_> = calls.iter().filter(|call| matches!(call, SinkCall::Failure(_))).collect();
    let expected =
        [&SinkCall::Failure(InspectionFailure::Malformed), &SinkCall::Failure(InspectionFailure::Implausible)];
    assert_eq!(failures, expected);
    assert_eq!(calls.iter().filter(|call| matches!(call, SinkCall::EventEnd)).count(), 12);
}

#[test]
fn keys_in_tool_arguments_are_only_text() {
    let arguments = r#"{\"usage\":{\"prompt_tokens\":1},\"error\":\"x\",\"finish_reason\":\"stop\"}"#;
    let stream = format!(
        concat!(
            r#"data: {{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":1,"id":"a","type":"function","function":{{"name":"f","arguments":"{}"}}}}]}}}}]}}"#,
            "\n\n",
            r#"data: {{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"function":{{"arguments":{{"usage":{{"prompt_tokens":1}},"error":1,"content":"x"}}}}}}]}}}}]}}"#,
            "\n\n",
        ),
        arguments
    );
    let plain = arguments.replace("\\\"", "\"");
    let (name, arguments) = (text(0, ToolName(1), "f"), text(0, ToolArguments(1), &plain));
    let expected = [SinkCall::Choice(0), name, arguments, SinkCall::EventEnd, SinkCall::Choice(0), SinkCall::EventEnd];
    assert_eq!(sink_calls(chat_stream(), [stream.as_bytes()]), expected);
}

#[test]
fn half_a_character_is_replaced() {
    for (escaped, plain) in [
        (r"\ud83d", "\u{FFFD}"),
        (r"\ude00", "\u{FFFD}"),
        (r"\ud83d\ud83d\ude00", "\u{FFFD}😀"),
        (r"\ud83dx\ude00", "\u{FFFD}x\u{FFFD}"),
        (r"\ud83d\n", "\u{FFFD}\n"),
        (r"\uD83D\uDE00\u00e9", "😀é"),
    ] {
        let stream = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{escaped}\"}}}}]}}\n\n");
        let expected = [SinkCall::Choice(0), text(0, Answer, plain), SinkCall::EventEnd];
        assert_eq!(sink_calls(chat_stream(), [stream.as_bytes()]), expected, "{escaped}");
        assert_eq!(sink_calls(chat_stream(), stream.as_bytes().chunks(1)), expected, "{escaped} byte by byte");
        let named = format!("data: {{\"model\":\"{escaped}\",\"choices\":[]}}\n\n");
        let expected = [SinkCall::Model(plain.to_owned()), SinkCall::EventEnd];
        assert_eq!(sink_calls(chat_stream(), [named.as_bytes()]), expected, "{escaped} as a name");
    }
}

#[test]
fn a_reader_takes_at_most_640_bytes_and_a_request_scan_416() {
    assert!(size_of::<Reader>() <= 640, "{}", size_of::<Reader>());
    assert!(size_of::<RequestScan>() <= 416, "{}", size_of::<RequestScan>());
}

#[test]
fn no_shape_is_deeper_than_the_path_of_a_place() {
    fn depth<F>(shape: &Shape<F>) -> usize {
        match shape {
            Shape::Object(_, keys) => {
                assert!(keys.len() < 255, "a slot is a byte");
                1 + keys.iter().map(|(_, shape)| depth(shape)).max().unwrap_or(0)
            }
            Shape::Array(element) => 1 + depth(element),
            Shape::Either(scalar, container) => depth(scalar).max(depth(container)),
            Shape::Tag(tags) => {
                // A word must be short enough to be compared without being cut.
                assert!(tags.words.iter().all(|(word, ..)| word.len() < crate::wire::framing::LONGEST_NAME));
                let words = tags.words.iter().map(|(_, _, shape)| depth(shape));
                words.chain([depth(&tags.otherwise)]).max().unwrap_or(0)
            }
            _ => 0,
        }
    }
    for route in ROUTES {
        assert!(depth(route.event).max(depth(route.document)).max(depth(route.request)) <= 8);
    }
}

#[test]
fn a_million_bytes_read_one_by_one_leave_no_memory_allocated() {
    let event =
        b"data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"word\"}}],\"usage\":{\"prompt_tokens\":5}}\n\n";
    let mut reader = chat_stream();
    for byte in event.iter().cycle().take(event.len() * (1_000_000 / event.len())) {
        reader.read(std::slice::from_ref(byte), &mut NullSink);
    }
    let mut recorder = Recorder::default();
    reader.read(event, &mut recorder);
    let expected =
        [SinkCall::Choice(0), text(0, Answer, "word"), SinkCall::UsageSoFar(Usage::new().input(5)), SinkCall::EventEnd];
    assert_eq!(recorder.0, expected);
}
