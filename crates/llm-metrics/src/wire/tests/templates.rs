//! Events that equal the previous one are not read again, and that never changes the calls.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::generated::{Json, Layout, cut, damage, damaged, junk, pieces, text};
use super::support::{
    Recorder, SinkCall, chat_stream, completion_stream, lines_of, sink_calls, stream_of, template, without_templates,
};
use crate::vocabulary::Endpoint;
use crate::wire::Reader;

/// The bytes before and after the text in the events of some servers; `@` differs each time.
const ENVELOPES: [(&str, &str); 8] = [
    (
        r#"{"id":"chatcmpl-7f3c2a9b","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[{"index":0,"delta":{"content":"#,
        r#"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
    ),
    // llama.cpp: the envelope comes last.
    (
        r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"#,
        r#"}}],"created":1753000000,"id":"chatcmpl-7f3c2a9b","model":"q","system_fingerprint":"b1-x","object":"chat.completion.chunk"}"#,
    ),
    // SGLang: reasoning.
    (
        r#"{"id":"1","choices":[{"index":0,"delta":{"role":null,"content":null,"reasoning_content":"#,
        r#","tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}"#,
    ),
    // Tool arguments.
    (
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"#,
        r#"}}]},"logprobs":null,"finish_reason":null}]}"#,
    ),
    // Two choices in one event.
    (
        r#"{"choices":[{"index":0,"delta":{"content":"#,
        r#"},"finish_reason":null},{"index":1,"delta":{"content":"x"},"finish_reason":@}]}"#,
    ),
    // OpenAI: padding.
    (
        r#"{"id":"1","choices":[{"index":0,"delta":{"content":"#,
        r#"},"finish_reason":null}],"usage":null,"obfuscation":@}"#,
    ),
    // vLLM: log probabilities; cumulative usage. These have an object after the text.
    (r#"{"choices":[{"index":0,"delta":{"content":"#, r#"},"logprobs":@,"finish_reason":null}]}"#),
    (
        r#"{"id":"1","choices":[{"index":1,"delta":{"content":"#,
        r#"},"finish_reason":null}],"usage":{"prompt_tokens":9,"completion_tokens":@}}"#,
    ),
];

/// Values that a hostile or broken server could send in place of log probabilities or padding.
const HOSTILE: [&str; 17] = [
    r#""a","error":"b""#,
    r#""a\\","error":"b""#,
    r#""a\",\"error\":\"b""#,
    r#"null,"finish_reason":"stop""#,
    r#"{"content":[]},"finish_reason":"length""#,
    r#"{"content":[{"token":"a"}]}},{"index":1,"delta":{"content":"x"},"logprobs":{"content":[]}"#,
    r#"{"a":1}},{"index":2,"logprobs":{}"#,
    r#"{"a":1} },{"index":2,"logprobs":{"b":[]}"#,
    r#"{"a":1} , "delta":{"refusal":"no"},"logprobs":{"b":[]}"#,
    r#"{"a":1}, "delta":{"refusal":"no"},"logprobs":{"b":[]}"#,
    r#"{"a":[{"b":1}]},"delta":{"content":"x"},"x":[{"b":[1]}]"#,
    r#"{"a":1}}],"usage":{"prompt_tokens":3},"choices":[{"index":0,"x":{"b":[1]}"#,
    r#"{"a":"},\"delta\":{\"content\":\"x\"}"}"#,
    r#"{"a":"}}\"","b":"{"}"#,
    r#"{}"#,
    r#"[{"a":{}}]"#,
    r#""},{""#,
];

fn varying() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(HOSTILE.to_vec()).prop_map(str::to_owned),
        3 => vec((text(), 0..99_u8), 0..4).prop_map(|tokens| {
            let tokens = tokens.into_iter().map(|(token, byte)| {
                format!(r#"{{"token":{},"bytes":[{byte}]}}"#, token.render(Layout::Compact))
            });
            format!(r#"{{"content":[{}]}}"#, tokens.collect::<Vec<_>>().join(","))
        }),
        2 => junk().prop_map(|junk| junk.render(Layout::Compact)),
        2 => (0..9_u8).prop_map(|count| count.to_string()),
        2 => "\"[a-zA-Z0-9]{0,20}\"",
        1 => Just("null".to_owned()),
    ]
}

/// Events with one envelope. Each has another text, and another value that may differ.
fn alike(
    envelopes: &[(&'static str, &'static str)],
    varying: impl Strategy<Value = String> + 'static,
) -> impl Strategy<Value = Vec<String>> {
    let event = (text(), varying);
    (prop::sample::select(envelopes.to_vec()), vec(event, 1..8)).prop_map(|((prefix, tail), events)| {
        let event = |(text, varying): (Json, String)| {
            format!("data: {prefix}{}{}\n\n", text.render(Layout::Compact), tail.replace('@', &varying))
        };
        events.into_iter().map(event).collect()
    })
}

/// The rest of events that have the same beginning as those of the stream.
const RELATIVES: [&str; 10] = [
    r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
    r#"{"index":0,"delta":{"content":"x"},"finish_reason":null}]}"#,
    r#"{"index":1,"delta":{"reasoning":"x","content":"y"},"finish_reason":null}]}"#,
    r#"{"delta":{"content":"x"}},{"delta":{"content":"y"}}],"model":"late"}"#,
    r#"{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    r#"],"usage":{"prompt_tokens":9,"completion_tokens":18}}"#,
    r#"],"choices":[{"index":3,"delta":{"content":"x"}}],"error":{"message":"x"}}"#,
    r#"{"index":0,"delta":{"con\u0074ent":"x"}}]}"#,
    r#"{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}}]}}]}"#,
    "\ndata: {\"delta\":{\"content\":\"x\"}}]}",
];

/// Beginnings of such events, and beginnings that differ: some have facts that must be emitted each time.
const LIST_PREFIXES: [&str; 5] = [
    r#"{"id":"1","model":"q","choices":["#,
    r#"{"id":"2","model":"q","choices":["#,
    r#"{"usage":{"completion_tokens":7},"choices":["#,
    r#"{"error":"x","choices":["#,
    r#" {"choices":["#,
];

fn relatives() -> impl Strategy<Value = Vec<String>> {
    let list_prefix = prop_oneof![4 => Just(LIST_PREFIXES[0]), 1 => prop::sample::select(LIST_PREFIXES.to_vec())];
    let event = (list_prefix, prop::sample::select(RELATIVES.to_vec()));
    vec(event.prop_map(|(list_prefix, rest)| format!("data: {list_prefix}{rest}\n\n")), 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn known_events_emit_the_same_as_if_they_were_read(events in alike(&ENVELOPES, varying()), lengths in pieces()) {
        let all_json = events.iter().all(|event| serde_json::from_str::<Value>(&event["data: ".len()..]).is_ok());
        prop_assume!(all_json);
        let whole: Vec<_> = events.iter().map(String::as_bytes).collect();
        let expected = sink_calls(without_templates(chat_stream()), whole.iter().copied());
        prop_assert_eq!(&sink_calls(chat_stream(), whole.iter().copied()), &expected);
        prop_assert_eq!(&sink_calls(chat_stream(), cut(&whole.concat(), &lengths)), &expected);
    }

    #[test]
    fn events_that_only_begin_alike_emit_the_same_as_if_they_were_read(events in relatives(), lengths in pieces()) {
        let whole: Vec<_> = events.iter().map(String::as_bytes).collect();
        let expected = sink_calls(without_templates(chat_stream()), whole.iter().copied());
        prop_assert_eq!(&sink_calls(chat_stream(), whole.iter().copied()), &expected);
        prop_assert_eq!(&sink_calls(chat_stream(), cut(&whole.concat(), &lengths)), &expected);
    }

    #[test]
    fn damaged_events_emit_the_same_as_if_they_were_read(
        // Without an object after the text, because that is only safe in valid JSON.
        events in prop_oneof![alike(&ENVELOPES[..5], varying()), alike(&ENVELOPES[5..6], "\"[a-z]{0,9}\"")],
        damage in damage(),
    ) {
        let events = damaged(events, damage);
        let expected = sink_calls(without_templates(chat_stream()), events.iter().map(Vec::as_slice));
        prop_assert_eq!(sink_calls(chat_stream(), events.iter().map(Vec::as_slice)), expected);
    }
}

/// A reader that has read these events, each in one piece.
fn having_read(mut reader: Reader, events: &[String]) -> Reader {
    for event in events {
        reader.read(event.as_bytes(), &mut Recorder::default());
    }
    reader
}

#[test]
fn events_that_are_alike_are_read_once() {
    for (prefix, tail) in [0, 1, 2, 3, 5, 6].map(|at| ENVELOPES[at]) {
        let events: Vec<_> = (0..100_u8)
            .map(|turn| {
                let varying = if tail.contains("obfuscation") {
                    format!("\"{}\"", "x".repeat(usize::from(turn % 7)))
                } else {
                    format!(r#"{{"content":[{{"token":"\"t{turn}","bytes":[{turn}]}},{{"token":"}}","top":[{{}}]}}]}}"#)
                };
                format!("data: {prefix}\"t{turn}\\n é\"{}\n\n", tail.replace('@', &varying))
            })
            .collect();
        let mut reader = having_read(chat_stream(), &events);
        let probe = &template(&mut reader).probe;
        assert!(probe.known >= 98, "only {} of 100 events were known: {}", probe.known, events[1]);
        let has_object = tail.contains("logprobs\":@");
        assert_eq!(probe.trusted, has_object, "{}", events[1]);
        assert!(has_object || probe.split >= 98, "only {} of 100 events were not framed: {}", probe.split, events[1]);
        let mut reader = having_read(without_templates(chat_stream()), &events);
        assert_eq!(template(&mut reader).probe.known, 0, "{}", events[1]);
    }
}

/// Half of a character as an escape is read by the scanner, which continues from the state that the template knows.
#[test]
fn events_with_other_escapes_are_known_around_their_text() {
    for (reader, event) in [
        (chat_stream(), "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\u00e9#\"}}]}\n\n"),
        (
            stream_of(Endpoint::Responses),
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":#,\"item_id\":\"m\",\"delta\":\"\\u00e9#\",\"obfuscation\":\"x#\"}\n\n",
        ),
        (
            lines_of(Endpoint::OllamaChat),
            "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\\u00e9#\"},\"done\":false}\n",
        ),
    ] {
        let events: Vec<_> = (0..100).map(|turn| event.replace('#', &turn.to_string())).collect();
        let mut reader = having_read(reader, &events);
        let probe = &template(&mut reader).probe;
        assert_eq!((probe.known, probe.split), (99, 0), "{event}");
    }
}

#[test]
fn events_that_recur_are_still_learnt() {
    let event = |id: u32, text: &str| {
        format!("data: {{\"id\":\"{id}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let events: Vec<_> = (0..100).flat_map(|id| [event(id, "a"), event(id, "\\u00e9")]).collect();
    let mut reader = having_read(chat_stream(), &events);
    assert_eq!(template(&mut reader).probe.known, 100);
}

#[test]
fn an_event_that_only_begins_alike_is_read_from_its_choices_on() {
    let mut reader = chat_stream();
    for rest in RELATIVES {
        reader.read(format!("data: {}{rest}\n\n", LIST_PREFIXES[0]).as_bytes(), &mut Recorder::default());
    }
    // All except the first one, and the one after an escape that had to be kept.
    assert_eq!(usize::from(template(&mut reader).probe.begun), RELATIVES.len() - 2);
}

#[test]
fn text_is_not_kept() {
    let secret = "a-secret-of-the-user";
    let events = [
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}},"logprobs":{{"a":"{secret}"}},"finish_reason":null}}]}}"#
        ),
        format!(r#"{{"choices":[{{"index":0,"logprobs":{{"a":"{secret}"}},"delta":{{"content":"x"}}}}]}}"#),
        format!(r#"{{"choices":[{{"index":0,"delta":{{"reasoning":"{secret}","content":"{secret}"}}}}]}}"#),
        format!(r#"{{"choices":[{{"index":0,"delta":{{"reasoning":"{secret}","reasoning_content":"{secret}"}}}}]}}"#),
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"{secret}"}}}},{{"index":1,"delta":{{"content":"{secret}"}}}}]}}"#
        ),
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}},"logprobs":{{"a":"{secret}"}}}}],"obfuscation":"abc"}}"#
        ),
        format!(r#"{{"text":"{secret}","choices":[{{"index":0,"delta":{{"content":"x"}}}}]}}"#),
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}}}}],"text":"{secret}"}}"#),
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"x","tool_calls":[{{"function":{{"name":"{secret}"}}}}]}}}}]}}"#
        ),
    ];
    for event in events {
        let mut reader = chat_stream();
        for _ in 0..3 {
            reader.read(format!("data: {event}\n\n").as_bytes(), &mut Recorder::default());
        }
        let debug = format!("{:?}", template(&mut reader).bytes());
        let needle = format!("{:?}", secret.as_bytes());
        assert!(!debug.contains(needle.trim_matches(['[', ']'])), "the text was kept: {event}");
    }
}

#[test]
fn completions_have_templates_too() {
    let events = (0..50).map(|turn| {
        format!("data: {{\"id\":\"cmpl-1\",\"choices\":[{{\"index\":0,\"text\":\"t{turn}\",\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n")
    });
    let mut reader = completion_stream();
    let mut recorder = Recorder::default();
    for event in events {
        reader.read(event.as_bytes(), &mut recorder);
    }
    assert_eq!(template(&mut reader).probe.known, 49);
    assert_eq!(recorder.0.iter().filter(|call| matches!(call, SinkCall::EventEnd)).count(), 50);
}

#[test]
fn a_known_event_inside_another_line_is_not_known() {
    let event: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    // The value of the second data line is `data: {…`, which is not JSON.
    let pieces = [event, b"data:", event];
    assert_eq!(sink_calls(chat_stream(), pieces), sink_calls(without_templates(chat_stream()), [&pieces.concat()[..]]));
}

/// Asserts that the calls for these pieces are the same with and without templates.
fn assert_alike(pieces: &[&str]) {
    let pieces = pieces.iter().map(|piece| piece.as_bytes());
    assert_eq!(sink_calls(chat_stream(), pieces.clone()), sink_calls(without_templates(chat_stream()), pieces));
}

#[test]
fn the_end_of_a_piece_is_not_the_end_of_an_event() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"logprobs\":{\"a\":[1]}}]}\n\n";
    let half = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"logprobs\":{\"a\":[{\"b\":{\"c\":1}}]}";
    let rest = ",\"finish_reason\":\"stop\"}]}\n\n";
    assert_alike(&[event, event, half, rest, event]);
    assert_alike(&[event, event, &half[..3], &half[3..], rest, event]);
}

#[test]
fn memory_that_was_lent_to_the_scanner_is_not_a_template() {
    let event = |start: &str, fill: usize| {
        let fill = "a".repeat(fill - start.len());
        format!("data: {start}{fill}\",\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}]}}\n\n")
    };
    let error = r#"{"error":1,"id":""#;
    // A key with escapes uses the scratch buffer, where the template stores its beginning, including `data: `.
    let key = format!("data: {{\"data: {}\":1}}\n\n", error.replace('"', "\\\""));
    assert_alike(&[&event("{\"id\":\"", 40), &key, &event(error, 40)]);
}

#[test]
fn the_part_before_the_choices_is_read_if_a_value_in_it_may_differ() {
    let event = "data: {\"obfuscation\":\"\",\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    // As long as the bytes before the choices, and made of the bytes around the value that may differ.
    assert_alike(&[event, event, "data: {\"obfuscation\":,\"choices\":[{\"]}\n\n", event]);
}

#[test]
fn a_line_in_the_middle_of_an_event_is_not_a_template() {
    let second_line = "data: [{\"delta\":{\"content\":\"x\"}}]}\n\n";
    // The second line alone is not JSON, or is JSON with another meaning.
    assert_alike(&["data: {\"choices\":\n", second_line, second_line]);
    let choice = "data: {\"delta\":{\"content\":\"x\"}}";
    assert_alike(&["data: {\"choices\":[\n", choice, "\ndata: ]}\n\n", choice, "\n\n"]);
    assert_alike(&[&format!("data: {{\"choices\":[\n{choice}]}}\n\n"), &format!("{choice}\n\n")]);
    assert_alike(&[&format!("data: {{\"choices\":\n{second_line}"), second_line]);
    // If an event has two lines, the end of the first line is not the end of the event.
    let (event, line) = ("data: {\"choices\":[{\"delta\":{\"content\":\"x\"", "}");
    let whole = format!("{event}}}}}]}}\n\n");
    assert_alike(&[&whole, &whole, &format!("{event}{line}\ndata: }}]}}\n\n"), &format!("{event}{line}\n\n"), &whole]);
    // The end of a document is not the end of its event.
    assert_alike(&[&whole, &whole, &whole.replace("\n\n", "x\n\n"), &whole]);
}

#[test]
fn a_line_end_in_a_text_ends_the_line() {
    let event = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    for text in ["a\nb", "a\rb", "a\r\nb", "\n", "a\n\ndata: b", "a\\\nb"] {
        assert_alike(&[&event("x"), &event("x"), &event(text), &event("x")]);
    }
}

#[test]
fn a_line_end_in_an_object_after_the_text_ends_the_line() {
    let event =
        |object: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}},\"logprobs\":{object}}}]}}\n\n");
    let known = event("{\"a\":[1]}");
    for object in ["{\"a\":\n[1]}", "{\"a\":\r[1]}", "{\"a\":\r\n[1]}", "{\"a\":\"\r\"}", "{\"a\":1\n\ndata: 2}"] {
        assert_alike(&[&known, &known, &event(object), &known]);
    }
}
