//! The findings of output quality over real sockets, and no findings for good answers.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use llm_metrics::{Operation, QualityChecks};
use llm_metrics_tests::{Client, Gate, MODEL, Page, Script, Step, Watched, post, stream::*};
use serde_json::{Value, json};

/// Every family of the section, with the label that distinguishes findings.
const FAMILIES: [(&str, &str); 8] = [
    ("llm_structured_outputs_total", "result"),
    ("llm_tool_calls_total", "result"),
    ("llm_output_truncated_total", "cause"),
    ("llm_input_truncated_total", "evidence"),
    ("llm_output_empty_total", "kind"),
    ("llm_output_repetition_total", "kind"),
    ("llm_refusals_total", "kind"),
    ("llm_output_anomalies_total", "kind"),
];

/// The counted findings as `family/value`, each repeated as often as it was counted.
fn counted(page: &Page) -> Vec<String> {
    let mut counted = Vec::new();
    for (family, label) in FAMILIES {
        for sample in page.samples(family, &[]) {
            let name =
                format!("{}/{}", family.trim_start_matches("llm_").trim_end_matches("_total"), sample.labels[label]);
            counted.extend(std::iter::repeat_n(name, sample.value as usize));
        }
    }
    counted.sort_unstable();
    counted
}

/// A request for a streamed chat with additional fields.
fn asking(more: Value) -> String {
    let mut request = json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": "Say hi."}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request.to_string()
}

fn json_asked() -> String {
    json_asked_of(1)
}

fn json_asked_of(choices: u32) -> String {
    asking(
        json!({"n": choices, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}}),
    )
}

/// A stream with this text, split into words, with this finish reason.
fn said(text: &str, reason: &str) -> Vec<String> {
    let words = text.split_inclusive(' ').map(token);
    std::iter::once(role()).chain(words).chain([finish(reason), usage(9, 20), DONE.to_owned()]).collect()
}

/// The findings for a request and its answer.
async fn found(request: String, answer: Vec<String>) -> (Vec<String>, f64) {
    let watched = Watched::start().await;
    watched.exchange(CHAT, request, move || Script::stream(answer.clone())).await;
    let page = watched.settled().await;
    (counted(&page), page.value("llm_outputs_total", &[("model", MODEL), ("operation", "chat")]))
}

async fn assert_found(request: String, answer: Vec<String>, expected: &[&str]) {
    let (found, outputs) = found(request.clone(), answer.clone()).await;
    assert_eq!(found, expected, "{request}: {answer:?}");
    assert!(outputs <= 1.0);
}

async fn assert_found_of(request: String, answer: Vec<String>, outputs: f64, expected: &[&str]) {
    let (found, finished) = found(request, answer.clone()).await;
    assert_eq!(found, expected, "{answer:?}");
    assert_eq!(finished, outputs, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_answers_cause_no_finding() {
    for answer in [
        said("Lima is the capital of Peru.", "stop"),
        said("<think>\nHm, let me see.\n</think>\n\nLima.", "stop"),
        said("Hm, let me see.\n</think>\n\nLima.", "stop"),
        said("Write `<|im_end|>` at the end of a turn.", "stop"),
    ] {
        assert_found(ask(MODEL), answer, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_of_an_output_is_checked_if_the_request_asked_for_one() {
    for (text, reason, expected) in [
        ("{\"city\": \"Lima\", \"people\": [1, 2.5e3]}", "stop", vec!["structured_outputs/valid"]),
        ("Sure! {\"city\": \"Lima\"}", "stop", vec!["structured_outputs/invalid_json"]),
        ("```json\n{\"city\": \"Lima\"}\n```", "stop", vec!["structured_outputs/fenced"]),
        ("{\"city\": \"Li", "length", vec!["output_truncated/context_window", "structured_outputs/truncated"]),
        ("<think>\nHm.\n</think>\n{\"city\": \"Lima\"}", "stop", vec!["structured_outputs/valid"]),
    ] {
        assert_found(json_asked(), said(text, reason), &expected).await;
    }
    assert_found(ask(MODEL), said("Sure! {\"city\"", "stop"), &[]).await;
    let grammar = asking(json!({"guided_regex": "yes|no"}));
    assert_found(grammar, said("yes", "stop"), &["structured_outputs/unchecked"]).await;
}

/// A schema for answers with a city, with the given length.
fn city(length: usize) -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string", "description": "x".repeat(length)}}, "required": ["city"]})
}

/// The findings if answers are validated against schemas.
async fn found_by_schema(request: String, answer: Vec<String>) -> Vec<String> {
    let checks = QualityChecks::none().structured_output(true).json_schema(true);
    let watched = Watched::with(move |builder| builder.quality(checks), |exporter| exporter).await;
    watched.exchange(CHAT, request, move || Script::stream(answer.clone())).await;
    counted(&watched.settled().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_validated_against_the_schema_of_its_request_if_that_is_turned_on() {
    let format = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}});
    for (request, text, expected) in [
        (format(city(0)), "{\"city\": \"Lima\"}", "valid"),
        (format(city(0)), "{\"city\": 7}", "schema_mismatch"),
        (format(city(0)), "[]", "schema_mismatch"),
        (format(city(0)), "{\"city\": ", "invalid_json"),
        (format(city(0)), "```json\n{\"city\": \"Lima\"}\n```", "fenced"),
        (format(city(0)), "<think>\n{\"city\": 7}\n</think>\n{\"city\": \"Lima\"}", "valid"),
        (format(city(0)), "<think>\nHm.\n</think>\n{\"city\": 7}", "schema_mismatch"),
        (format(city(31_000)), "{\"city\": 7}", "schema_mismatch"),
        (format(city(33_000)), "{\"city\": 7}", "unchecked"),
        (format(json!({"$ref": "http://127.0.0.1:9/schema.json"})), "{\"city\": 7}", "unchecked"),
        (format(json!({"type": "thing"})), "{\"city\": 7}", "unchecked"),
        (format(Value::Null), "{\"city\": 7}", "unchecked"),
        (format(json!(true)), "{\"city\": 7}", "unchecked"),
        (json!({"response_format": {"type": "json_object"}}), "{\"city\": 7}", "valid"),
        (json!({"response_format": {"type": "json_object", "schema": city(0)}}), "{\"city\": 7}", "schema_mismatch"),
        (json!({"guided_json": city(0)}), "{\"city\": 7}", "schema_mismatch"),
        (json!({"guided_json": city(0).to_string()}), "{\"city\": 7}", "schema_mismatch"),
        (json!({"structured_outputs": {"json": city(0)}}), "{\"city\": 7}", "schema_mismatch"),
        (json!({"grammar": {"type": "json_schema", "value": city(0)}}), "{\"city\": 7}", "schema_mismatch"),
        (json!({"json_schema": city(0)}), "{\"city\": 7}", "schema_mismatch"),
        // A value that is skipped after the schema is not a schema, nor is the user's text.
        (
            json!({"json_schema": city(0), "metadata": {"type": "string"}, "zz": [1], "messages": [{"content": {"schema": {}}}]}),
            "{\"city\": 7}",
            "schema_mismatch",
        ),
    ] {
        let found = found_by_schema(asking(request.clone()), said(text, "stop")).await;
        assert_eq!(found, [format!("structured_outputs/{expected}")], "{request}: {text}");
    }
    let request = asking(format(city(0)));
    let long = |length: usize| said(&format!("{{\"city\": 7, \"x\": \"{}\"}}", "x".repeat(length)), "stop");
    assert_eq!(found_by_schema(request.clone(), long(65_000)).await, ["structured_outputs/schema_mismatch"]);
    assert_eq!(found_by_schema(request.clone(), long(66_000)).await, ["structured_outputs/unchecked"]);
    assert_found(request, said("{\"city\": 7}", "stop"), &["structured_outputs/valid"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_choice_is_validated_against_the_schema() {
    let format = json!({"n": 2, "response_format": {"type": "json_schema", "json_schema": {"schema": city(0)}}});
    // The index comes first, as servers send it.
    let of = |index: u32, text: &str, reason: Option<&str>| {
        let (text, reason) = (json!(text), json!(reason));
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":{text}}},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let events = vec![
        of(0, "{\"city\"", None),
        of(1, "{\"city\"", None),
        of(0, ": \"Lima\"}", Some("stop")),
        of(1, ": 7}", Some("stop")),
        DONE.to_owned(),
    ];
    let found = found_by_schema(asking(format), events).await;
    assert_eq!(found, ["structured_outputs/schema_mismatch", "structured_outputs/valid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn escapes_and_cuts_on_the_wire_do_not_change_the_text() {
    let watched = Watched::start().await;
    let document = json!({"a": "say \"hi\"\n", "b": ["é", "🎉", "\u{1}"], "c": {"d": null}}).to_string();
    // Two characters per event, and seven bytes per frame.
    let characters: Vec<char> = document.chars().collect();
    let events: String = characters.chunks(2).map(|pair| token(&pair.iter().collect::<String>())).collect();
    let body = [events, finish("stop"), DONE.to_owned()].concat();
    let frames: Vec<Bytes> = body.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
    watched.exchange(CHAT, json_asked(), move || Script::stream(frames.clone())).await;
    assert_eq!(counted(&watched.settled().await), ["structured_outputs/valid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_one_piece_is_checked_too() {
    let watched = Watched::start().await;
    let request = json_asked().replace("\"stream\":true", "\"stream\":false");
    watched.exchange(CHAT, request, || Script::json(completion("{\"a\": [1, 2]", 9, 2))).await;
    assert_eq!(counted(&watched.settled().await), ["structured_outputs/invalid_json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cause_of_a_truncation_is_reported() {
    let limited = asking(json!({"max_tokens": 20}));
    assert_found(limited, said("Lima is", "length"), &["output_truncated/max_tokens"]).await;
    let roomy = asking(json!({"max_tokens": 21}));
    assert_found(roomy, said("Lima is", "length"), &["output_truncated/context_window"]).await;
    assert_found(ask(MODEL), vec![role(), token("Lima is")], &["output_truncated/stream_cut"]).await;
    // For any type of error.
    for error in [
        json!({"message": "no"}),
        json!({"type": "overloaded_error"}),
        json!({"code": 429}),
        json!({"code": 500}),
        json!({"code": "timeout"}),
    ] {
        let failed = vec![role(), token("Lima is"), event(&json!({"error": error}))];
        assert_found(ask(MODEL), failed, &["output_truncated/stream_cut"]).await;
        assert_found(ask(MODEL), vec![event(&json!({"error": error}))], &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_truncates_the_output_and_its_format_is_unchecked() {
    let watched = Watched::start().await;
    let server = watched.answer(|_, _| Script::stream([Step::from(token("{\"city\"")), Step::Hold(Gate::new())])).await;
    let mut client = Client::connect(server.addr).await;
    let mut answer = client.send(post(server.addr, CHAT, json_asked())).await;
    answer.until("city").await;
    client.hang_up();
    let page = watched.settled().await;
    assert_eq!(counted(&page), ["output_truncated/client_disconnect"]);
    assert_eq!(page.value("llm_outputs_total", &[]), 0.0, "it did not finish");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_answer_is_empty() {
    let no_text = vec![role(), finish("stop"), DONE.to_owned()];
    assert_found(ask(MODEL), no_text, &["output_empty/no_content"]).await;
    assert_found(ask(MODEL), said(" \n ", "stop"), &["output_empty/whitespace"]).await;
    let thoughts = vec![role(), thought("Hm."), finish("stop"), DONE.to_owned()];
    assert_found(ask(MODEL), thoughts, &["output_empty/reasoning_only"]).await;
    let watched = Watched::start().await;
    watched.exchange(CHAT, ask_whole(MODEL), || Script::json(r#"{"object":"chat.completion","choices":[]}"#)).await;
    let page = watched.settled().await;
    assert_eq!(counted(&page), ["output_empty/no_choices"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_is_reported_while_it_continues() {
    let watched = Watched::start().await;
    let (gate, again) = (Gate::new(), token("I should check the file again. ").repeat(60));
    let (steps, hold) = ([Step::from(role()), Step::from(again)], gate.clone());
    let server = watched
        .answer(move |_, _| {
            Script::stream(steps.clone().into_iter().chain([Step::Hold(hold.clone()), finish("stop").into()]))
        })
        .await;
    let mut client = Client::connect(server.addr).await;
    let answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
    let page = watched.when(|page| page.value("llm_output_repetition_total", &[]) > 0.0).await;
    assert_eq!(counted(&page), ["output_repetition/token_run"]);
    gate.open();
    answer.finish().await.unwrap();
    assert_eq!(counted(&watched.settled().await), ["output_repetition/token_run"], "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted() {
    let refused =
        vec![role(), chunk(&json!({"refusal": "I cannot help with that."}), None), finish("stop"), DONE.to_owned()];
    assert_found(json_asked(), refused, &["refusals/refusal_field"]).await;
    assert_found(json_asked(), said("Here is", "content_filter"), &["refusals/content_filter"]).await;
}

/// A delta with tool calls.
fn calls(calls: &Value) -> String {
    chunk(&json!({"tool_calls": calls}), None)
}

fn tools_asked() -> String {
    asking(json!({"tools": [
        {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"name": {"type": "string"}}}}},
        {"type": "function", "function": {"name": "time"}},
    ]}))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tool_call_is_checked_once_however_many_pieces_it_has() {
    let end = [finish("tool_calls"), DONE.to_owned()];
    let begins = |index: u32, name: &str| {
        calls(
            &json!([{"index": index, "id": format!("call_{index}"), "type": "function", "function": {"name": name, "arguments": ""}}]),
        )
    };
    let goes_on = |index: u32, piece: &str| calls(&json!([{"index": index, "function": {"arguments": piece}}]));
    for (events, expected) in [
        (vec![begins(0, "weather"), goes_on(0, "{\"city\": "), goes_on(0, "\"Lima\"}")], vec!["tool_calls/valid"]),
        (vec![begins(0, "time")], vec!["tool_calls/valid"]),
        (vec![begins(0, "time"), begins(1, "time")], vec!["tool_calls/valid"; 2]),
        (vec![begins(0, "time"), begins(0, "time")], vec!["tool_calls/valid"; 2]),
        (vec![begins(0, "weather"), goes_on(0, "{\"city\": \"Li")], vec!["tool_calls/incomplete"]),
        (vec![begins(0, "weather"), goes_on(0, "city=Lima")], vec!["tool_calls/invalid_json"]),
        (vec![begins(0, "name"), goes_on(0, "{}")], vec!["tool_calls/unknown_tool"]),
        (
            // Two calls at the same time, one valid and one not.
            vec![
                begins(0, "weather"),
                begins(1, "weather"),
                goes_on(0, "{\"a\""),
                goes_on(1, "{]"),
                goes_on(0, ": 1}"),
                goes_on(1, "}"),
            ],
            vec!["tool_calls/invalid_json", "tool_calls/valid"],
        ),
    ] {
        assert_found(tools_asked(), events.into_iter().chain(end.clone()).collect(), &expected).await;
    }
    let cut = vec![begins(0, "weather"), goes_on(0, "{\"city\"")];
    assert_found(tools_asked(), cut, &["output_truncated/stream_cut", "tool_calls/incomplete"]).await;
    let no_tools = vec![begins(0, "anything"), goes_on(0, "{}"), finish("tool_calls"), DONE.to_owned()];
    assert_found(ask(MODEL), no_tools, &["tool_calls/valid"]).await;
}

/// The findings of one exchange at this path.
async fn found_at(path: &str, request: Value, content_type: &'static str, answer: &'static str) -> Vec<String> {
    let watched = Watched::start().await;
    let server = {
        let service = tower::ServiceBuilder::new().layer(watched.metrics.layer().ollama()).service(tower::service_fn(
            move |request: llm_metrics_tests::MeasuredRequest| async move {
                http_body_util::BodyExt::collect(request.into_body()).await?;
                Ok::<_, hyper::Error>(Script::new([answer]).respond(content_type))
            },
        ));
        llm_metrics_tests::serve(service).await
    };
    let mut client = Client::connect(server.addr).await;
    client.send(post(server.addr, path, request.to_string())).await.finish().await.unwrap();
    counted(&watched.settled().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_calls_are_checked_in_every_protocol() {
    let tools = json!([{"type": "function", "name": "f", "input_schema": {}}, {"type": "function", "name": "g"}]);
    let responses = concat!(
        "event: response.function_call_arguments.delta\n",
        "data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":0,\"delta\":\"{\\\"a\\\":1}\"}\n\n",
        "event: response.output_item.done\n",
        "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\",\"name\":\"f\"}}\n\n",
        "event: response.function_call_arguments.delta\n",
        "data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":1,\"delta\":\"{a}\"}\n\n",
        "event: response.function_call_arguments.done\n",
        "data: {\"type\":\"response.function_call_arguments.done\",\"output_index\":1,\"arguments\":\"{a}\"}\n\n",
        // In vLLM, the type comes last.
        "event: response.output_item.added\n",
        "data: {\"item\":{\"arguments\":\"\",\"name\":\"h\",\"type\":\"function_call\"},\"output_index\":2,\"type\":\"response.output_item.added\"}\n\n",
        "event: response.function_call_arguments.delta\n",
        "data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":2,\"delta\":\"{}\"}\n\n",
        "event: response.output_item.done\n",
        "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\",\"name\":\"h\",\"arguments\":\"{}\"}}\n\n",
        "event: response.output_item.added\n",
        "data: {\"type\":\"response.output_item.added\",\"item\":{\"type\":\"function_call\",\"name\":\"g\",\"arguments\":\"\"}}\n\n",
        "event: response.function_call_arguments.delta\n",
        "data: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":3,\"delta\":\"{}\"}\n\n",
        "event: response.completed\n",
        "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n",
    );
    let request = json!({"model": MODEL, "stream": true, "input": "Hi", "tools": tools});
    let found = found_at("/v1/responses", request, "text/event-stream", responses).await;
    assert_eq!(found, ["tool_calls/invalid_json", "tool_calls/unknown_tool", "tool_calls/valid", "tool_calls/valid"]);

    let messages = concat!(
        "event: content_block_start\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{}}}\n\n",
        "event: content_block_start\n",
        "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"b\",\"name\":\"h\",\"input\":{}}}\n\n",
        "event: content_block_delta\n",
        "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n",
        "event: message_delta\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":9}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let request = json!({"model": MODEL, "stream": true, "max_tokens": 9, "messages": [], "tools": tools});
    let found = found_at("/v1/messages", request, "text/event-stream", messages).await;
    assert_eq!(found, ["tool_calls/unknown_tool", "tool_calls/valid"]);

    let lines = concat!(
        "{\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}},{\"function\":{\"name\":\"g\",\"arguments\":{}}}]},\"done\":false}\n",
        "{\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},\"done\":false}\n",
        "{\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n",
    );
    let request = json!({"model": MODEL, "messages": [], "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]});
    let found = found_at("/api/chat", request, "application/x-ndjson", lines).await;
    assert_eq!(found, ["tool_calls/valid"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_ollama_cut_without_reporting_it_is_suspected() {
    let answer = "{\"model\":\"q\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi.\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":4096,\"eval_count\":3}\n";
    let ask = |bytes: usize, more: Value| {
        let mut request =
            json!({"model": MODEL, "messages": [{"role": "user", "content": "lorem ".repeat(bytes / 6)}]});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    for (request, expected) in [
        (ask(100_000, json!({})), vec!["input_truncated/suspected"]),
        (ask(60_000, json!({})), vec![]),
        (ask(100_000, json!({"format": {"type": "object"}})), vec!["structured_outputs/invalid_json"]),
        (ask(100_000, json!({"images": ["aGk="]})), vec![]),
        // As many tokens as fit into the context that the request sets.
        (ask(60_000, json!({"options": {"num_ctx": 4096}})), vec!["input_truncated/suspected"]),
        (ask(60_000, json!({"options": {"num_ctx": 8192}})), vec![]),
        // Half of the context, and the tokens that are kept of the beginning.
        (ask(60_000, json!({"options": {"num_ctx": 8188}})), vec!["input_truncated/suspected"]),
        (ask(3000, json!({"options": {"num_ctx": 4096}})), vec![]),
        (ask(60_000, json!({"options": {"num_ctx": 4096}, "images": ["aGk="]})), vec![]),
    ] {
        assert_eq!(found_at("/api/chat", request, "application/x-ndjson", answer).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_the_engine_reports_as_cut_is_reported() {
    let answer = "{\"content\":\"Hi.\",\"stop\":true,\"stop_type\":\"eos\",\"truncated\":true,\"tokens_evaluated\":9,\"tokens_predicted\":3}";
    let found = found_at("/completion", json!({"prompt": "Say hi."}), "application/json", answer).await;
    assert_eq!(found, ["input_truncated/reported"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn anomalies_of_an_answer_are_reported_once() {
    let leak = "Done.<|im_end|> \n<|im_start|>user\nAnd \u{FFFD} now?";
    assert_found(
        ask(MODEL),
        said(leak, "stop"),
        &["output_anomalies/replacement_char", "output_anomalies/special_token_leak"],
    )
    .await;
    assert_found(
        ask(MODEL),
        said("<think>\nHm, wait.", "stop"),
        &["output_anomalies/unclosed_reasoning", "output_empty/reasoning_only"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_choice_is_checked_separately() {
    let watched = Watched::start().await;
    let of = |index: u32, text: &str, reason: &str| {
        let text = serde_json::to_string(text).unwrap();
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":{text}}},\"finish_reason\":{reason}}}]}}\n\n"
        )
    };
    let events = vec![
        of(0, "{\"a\"", "null"),
        of(1, "Su", "null"),
        of(0, ": 1}", "null"),
        of(1, "re!", "null"),
        of(0, "", "\"stop\""),
        of(1, "", "\"stop\""),
        DONE.to_owned(),
    ];
    watched.exchange(CHAT, json_asked_of(2), move || Script::stream(events.clone())).await;
    let page = watched.settled().await;
    assert_eq!(counted(&page), ["structured_outputs/invalid_json", "structured_outputs/valid"]);
    assert_eq!(page.value("llm_outputs_total", &[]), 2.0);
}

/// The index of a text's choice is known only after the text was read.
#[tokio::test(flavor = "multi_thread")]
async fn choices_with_the_index_after_the_text_are_unchecked_unless_there_is_only_one() {
    for (choices, expected) in [(2, vec![]), (1, vec!["structured_outputs/invalid_json"])] {
        let late = |text: &str, reason: &str| -> String {
            let of = |index| {
                format!(
                    "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{reason},\"index\":{index}}}]}}\n\n"
                )
            };
            (0..choices).map(of).collect()
        };
        let events = vec![late("Sure", "null"), late("!", "\"stop\""), DONE.to_owned()];
        assert_found_of(json_asked_of(choices), events, f64::from(choices), &expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_failed_before_an_answer_are_not_checked() {
    let watched = Watched::start().await;
    let failed = || {
        let mut response: Response<Script> = Script::json("{\"error\":{\"message\":\"no\"}}");
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    };
    watched.exchange(CHAT, json_asked(), failed).await;
    watched.exchange(CHAT, json_asked(), || Script::json("{\"choices\":[}")).await;
    watched.exchange(CHAT, json_asked(), || Script::new(["as it is"]).respond("application/octet-stream")).await;
    assert_eq!(counted(&watched.settled().await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_a_declared_model_are_there_before_anything_happens() {
    let watched = Watched::with(|builder| builder.models([MODEL]), |exporter| exporter).await;
    let page = watched.scrape().await;
    let values = [18, 4, 4, 2, 4, 3, 2, 3];
    for ((family, _), values) in FAMILIES.into_iter().zip(values) {
        assert_eq!(page.samples(family, &[("model", MODEL)]).count(), values, "{family}");
        assert!(page.samples(family, &[]).all(|sample| sample.value == 0.0), "{family}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_is_off_finds_nothing_and_has_no_series() {
    let text = format!("{}<|im_end|>\u{FFFD}", "no, ".repeat(500));
    for (checks, expected) in [
        (QualityChecks::none(), vec![]),
        (QualityChecks::none().repetition(true), vec!["output_repetition/token_run"]),
        (QualityChecks::none().structured_output(true), vec!["structured_outputs/invalid_json"]),
        (
            QualityChecks::all().structured_output(false).repetition(false),
            vec![
                "output_anomalies/replacement_char",
                "output_anomalies/special_token_leak",
                "output_truncated/context_window",
            ],
        ),
    ] {
        let watched = Watched::with(move |builder| builder.quality(checks), |exporter| exporter).await;
        let events = said(&text, "length");
        watched.exchange(CHAT, json_asked(), move || Script::stream(events.clone())).await;
        let page = watched.settled().await;
        let expected: Vec<_> = expected
            .into_iter()
            .filter(|found| !(found.ends_with("window") && checks == QualityChecks::none()))
            .collect();
        assert_eq!(counted(&page), expected, "{checks:?}");
        if checks == QualityChecks::none() {
            assert!(FAMILIES.iter().all(|(family, _)| page.samples(family, &[]).next().is_none()), "{}", page.text);
            assert!(page.samples("llm_outputs_total", &[]).next().is_none());
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Found(Option<String>, String, Operation, &'static str, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn the_callback_gets_each_finding_and_nothing_else() {
    let findings = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&findings);
    let watched = Watched::with(
        move |builder| {
            builder.on_finding(move |finding| {
                let id = finding.request_id.map(str::to_owned);
                let found = Found(id, finding.model.to_owned(), finding.operation, finding.metric, finding.kind);
                list.lock().unwrap().push(found);
            })
        },
        |exporter| exporter,
    )
    .await;
    let server = watched.answer(|_, _| Script::stream(said("Sure!<|im_end|>", "stop"))).await;
    let mut client = Client::connect(server.addr).await;
    let mut request = post(server.addr, CHAT, json_asked());
    request.headers_mut().insert("x-request-id", http::HeaderValue::from_static("req-7"));
    client.send(request).await.finish().await.unwrap();
    let healthy = watched.exchange(CHAT, json_asked(), || Script::stream(said("{}", "stop")));
    healthy.await;
    watched.settled().await;
    let of = |metric, kind| Found(Some("req-7".to_owned()), MODEL.to_owned(), Operation::Chat, metric, kind);
    assert_eq!(
        *findings.lock().unwrap(),
        [of("llm_output_anomalies_total", "special_token_leak"), of("llm_structured_outputs_total", "invalid_json")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_embedder_affects_no_request() {
    let watched =
        Watched::with(|builder| builder.on_finding(|finding| panic!("of {}", finding.kind)), |exporter| exporter).await;
    let events = said("Sure!<|im_end|> again and again", "length");
    let sent = events.concat();
    let got = watched.exchange(CHAT, json_asked(), move || Script::stream(events.clone())).await;
    assert_eq!(got, sent.as_bytes(), "the answer is whole");
    let page = watched.settled().await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), 1.0);
    assert_eq!(
        counted(&page),
        ["output_anomalies/special_token_leak", "output_truncated/context_window", "structured_outputs/invalid_json"]
    );
}
