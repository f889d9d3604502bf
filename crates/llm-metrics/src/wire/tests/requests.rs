//! Requests are read like `serde_json::Value` reads them, and only at the top level.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::generated::{Json, content, cut, junk, layout, pieces, text};
use crate::vocabulary::Endpoint;
use crate::wire::facts::model_name;
use crate::wire::request::Format;
use crate::wire::{RequestFacts, RequestScan, Route};

fn scan() -> RequestScan {
    Route::of(Endpoint::ChatCompletions).unwrap().request_scan(false)
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> RequestFacts {
    let mut scan = scan();
    pieces.into_iter().for_each(|piece| scan.read(piece));
    *scan.facts()
}

fn facts(body: &str) -> RequestFacts {
    read([body.as_bytes()])
}

fn raw(value: &str) -> Json {
    Json::Raw(value.to_owned())
}

/// Known and unknown keys, each with valid and invalid values.
fn member() -> impl Strategy<Value = (String, Json)> {
    let words = |words: &[&'static str]| prop::sample::select(words.to_vec()).prop_map(raw);
    let one = |key: &'static str, value: BoxedStrategy<Json>| value.prop_map(move |value| (key.to_owned(), value));
    let limit = || words(&["1", "4096", "null", "-1", "1.5", "\"5\"", "{}"]).boxed();
    let switch = || words(&["true", "false", "null", "1", "\"true\""]).boxed();
    prop_oneof![
        one("model", prop_oneof![text(), words(&["null", "5", "{\"model\":\"x\"}"])].boxed()),
        one("stream", switch()),
        one("max_tokens", limit()),
        one("n", limit()),
        one("enable_thinking", switch()),
        one("tools", prop_oneof![words(&["[]", "null", "[{}]"]), vec(junk(), 1..3).prop_map(Json::Array)].boxed()),
        one(
            "messages",
            vec((content(), junk()), 0..3)
                .prop_map(|messages| {
                    let message = |(text, junk)| {
                        let text = Json::Text(text, super::generated::Spelling::Plain);
                        Json::Object(vec![("content".to_owned(), text), ("stream".to_owned(), junk)])
                    };
                    Json::Array(messages.into_iter().map(message).collect())
                })
                .boxed()
        ),
        one("metadata", junk().boxed()),
        one("response_format", junk().boxed()),
    ]
}

fn expected(request: &Value) -> RequestFacts {
    let name = request["model"].as_str().filter(|name| !name.is_empty());
    let format = match request["response_format"]["type"].as_str() {
        Some("text") => Some(Format::Text),
        Some("json_object") => Some(Format::JsonObject),
        _ => None,
    };
    RequestFacts {
        model: name.and_then(|name| facts(&serde_json::json!({ "model": name }).to_string()).model),
        stream: request["stream"].as_bool(),
        max_tokens: request["max_tokens"].as_u64(),
        choices: request["n"].as_u64(),
        format,
        tools: request["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| !tool.is_null())),
        thinking: request["enable_thinking"].as_bool(),
        inputs: None,
        background: false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_read_as_serde_reads_them_however_they_are_cut(
        members in vec(member(), 0..12), layout in layout(), lengths in pieces(),
    ) {
        let mut unique: Vec<(String, Json)> = Vec::new();
        for (key, value) in members {
            if unique.iter().all(|(known, _)| *known != key) {
                unique.push((key, value));
            }
        }
        let body = Json::Object(unique).render(layout);
        let expected = expected(&serde_json::from_str(&body).unwrap());
        prop_assert_eq!(facts(&body), expected);
        prop_assert_eq!(read(cut(body.as_bytes(), &lengths)), expected);
        if let (Some(model), Some(name)) = (expected.model, serde_json::from_str::<Value>(&body).unwrap()["model"].as_str()) {
            prop_assert!(model.as_str() == name || name.len() > 128);
        }
    }
}

#[test]
fn every_fact_is_found() {
    let body = r#" { "messages" : [ { "role" : "user", "content" : "\"model\":\"evil\",\"stream\":false" } ],
        "tools": [{"type":"function","function":{"name":"f","parameters":{"properties":{"stream":{"type":"boolean"},"model":{},"n":{}}}}}],
        "response_format": {"json_schema": {"schema": {"type": "object"}}, "type": "json_schema"},
        "chat_template_kwargs": {"enable_thinking": false, "model": "evil"},
        "max_tokens": 7, "max_completion_tokens": 9, "n": 2, "\u0073tream": true, "model": "Qwen\/Qwen3-0.6B" } "#;
    let found = facts(body);
    assert_eq!(found.model.as_ref().map(|name| name.as_str()), Some("Qwen/Qwen3-0.6B"));
    let expected = RequestFacts {
        model: found.model,
        stream: Some(true),
        max_tokens: Some(9),
        choices: Some(2),
        format: Some(Format::JsonSchema),
        tools: true,
        thinking: Some(false),
        inputs: None,
        background: false,
    };
    assert_eq!(found, expected);
    for at in 0..body.len() {
        let (left, right) = body.as_bytes().split_at(at);
        assert_eq!(read([left, right]), expected, "split at {at}");
    }
}

#[test]
fn the_newer_limit_wins_in_either_order() {
    assert_eq!(facts(r#"{"max_completion_tokens":9,"max_tokens":7}"#).max_tokens, Some(9));
    assert_eq!(facts(r#"{"max_tokens":7,"max_completion_tokens":9}"#).max_tokens, Some(9));
    assert_eq!(facts(r#"{"max_completion_tokens":null,"max_tokens":7}"#).max_tokens, Some(7));
    assert_eq!(facts(r#"{"max_tokens":7,"max_completion_tokens":null}"#).max_tokens, Some(7));
}

#[test]
fn a_key_that_comes_twice_counts_as_the_last_one() {
    let found = facts(r#"{"model":"a","stream":true,"n":1,"model":"b","stream":false,"n":null}"#);
    assert_eq!(found.model.as_ref().map(|name| name.as_str()), Some("b"));
    assert_eq!((found.stream, found.choices), (Some(false), None));
}

#[test]
fn every_switch_for_reasoning_is_known() {
    for (body, expected) in [
        (r#"{"enable_thinking":true}"#, Some(true)),
        (r#"{"chat_template_kwargs":{"thinking":false}}"#, Some(false)),
        (r#"{"chat_template_kwargs":{"enable_thinking":true}}"#, Some(true)),
        (r#"{"thinking":{"type":"disabled","budget_tokens":0}}"#, Some(false)),
        (r#"{"thinking":{"type":"enabled"}}"#, Some(true)),
        (r#"{"reasoning_effort":"none"}"#, Some(false)),
        (r#"{"reasoning_effort":"low"}"#, Some(true)),
        (r#"{"reasoning":{"effort":"none"}}"#, Some(false)),
        (r#"{"reasoning":{"enabled":true}}"#, Some(true)),
        (r#"{"reasoning_effort":"high","enable_thinking":false}"#, Some(false)),
        (r#"{"reasoning_effort":null,"thinking":null,"reasoning":null,"chat_template_kwargs":null}"#, None),
        (r#"{"tools":[{"enable_thinking":true}]}"#, None),
    ] {
        assert_eq!(facts(body).thinking, expected, "{body}");
    }
}

#[test]
fn every_way_to_request_a_format_is_known() {
    for (body, expected) in [
        (r#"{"response_format":{"type":"text"}}"#, Some(Format::Text)),
        (r#"{"response_format":{"type":"json_object"}}"#, Some(Format::JsonObject)),
        (r#"{"response_format":{"type":"grammar","grammar":""}}"#, Some(Format::Grammar)),
        (r#"{"response_format":null,"guided_json":null}"#, None),
        (r#"{"guided_regex":"a+"}"#, Some(Format::Grammar)),
        (r#"{"guided_json":{"type":"object"}}"#, Some(Format::JsonSchema)),
        (r#"{"guided_json":"{}"}"#, Some(Format::JsonSchema)),
        (r#"{"structured_outputs":{"choice":["a"]}}"#, Some(Format::Grammar)),
        (r#"{"structured_outputs":{"json":{"type":"object"},"regex":null}}"#, Some(Format::JsonSchema)),
        (r#"{"structured_outputs":{"json_object":true}}"#, Some(Format::JsonObject)),
        (r#"{"structured_outputs":{"json_object":false,"regex":"a+"}}"#, Some(Format::Grammar)),
        (r#"{"structured_outputs":{"regex":"a+","json_object":false}}"#, Some(Format::Grammar)),
        (r#"{"grammar":{"type":"json_schema","value":{}}}"#, Some(Format::JsonSchema)),
        (r#"{"grammar":{"value":"a+","type":"regex"}}"#, Some(Format::Grammar)),
        (r#"{"grammar":{"type":"of tomorrow"}}"#, Some(Format::Grammar)),
        (r#"{"grammar":{"type":"text"}}"#, Some(Format::Grammar)),
        (r#"{"grammar":"root ::= \"a\""}"#, Some(Format::Grammar)),
        (r#"{"grammar":{"type":"lark","value":"x"},"response_format":{"type":"text"}}"#, Some(Format::Grammar)),
        (r#"{"response_format":{"type":"json_object"},"guided_json":{}}"#, Some(Format::JsonObject)),
        (r#"{"json_schema":{"type":"object"}}"#, Some(Format::JsonSchema)),
        (r#"{"tools":[{"response_format":{"type":"json_object"}}]}"#, None),
    ] {
        assert_eq!(facts(body).format, expected, "{body}");
    }
}

#[test]
fn the_format_of_ollama_is_a_word_or_a_schema() {
    for (format, expected) in [
        ("\"json\"", Some(Format::JsonObject)),
        (r#"{"type":"object","properties":{"format":{"type":"string"}}}"#, Some(Format::JsonSchema)),
        ("{}", Some(Format::JsonSchema)),
        ("\"\"", None),
        ("null", None),
    ] {
        let body = format!(r#"{{"model":"m","format":{format},"messages":[]}}"#);
        let mut scan = Route::of(Endpoint::OllamaChat).unwrap().request_scan(false);
        scan.read(body.as_bytes());
        assert_eq!(scan.facts().format, expected, "{body}");
    }
}

#[test]
fn ollama_thinks_or_not_or_how_much() {
    for (think, expected) in [
        ("true", Some(true)),
        ("false", Some(false)),
        ("\"high\"", Some(true)),
        ("\"none\"", Some(false)),
        ("null", None),
        ("1", None),
    ] {
        let body = format!(r#"{{"model":"m","think":{think}}}"#);
        let mut scan = Route::of(Endpoint::OllamaChat).unwrap().request_scan(false);
        scan.read(body.as_bytes());
        assert_eq!(scan.facts().thinking, expected, "{body}");
    }
}

#[test]
fn a_body_that_is_declared_compressed_but_is_json_is_read() {
    for (body, compressed) in [
        (" \r\n\t{\"model\":\"m\"}", false),
        ("\u{feff}{\"model\":\"m\"}", false),
        ("{ \"model\":\"m\"}", false),
        ("m\"model\":\"m\"}", true),
        ("{\u{1f}\"model\":\"m\"}", true),
        ("[\"model\"]", true),
    ] {
        for size in [1, body.len()] {
            let mut scan = Route::of(Endpoint::ChatCompletions).unwrap().request_scan(true);
            body.as_bytes().chunks(size).for_each(|piece| scan.read(piece));
            assert_eq!(scan.is_compressed(), compressed, "{body:?} by {size}");
            assert_eq!(scan.facts().model.is_some(), !compressed, "{body:?} by {size}");
        }
    }
}

#[test]
fn the_length_of_a_request_is_that_of_its_text_unless_it_is_known_to_hold_more() {
    for (body, is_text) in [
        (r#"{"messages":[{"content":"a"}]}"#, true),
        (r#"{"format":"json","messages":[{"content":"a","images":null}]}"#, true),
        (r#"{"format":{"type":"object"},"messages":[{"content":"a"}]}"#, false),
        (r#"{"messages":[{"content":"a","images":["AAAA"]}]}"#, false),
        (r#"{"prompt":"a","images":["AAAA"]}"#, false),
    ] {
        for size in [1, 7, body.len()] {
            let mut scan = Route::of(Endpoint::OllamaChat).unwrap().request_scan(false);
            body.as_bytes().chunks(size).for_each(|piece| scan.read(piece));
            let prompt = Route::of(Endpoint::OllamaChat).unwrap().prompt(&scan).map(|prompt| prompt.bytes);
            assert_eq!(prompt, is_text.then_some(body.len() as u64), "{body} by {size}");
        }
    }
}

#[test]
fn only_a_request_to_ollama_has_the_length_of_its_context() {
    let context = |endpoint, body: &str| {
        let route = Route::of(endpoint).unwrap();
        let mut scan = route.request_scan(false);
        scan.read(body.as_bytes());
        route.prompt(&scan).map(|prompt| prompt.limit.map(|limit| (limit.context, limit.left)))
    };
    for (options, expected) in [
        (r#"{"num_ctx":4096}"#, Some((4096, [4096, 4095, 2050, 2051]))),
        (r#"{"num_keep":24,"num_ctx":4096}"#, Some((4096, [4096, 4095, 2060, 2061]))),
        (r#"{"num_ctx":4096.0,"num_keep":-1}"#, Some((4096, [4096, 4095, 4095, 4095]))),
        (r#"{"num_ctx":4096,"num_keep":null}"#, Some((4096, [4096, 4095, 2050, 2051]))),
        (r#"{"num_ctx":1}"#, None),
        (r#"{"num_ctx":0}"#, None),
        (r#"{"num_ctx":null}"#, None),
        (r#"{"num_ctx":"4096"}"#, None),
        (r#"{"num_predict":4096}"#, None),
        (r#"{"other":{"num_ctx":4096}}"#, None),
        ("null", None),
    ] {
        for endpoint in [Endpoint::OllamaChat, Endpoint::OllamaGenerate] {
            assert_eq!(context(endpoint, &format!(r#"{{"options":{options}}}"#)), Some(expected), "{options}");
        }
    }
    assert_eq!(
        context(Endpoint::OllamaChat, r#"{"num_ctx":4096,"messages":[{"options":{"num_ctx":4096}}]}"#),
        Some(None)
    );
    for endpoint in Endpoint::ALL.iter().filter(|endpoint| **endpoint != Endpoint::Other) {
        let cuts = matches!(endpoint, Endpoint::OllamaChat | Endpoint::OllamaGenerate);
        assert_eq!(context(*endpoint, r#"{"options":{"num_ctx":4096}}"#).is_some(), cuts, "{endpoint:?}");
    }
}

#[test]
fn a_response_is_requested_in_the_background() {
    for (body, expected) in [
        (r#"{"model":"m","background":true,"stream":true}"#, true),
        (r#"{"background":false}"#, false),
        (r#"{"background":null}"#, false),
        (r#"{"background":"true"}"#, false),
        (r#"{"background":true,"background":false}"#, false),
        (r#"{"metadata":{"background":true},"input":[{"background":true}]}"#, false),
    ] {
        let mut scan = Route::of(Endpoint::Responses).unwrap().request_scan(false);
        scan.read(body.as_bytes());
        assert_eq!(scan.facts().background, expected, "{body}");
    }
    assert!(!facts(r#"{"background":true}"#).background, "chat completions have no such thing");
}

#[test]
fn a_limit_that_is_too_large_stays_too_large() {
    for (limit, expected) in [
        ("4096.0", Some(4096)),
        ("1e3", Some(1000)),
        ("18446744073709551616", Some(u64::MAX)),
        ("1e300", Some(u64::MAX)),
        ("1e999", None),
        ("-1", None),
        ("0.5", None),
    ] {
        assert_eq!(facts(&format!(r#"{{"max_tokens":{limit}}}"#)).max_tokens, expected, "{limit}");
    }
}

#[test]
fn a_long_name_with_invalid_text_is_cut_before_it() {
    let name = |valid: usize| ["x".repeat(valid).as_bytes(), &[0xFF]].concat();
    assert_eq!(model_name(&name(128)), "\0");
    assert_eq!(model_name(&name(129)), "x".repeat(129));
}

#[test]
fn a_name_that_is_too_long_stays_too_long_and_is_cut_between_characters() {
    for name in ["x".repeat(129), "é".repeat(100), "x".repeat(127) + "😀😀", "世".repeat(5000)] {
        let body = format!(r#"{{"model":"{name}"}}"#);
        for cut in [1, 64, 140, body.len()] {
            let found = read(body.as_bytes().chunks(cut)).model.expect("a name was sent");
            assert!(found.as_str().len() > 128 && name.starts_with(found.as_str()), "{found:?}");
        }
    }
}

#[test]
fn a_body_that_is_not_a_request_has_no_facts() {
    for body in [
        "",
        "null",
        "[]",
        "\"model\"",
        "5",
        "{",
        "{]",
        "}",
        "<html>",
        "{\"model\"}",
        "[{\"model\":\"x\"}]",
        "{\"stream\" true}",
    ] {
        assert_eq!(facts(body), RequestFacts::default(), "{body}");
    }
}

/// The schema that is kept from a request that arrives in pieces.
fn schema<'a>(endpoint: Endpoint, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let mut scan = Route::of(endpoint).unwrap().request_scan(false);
    scan.want_schema();
    let mut kept = None;
    for piece in pieces {
        scan.read(piece);
        kept = scan.take_schema().or(kept);
    }
    let kept = kept?;
    Some(String::from_utf8(kept.whole()?.to_vec()).unwrap())
}

#[test]
fn a_schema_is_kept_byte_for_byte_however_the_request_is_split() {
    let wanted = r#"{"type": "object", "properties": {"schema": {"enum": ["}", "\"]"]}}}"#;
    for (endpoint, body) in [
        (
            Endpoint::ChatCompletions,
            r#"{"a":{},"response_format":{"json_schema":{"name":{},"schema":S,"strict":true},"type":"json_schema"},"b":{"c":[]}}"#,
        ),
        (
            Endpoint::ChatCompletions,
            r#"{"guided_json":S,"tools":[{"function":{"name":"f","parameters":{"schema":{}}}}],"z":"z"}"#,
        ),
        (Endpoint::ChatCompletions, r#"{"messages":[{"schema":{}}],"structured_outputs":{"json":S}}"#),
        (
            Endpoint::Responses,
            r#"{"text":{"format":{"type":"json_schema","schema":S},"verbosity":{"x":1}},"input":[{}]}"#,
        ),
        (Endpoint::Messages, r#"{"output_format":{"schema":S},"system":[{"schema":{}}]}"#),
        (Endpoint::Messages, r#"{"output_config":{"effort":"low","format":{"schema":S}},"system":[{}]}"#),
        (
            Endpoint::OllamaChat,
            r#"{"tools":[],"x":[1],"format":S,"messages":[{"content":"","format":{}}],"options":{"a":{}}}"#,
        ),
        (Endpoint::LlamaCppCompletion, r#"{"prompt":["x"],"json_schema":S,"y":{"json_schema":{}}}"#),
    ] {
        let body = body.replace('S', wanted);
        for size in [1, 2, 3, 7, 50, body.len()] {
            assert_eq!(
                schema(endpoint, body.as_bytes().chunks(size)).as_deref(),
                Some(wanted),
                "{endpoint:?}: {body} by {size}"
            );
        }
    }
    for none in [
        r#"{"response_format":{"json_schema":{"schema":null}},"x":{}}"#,
        r#"{"guided_json":true,"x":{"y":1}}"#,
        r#"{"messages":[{"schema":{}}]}"#,
    ] {
        for size in [1, 7, none.len()] {
            assert_eq!(schema(Endpoint::ChatCompletions, none.as_bytes().chunks(size)), None, "{none} by {size}");
        }
    }
}

proptest! {
    #[test]
    fn a_schema_is_kept_whatever_it_is_and_whatever_surrounds_it(
        (before, wanted, beside, after) in (junk(), junk(), junk(), junk()),
        place in 0..4_usize, layout in layout(), lengths in pieces(),
    ) {
        let object = |members: &[(&str, &Json)]| {
            Json::Object(members.iter().map(|(key, value)| ((*key).to_owned(), (*value).clone())).collect())
        };
        let wanted = object(&[("properties", &wanted)]);
        let beside = |key| object(&[("name", &beside), (key, &wanted), ("strict", &beside)]);
        let (key, value) = match place {
            0 => ("guided_json", wanted.clone()),
            1 => ("response_format", beside("schema")),
            2 => ("response_format", object(&[("json_schema", &beside("schema")), ("type", &raw("\"json_schema\""))])),
            _ => ("structured_outputs", beside("json")),
        };
        let body = object(&[("before", &before), (key, &value), ("after", &after)]).render(layout);
        let kept = schema(Endpoint::ChatCompletions, cut(body.as_bytes(), &lengths)).expect("a schema");
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        prop_assert_eq!(parsed(&kept), parsed(&wanted.render(layout)));
    }
}
