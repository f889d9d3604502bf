//! Unusual traffic from public bug reports: events that are not errors, errors in other formats, and the places where counts may be.

use super::support::{Recorder, SinkCall, chat_document, chat_stream, sink_calls, text};
use crate::vocabulary::{Endpoint, ErrorType, FinishReason, InspectionFailure, SkipReason, Usage};
use crate::wire::TextKind::{Answer, Media, Reasoning, ToolInput, ToolName};
use crate::wire::{Framing, Route, Sink};

fn data(data: &str) -> String {
    format!("data: {data}\n\n")
}

fn of_stream(body: &str) -> Vec<SinkCall> {
    let expected = sink_calls(chat_stream(), [body.as_bytes()]);
    assert_eq!(sink_calls(chat_stream(), body.as_bytes().chunks(1)), expected, "byte by byte");
    expected
}

const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";

#[test]
fn json_that_is_not_an_object_is_padding() {
    for padding in ["null", "true", "false", " null ", "0", "-1.5e7", "\"ping\"", "[]", "[ 1]", "[{\"error\":1}]"] {
        let seen = of_stream(&format!("{TOKEN}{}{TOKEN}", data(padding)));
        let is_error = |call: &SinkCall| matches!(call, SinkCall::Error | SinkCall::PlainText | SinkCall::ErrorOf(_));
        assert!(!seen.iter().any(is_error), "{padding}: {seen:?}");
    }
    for plain in [
        "nul",
        "nullify",
        "engine is gone",
        "500 Internal Server Error",
        "Error",
        "<html>",
        "true story",
        "nope",
        "[engine is gone]",
    ] {
        assert_eq!(of_stream(&data(plain)), [SinkCall::PlainText, SinkCall::EventEnd], "{plain}");
    }
}

#[test]
fn a_named_heartbeat_is_not_an_error() {
    assert_eq!(of_stream("event: heartbeat\ndata: still here\n\n"), [SinkCall::EventEnd]);
    assert_eq!(of_stream("event: heartbeat\n\ndata: engine is gone\n\n"), [SinkCall::PlainText, SinkCall::EventEnd]);
    for name in ["message", "error"] {
        let seen = of_stream(&format!("event: {name}\ndata: engine is gone\n\n"));
        assert!(matches!(seen[0], SinkCall::PlainText), "{name}: {seen:?}");
    }
}

#[test]
fn done_may_come_twice() {
    let twice = [SinkCall::Done, SinkCall::EventEnd, SinkCall::Done, SinkCall::EventEnd];
    assert_eq!(of_stream("data: [DONE]\n\ndata: [DONE]\n\n"), twice);
    assert_eq!(of_stream("data: [DONE]\ndata: [DONE]\n\n"), [SinkCall::Done, SinkCall::Done, SinkCall::EventEnd]);
    // On one line, or with other text after it, it is plain text.
    for rest in ["[DONE]", " [DONE]", "\ndata: x", "\ndata: x[DONE]"] {
        assert_eq!(
            of_stream(&data(&format!("[DONE]{rest}"))),
            [SinkCall::Done, SinkCall::PlainText, SinkCall::EventEnd],
            "{rest}"
        );
    }
}

#[test]
fn a_body_that_ends_inside_done_emits_nothing() {
    let whole = "data: [DONE]\n\n";
    for at in 0..=11 {
        let seen = sink_calls(chat_stream(), [TOKEN.as_bytes(), &whole.as_bytes()[..at]]);
        assert_eq!(seen, [SinkCall::Choice(0), text(0, Answer, "a"), SinkCall::EventEnd], "cut at {at}");
    }
    // With a blank line, it is plain text.
    assert_eq!(of_stream("data: [DON\n\n")[0], SinkCall::PlainText);
    assert_eq!(of_stream("data: [DON\n"), []);
}

#[test]
fn a_body_that_ends_inside_a_json_literal_emits_nothing() {
    for word in ["null", "true", "false"] {
        for at in 1..word.len() {
            assert_eq!(of_stream(&format!("data: {}", &word[..at])), [], "{word} cut at {at}");
        }
        assert_eq!(of_stream(&format!("data: {word}")), [SinkCall::EventEnd]);
    }
}

#[test]
fn the_last_line_counts_without_its_end() {
    assert_eq!(of_stream("event: error"), [SinkCall::Error, SinkCall::EventEnd]);
    assert_eq!(of_stream("data: {\"error\":1}"), [SinkCall::Error, SinkCall::EventEnd]);
}

#[test]
fn brackets_that_close_too_early_or_wrongly_are_malformed() {
    for body in [
        "{",
        "{\"a\":",
        "{,\"a\":1}",
        "{\"choices\":[}}",
        "{\"choices\":[{\"index\":0}}}",
        "{\"choices\":[{\"index\":0]]}",
        "{\"usage\":{\"prompt_tokens\":1]}",
        "{\"usage\":{]}",
    ] {
        let seen = of_stream(&data(body));
        assert!(seen.contains(&SinkCall::Failure(InspectionFailure::Malformed)), "{body}: {seen:?}");
    }
}

#[test]
fn every_escape_is_decoded_as_json_defines() {
    let long = "x".repeat(100);
    let stream = data(&format!(r#"{{"choices":[{{"delta":{{"content":"{long}\b\f\n\r\t\/\\\"{long}\n"}}}}]}}"#));
    let plain = format!("{long}\u{8}\u{c}\n\r\t/\\\"{long}\n");
    let event = [SinkCall::Choice(0), text(0, Answer, &plain), SinkCall::EventEnd];
    // The second event is recognised by its template.
    assert_eq!(sink_calls(chat_stream(), [stream.as_bytes(); 2]), [event.clone(), event].concat());
    of_stream(&stream);
}

#[test]
fn an_event_that_is_cut_finishes_nothing() {
    let last = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}"#;
    for at in "data: {".len()..last.len() {
        let seen = sink_calls(chat_stream(), [TOKEN.as_bytes(), &last.as_bytes()[..at]]);
        let says =
            |call: &SinkCall| matches!(call, SinkCall::Finish(..) | SinkCall::Usage(_) | SinkCall::UsageSoFar(_));
        assert!(!seen.iter().any(says), "cut at {at}: {seen:?}");
        assert_eq!(seen.iter().filter(|call| **call == SinkCall::EventEnd).count(), 1, "cut at {at}");
    }
}

#[test]
fn errors_in_other_forms_are_errors() {
    for (error, kind) in [
        (r#"{"object":"error","message":"boom","type":"InternalServerError","code":500}"#, SinkCall::Error),
        (
            r#"{"object":"error","message":"long","type":"BadRequestError","code":400}"#,
            SinkCall::ErrorOf(ErrorType::InvalidRequest),
        ),
        (
            r#"{"choices":null,"error_type":"BadRequestError","error_message":"too long"}"#,
            SinkCall::ErrorOf(ErrorType::InvalidRequest),
        ),
        (r#"{"object":"error","message":"boom"}"#, SinkCall::Error),
        (r#"{"message":"too many","code":"rate_limit_exceeded"}"#, SinkCall::ErrorOf(ErrorType::RateLimited)),
        (
            r#"{"error":{"message":"x","type":"BadRequestError","code":400}}"#,
            SinkCall::ErrorOf(ErrorType::InvalidRequest),
        ),
        (r#"{"error":{"code":429,"type":"requests"}}"#, SinkCall::ErrorOf(ErrorType::RateLimited)),
        (
            r#"{"error":{"type":"invalid_request_error","code":"model_not_found"}}"#,
            SinkCall::ErrorOf(ErrorType::NotFound),
        ),
        (r#"{"error":{"type":"server_error","code":null}}"#, SinkCall::Error),
        (r#"{"error":"plain words"}"#, SinkCall::Error),
        (r#"{"error":["a"]}"#, SinkCall::Error),
        (r#"{"error":true}"#, SinkCall::Error),
        (r#"{"choices":[],"x_groq":{"id":"r","error":"over capacity"}}"#, SinkCall::Error),
    ] {
        assert_eq!(of_stream(&data(error)), [kind.clone(), SinkCall::EventEnd], "{error}");
        assert_eq!(sink_calls(chat_document(), [error.as_bytes()]), [kind, SinkCall::EventEnd], "{error}");
    }
    let of_choice = r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":null,"error":{"code":503}}]}"#;
    assert_eq!(
        of_stream(&data(of_choice)),
        [SinkCall::Choice(0), SinkCall::ErrorOf(ErrorType::Overloaded), SinkCall::EventEnd]
    );
    for nothing in ["null", "false", "\"\"", "0"] {
        let seen = of_stream(&data(&format!(r#"{{"choices":[{{"delta":{{"content":"b"}}}}],"error":{nothing}}}"#)));
        assert_eq!(seen, [SinkCall::Choice(0), text(0, Answer, "b"), SinkCall::EventEnd], "{nothing}");
    }
    // A code without meaning, or only one of the two, is not an error either.
    for nothing in [
        r#"{"code":500,"id":"x"}"#,
        r#"{"message":"boom"}"#,
        r#"{"code":0,"message":"ok"}"#,
        r#"{"code":"","message":"ok"}"#,
        r#"{"code":null,"message":"ok"}"#,
        r#"{"code":true,"message":"ok"}"#,
    ] {
        assert_eq!(of_stream(&data(nothing)), [SinkCall::EventEnd], "{nothing}");
    }
    // A code and a message next to an answer are not an error.
    let seen = of_stream(&data(r#"{"code":200,"message":"ok","choices":[{"delta":{"content":"b"}}]}"#));
    assert_eq!(seen, [SinkCall::Choice(0), text(0, Answer, "b"), SinkCall::EventEnd]);
}

#[test]
fn reasons_that_mean_failure_are_failures() {
    for (word, expected) in [
        ("insufficient_system_resource", Some(FinishReason::Error)),
        ("network_error", Some(FinishReason::Error)),
        ("timeout", Some(FinishReason::Error)),
        ("null", None),
    ] {
        let seen = of_stream(&data(&format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{word}"}}]}}"#)));
        let finish = expected.map(|reason| SinkCall::Finish(0, reason));
        assert_eq!(
            seen,
            [Some(SinkCall::Choice(0)), finish, Some(SinkCall::EventEnd)].into_iter().flatten().collect::<Vec<_>>()
        );
    }
}

#[test]
fn usage_is_read_in_every_known_place_and_form() {
    let usage = Usage::new().input(9).output(2);
    for (event, expected) in [
        (r#"{"choices":[],"usage":{"prompt_tokens":9.0,"completion_tokens":2.0}}"#, usage),
        (r#"{"choices":[],"usage":{"input_tokens":9,"output_tokens":2}}"#, usage),
        (r#"{"choices":[],"x_groq":{"usage":{"prompt_tokens":9,"completion_tokens":2,"queue_time":0.1}}}"#, usage),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"tps":Infinity,"x":NaN,"y":-Infinity}}"#,
            usage,
        ),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"cached_tokens":8}}"#,
            usage.cached_input(8),
        ),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_cache_hit_tokens":8,"prompt_cache_miss_tokens":1}}"#,
            usage.cached_input(8),
        ),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":0},"x_groq":{"usage":{"prompt_tokens":9,"completion_tokens":2}}}"#,
            usage,
        ),
    ] {
        let seen = of_stream(&data(event));
        assert_eq!(seen[0], SinkCall::Usage(expected), "{event}: {seen:?}");
    }
    let in_choice = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":9,"completion_tokens":2}}]}"#;
    assert_eq!(
        of_stream(&data(in_choice)),
        [SinkCall::Choice(0), SinkCall::Finish(0, FinishReason::Stop), SinkCall::UsageSoFar(usage), SinkCall::EventEnd]
    );
    for nothing in
        [r#"{"prompt_tokens":0,"completion_tokens":0}"#, "null", r#"{"prompt_tokens":null}"#, r#"{"prompt_tokens":-1}"#]
    {
        let seen = of_stream(&data(&format!(r#"{{"choices":[],"usage":{nothing}}}"#)));
        assert_eq!(seen, [SinkCall::EventEnd], "{nothing}");
    }
}

#[test]
fn any_count_that_is_too_large_is_implausible() {
    for count in ["2000000000", "18446744073709551616", "100000000000000000000000", "1e30"] {
        let seen =
            of_stream(&data(&format!(r#"{{"choices":[],"usage":{{"prompt_tokens":9,"completion_tokens":{count}}}}}"#)));
        assert_eq!(
            seen[..2],
            [SinkCall::Failure(InspectionFailure::Implausible), SinkCall::Usage(Usage::new().input(9))],
            "{count}"
        );
    }
}

#[test]
fn tokens_are_read_in_every_place_that_has_them() {
    for (delta, expected) in [
        (r#"{"content":[{"type":"text","text":"Hi"}]}"#, text(0, Answer, "Hi")),
        (r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]}]}"#, text(0, Reasoning, "Hm")),
        (
            r#"{"reasoning":null,"reasoning_details":[{"type":"reasoning.encrypted","data":"aGk="}]}"#,
            text(0, Reasoning, "aGk="),
        ),
        (r#"{"reasoning":"Hm","reasoning_details":[{"type":"reasoning.text","text":"Hm"}]}"#, text(0, Reasoning, "Hm")),
        (r#"{"tool_calls":[{"index":0,"type":"custom","custom":{"name":"run"}}]}"#, text(0, ToolName(0), "run")),
        (r#"{"tool_calls":[{"index":0,"type":"custom","custom":{"input":"x"}}]}"#, text(0, ToolInput, "x")),
        (r#"{"audio":{"id":"a","transcript":"Hel"}}"#, text(0, Answer, "Hel")),
        (r#"{"audio":{"data":"AAAA"}}"#, text(0, Media, "AAAA")),
    ] {
        let expected = [SinkCall::Choice(0), expected, SinkCall::EventEnd];
        assert_eq!(of_stream(&data(&format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#))), expected, "{delta}");
        let document = format!(r#"{{"choices":[{{"index":0,"message":{delta}}}]}}"#);
        assert_eq!(sink_calls(chat_document(), document.as_bytes().chunks(1)), expected, "{delta}");
    }
}

/// Stores only the framing that was detected from the first bytes.
#[derive(Default)]
struct Begins(Vec<Result<Framing, SkipReason>>, Recorder);

impl Sink for Begins {
    fn begins(&mut self, framing: Result<Framing, SkipReason>) {
        self.0.push(framing);
    }
    fn event_end(&mut self) {
        self.1.event_end();
    }
}

#[test]
fn the_first_bytes_decide_the_kind_of_body() {
    use Framing::{Document, Events, Lines};
    let event = "data: {\"choices\":[]}\n\n";
    let json = "{\"choices\":[]}";
    for (endpoint, content_type, encoded, asked, body, expected) in [
        (Endpoint::ChatCompletions, Some("text/event-stream"), false, None, event, Ok(Events)),
        (Endpoint::ChatCompletions, Some("application/json"), false, None, event, Ok(Events)),
        (Endpoint::ChatCompletions, Some("text/plain; charset=utf-8"), false, None, event, Ok(Events)),
        (Endpoint::ChatCompletions, None, false, None, event, Ok(Events)),
        (Endpoint::ChatCompletions, None, false, None, ": ping\n\n", Ok(Events)),
        (Endpoint::ChatCompletions, None, false, None, "event: x\n\n", Ok(Events)),
        (Endpoint::ChatCompletions, None, false, None, "\u{feff}id: 1\n\n", Ok(Events)),
        (Endpoint::ChatCompletions, None, false, None, json, Ok(Document)),
        (Endpoint::ChatCompletions, None, false, None, "\r\n \t{\"choices\":[]}", Ok(Document)),
        (Endpoint::ChatCompletions, None, false, None, "{", Ok(Document)),
        (Endpoint::ChatCompletions, Some("text/event-stream"), false, None, json, Ok(Document)),
        (Endpoint::ChatCompletions, Some("application/octet-stream"), false, Some(true), json, Ok(Document)),
        (Endpoint::ChatCompletions, Some("application/problem+json"), false, None, json, Ok(Document)),
        (Endpoint::ChatCompletions, Some("application/json"), false, None, "<html>", Ok(Document)),
        (Endpoint::ChatCompletions, Some("text/html"), false, None, "<html>", Err(SkipReason::ContentType)),
        (Endpoint::ChatCompletions, None, false, None, "dat", Err(SkipReason::ContentType)),
        (Endpoint::ChatCompletions, Some("application/json"), true, None, "\x1f\u{8b}x", Err(SkipReason::Compressed)),
        (Endpoint::ChatCompletions, Some("application/json"), true, None, json, Ok(Document)),
        (Endpoint::ChatCompletions, Some("application/json"), true, None, "{x", Err(SkipReason::Compressed)),
        (Endpoint::ChatCompletions, Some("text/event-stream"), true, None, event, Ok(Events)),
        (Endpoint::ChatCompletions, Some("application/x-ndjson"), false, None, json, Ok(Document)),
        (Endpoint::OllamaChat, Some("application/x-ndjson"), false, None, json, Ok(Lines)),
        (Endpoint::OllamaChat, Some("application/ndjson"), false, Some(false), json, Ok(Lines)),
        (Endpoint::OllamaChat, Some("Application/JSONL; charset=utf-8"), false, Some(false), json, Ok(Lines)),
        (Endpoint::OllamaChat, Some("application/json; charset=utf-8"), false, None, json, Ok(Document)),
        (Endpoint::OllamaChat, None, false, None, json, Ok(Lines)),
        (Endpoint::OllamaChat, None, false, Some(false), json, Ok(Document)),
    ] {
        let reader = || {
            Route::of(endpoint).unwrap().reader(
                content_type.and_then(|name| Framing::of_content_type(name.as_bytes())),
                encoded,
                asked,
            )
        };
        for pieces in [vec![body.as_bytes()], body.as_bytes().chunks(1).collect()] {
            let (mut reader, mut begins) = (reader(), Begins::default());
            pieces.into_iter().for_each(|piece| reader.read(piece, &mut begins));
            reader.end(&mut begins);
            assert_eq!(begins.0, [expected], "{endpoint:?} {content_type:?} {encoded} {asked:?} {body:?}");
        }
    }
}

#[test]
fn a_body_that_begins_with_much_white_space_is_read() {
    let body = format!("\u{feff}{}{{\"usage\":{{\"prompt_tokens\":1}}}}", " ".repeat(20));
    for size in [1, 5, 10, 11, body.len()] {
        let seen = sink_calls(chat_document(), body.as_bytes().chunks(size));
        assert_eq!(seen, [SinkCall::Usage(Usage::new().input(1)), SinkCall::EventEnd], "by {size}");
    }
}
