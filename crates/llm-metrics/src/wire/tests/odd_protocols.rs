//! Unusual Responses, Messages, lines of Ollama, embeddings and rankings of proxies and engines: not in the specification, or rare.

use std::time::Duration;

use super::support::{SinkCall, document_of, lines_of, sink_calls, stream_of, text};
use crate::vocabulary::{Endpoint, ErrorType, FinishReason, Usage};
use crate::wire::Reader;
use crate::wire::TextKind::{Answer, Media, Reasoning, ToolArguments, ToolInput, ToolName};

/// The calls other than choices and ends of events, however the bytes are split.
#[track_caller]
fn said(reader: impl Fn() -> Reader, body: &str) -> Vec<SinkCall> {
    let whole = sink_calls(reader(), [body.as_bytes()]);
    assert_eq!(sink_calls(reader(), body.as_bytes().chunks(1)), whole, "byte by byte: {body}");
    whole.into_iter().filter(|call| !matches!(call, SinkCall::Choice(_) | SinkCall::EventEnd)).collect()
}

/// Events whose name is their type.
fn named(events: &[&str]) -> String {
    let name = |data: &str| Some(data.split_once(r#""type":""#)?.1.split_once('"')?.0.to_owned());
    events.iter().map(|data| format!("event: {}\ndata: {data}\n\n", name(data).expect("a type"))).collect()
}

fn unnamed(events: &[&str]) -> String {
    events.iter().map(|data| format!("data: {data}\n\n")).collect()
}

/// The same with names and without.
#[track_caller]
fn said_in(endpoint: Endpoint, events: &[&str]) -> Vec<SinkCall> {
    let seen = said(|| stream_of(endpoint), &named(events));
    assert_eq!(said(|| stream_of(endpoint), &unnamed(events)), seen, "without names");
    seen
}

#[test]
fn the_last_input_count_of_anthropic_wins_and_need_not_repeat_cached_tokens() {
    let usage = |input: u64, cached: u64, written: u64| {
        Usage::new().input(input).cached_input(cached).cache_write(written).output(57)
    };
    for (start, delta, expected) in [
        // Anthropic repeats all counts.
        (
            r#"{"input_tokens":25,"cache_read_input_tokens":1000,"cache_creation_input_tokens":7,"output_tokens":1}"#,
            r#"{"input_tokens":25,"cache_read_input_tokens":1000,"cache_creation_input_tokens":7,"output_tokens":57}"#,
            usage(1032, 1000, 7),
        ),
        // vLLM and others do not repeat the cached tokens.
        (
            r#"{"input_tokens":25,"cache_read_input_tokens":1000,"cache_creation_input_tokens":7,"output_tokens":1}"#,
            r#"{"input_tokens":25,"output_tokens":57}"#,
            usage(1032, 1000, 7),
        ),
        // LiteLLM in front of another protocol sends zeros until the count is known.
        (
            r#"{"input_tokens":0,"output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}"#,
            r#"{"input_tokens":25,"output_tokens":57,"cache_read_input_tokens":1000,"cache_creation_input_tokens":7}"#,
            usage(1032, 1000, 7),
        ),
        // The estimate was too high.
        (
            r#"{"input_tokens":5000,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":1}"#,
            r#"{"input_tokens":25,"output_tokens":57}"#,
            usage(25, 0, 0),
        ),
        // The last counts are zeros.
        (
            r#"{"input_tokens":25,"cache_read_input_tokens":1000,"cache_creation_input_tokens":7,"output_tokens":1}"#,
            r#"{"input_tokens":0,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":57}"#,
            usage(1032, 1000, 7),
        ),
    ] {
        let start = format!(r#"{{"type":"message_start","message":{{"content":[],"usage":{start}}}}}"#);
        let delta = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{delta}}}"#);
        let seen = said_in(Endpoint::Messages, &[&start, &delta]);
        assert_eq!(seen.last(), Some(&SinkCall::Usage(expected)), "{start} {delta}");
    }
}

#[test]
fn bedrock_repeats_the_counts_when_a_message_stops() {
    let metrics = r#"{"inputTokenCount":25,"outputTokenCount":57,"invocationLatency":900,"firstByteLatency":300,"cacheReadInputTokenCount":1000,"cacheWriteInputTokenCount":7}"#;
    let stop = format!(r#"{{"type":"message_stop","amazon-bedrock-invocationMetrics":{metrics}}}"#);
    let usage = Usage::new().input(1032).cached_input(1000).cache_write(7).output(57);
    assert_eq!(said_in(Endpoint::Messages, &[&stop]), [SinkCall::Usage(usage), SinkCall::Done]);
    let stop = r#"{"type":"message_stop","usage":{"input_tokens":25,"output_tokens":57}}"#;
    assert_eq!(
        said_in(Endpoint::Messages, &[stop]),
        [SinkCall::Usage(Usage::new().input(25).output(57)), SinkCall::Done]
    );
}

#[test]
fn thinking_tokens_are_a_part_of_the_output_of_a_message() {
    let usage = r#"{"input_tokens":9,"output_tokens":57,"output_tokens_details":{"thinking_tokens":40},"server_tool_use":{"web_search_requests":1}}"#;
    let expected = [SinkCall::Usage(Usage::new().input(9).output(57).reasoning(40))];
    let delta = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":null}},"usage":{usage}}}"#);
    assert_eq!(said_in(Endpoint::Messages, &[&delta]), expected);
    let message = format!(r#"{{"type":"message","content":[],"usage":{usage}}}"#);
    assert_eq!(said(|| document_of(Endpoint::Messages), &message), expected);
}

#[test]
fn blocks_of_server_tools_and_citations_have_only_the_text_of_the_model() {
    let seen = said_in(
        Endpoint::Messages,
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"query\":\"x\"}"}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"s","content":[{"type":"web_search_result","title":"t","text":"found","encrypted_content":"e"}]}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"found"}}}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"redacted_thinking","data":"e"}}"#,
            r#"{"type":"content_block_delta","index":4,"delta":{"type":"compaction_delta","content":"summary"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"compaction"},"context_management":{"applied_edits":[]}}"#,
        ],
    );
    let expected = [
        text(0, ToolName(0), "web_search"),
        text(0, ToolArguments(0), "{\"query\":\"x\"}"),
        SinkCall::Finish(0, FinishReason::Pause),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn errors_of_proxies_are_errors_in_every_protocol() {
    use ErrorType::{InvalidRequest, Overloaded, RateLimited};
    for endpoint in [Endpoint::Messages, Endpoint::Responses] {
        for (event, expected) in [
            (
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"x\"}}\n\n",
                SinkCall::Error,
            ),
            (
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"},\"request_id\":\"r\"}\n\n",
                SinkCall::ErrorOf(Overloaded),
            ),
            (
                "event: error\ndata: {\"error\":{\"message\":\"x\",\"code\":\"429\"}}\n\n",
                SinkCall::ErrorOf(RateLimited),
            ),
            (
                "data: {\"error\":{\"message\":\"x\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}}\n\n",
                SinkCall::ErrorOf(InvalidRequest),
            ),
            (
                "data: {\"error\":{\"message\":\"x\",\"type\":\"None\",\"param\":\"None\",\"code\":\"500\"}}\n\n",
                SinkCall::Error,
            ),
            ("event: error\ndata: upstream is gone\n\n", SinkCall::Error),
            ("data: upstream is gone\n\n", SinkCall::PlainText),
        ] {
            let seen = said(|| stream_of(endpoint), event);
            assert_eq!(seen.first(), Some(&expected), "{endpoint:?} {event}: {seen:?}");
        }
    }
    for (event, expected) in [
        // LiteLLM: flat, and as an object.
        (
            r#"{"type":"error","code":"rate_limit_exceeded","message":"x","param":null,"sequence_number":3,"error":{"message":"x","type":"None","code":"429"}}"#,
            SinkCall::ErrorOf(RateLimited),
        ),
        // Perplexity: next to the type.
        (
            r#"{"type":"response.failed","sequence_number":3,"error":{"type":"rate_limit_error","message":"x"}}"#,
            SinkCall::ErrorOf(RateLimited),
        ),
        (r#"{"type":"response.failed","response":{"id":"r","object":"response"}}"#, SinkCall::Error),
    ] {
        assert_eq!(said_in(Endpoint::Responses, &[event]), [expected], "{event}");
    }
}

#[test]
fn a_response_ends_under_every_name_that_it_may_have() {
    let usage = SinkCall::Usage(Usage::new().input(12).output(45));
    for (name, status, reason) in [
        ("response.completed", r#""completed""#, FinishReason::Stop),
        ("response.done", r#""completed""#, FinishReason::Stop),
        (
            "response.incomplete",
            r#""incomplete","incomplete_details":{"reason":"max_output_tokens"}"#,
            FinishReason::Length,
        ),
        (
            "response.incomplete",
            r#""incomplete","incomplete_details":{"reason":"content_filter"}"#,
            FinishReason::ContentFilter,
        ),
        ("response.cancelled", r#""cancelled""#, FinishReason::Abort),
    ] {
        let event = format!(
            r#"{{"type":"{name}","response":{{"status":{status},"usage":{{"input_tokens":12,"output_tokens":45,"total_tokens":57}}}}}}"#
        );
        let seen = said_in(Endpoint::Responses, &[&event]);
        assert_eq!(seen, [SinkCall::Finish(0, reason), usage.clone(), SinkCall::Done], "{name}");
        let closed = said(|| stream_of(Endpoint::Responses), &format!("{}data: [DONE]\n\n", named(&[&event])));
        assert_eq!(closed[3..], [SinkCall::Done], "{name} and [DONE]");
    }
}

#[test]
fn a_response_without_a_status_ends_as_the_name_of_its_last_event_says() {
    for (event, expected) in [
        (r#"{"type":"response.completed"}"#, FinishReason::Stop),
        (r#"{"type":"response.completed","response":{"usage":null}}"#, FinishReason::Stop),
        (r#"{"response":{"status":null},"type":"response.completed"}"#, FinishReason::Stop),
        (r#"{"type":"response.incomplete","response":{}}"#, FinishReason::Other),
        (
            r#"{"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}"#,
            FinishReason::Length,
        ),
        (
            r#"{"response":{"incomplete_details":{"reason":"content_filter"}},"type":"response.incomplete"}"#,
            FinishReason::ContentFilter,
        ),
        (r#"{"type":"response.cancelled","response":{"id":"r"}}"#, FinishReason::Abort),
        // The status takes precedence.
        (r#"{"response":{"status":"incomplete"},"type":"response.completed"}"#, FinishReason::Other),
        (r#"{"type":"response.incomplete","response":{"status":"completed"}}"#, FinishReason::Stop),
    ] {
        assert_eq!(said_in(Endpoint::Responses, &[event]), [SinkCall::Finish(0, expected), SinkCall::Done], "{event}");
    }
}

#[test]
fn events_of_a_response_have_a_token_if_the_model_wrote_something() {
    for (event, expected) in [
        (r#"{"type":"response.custom_tool_call_input.delta","delta":"x"}"#, Some(text(0, ToolInput, "x"))),
        (
            r#"{"type":"response.shell_call_command.delta","command_index":0,"delta":"x"}"#,
            Some(text(0, ToolInput, "x")),
        ),
        (r#"{"type":"response.code_interpreter_call_code.delta","delta":"x"}"#, Some(text(0, ToolInput, "x"))),
        (r#"{"type":"response.mcp_call_arguments.delta","delta":"{}"}"#, Some(text(0, ToolArguments(0), "{}"))),
        (r#"{"type":"response.content_part.delta","delta":"x"}"#, Some(text(0, Answer, "x"))),
        (
            r#"{"type":"response.content_part.delta","delta":{"type":"output_text","text":"x"}}"#,
            Some(text(0, Answer, "x")),
        ),
        (r#"{"type":"response.audio.delta","delta":"AAAA"}"#, Some(text(0, Media, "AAAA"))),
        (r#"{"type":"response.audio.transcript.delta","delta":"x"}"#, Some(text(0, Answer, "x"))),
        (r#"{"type":"response.reasoning_summary_text.delta","delta":"x"}"#, Some(text(0, Reasoning, "x"))),
        (r#"{"type":"response.reasoning.delta","delta":"x"}"#, Some(text(0, Reasoning, "x"))),
        (r#"{"type":"response.reasoning_summary.delta","delta":"x"}"#, Some(text(0, Reasoning, "x"))),
        // Output of a tool, and texts that are repeated.
        (r#"{"type":"response.shell_call_output_content.delta","delta":{"stdout":"x","stderr":"text"}}"#, None),
        (r#"{"type":"response.code_interpreter_call_code.done","code":"x"}"#, None),
        (r#"{"type":"response.custom_tool_call_input.done","input":"x"}"#, None),
        (r#"{"type":"response.refusal.done","refusal":"x"}"#, None),
        (r#"{"type":"response.reasoning_text.done","text":"x"}"#, None),
        (r#"{"type":"response.reasoning_summary_text.done","text":"x"}"#, None),
        (r#"{"type":"response.content_part.done","part":{"type":"output_text","text":"x"}}"#, None),
        (
            r#"{"type":"response.output_item.done","item":{"type":"message","content":[{"type":"output_text","text":"x"}]}}"#,
            None,
        ),
        (r#"{"type":"response.mcp_call.failed","error":null}"#, None),
        (r#"{"type":"response.mcp_list_tools.completed","item_id":"m"}"#, None),
        (r#"{"type":"response.web_search_call.searching","item_id":"w"}"#, None),
        (r#"{"type":"response.file_search_call.completed","item_id":"f"}"#, None),
        (r#"{"type":"response.image_generation_call.partial_image","partial_image_b64":"AAAA"}"#, None),
        (r#"{"type":"response.output_text.annotation.added","annotation":{"type":"url_citation","text":"x"}}"#, None),
        (r#"{"type":"response.queued","response":{"status":"queued","output":[]}}"#, None),
        (r#"{"type":"response.reasoning_summary_part.added","part":{"type":"summary_text","text":""}}"#, None),
    ] {
        assert_eq!(said_in(Endpoint::Responses, &[event]), expected.into_iter().collect::<Vec<_>>(), "{event}");
    }
}

#[test]
fn an_event_of_a_response_with_an_unknown_name_has_no_token_wherever_its_type_is() {
    for kind in ["response.of_tomorrow.delta", "response.shell_call_output_content.delta", "response."] {
        for data in [
            format!(r#"{{"type":"{kind}","delta":"x"}}"#),
            format!(r#"{{"delta":"x","type":"{kind}"}}"#),
            format!(r#"{{"delta":{{"stdout":"x"}},"type":"{kind}"}}"#),
        ] {
            let event = format!("event: {kind}\ndata: {data}\n\n");
            assert_eq!(said(|| stream_of(Endpoint::Responses), &event), [], "{event}");
            // The next event is read as usual.
            let next = r#"{"delta":"y","type":"response.output_text.delta"}"#;
            let both = format!("{event}event: response.output_text.delta\ndata: {next}\n\n");
            assert_eq!(said(|| stream_of(Endpoint::Responses), &both), [text(0, Answer, "y")], "{both}");
        }
    }
    // A name that a proxy invented has no meaning.
    let event = "event: chunk\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n";
    assert_eq!(said(|| stream_of(Endpoint::Responses), event), [text(0, Answer, "x")]);
    // An error is an error under any name.
    let event =
        "event: response.of_tomorrow\ndata: {\"error\":{\"code\":\"429\"},\"type\":\"response.of_tomorrow\"}\n\n";
    assert_eq!(said(|| stream_of(Endpoint::Responses), event), [SinkCall::ErrorOf(ErrorType::RateLimited)]);
}

#[test]
fn a_pending_response_shows_whether_it_is_generated_in_the_background() {
    for name in ["response.created", "response.queued", "response.in_progress"] {
        for (status, background, expected) in [
            ("queued", "true", vec![SinkCall::InBackground]),
            ("in_progress", "true", vec![SinkCall::InBackground]),
            ("queued", "false", vec![]),
            ("in_progress", "null", vec![]),
        ] {
            let response = format!(r#"{{"id":"r","background":{background},"status":"{status}","output":[]}}"#);
            let event = format!(r#"{{"type":"{name}","response":{response}}}"#);
            assert_eq!(said_in(Endpoint::Responses, &[&event]), expected, "{event}");
            // The type comes last.
            let event = format!("data: {{\"response\":{response},\"type\":\"{name}\"}}\n\n");
            assert_eq!(said(|| stream_of(Endpoint::Responses), &event), expected, "{event}");
        }
    }
}

#[test]
fn a_response_ended_with_a_tool_call_if_the_client_has_to_execute_it() {
    let completed = r#"{"type":"response.completed","response":{"status":"completed"}}"#;
    for (kind, expected) in [
        ("function_call_arguments", FinishReason::ToolCalls),
        ("custom_tool_call_input", FinishReason::ToolCalls),
        ("shell_call_command", FinishReason::ToolCalls),
        ("mcp_call_arguments", FinishReason::Stop),
        ("code_interpreter_call_code", FinishReason::Stop),
    ] {
        let delta = format!(r#"{{"type":"response.{kind}.delta","delta":"x"}}"#);
        let seen = said_in(Endpoint::Responses, &[&delta, &delta, completed]);
        assert!(seen.contains(&SinkCall::Finish(0, expected)), "{kind}: {seen:?}");
    }
    for (items, expected) in [
        (r#"{"type":"function_call","name":"f","arguments":"{}"}"#, FinishReason::ToolCalls),
        (r#"{"arguments":"{}","name":"f","type":"function_call"}"#, FinishReason::ToolCalls),
        (r#"{"type":"custom_tool_call","name":"f","input":"x"}"#, FinishReason::ToolCalls),
        (r#"{"type":"shell_call","action":{"commands":["ls"],"timeout_ms":null}}"#, FinishReason::ToolCalls),
        (r#"{"type":"mcp_call","name":"f","arguments":"{}","output":"text"}"#, FinishReason::Stop),
        (r#"{"arguments":"{}","name":"f","output":"x","type":"mcp_call"}"#, FinishReason::Stop),
        (r#"{"type":"code_interpreter_call","code":"1+1","outputs":[{"logs":"2"}]}"#, FinishReason::Stop),
        (r#"{"type":"web_search_call","action":{"type":"search","query":"x"}}"#, FinishReason::Stop),
        (
            r#"{"type":"mcp_call","name":"f","arguments":"{}"},{"type":"function_call","name":"g","arguments":"{}"}"#,
            FinishReason::ToolCalls,
        ),
        (
            r#"{"type":"function_call","name":"g","arguments":"{}"},{"type":"mcp_call","name":"f","arguments":"{}"}"#,
            FinishReason::ToolCalls,
        ),
    ] {
        let response = format!(r#"{{"status":"completed","output":[{items}]}}"#);
        let seen = said(|| document_of(Endpoint::Responses), &response);
        assert!(seen.contains(&SinkCall::Finish(0, expected)), "{items}: {seen:?}");
    }
}

#[test]
fn ollama_in_its_corners() {
    let done = |rest: &str| {
        format!(
            r#"{{"model":"q","created_at":"2026","message":{{"role":"assistant","content":""}},"done":true{rest}}}"#
        )
    };
    let model = SinkCall::Model("q".into());
    for (rest, expected) in [
        // With `keep_alive: 0`, or without messages.
        (r#","done_reason":"load""#, vec![SinkCall::NoGeneration, SinkCall::Done]),
        (r#","done_reason":"unload""#, vec![SinkCall::NoGeneration, SinkCall::Done]),
        // The whole prompt was cached. Older versions have no reason.
        (
            r#","done_reason":"stop","eval_count":5"#,
            vec![SinkCall::Finish(0, FinishReason::Stop), SinkCall::Usage(Usage::new().output(5)), SinkCall::Done],
        ),
        // A tenth of a second is too short for loading a model.
        (r#","load_duration":100000000"#, vec![SinkCall::Done]),
        (r#","load_duration":100000001"#, vec![SinkCall::Load(Duration::from_nanos(100_000_001)), SinkCall::Done]),
        (
            r#","prompt_eval_count":26,"eval_count":5"#,
            vec![SinkCall::Usage(Usage::new().input(26).output(5)), SinkCall::Done],
        ),
    ] {
        let expected: Vec<_> = std::iter::once(model.clone()).chain(expected).collect();
        assert_eq!(said(|| lines_of(Endpoint::OllamaChat), &format!("{}\n", done(rest))), expected, "{rest}");
        assert_eq!(said(|| document_of(Endpoint::OllamaChat), &done(rest)), expected, "{rest}");
    }
    let line = r#"{"model":"q","created_at":"2026","message":{"role":"assistant","content":"a"},"done":false}"#;
    let broken = format!("{line}\n{}\n{line}\n", r#"{"error":"an error was encountered while running the model"}"#);
    let expected = [model, text(0, Answer, "a"), SinkCall::Error, text(0, Answer, "a")];
    assert_eq!(said(|| lines_of(Endpoint::OllamaChat), &broken), expected);
}

#[test]
fn embeddings_and_rankings_have_input_tokens_if_the_server_counts_them() {
    let input = |tokens| vec![SinkCall::Usage(Usage::new().input(tokens))];
    for (endpoint, document, expected) in [
        (
            Endpoint::Embeddings,
            r#"{"data":[{"embedding":"AACAPw=="}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            input(8),
        ),
        (Endpoint::Embeddings, r#"{"data":[{"embedding":[0.1]}],"usage":{"total_tokens":8}}"#, input(8)),
        (Endpoint::Embeddings, r#"{"data":[{"embedding":[0.1]}]}"#, vec![]),
        (Endpoint::Embeddings, r#"{"data":[],"usage":null}"#, vec![]),
        (Endpoint::Embeddings, r#"{"data":[],"usage":{"prompt_tokens":0,"total_tokens":0}}"#, vec![]),
        (
            Endpoint::Embeddings,
            r#"{"embeddings":{"float":[[0.1]]},"meta":{"billed_units":{"input_tokens":8}}}"#,
            input(8),
        ),
        // Cohere bills by searches; Jina and vLLM count tokens; TEI answers with a list.
        (
            Endpoint::Rerank,
            r#"{"results":[{"index":0,"relevance_score":0.9}],"meta":{"billed_units":{"search_units":1}}}"#,
            vec![],
        ),
        (Endpoint::Rerank, r#"{"results":[],"meta":{"tokens":{"input_tokens":11,"output_tokens":0}}}"#, input(11)),
        (Endpoint::Rerank, r#"{"results":[],"usage":{"prompt_tokens":11,"total_tokens":11}}"#, input(11)),
        (Endpoint::Rerank, r#"{"results":[{"document":{"text":"usage"}}],"usage":{"total_tokens":11}}"#, input(11)),
        (Endpoint::Rerank, r#"[{"index":1,"text":"a","score":0.9},{"index":0,"score":0.1}]"#, vec![]),
        (Endpoint::OllamaEmbed, r#"{"embeddings":[[0.1],[0.2]],"load_duration":1,"prompt_eval_count":8}"#, input(8)),
        (Endpoint::OllamaEmbed, r#"{"embedding":[0.1,0.2]}"#, vec![]),
    ] {
        assert_eq!(said(|| document_of(endpoint), document), expected, "{document}");
    }
    for (endpoint, error, expected) in [
        (Endpoint::Rerank, r#"{"error":"Model is overloaded","error_type":"overloaded"}"#, ErrorType::Overloaded),
        (Endpoint::OllamaEmbed, r#"{"error":"model not found"}"#, ErrorType::NotFound),
    ] {
        assert_eq!(said(|| document_of(endpoint), error), [SinkCall::ErrorOf(expected)], "{error}");
    }
}
