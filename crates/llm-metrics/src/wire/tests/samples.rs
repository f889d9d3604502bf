//! Streams and documents of real servers.

use std::time::Duration;

use super::support::{SinkCall, chat_document, chat_stream, completion_stream, sink_calls, text};
use crate::vocabulary::{FinishReason, InspectionFailure, Usage};
use crate::wire::Reader;
use crate::wire::TextKind::{Answer, Reasoning, Refusal, ToolArguments, ToolName};

#[test]
fn vllm_stream_is_read_to_its_last_fact() {
    let body = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[{"index":0,"delta":{"content":"lo \"x\" \ud83d\ude00"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}]}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[],"usage":{"prompt_tokens":9,"total_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8}}}"#,
        "\n\n",
        "data: [DONE]\n\n",
    );
    let expected = vec![
        SinkCall::Model("Qwen/Qwen3-0.6B".into()),
        SinkCall::Choice(0),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        text(0, Answer, "Hel"),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        text(0, Answer, "lo \"x\" 😀"),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        SinkCall::Finish(0, FinishReason::Stop),
        SinkCall::EventEnd,
        SinkCall::Usage(Usage::new().input(9).cached_input(8).output(3)),
        SinkCall::EventEnd,
        SinkCall::Done,
        SinkCall::EventEnd,
    ];
    assert_reported(chat_stream, body, &expected);
}

/// Compares the calls for the whole body, for every split into two pieces, and byte by byte.
fn assert_reported(reader: fn() -> Reader, body: &str, expected: &[SinkCall]) {
    let body = body.as_bytes();
    assert_eq!(sink_calls(reader(), [body]), expected);
    for at in 0..body.len() {
        let (left, right) = body.split_at(at);
        assert_eq!(sink_calls(reader(), [left, right]), expected, "split at {at}");
    }
    assert_eq!(sink_calls(reader(), body.chunks(1)), expected, "byte by byte");
}

#[test]
fn mistral_rs_stream_with_an_error_in_plain_text() {
    let body = concat!(
        r#"data: {"id":"0","choices":[{"finish_reason":null,"index":0,"delta":{"content":null,"role":"assistant","tool_calls":null,"reasoning_content":null},"logprobs":null}],"created":1753000000,"model":"qwen3","system_fingerprint":"local","object":"chat.completion.chunk","usage":null}"#,
        "\n\n",
        ":\n\n",
        r#"data: {"id":"0","choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hi","role":"assistant","tool_calls":null,"reasoning_content":null},"logprobs":null}],"created":1753000000,"model":"qwen3","system_fingerprint":"local","object":"chat.completion.chunk","usage":null}"#,
        "\n\n",
        r#"data: {"id":"0","choices":[{"finish_reason":"canceled","index":0,"delta":{"content":"","role":"assistant"}}],"created":1753000000,"model":"qwen3","object":"chat.completion.chunk","usage":{"completion_tokens":2,"prompt_tokens":9,"total_tokens":11,"avg_tok_per_sec":68.3,"total_time_sec":0.161}}"#,
        "\n\n",
        "data: The engine panicked: {\"usage\": {}}\n\n",
        "data: [DONE]\n\n",
    );
    let expected = [
        SinkCall::Choice(0),
        SinkCall::Model("qwen3".into()),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        text(0, Answer, "Hi"),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        SinkCall::Finish(0, FinishReason::Abort),
        SinkCall::UsageSoFar(Usage::new().input(9).output(2)),
        SinkCall::EventEnd,
        SinkCall::PlainText,
        SinkCall::EventEnd,
        SinkCall::Done,
        SinkCall::EventEnd,
    ];
    assert_reported(chat_stream, body, &expected);
}

#[test]
fn llama_cpp_stream_with_times_and_a_late_envelope() {
    let body = concat!(
        r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1753000000,"id":"chatcmpl-x","model":"q","system_fingerprint":"b6000-a","object":"chat.completion.chunk"}"#,
        "\n\n",
        r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"reasoning_content":"Hm"}}],"created":1753000000,"id":"chatcmpl-x","model":"q","system_fingerprint":"b6000-a","object":"chat.completion.chunk"}"#,
        "\n\n",
        r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hi"}}],"created":1753000001,"id":"chatcmpl-x","model":"q","system_fingerprint":"b6000-a","object":"chat.completion.chunk"}"#,
        "\n\n",
        r#"data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1753000001,"id":"chatcmpl-x","model":"q","system_fingerprint":"b6000-a","object":"chat.completion.chunk"}"#,
        "\n\n",
        r#"data: {"choices":[],"created":1753000001,"id":"chatcmpl-x","model":"q","system_fingerprint":"b6000-a","object":"chat.completion.chunk","usage":{"completion_tokens":2,"prompt_tokens":12,"total_tokens":14},"timings":{"cache_n":3,"prompt_n":9,"prompt_ms":20.5,"prompt_per_token_ms":2.27,"predicted_n":2,"predicted_ms":10}}"#,
        "\n\n",
        "error: {\"code\":500,\"message\":\"slot is gone\"}\n\n",
        "data: [DONE]\n\n",
    );
    let expected = [
        SinkCall::Choice(0),
        SinkCall::Model("q".into()),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        text(0, Reasoning, "Hm"),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        text(0, Answer, "Hi"),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        SinkCall::Finish(0, FinishReason::Length),
        SinkCall::EventEnd,
        SinkCall::Usage(Usage::new().input(12).output(2)),
        SinkCall::Timings(Some(Duration::from_micros(20_500)), Some(Duration::from_millis(10))),
        SinkCall::TimedUsage(Usage::new().input(12).cached_input(3).output(2)),
        SinkCall::EventEnd,
        SinkCall::Error,
        SinkCall::EventEnd,
        SinkCall::Done,
        SinkCall::EventEnd,
    ];
    assert_reported(chat_stream, body, &expected);
}

#[test]
fn sglang_stream_with_tools_two_choices_and_windows_line_ends() {
    let body = concat!(
        "\u{FEFF}: welcome\r\n\r\n",
        r#"data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}"#,
        "\r\n\r\n",
        r#"data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":1,"delta":{"content":null,"tool_calls":[{"id":"call_a","index":0,"type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}],"usage":null}"#,
        "\r\n\r\n",
        r#"data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"q","choices":[{"index":1,"delta":{"tool_calls":[{"id":null,"index":0,"function":{"name":null,"arguments":"{\"usage\": {\"prompt_tokens\": 1}}"}}]},"finish_reason":null}]}"#,
        "\r\n\r\n",
        r#"data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop","matched_stop":151645},{"index":1,"delta":{},"finish_reason":"tool_calls"}],"usage":null}"#,
        "\r\n\r\n",
        r#"data: {"id":"1","choices":[],"usage":{"prompt_tokens":4,"total_tokens":9,"completion_tokens":5,"prompt_tokens_details":null,"reasoning_tokens":2}}"#,
        "\r\n\r\n",
        "data: [DONE]\r\n\r\n",
    );
    let expected = [
        SinkCall::Model("q".into()),
        SinkCall::Choice(0),
        SinkCall::EventEnd,
        SinkCall::Choice(1),
        text(1, ToolName(0), "weather"),
        SinkCall::EventEnd,
        SinkCall::Choice(1),
        text(1, ToolArguments(0), r#"{"usage": {"prompt_tokens": 1}}"#),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        SinkCall::Finish(0, FinishReason::Stop),
        SinkCall::Choice(1),
        SinkCall::Finish(1, FinishReason::ToolCalls),
        SinkCall::EventEnd,
        SinkCall::Usage(Usage { reasoning: Some(2), ..Usage::new().input(4).output(5) }),
        SinkCall::EventEnd,
        SinkCall::Done,
        SinkCall::EventEnd,
    ];
    assert_reported(chat_stream, body, &expected);
}

#[test]
fn openai_stream_with_padding_and_usage_in_a_separate_chunk() {
    let body = concat!(
        r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"aZ"}"#,
        "\n\n",
        r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"content":"No"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"3kQd"}"#,
        "\n\n",
        r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"content":"."},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":""}"#,
        "\n\n",
        r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"refusal":"I can't"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x"}"#,
        "\n\n",
        r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"content_filter"}],"usage":null,"obfuscation":"x"}"#,
        "\n\n",
        r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":16,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":7,"audio_tokens":0,"accepted_prediction_tokens":0}},"obfuscation":""}"#,
        "\n\n",
        "data: [DONE]",
    );
    let mut usage = Usage::new().input(19).cached_input(16).output(10);
    usage.reasoning = Some(7);
    let expected = [
        SinkCall::Model("gpt".into()),
        SinkCall::Choice(0),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        text(0, Answer, "No"),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        text(0, Answer, "."),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        text(0, Refusal, "I can't"),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        SinkCall::Finish(0, FinishReason::ContentFilter),
        SinkCall::EventEnd,
        SinkCall::Usage(usage),
        SinkCall::EventEnd,
        SinkCall::Done,
        SinkCall::EventEnd,
    ];
    assert_reported(chat_stream, body, &expected);
}

#[test]
fn reasoning_under_two_names_is_emitted_once() {
    let body = "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\"Hm\",\"reasoning_content\":\"Hm\"}}]}\n\n"
        .repeat(2);
    let event = [SinkCall::Choice(0), text(0, Reasoning, "Hm"), SinkCall::EventEnd];
    assert_reported(chat_stream, &body, &[event.clone(), event].concat());
}

#[test]
fn one_event_may_have_several_lines_and_a_name() {
    let body = concat!(
        "event: message\rid: 1\rdata: {\"choices\":\rdata\rdata: [{\"delta\": {\"content\":\"a\"}}],\rdata:\"usage\": {\"prompt_tokens\": 1\rdata: 2}}\r\r",
        "event: error\rdata: {\"error\":{\"message\":\"no\"}}\r\r",
        "event: errors\rdata: {\"error\":null}\r\r",
        "event: error\r\r",
        "data: \r\rdata:[DONE] \r\rdata: [DONE\r\r",
    );
    let expected = [
        SinkCall::Choice(0),
        text(0, Answer, "a"),
        // A number cannot contain a line feed.
        SinkCall::Failure(InspectionFailure::Malformed),
        SinkCall::EventEnd,
        SinkCall::Error,
        SinkCall::EventEnd,
        SinkCall::EventEnd,
        SinkCall::Error,
        SinkCall::EventEnd,
        SinkCall::Done,
        SinkCall::EventEnd,
        SinkCall::PlainText,
        SinkCall::EventEnd,
    ];
    assert_reported(chat_stream, body, &expected);
}

#[test]
fn unary_answers_are_emitted_like_one_event() {
    let body = r#" {"id":"c","object":"chat.completion","model":"q","choices":[
        {"finish_reason":"stop","index":0,"message":{"role":"assistant","reasoning_content":"Hm","content":"Hi \u00e9"}},
        {"finish_reason":"function_call","index":1,"message":{"content":null,"function_call":{"name":"f","arguments":"{}"}}}
      ],"error":null,"usage":{"completion_tokens":3,"prompt_tokens":2},"delta":{"content":"x"}} "#;
    let expected = [
        SinkCall::Model("q".into()),
        SinkCall::Choice(0),
        text(0, Reasoning, "Hm"),
        text(0, Answer, "Hi é"),
        SinkCall::Finish(0, FinishReason::Stop),
        SinkCall::Choice(1),
        text(1, ToolName(0), "f"),
        text(1, ToolArguments(0), "{}"),
        SinkCall::Finish(1, FinishReason::ToolCalls),
        SinkCall::Usage(Usage::new().input(2).output(3)),
        SinkCall::EventEnd,
    ];
    assert_reported(chat_document, body, &expected);
    assert_reported(chat_document, r#"{"error":{"message":"no"}}"#, &[SinkCall::Error, SinkCall::EventEnd]);
    assert_reported(
        chat_document,
        r#"{"error":{"message":"no""#,
        &[SinkCall::Error, SinkCall::Failure(InspectionFailure::Malformed)],
    );
    assert_reported(chat_document, "<html>", &[SinkCall::Failure(InspectionFailure::Malformed)]);
}

#[test]
fn completions_carry_text_in_their_choices() {
    // OpenAI sends the index after the text.
    let body = concat!(
        r#"data: {"id":"cmpl-1","choices":[{"text":"Hi","index":0,"logprobs":null,"finish_reason":""},{"text":" there","index":1,"delta":{"content":"x"}}]}"#,
        "\n\n",
        r#"data: {"id":"cmpl-1","choices":[{"text":"","index":0,"finish_reason":"repetition"}]}"#,
        "\n\n",
        r#"data: {"id":"cmpl-1","choices":[{"text":"!","index":1,"finish_reason":"stop"}]}"#,
        "\n\n",
    );
    let expected = [
        SinkCall::Choice(0),
        text(0, Answer, "Hi"),
        SinkCall::Choice(1),
        text(1, Answer, " there"),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        SinkCall::Finish(0, FinishReason::Repetition),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        text(0, Answer, "!"),
        SinkCall::Choice(1),
        SinkCall::Finish(1, FinishReason::Stop),
        SinkCall::EventEnd,
    ];
    assert_reported(completion_stream, body, &expected);
}
