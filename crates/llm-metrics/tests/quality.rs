//! The checks of outputs get the settings of the request and the text of the answer. The findings of each check are tested in its own module.

mod common;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use common::*;
use http::Request;
use http_body_util::{BodyExt, Full};
use llm_metrics::{Builder, FinishReason, InferenceHandle, Operation};
use metrics_util::debugging::DebugValue;
use tower::{ServiceBuilder, ServiceExt, service_fn};

const RESPONSES: &str = "/v1/responses";
const OLLAMA: &str = "/api/chat";

/// The metrics of a request with this body, in frames of this many bytes, and an answer of these steps.
async fn recorded(
    set_up: impl FnOnce(Builder) -> Builder,
    path: &str,
    ask: &str,
    size: usize,
    answer: Answer,
) -> Recorded {
    let recording = Recording::with(set_up);
    let frames: Vec<_> = ask.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(
        frames.into_iter().map(|frame| Ok::<_, Infallible>(http_body::Frame::data(frame))),
    ));
    let answer = Mutex::new(Some(answer));
    let service = ServiceBuilder::new().layer(recording.metrics.layer().ollama()).service_fn(|request| {
        let answer = answer.lock().unwrap().take().expect("one request");
        async move {
            read(request).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let response = service.oneshot(Request::post(path).body(body).unwrap()).await.unwrap();
    let _ = response.into_body().collect().await;
    recording.take()
}

/// An answer that the test composes.
fn made_up(content_type: &str, body: String) -> Answer {
    answer(200, content_type, [Step::Data(body.leak())])
}

fn events(data: &[&str]) -> Answer {
    made_up("text/event-stream", data.iter().map(|data| format!("data: {data}\n\n")).collect())
}

fn all(builder: Builder) -> Builder {
    builder
}

// Tools.

fn asking(tools: &str) -> String {
    format!(r#"{{"model":"m","stream":true,"tools":{tools},"messages":[]}}"#)
}

fn called(name: &str) -> Answer {
    let call = format!(
        r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":0,"function":{{"name":"{name}","arguments":"{{}}"}}}}]}}}}]}}"#
    );
    events(&[&call, r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#, "[DONE]"])
}

#[tokio::test]
async fn a_called_tool_is_compared_with_the_offered_tools() {
    let f = r#"{"type":"function","function":{"name":"f"}}"#;
    let long = |length: usize| format!("[{f},{{\"name\":\"{}\"}}]", "n".repeat(length));
    for (tools, name, result) in [
        (format!("[{f}]"), "f", "valid"),
        (format!("[{f}]"), "g", "unknown_tool"),
        (format!("[{f},{{\"name\":\"g\"}}]"), "g", "valid"),
        (format!("[{f},{{\"name\":\"h\"}}]"), "g", "unknown_tool"),
        // A tool without a name may have any name, and so may a tool whose name is too long.
        (format!("[{{\"type\":\"web_search\"}},{f}]"), "g", "valid"),
        (format!("[{f},\"web_search\"]"), "g", "valid"),
        (long(131), "g", "unknown_tool"),
        (long(132), "g", "valid"),
        (long(133), "g", "valid"),
        ("[]".to_owned(), "g", "valid"),
    ] {
        let ask = asking(&tools);
        for size in [ask.len(), 20] {
            let recorded = recorded(all, CHAT, &ask, size, called(name)).await;
            let counted = |labels: &[_]| recorded.counter("llm_tool_calls_total", labels);
            assert_eq!((counted(&[]), counted(&[("result", result)])), (1, 1), "{tools}: {name}, by {size}");
        }
    }
}

#[tokio::test]
async fn offered_tools_of_every_form_are_known() {
    for (tools, offered) in [(r#"["web_search"]"#, 1), ("[{}]", 1), ("[null]", 0), ("[]", 0)] {
        let recorded = recorded(all, CHAT, &asking(tools), 1000, stream([HELLO, STOP, DONE].map(Step::Data))).await;
        let counters = recorded.series().filter(|(name, ..)| *name == "llm_tool_calls_total").count();
        assert_eq!(counters > 0, offered > 0, "{tools}: they are there at 0 once there may be calls");
    }
}

#[tokio::test]
async fn tool_calls_of_a_response_are_checked_when_they_are_complete() {
    let added = |name: &str| {
        format!(r#"{{"type":"response.output_item.added","item":{{"type":"function_call","name":"{name}"}}}}"#)
    };
    let arguments = |text: &str| format!(r#"{{"type":"response.function_call_arguments.delta","delta":"{text}"}}"#);
    let done = r#"{"type":"response.function_call_arguments.done"}"#;
    let ask = r#"{"model":"m","stream":true,"tools":[{"type":"function","name":"f"}]}"#;
    // A name that may have been cut is not compared.
    let [known, cut] = [131, 132].map(|length| "n".repeat(length));
    for (name, text, result) in [
        ("f", "{}", "valid"),
        ("g", "{}", "unknown_tool"),
        ("f", "{]", "invalid_json"),
        (&*known, "{}", "unknown_tool"),
        (&*cut, "{}", "valid"),
    ] {
        // The stream breaks after the call, so only the end of the call can cause the check.
        let steps = events(&[&added(name), &arguments(text), done]);
        let body = steps.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap().leak();
        let recording = Recording::new();
        let answer = Mutex::new(Some(stream([Step::Data(body), Step::Pending])));
        let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request| {
            let answer = answer.lock().unwrap().take().expect("one request");
            async move {
                read(request).await;
                Ok::<_, Infallible>(answer)
            }
        });
        let mut body = service.oneshot(post(RESPONSES, ask)).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        let recorded = recording.take();
        let counted = |labels: &[_]| recorded.counter("llm_tool_calls_total", labels);
        assert_eq!((counted(&[]), counted(&[("result", result)])), (1, 1), "{name} {text}");
    }
}

// Output formats.

const JSON_ASKED: &str = r#"{"model":"m","stream":true,"response_format":{"type":"json_schema","json_schema":{"schema":{"required":["city"]}}}}"#;

fn said(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(r#"{{"choices":[{{"index":0,"delta":{{"content":{text}}}}}]}}"#)
}

const ENDED: [&str; 2] = [r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, "[DONE]"];

#[cfg(feature = "json-schema")]
#[tokio::test]
async fn an_answer_is_validated_against_its_schema_if_both_checks_are_on() {
    use llm_metrics::QualityChecks;
    let none = QualityChecks::none();
    for (checks, result) in [
        (none.structured_output(true).json_schema(true), Some("schema_mismatch")),
        (none.structured_output(true), Some("valid")),
        (none.json_schema(true), None),
        (none, None),
    ] {
        let set_up = |builder: Builder| builder.quality(checks);
        let answer = events(&[&said("{\"town\": 1}"), ENDED[0], ENDED[1]]);
        let recorded = recorded(set_up, CHAT, JSON_ASKED, 30, answer).await;
        let counted = recorded.counter("llm_structured_outputs_total", &[]);
        assert_eq!(counted, u64::from(result.is_some()), "{checks:?}");
        if let Some(result) = result {
            assert_eq!(recorded.counter("llm_structured_outputs_total", &[("result", result)]), 1, "{checks:?}");
        }
        assert_eq!(recorded.counter("llm_outputs_total", &[]), u64::from(result.is_some()), "{checks:?}");
    }
}

#[tokio::test]
async fn an_answer_that_was_not_read_completely_is_not_checked() {
    let deep = format!("{{\"x\":{}", "[".repeat(70_000));
    for (missed, judged) in
        [(r#"{"choices":[],"usage":{"prompt_tokens":99999999999}}"#, 1), (r#"{"choices" []}"#, 0), (&*deep, 0)]
    {
        let answer = events(&[&said("{\"city\""), missed, &said(": 1}"), ENDED[0], ENDED[1]]);
        let recorded = recorded(all, CHAT, JSON_ASKED, 1000, answer).await;
        assert_eq!(recorded.counter("llm_structured_outputs_total", &[("result", "valid")]), judged, "{missed:.30}");
        assert_eq!(recorded.counter("llm_structured_outputs_total", &[]), judged, "{missed:.30}");
    }
}

#[tokio::test]
async fn an_answer_without_an_output_is_empty_if_an_output_was_expected() {
    let no_choices = |recorded: &Recorded| recorded.counter("llm_output_empty_total", &[("kind", "no_choices")]);
    assert_eq!(no_choices(&recorded(all, CHAT, ASK, 1000, events(&["[DONE]"])).await), 1);
    assert_eq!(no_choices(&recorded(all, CHAT, ASK, 1000, events(&[r#"{"error":"x"}"#])).await), 0);
    let embedded = json(r#"{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#);
    let embedded = recorded(all, "/v1/embeddings", r#"{"model":"m","input":"a"}"#, 1000, embedded).await;
    embedded.assert_ended("success", None);
    assert_eq!(no_choices(&embedded), 0);
    let loaded = r#"{"model":"m","message":{"role":"assistant","content":""},"done_reason":"load","done":true}"#;
    let loaded =
        recorded(all, OLLAMA, r#"{"model":"m"}"#, 1000, made_up("application/x-ndjson", format!("{loaded}\n"))).await;
    assert_eq!(no_choices(&loaded), 0);
}

// Prompts that were cut.

fn input_truncated(recorded: &Recorded, evidence: &str) -> u64 {
    recorded.counter("llm_input_truncated_total", &[("evidence", evidence)])
}

#[tokio::test]
async fn a_prompt_of_ollama_is_suspected_if_too_few_tokens_are_counted() {
    let long = "word ".repeat(4000);
    let line = r#"{"model":"m","message":{"role":"assistant","content":"a"},"done":true,"done_reason":"stop","prompt_eval_count":100,"eval_count":1}"#;
    let of_openai = r#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":1}}"#;
    for (path, more, suspected) in [
        (OLLAMA, "", 1),
        (OLLAMA, r#","tools":[{"name":"f"}]"#, 1),
        (OLLAMA, r#","images":["AAAA"]"#, 0),
        (OLLAMA, r#","format":{"type":"object"}"#, 0),
        (CHAT, "", 0),
        (CHAT, r#","tools":[{"name":"f"}]"#, 0),
    ] {
        let ask = format!(r#"{{"model":"m","messages":[{{"content":"{long}"}}]{more}}}"#);
        for size in [ask.len(), 5000] {
            let answer =
                if path == CHAT { json(of_openai) } else { made_up("application/x-ndjson", format!("{line}\n")) };
            let recorded = recorded(all, path, &ask, size, answer).await;
            recorded.assert_ended("success", None);
            assert_eq!(input_truncated(&recorded, "suspected"), suspected, "{path} {more} by {size}");
        }
    }
}

/// The context has 4096 tokens. Ollama counts 2050 or 2051 tokens of a longer prompt, or 4096.
#[tokio::test]
async fn a_prompt_of_ollama_is_suspected_if_its_count_is_that_of_a_cut_prompt() {
    let (long, short) = ("lorem ipsum ".repeat(1500), "Hi.");
    let ask = |path: &str, text: &str, options: &str, more: &str| match path {
        "/api/generate" => format!(r#"{{"model":"m","prompt":"{text}","options":{options}{more}}}"#),
        _ => format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}],"options":{options}{more}}}"#),
    };
    let context = r#"{"num_ctx":4096,"temperature":0}"#;
    for path in [OLLAMA, "/api/generate"] {
        for (text, options, more, tokens, suspected) in [
            (&*long, context, "", "4096", 1),
            (&long, context, "", "4095", 1),
            (&long, context, "", "2050", 1),
            (&long, context, "", "2051", 1),
            (&long, r#"{"num_ctx":8192}"#, "", "4098", 1),
            (&long, r#"{"num_ctx":4096,"num_keep":104}"#, "", "2100", 1),
            // A prompt of any other length.
            (&long, context, "", "2049", 0),
            (&long, context, "", "3000", 0),
            (&long, context, "", "4094", 0),
            (&long, r#"{"num_ctx":8192}"#, "", "4096", 0),
            (&long, r#"{"num_ctx":8192}"#, "", "2050", 0),
            (&long, r#"{"num_ctx":4096,"num_keep":104}"#, "", "2050", 0),
            // The length of the context is not known.
            (&long, "{}", "", "4096", 0),
            (&long, r#"{"num_predict":4096}"#, "", "4096", 0),
            // So short a text fits, whatever its count is.
            (short, context, "", "2050", 0),
            (short, context, "", "4096", 0),
            // Images have other tokens, and a prompt from the cache has no count.
            (&long, context, r#","images":["AAAA"]"#, "2050", 0),
            (&long, context, "", "null", 0),
        ] {
            let part =
                if path == OLLAMA { r#""message":{"role":"assistant","content":"a"}"# } else { r#""response":"a""# };
            let line = format!(
                r#"{{"model":"m",{part},"done":true,"done_reason":"stop","prompt_eval_count":{tokens},"eval_count":1}}"#
            );
            let ask = ask(path, text, options, more);
            for size in [ask.len(), 777] {
                let recorded =
                    recorded(all, path, &ask, size, made_up("application/x-ndjson", format!("{line}\n"))).await;
                recorded.assert_ended("success", None);
                let how = format!("{path} {} {options} {more} {tokens} by {size}", text.len());
                assert_eq!(input_truncated(&recorded, "suspected"), suspected, "{how}");
                assert_eq!(input_truncated(&recorded, "reported"), 0, "{how}");
            }
        }
    }
}

#[tokio::test]
async fn a_cut_prompt_is_counted_if_the_answer_or_the_handler_reports_it() {
    for (truncated, counted) in [("true", 1), ("false", 0), ("null", 0)] {
        let document = format!(r#"{{"content":"a","stop":true,"stop_type":"eos","truncated":{truncated}}}"#);
        let answer = made_up("application/json", document);
        let recorded = recorded(all, "/completion", r#"{"prompt":"x"}"#, 1000, answer).await;
        assert_eq!(input_truncated(&recorded, "reported"), counted, "{truncated}");
    }
    let recording = Recording::new();
    let inference = recording.metrics.start(Operation::Chat, "m");
    inference.handle().input_truncated();
    inference.finish(FinishReason::Stop);
    assert_eq!(input_truncated(&recording.take(), "reported"), 1);
}

// The listener for findings.

/// The request id, metric and kind of each finding that the listener gets for a request.
async fn told(request: Request<Full<Bytes>>, id: Option<&'static str>, text: &str) -> Vec<(Option<String>, String)> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let recording = Recording::with(|builder| {
        builder.on_finding(move |finding| {
            listener.lock().unwrap().push((finding.request_id.map(str::to_owned), finding.kind.to_owned()));
        })
    });
    let text = said(text);
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service(service_fn(|request: Request<_>| {
        if let Some(id) = id {
            InferenceHandle::of(request.extensions()).request_id(id);
        }
        let answer = events(&[&text, ENDED[0], ENDED[1]]);
        async move {
            read(request).await;
            Ok::<_, Infallible>(answer)
        }
    }));
    let _ = service.oneshot(request).await.unwrap().into_body().collect().await;
    let told = told.lock().unwrap();
    told.clone()
}

#[tokio::test]
async fn a_finding_has_the_id_of_its_request_and_good_output_causes_none() {
    let request = || {
        let request = Request::post(CHAT).header("x-request-id", "by-the-head");
        request.body(Full::new(JSON_ASKED.into())).unwrap()
    };
    let invalid = |id: &str| vec![(Some(id.to_owned()), "invalid_json".to_owned())];
    assert_eq!(told(request(), None, "no").await, invalid("by-the-head"));
    assert_eq!(told(request(), Some("by-the-handle"), "no").await, invalid("by-the-handle"));
    assert_eq!(told(request(), None, "{\"city\": 1}").await, []);
    // Too long, and cut between characters.
    let long: &'static str = format!("x{}", "é".repeat(100)).leak();
    assert_eq!(told(request(), Some(long), "no").await, invalid(&long[..127]));
    let fits: &'static str = "y".repeat(128).leak();
    assert_eq!(told(request(), Some(fits), "no").await, invalid(fits));
}

// Without HTTP.

fn by_hand(work: impl FnOnce(&mut llm_metrics::Inference), reason: FinishReason) -> Recorded {
    let recording = Recording::new();
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    work(&mut inference);
    inference.finish(reason);
    recording.take()
}

#[test]
fn text_that_is_passed_by_hand_is_checked() {
    let json = |pieces: &'static [&str]| {
        by_hand(
            |inference| {
                inference.expects_json();
                inference.reasoning_text("{ hm");
                pieces.iter().for_each(|piece| inference.answer_text(piece));
            },
            FinishReason::Stop,
        )
    };
    for (pieces, result) in [
        (&["{\"city\": ", "\"Lima\"}"][..], "valid"),
        (&["{\"city\": ", "Lima}"], "invalid_json"),
        (&["no"], "invalid_json"),
    ] {
        let recorded = json(pieces);
        let counted = |labels: &[_]| recorded.counter("llm_structured_outputs_total", labels);
        assert_eq!((counted(&[]), counted(&[("result", result)])), (1, 1), "{pieces:?}");
        assert_eq!(recorded.counter("llm_output_empty_total", &[]), 0, "{pieces:?}");
    }
    let thoughts = by_hand(|inference| inference.reasoning_text("hm"), FinishReason::Stop);
    assert_eq!(thoughts.counter("llm_output_empty_total", &[("kind", "reasoning_only")]), 1);
    for (arguments, result) in [("{}", "valid"), ("{", "incomplete"), ("{]", "invalid_json")] {
        let recorded = by_hand(|inference| inference.tool_call("f", arguments), FinishReason::ToolCalls);
        assert_eq!(recorded.counter("llm_tool_calls_total", &[("result", result)]), 1, "{arguments}");
    }
}

#[test]
fn a_request_without_text_is_checked_by_its_end() {
    let cut = by_hand(|inference| inference.tokens(1), FinishReason::Length);
    assert_eq!(cut.counter("llm_output_truncated_total", &[("cause", "context_window")]), 1);
    assert_eq!(cut.counter("llm_outputs_total", &[]), 1);
    let refused = by_hand(|inference| inference.tokens(1), FinishReason::ContentFilter);
    assert_eq!(refused.counter("llm_refusals_total", &[]), 1);
}

// The series before there are findings.

#[test]
fn a_declared_model_has_all_counters_of_findings_at_zero() {
    let recording = Recording::with(|builder| builder.models(["m"]));
    recording.metrics.register();
    let recorded = recording.take();
    for metric in [
        "llm_structured_outputs_total",
        "llm_tool_calls_total",
        "llm_output_truncated_total",
        "llm_input_truncated_total",
        "llm_output_empty_total",
        "llm_output_repetition_total",
        "llm_refusals_total",
        "llm_output_anomalies_total",
    ] {
        let zeros = recorded.series().filter(|(name, _, value)| *name == metric && **value == DebugValue::Counter(0));
        assert!(zeros.count() > 0, "{metric}");
    }
}

#[tokio::test]
async fn metrics_of_a_requested_feature_are_zero_after_the_first_request_for_it() {
    let answer = || stream([HELLO, STOP, DONE].map(Step::Data));
    let forms = |recorded: &Recorded| {
        recorded
            .series()
            .filter(|(name, ..)| *name == "llm_structured_outputs_total")
            .filter(|(_, labels, _)| labels.iter().any(|(key, value)| key == "format" && value == "json_schema"))
            .count()
    };
    let cut = || stream([Step::Data(HELLO), Step::Fail]);
    assert_eq!(forms(&recorded(all, CHAT, ASK, 1000, answer()).await), 0);
    assert!(forms(&recorded(all, CHAT, JSON_ASKED, 1000, cut()).await) > 0);
}
