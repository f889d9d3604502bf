//! One conversation in each protocol that streams, written by hand according to its specification.

use serde_json::{Value, json};

use super::Case;

/// An event of a protocol whose events have names.
fn named(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"))
}

fn line(document: &Value) -> String {
    format!("{document}\n")
}

pub(super) fn all() -> [Case; 5] {
    [messages(), responses(), ollama_chat(), ollama_generate(), llama_cpp()]
}

fn messages() -> Case {
    let delta = |delta: Value| json!({"type": "content_block_delta", "index": 0, "delta": delta});
    let block = |block: Value| json!({"type": "content_block_start", "index": 0, "content_block": block});
    let input = |output: u64| {
        json!({"input_tokens": 25, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 7,
               "output_tokens": output})
    };
    let events = [
        json!({"type": "message_start", "message": {"model": "Qwen3-4B", "content": [], "usage": input(1)}}),
        json!({"type": "ping"}),
        block(json!({"type": "thinking", "thinking": ""})),
        delta(json!({"type": "thinking_delta", "thinking": "Hm"})),
        delta(json!({"type": "signature_delta", "signature": "c2ln"})),
        delta(json!({"type": "text_delta", "text": "The"})),
        delta(json!({"type": "text_delta", "text": " sky"})),
        block(json!({"type": "tool_use", "id": "t", "name": "look", "input": {}})),
        delta(json!({"type": "input_json_delta", "partial_json": "{\"at\":1}"})),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 6}}),
        json!({"type": "message_stop"}),
    ];
    let tools = json!([{"name": "look", "input_schema": {"type": "object"}}]);
    Case {
        endpoint: "/v1/messages",
        operation: "chat",
        streamed: json!({"model": "Qwen3-4B", "stream": true, "max_tokens": 99, "messages": [], "tools": tools}),
        whole: json!({"model": "Qwen3-4B", "max_tokens": 99, "messages": [], "tools": tools}),
        content_type: "text/event-stream",
        events: events.iter().map(named).collect(),
        end: 2,
        document: json!({"type": "message", "model": "Qwen3-4B", "stop_reason": "tool_use", "usage": input(6), "content": [
            {"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "The sky"},
            {"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}}]}),
        error: named(&json!({"type": "error", "error": {"type": "overloaded_error", "message": "no"}})),
        error_type: "overloaded",
        input: 1032,
        cached: 1000,
        cache_write: 7,
        output: 6,
        reasoning: 0,
        silent: vec![
            ": keep-alive\n\n".into(),
            named(&json!({"type": "ping"})),
            named(&block(json!({"type": "text", "text": ""}))),
            named(&delta(json!({"type": "text_delta", "text": ""}))),
            named(&delta(json!({"type": "citations_delta", "citation": {"cited_text": "sky"}}))),
        ],
        bearing: &[3, 5, 6, 7, 8],
        cut_source: "estimated",
        thinks: true,
        finish: "tool_calls",
        call: &[7, 8],
        engine_times: false,
    }
}

fn responses() -> Case {
    let item = |item: Value| json!({"type": "response.output_item.added", "output_index": 0, "item": item});
    let delta =
        |kind: &str, delta: &str| json!({"type": format!("response.{kind}.delta"), "output_index": 0, "delta": delta});
    let response = |status: &str, output: Value, usage: Value| json!({"id": "r", "object": "response", "status": status, "model": "Qwen3-4B", "output": output, "usage": usage});
    let call = json!({"type": "function_call", "call_id": "c", "name": "look", "arguments": "{\"at\":1}"});
    let last = response(
        "completed",
        json!([
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "The sky"}]},
            call,
        ]),
        json!({"input_tokens": 1032, "input_tokens_details": {"cached_tokens": 1000}, "output_tokens": 5,
               "output_tokens_details": {"reasoning_tokens": 1}}),
    );
    let events = [
        json!({"type": "response.created", "response": response("in_progress", json!([]), Value::Null)}),
        item(json!({"type": "reasoning", "content": []})),
        delta("reasoning_text", "Hm"),
        delta("output_text", "The"),
        delta("output_text", " sky"),
        json!({"type": "response.output_text.done", "output_index": 0, "text": "The sky"}),
        item(json!({"type": "function_call", "call_id": "c", "name": "look", "arguments": ""})),
        delta("function_call_arguments", "{\"at\":1}"),
        json!({"type": "response.function_call_arguments.done", "output_index": 0, "arguments": "{\"at\":1}"}),
        json!({"type": "response.completed", "response": last}),
    ];
    let tools = json!([{"type": "function", "name": "look", "parameters": {}}]);
    Case {
        endpoint: "/v1/responses",
        operation: "chat",
        streamed: json!({"model": "Qwen3-4B", "stream": true, "input": "Look.", "tools": tools}),
        whole: json!({"model": "Qwen3-4B", "input": "Look.", "tools": tools}),
        content_type: "text/event-stream",
        events: events.iter().map(named).collect(),
        end: 1,
        document: last,
        error: named(&json!({"type": "response.failed", "response": {
            "status": "failed", "error": {"code": "server_error", "message": "no"}}})),
        error_type: "stream_error",
        input: 1032,
        cached: 1000,
        cache_write: 0,
        output: 5,
        reasoning: 1,
        silent: vec![
            ": keep-alive\n\n".into(),
            named(&json!({"type": "keepalive", "sequence_number": 1})),
            named(
                &json!({"type": "response.in_progress", "response": response("in_progress", json!([]), Value::Null)}),
            ),
            named(&item(json!({"type": "message", "content": []}))),
            named(&json!({"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}})),
            named(&delta("output_text", "")),
            named(&json!({"type": "response.web_search_call.searching", "item_id": "w"})),
            named(&delta("of_tomorrow", "x")),
        ],
        bearing: &[2, 3, 4, 7],
        cut_source: "estimated",
        thinks: true,
        finish: "tool_calls",
        call: &[7],
        engine_times: false,
    }
}

fn ollama_chat() -> Case {
    let part = |message: Value| json!({"model": "Qwen3-4B", "created_at": "2026-01-01T00:00:00.1Z", "message": message, "done": false});
    let last = |message: Value| {
        json!({"model": "Qwen3-4B", "created_at": "2026-01-01T00:00:00.2Z", "message": message, "done_reason": "stop",
               "done": true, "prompt_eval_count": 26, "eval_count": 5})
    };
    let call = json!([{"function": {"name": "look", "arguments": {"at": 1}}}]);
    let events = [
        part(json!({"role": "assistant", "content": "", "thinking": "Hm"})),
        part(json!({"role": "assistant", "content": "The"})),
        part(json!({"role": "assistant", "content": " sky"})),
        part(json!({"role": "assistant", "content": "", "tool_calls": call})),
        last(json!({"role": "assistant", "content": ""})),
    ];
    let tools = json!([{"type": "function", "function": {"name": "look", "parameters": {}}}]);
    Case {
        endpoint: "/api/chat",
        operation: "chat",
        streamed: json!({"model": "Qwen3-4B", "messages": [], "tools": tools}),
        whole: json!({"model": "Qwen3-4B", "stream": false, "messages": [], "tools": tools}),
        content_type: "application/x-ndjson",
        events: events.iter().map(line).collect(),
        end: 1,
        document: last(json!({"role": "assistant", "content": "The sky", "thinking": "Hm", "tool_calls": call})),
        error: line(&json!({"error": "model runner has unexpectedly stopped"})),
        error_type: "stream_error",
        input: 26,
        cached: 0,
        cache_write: 0,
        output: 5,
        reasoning: 0,
        silent: vec!["\n".into(), line(&part(json!({"role": "assistant", "content": ""})))],
        bearing: &[0, 1, 2, 3],
        cut_source: "estimated",
        thinks: true,
        finish: "stop",
        call: &[3],
        engine_times: false,
    }
}

fn ollama_generate() -> Case {
    let part = |key: &str, text: &str| json!({"model": "Qwen3-4B", "created_at": "2026-01-01T00:00:00.1Z", key: text, "done": false});
    let last = |text: &str, thinking: &str| {
        json!({"model": "Qwen3-4B", "created_at": "2026-01-01T00:00:00.2Z", "response": text, "thinking": thinking,
               "done": true, "done_reason": "length", "context": [1, 2], "prompt_eval_count": 26, "eval_count": 4})
    };
    Case {
        endpoint: "/api/generate",
        operation: "text_completion",
        streamed: json!({"model": "Qwen3-4B", "prompt": "Look."}),
        whole: json!({"model": "Qwen3-4B", "prompt": "Look.", "stream": false}),
        content_type: "application/x-ndjson",
        events: [part("thinking", "Hm"), part("response", "The"), part("response", " sky"), last("", "")]
            .iter()
            .map(line)
            .collect(),
        end: 1,
        document: last("The sky", "Hm"),
        error: line(&json!({"error": "model runner has unexpectedly stopped"})),
        error_type: "stream_error",
        input: 26,
        cached: 0,
        cache_write: 0,
        output: 4,
        reasoning: 0,
        silent: vec!["\n".into(), line(&part("response", ""))],
        bearing: &[0, 1, 2],
        cut_source: "estimated",
        thinks: true,
        finish: "length",
        call: &[],
        engine_times: false,
    }
}

fn llama_cpp() -> Case {
    let event = |event: &Value| format!("data: {event}\n\n");
    let part = |text: &str, so_far: u64| json!({"index": 0, "content": text, "stop": false, "tokens_predicted": so_far, "tokens_evaluated": 26});
    let last = |text: &str| {
        json!({"index": 0, "content": text, "model": "Qwen3-4B", "stop": true, "stop_type": "limit", "truncated": false,
               "tokens_predicted": 3, "tokens_evaluated": 26,
               "timings": {"prompt_n": 20, "cache_n": 6, "prompt_ms": 2.5, "predicted_n": 3, "predicted_ms": 10}})
    };
    Case {
        endpoint: "/completion",
        operation: "text_completion",
        streamed: json!({"model": "Qwen3-4B", "prompt": "Look.", "stream": true, "n_predict": 9}),
        whole: json!({"model": "Qwen3-4B", "prompt": "Look.", "n_predict": 9}),
        content_type: "text/event-stream",
        events: [part("The", 1), part(" sky", 2), last("")].iter().map(event).collect(),
        end: 1,
        document: last("The sky"),
        error: event(&json!({"error": {"code": 500, "message": "no", "type": "server_error"}})),
        error_type: "stream_error",
        input: 26,
        cached: 6,
        cache_write: 0,
        output: 3,
        reasoning: 0,
        silent: vec![": keep-alive\n\n".into(), event(&part("", 0))],
        bearing: &[0, 1],
        cut_source: "upstream",
        thinks: false,
        finish: "length",
        call: &[],
        engine_times: true,
    }
}
