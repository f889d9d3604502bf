//! Requests are read as `serde_json::Value` reads them, and only at the top.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::generated::{Json, content, cut, junk, layout, pieces, text};
use crate::wire::request::Format;
use crate::wire::{RequestFacts, RequestScan, route};

fn scan() -> RequestScan {
    route(&http::Method::POST, "/v1/chat/completions").unwrap().request_scan()
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

/// Keys that mean something and keys that do not, each with values that fit and values that do not.
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
fn every_demand_for_a_form_is_known() {
    for (body, expected) in [
        (r#"{"response_format":{"type":"text"}}"#, Some(Format::Text)),
        (r#"{"response_format":{"type":"json_object"}}"#, Some(Format::JsonObject)),
        (r#"{"response_format":{"type":"grammar","grammar":""}}"#, Some(Format::Grammar)),
        (r#"{"response_format":null,"guided_json":null}"#, None),
        (r#"{"guided_regex":"a+"}"#, Some(Format::Grammar)),
        (r#"{"structured_outputs":{"choice":["a"]}}"#, Some(Format::Grammar)),
        (r#"{"grammar":{"type":"lark","value":"x"},"response_format":{"type":"text"}}"#, Some(Format::Grammar)),
        (r#"{"response_format":{"type":"json_object"},"guided_json":{}}"#, Some(Format::JsonObject)),
        (r#"{"json_schema":{"type":"object"}}"#, Some(Format::JsonSchema)),
        (r#"{"tools":[{"response_format":{"type":"json_object"}}]}"#, None),
    ] {
        assert_eq!(facts(body).format, expected, "{body}");
    }
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
fn what_is_no_request_has_no_facts() {
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
