//! The calls for each protocol, in streams and in one piece, split at every byte.

use std::time::Duration;

use super::support::{SinkCall, document_of, lines_of, sink_calls, stream_of, text};
use crate::vocabulary::{Endpoint, ErrorType, FinishReason, Usage};
use crate::wire::Reader;
use crate::wire::TextKind::{Answer, Reasoning, Refusal, ToolArguments, ToolName};

/// Compares the calls for the whole body, for every split into two pieces, and byte by byte.
#[track_caller]
fn assert_reported(reader: impl Fn() -> Reader, body: &str, expected: &[SinkCall]) {
    let body = body.as_bytes();
    assert_eq!(sink_calls(reader(), [body]), expected);
    for at in 0..body.len() {
        let (left, right) = body.split_at(at);
        assert_eq!(sink_calls(reader(), [left, right]), expected, "split at {at}");
    }
    assert_eq!(sink_calls(reader(), body.chunks(1)), expected, "byte by byte");
}

fn events(events: &[&str]) -> String {
    let event = |data: &&str| {
        let name = data.split_once(r#""type":""#).and_then(|(_, rest)| rest.split_once('"')).map(|(name, _)| name);
        format!("event: {}\ndata: {data}\n\n", name.expect("a type"))
    };
    events.iter().map(event).collect()
}

/// The same without the names of the events.
fn unnamed(events: &[&str]) -> String {
    events.iter().map(|data| format!("data: {data}\n\n")).collect()
}

fn one(call: SinkCall) -> Vec<SinkCall> {
    vec![SinkCall::Choice(0), call, SinkCall::EventEnd]
}

#[test]
fn anthropic_stream_with_thinking_a_tool_and_cached_input() {
    let stream = [
        r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"model":"claude","stop_reason":null,"usage":{"input_tokens":25,"cache_read_input_tokens":1000,"cache_creation_input_tokens":7,"output_tokens":1}}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_delta","delta":{"text":"Hi","type":"text_delta"},"index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"usage\":1}"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":57}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let expected = [
        vec![
            SinkCall::Model("claude".into()),
            SinkCall::UsageSoFar(Usage::new().input(1032).cached_input(1000).cache_write(7).output(1)),
            SinkCall::EventEnd,
            SinkCall::EventEnd,
            SinkCall::Choice(0),
            SinkCall::EventEnd,
        ],
        one(text(0, Reasoning, "Hm")),
        vec![SinkCall::Choice(0), SinkCall::EventEnd, SinkCall::EventEnd],
        one(text(0, Answer, "Hi")),
        one(text(0, ToolName(0), "f")),
        one(text(0, ToolArguments(0), "{\"usage\":1}")),
        vec![
            SinkCall::Choice(0),
            SinkCall::Finish(0, FinishReason::ToolCalls),
            SinkCall::Usage(Usage::new().output(57)),
            SinkCall::EventEnd,
            SinkCall::Done,
            SinkCall::EventEnd,
        ],
    ]
    .concat();
    assert_reported(|| stream_of(Endpoint::Messages), &events(&stream), &expected);
    assert_reported(|| stream_of(Endpoint::Messages), &unnamed(&stream), &expected);
}

#[test]
fn anthropic_errors_and_reasons() {
    for (reason, expected) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
        ("pause_turn", FinishReason::Pause),
        ("refusal", FinishReason::Refusal),
    ] {
        let delta = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}"}}}}"#);
        let body = events(&[&delta]);
        assert_reported(|| stream_of(Endpoint::Messages), &body, &one(SinkCall::Finish(0, expected)));
    }
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let expected = [SinkCall::ErrorOf(ErrorType::Overloaded), SinkCall::EventEnd];
    assert_reported(|| stream_of(Endpoint::Messages), &events(&[error]), &expected);
    assert_reported(|| stream_of(Endpoint::Messages), &unnamed(&[error]), &expected);
}

#[test]
fn anthropic_message_in_one_piece() {
    let message = r#"{"id":"m","type":"message","role":"assistant","model":"claude","content":[
        {"type":"thinking","thinking":"Hm","signature":"c2ln"},{"type":"text","text":"Hi"},
        {"type":"tool_use","id":"t","name":"f","input":{"text":"no text","usage":{"input_tokens":5}}}],
        "stop_reason":"max_tokens","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":3}}"#;
    let expected = [
        SinkCall::Model("claude".into()),
        SinkCall::Choice(0),
        text(0, Reasoning, "Hm"),
        text(0, Answer, "Hi"),
        text(0, ToolName(2), "f"),
        SinkCall::Finish(0, FinishReason::Length),
        SinkCall::Usage(Usage::new().input(9).output(3)),
        SinkCall::EventEnd,
    ];
    assert_reported(|| document_of(Endpoint::Messages), message, &expected);
}

#[test]
fn responses_stream_by_its_names_and_by_its_types() {
    let stream = [
        r#"{"type":"response.created","response":{"id":"r","status":"in_progress","model":"gpt","output":[],"usage":null},"sequence_number":0}"#,
        r#"{"type":"response.in_progress","response":{"id":"r","status":"in_progress"},"sequence_number":1}"#,
        r#"{"type":"response.output_item.added","item":{"id":"i","type":"function_call","name":"f","arguments":""},"sequence_number":2}"#,
        r#"{"type":"response.reasoning_summary_text.delta","sequence_number":3,"delta":"Hm"}"#,
        r#"{"type":"response.output_text.delta","sequence_number":4,"item_id":"i","output_index":1,"delta":"Hi","logprobs":[]}"#,
        r#"{"type":"response.refusal.delta","sequence_number":5,"delta":"No"}"#,
        r#"{"type":"response.function_call_arguments.delta","sequence_number":6,"delta":"{\"delta\":\"x\"}"}"#,
        r#"{"type":"response.output_text.done","sequence_number":7,"text":"Hi"}"#,
        r#"{"type":"response.unheard_of.delta","sequence_number":8,"delta":"x"}"#,
        r#"{"type":"response.completed","sequence_number":9,"response":{"status":"completed","model":"gpt","output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":8},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":123}}}"#,
    ];
    let expected = [
        vec![SinkCall::Model("gpt".into()), SinkCall::EventEnd, SinkCall::EventEnd, SinkCall::EventEnd],
        one(text(0, Reasoning, "Hm")),
        one(text(0, Answer, "Hi")),
        one(text(0, Refusal, "No")),
        one(text(0, ToolArguments(0), "{\"delta\":\"x\"}")),
        vec![
            SinkCall::EventEnd,
            SinkCall::EventEnd,
            SinkCall::Choice(0),
            SinkCall::Finish(0, FinishReason::ToolCalls),
            SinkCall::Usage(Usage::new().input(36).cached_input(8).output(87).reasoning(5)),
            SinkCall::Done,
            SinkCall::EventEnd,
        ],
    ]
    .concat();
    assert_reported(|| stream_of(Endpoint::Responses), &events(&stream), &expected);
    assert_reported(|| stream_of(Endpoint::Responses), &unnamed(&stream), &expected);
    // vLLM's type comes last, so only the name of the event shows the type in time.
    let late = "event: response.reasoning_text.delta\ndata: {\"delta\":\"Hm\",\"sequence_number\":4,\"type\":\"response.reasoning_text.delta\"}\n\n";
    assert_reported(|| stream_of(Endpoint::Responses), late, &one(text(0, Reasoning, "Hm")));
}

#[test]
fn responses_that_do_not_complete() {
    let usage = r#""usage":{"input_tokens":9,"output_tokens":3}"#;
    let reported_usage = SinkCall::Usage(Usage::new().input(9).output(3));
    for (event, expected) in [
        (
            format!(
                r#"{{"type":"response.incomplete","response":{{"incomplete_details":{{"reason":"max_output_tokens"}},"status":"incomplete",{usage}}}}}"#
            ),
            vec![
                SinkCall::Choice(0),
                SinkCall::Finish(0, FinishReason::Length),
                reported_usage.clone(),
                SinkCall::Done,
                SinkCall::EventEnd,
            ],
        ),
        // In vLLM the name of the event differs from the status, and in llama.cpp the type. The status counts.
        (
            format!(
                r#"{{"response":{{"status":"incomplete",{usage},"incomplete_details":{{"reason":"content_filter"}}}},"type":"response.completed"}}"#
            ),
            vec![
                SinkCall::Choice(0),
                SinkCall::Finish(0, FinishReason::ContentFilter),
                reported_usage.clone(),
                SinkCall::Done,
                SinkCall::EventEnd,
            ],
        ),
        (
            format!(
                r#"{{"type":"response.failed","response":{{"status":"failed","error":{{"code":"rate_limit_exceeded","message":"x"}},{usage}}}}}"#
            ),
            vec![
                SinkCall::Choice(0),
                SinkCall::Finish(0, FinishReason::Error),
                reported_usage,
                SinkCall::ErrorOf(ErrorType::RateLimited),
                SinkCall::EventEnd,
            ],
        ),
        (
            r#"{"type":"error","code":"server_error","message":"x","param":null}"#.to_owned(),
            vec![SinkCall::Error, SinkCall::EventEnd],
        ),
    ] {
        assert_reported(|| stream_of(Endpoint::Responses), &events(&[&event]), &expected);
    }
}

#[test]
fn responses_in_one_piece() {
    // vLLM: the type of a part comes after its text, and the type of an item before its parts.
    let response = r#"{"id":"r","model":"q","object":"response","output":[
        {"id":"a","summary":[],"type":"reasoning","content":[{"text":"Hm","type":"reasoning_text"}]},
        {"id":"b","content":[{"annotations":[],"text":"Hi","type":"output_text"}],"role":"assistant","type":"message"},
        {"type":"function_call","name":"f","arguments":"{}"}],
        "status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":9,"output_tokens":3}}"#;
    let expected = [
        SinkCall::Model("q".into()),
        SinkCall::Choice(0),
        text(0, Reasoning, "Hm"),
        text(0, Answer, "Hi"),
        text(0, ToolName(2), "f"),
        text(0, ToolArguments(2), "{}"),
        SinkCall::Finish(0, FinishReason::Length),
        SinkCall::Usage(Usage::new().input(9).output(3)),
        SinkCall::EventEnd,
    ];
    assert_reported(|| document_of(Endpoint::Responses), response, &expected);
    // In the background, this is not an error, and nothing was generated.
    for status in ["queued", "in_progress"] {
        let response =
            format!(r#"{{"id":"r","object":"response","status":"{status}","model":"q","output":[],"usage":null}}"#);
        let expected = [SinkCall::Model("q".into()), SinkCall::NoGeneration, SinkCall::EventEnd];
        assert_reported(|| document_of(Endpoint::Responses), &response, &expected);
    }
}

#[test]
fn ollama_stream_with_thinking_a_tool_and_times() {
    let body = concat!(
        r#"{"model":"llama3.2","created_at":"2026-01-01T00:00:00.1Z","message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}"#,
        "\n",
        r#"{"model":"llama3.2","created_at":"2026-01-01T00:00:00.2Z","message":{"role":"assistant","content":"The"},"done":false}"#,
        "\r\n\n",
        r#"{"model":"llama3.2","created_at":"2026-01-01T00:00:00.3Z","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"done":true,"content":"x"}}}]},"done":false}"#,
        "\n",
        r#"{"model":"llama3.2","created_at":"2026-01-01T00:00:00.4Z","message":{"role":"assistant","content":""},"done_reason":"length","done":true,"total_duration":9,"load_duration":2000000000,"prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":282,"eval_duration":4535599000}"#,
    );
    let expected = [
        vec![SinkCall::Model("llama3.2".into())],
        one(text(0, Reasoning, "Hm")),
        one(text(0, Answer, "The")),
        one(text(0, ToolName(0), "f")),
        vec![
            SinkCall::Choice(0),
            SinkCall::Finish(0, FinishReason::Length),
            SinkCall::Usage(Usage::new().input(26).output(282)),
            SinkCall::Load(Duration::from_secs(2)),
            SinkCall::Timings(Some(Duration::from_nanos(342_546_000)), Some(Duration::from_nanos(4_535_599_000))),
            SinkCall::Done,
            SinkCall::EventEnd,
        ],
    ]
    .concat();
    for end in ["", "\n"] {
        assert_reported(|| lines_of(Endpoint::OllamaChat), &format!("{body}{end}"), &expected);
    }
}

#[test]
fn ollama_generates_loads_and_fails() {
    let body = concat!(
        r#"{"model":"q","created_at":"2026","response":"a","done":false}"#,
        "\n",
        r#"{"model":"q","created_at":"2026","response":"","done":true,"done_reason":"stop","context":[1,2],"load_duration":90000000,"eval_count":1}"#,
        "\n",
    );
    let expected = [
        vec![SinkCall::Model("q".into())],
        one(text(0, Answer, "a")),
        vec![
            SinkCall::Choice(0),
            SinkCall::Finish(0, FinishReason::Stop),
            SinkCall::Usage(Usage::new().output(1)),
            SinkCall::Done,
            SinkCall::EventEnd,
        ],
    ]
    .concat();
    assert_reported(|| lines_of(Endpoint::OllamaGenerate), body, &expected);
    for reason in ["load", "unload"] {
        let body = format!(r#"{{"model":"q","created_at":"2026","response":"","done":true,"done_reason":"{reason}"}}"#);
        let expected = [SinkCall::Model("q".into()), SinkCall::NoGeneration, SinkCall::Done, SinkCall::EventEnd];
        assert_reported(|| document_of(Endpoint::OllamaGenerate), &body, &expected);
        assert_reported(|| lines_of(Endpoint::OllamaGenerate), &format!("{body}\n"), &expected);
    }
    let error = [SinkCall::Choice(0), SinkCall::Error, SinkCall::EventEnd];
    assert_reported(
        || lines_of(Endpoint::OllamaChat),
        "{\"error\":\"model runner has unexpectedly stopped\"}\n",
        &error,
    );
}

#[test]
fn a_cut_line_emits_nothing() {
    let whole = r#"{"model":"q","response":"a","done":true,"done_reason":"stop","eval_count":1}"#;
    for at in 1..whole.len() {
        let seen = sink_calls(lines_of(Endpoint::OllamaGenerate), [&whole.as_bytes()[..at]]);
        let says = |call: &SinkCall| {
            matches!(call, SinkCall::Done | SinkCall::Finish(..) | SinkCall::Usage(_) | SinkCall::EventEnd)
        };
        assert!(!seen.iter().any(says), "cut at {at}: {seen:?}");
    }
}

#[test]
fn the_stream_of_llama_cpp_and_of_other_servers_at_its_path() {
    let body = concat!(
        r#"data: {"index":0,"content":"Hel","tokens":[1],"stop":false,"id_slot":0,"tokens_predicted":1,"tokens_evaluated":4}"#,
        "\n\n",
        r#"data: {"index":0,"content":"","tokens":[],"stop":true,"stop_type":"limit","truncated":false,"tokens_predicted":2,"tokens_evaluated":4,"generation_settings":{"stop":["x"],"seed":5},"prompt":"usage","timings":{"prompt_n":4,"prompt_ms":2.5,"predicted_n":2,"predicted_ms":10}}"#,
        "\n\n",
    );
    let usage = Usage::new().input(4).output(2);
    let expected = [vec![
        SinkCall::Choice(0),
        text(0, Answer, "Hel"),
        SinkCall::UsageSoFar(Usage::new().input(4).output(1)),
        SinkCall::EventEnd,
        SinkCall::Choice(0),
        SinkCall::Finish(0, FinishReason::Length),
        SinkCall::Usage(usage),
        SinkCall::Timings(Some(Duration::from_micros(2500)), Some(Duration::from_millis(10))),
        SinkCall::TimedUsage(usage),
        SinkCall::Done,
        SinkCall::EventEnd,
    ]]
    .concat();
    assert_reported(|| stream_of(Endpoint::LlamaCppCompletion), body, &expected);
    let chat = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choices\":[{\"index\":1,\"text\":\"b\",\"finish_reason\":\"stop\"}]}\n\n";
    let expected = [
        SinkCall::Choice(1),
        text(1, Answer, "a"),
        SinkCall::EventEnd,
        SinkCall::Choice(1),
        text(1, Answer, "b"),
        SinkCall::Finish(1, FinishReason::Stop),
        SinkCall::EventEnd,
    ];
    assert_reported(|| stream_of(Endpoint::LlamaCppCompletion), chat, &expected);
}

#[test]
fn embeddings_have_their_usage_at_either_end() {
    let usage = r#""usage":{"prompt_tokens":8,"total_tokens":8}"#;
    let data = r#""data":[{"object":"embedding","index":0,"embedding":[0.1,-2.5e-3]},{"embedding":"AAAA","usage":{"prompt_tokens":1}}]"#;
    let expected = [SinkCall::Model("e".into()), SinkCall::Usage(Usage::new().input(8)), SinkCall::EventEnd];
    for body in
        [format!(r#"{{"object":"list",{data},"model":"e",{usage}}}"#), format!(r#"{{"model":"e",{usage},{data}}}"#)]
    {
        assert_reported(|| document_of(Endpoint::Embeddings), &body, &expected);
    }
    let rerank = r#"{"model":"r","usage":{"total_tokens":56},"results":[{"index":0,"relevance_score":0.9}]}"#;
    let expected = [SinkCall::Model("r".into()), SinkCall::Usage(Usage::new().input(56)), SinkCall::EventEnd];
    assert_reported(|| document_of(Endpoint::Rerank), rerank, &expected);
    let ollama =
        r#"{"model":"e","embeddings":[[0.1]],"total_duration":14143917,"load_duration":1019500,"prompt_eval_count":8}"#;
    let expected = [SinkCall::Model("e".into()), SinkCall::Usage(Usage::new().input(8)), SinkCall::EventEnd];
    assert_reported(|| document_of(Endpoint::OllamaEmbed), ollama, &expected);
}
