//! Why an answer ended, in the words of each protocol, with and without streaming.

use llm_metrics_tests::{Client, Http, Page, Script, Watched, post};
use serde_json::{Value, json};

use super::{Case, cases, steps};
use crate::assert_ended;

fn case(endpoint: &str) -> Case {
    cases::all().into_iter().find(|case| case.endpoint == endpoint).expect("a case")
}

/// The pages for the answer with and without streaming, after `change` was applied to it.
async fn both(case: &Case, change: impl Fn(&str) -> String) -> [Page; 2] {
    let events: Vec<_> = case.events.iter().map(|event| change(event)).collect();
    let streamed = case.stream(Http::One, steps(&events)).await;
    let document = change(&case.document.to_string());
    let watched = Watched::start().await;
    let answer = move |_: &_, _: &_| Script::json(document.clone());
    let server = watched.answer_through(watched.metrics.layer().ollama(), answer).await;
    let mut client = Client::connect(server.addr).await;
    client.send(post(server.addr, case.endpoint, case.whole.to_string())).await.text().await;
    [streamed, watched.settled().await]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_to_stop_is_known_in_every_protocol() {
    let status =
        |status: &str, reason: &str| format!(r#""status":"{status}","incomplete_details":{{"reason":"{reason}"}}"#);
    for (endpoint, from, to, expected) in [
        ("/v1/messages", r#""stop_reason":"tool_use""#, r#""stop_reason":"end_turn""#, "stop"),
        ("/v1/messages", r#""stop_reason":"tool_use""#, r#""stop_reason":"stop_sequence""#, "stop"),
        ("/v1/messages", r#""stop_reason":"tool_use""#, r#""stop_reason":"max_tokens""#, "length"),
        ("/v1/messages", r#""stop_reason":"tool_use""#, r#""stop_reason":"model_context_window_exceeded""#, "length"),
        ("/v1/messages", r#""stop_reason":"tool_use""#, r#""stop_reason":"pause_turn""#, "pause"),
        ("/v1/messages", r#""stop_reason":"tool_use""#, r#""stop_reason":"refusal""#, "refusal"),
        ("/v1/messages", r#""stop_reason":"tool_use""#, r#""stop_reason":"of_tomorrow""#, "other"),
        ("/v1/responses", r#""status":"completed""#, &*status("incomplete", "max_output_tokens"), "length"),
        ("/v1/responses", r#""status":"completed""#, &status("incomplete", "content_filter"), "content_filter"),
        ("/v1/responses", r#""status":"completed""#, &status("incomplete", "of_tomorrow"), "other"),
        ("/api/chat", r#""done_reason":"stop""#, r#""done_reason":"length""#, "length"),
        ("/api/generate", r#""done_reason":"length""#, r#""done_reason":"stop""#, "stop"),
        ("/completion", r#""stop_type":"limit""#, r#""stop_type":"eos""#, "stop"),
        ("/completion", r#""stop_type":"limit""#, r#""stop_type":"word""#, "stop"),
    ] {
        let case = case(endpoint);
        let reason = |text: &str| text.replace(from, to);
        for page in both(&case, reason).await {
            assert_ended(&page, 1, "success");
            let how = format!("{endpoint} {to}");
            assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", expected)]), 1.0, "{how}");
            assert_eq!(page.value("llm_finish_reasons_total", &[]), 1.0, "{how}");
        }
    }
}

/// A proxy that repeats the usage, or sends it earlier than necessary.
#[tokio::test(flavor = "multi_thread")]
async fn usage_that_is_sent_twice_is_counted_once() {
    let usage = json!({"input_tokens": 25, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 7, "output_tokens": 6});
    let again = |text: &str| text.replace(r#""usage":{"output_tokens":6}"#, &format!(r#""usage":{usage}"#));
    let stops = |text: &str| {
        text.replace(r#"{"type":"message_stop"}"#, &format!(r#"{{"type":"message_stop","usage":{usage}}}"#))
    };
    for change in [&again as &dyn Fn(&str) -> String, &stops, &|text| stops(&again(text))] {
        let case = case("/v1/messages");
        let events: Vec<_> = case.events.iter().map(|event| change(event)).collect();
        assert_ne!(events, case.events);
        case.assert_served(&case.stream(Http::One, steps(&events)).await, true, "with usage again");
    }
    // The last event of a response, or the last line of Ollama, arrives twice.
    for endpoint in ["/v1/responses", "/api/chat", "/api/generate", "/completion"] {
        let case = case(endpoint);
        let mut events = case.events.clone();
        events.extend(case.events.last().cloned());
        case.assert_served(&case.stream(Http::One, steps(&events)).await, true, "with its end again");
    }
}

/// One event of each kind with a token, and their number.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_delta_of_a_response_has_a_token_and_its_repetition_has_none() {
    let case = case("/v1/responses");
    let event = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"));
    let delta = |kind: &str| event(json!({"type": format!("response.{kind}.delta"), "item_id": "i", "delta": "x"}));
    for kind in [
        "output_text",
        "reasoning_text",
        "reasoning_summary_text",
        "refusal",
        "function_call_arguments",
        "custom_tool_call_input",
    ] {
        let told = [delta(kind), delta(kind)];
        let silent = [
            event(
                json!({"type": format!("response.{kind}.done"), "text": "xx", "arguments": "xx", "refusal": "xx", "input": "xx"}),
            ),
            event(json!({"type": "response.content_part.done", "part": {"type": "output_text", "text": "xx"}})),
            event(
                json!({"type": "response.output_item.done", "item": {"type": "message", "content": [{"type": "output_text", "text": "xx"}]}}),
            ),
        ];
        // The stream is cut there, so only the layer has counted the tokens.
        let page = case.stream(Http::One, steps(&[&told[..], &silent].concat())).await;
        assert_ended(&page, 1, "error");
        let discarded = page.value("llm_discarded_tokens_total", &[("reason", "stream_truncated")]);
        assert_eq!(discarded, 2.0, "{kind}");
        assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 1.0, "{kind}");
        let answers = f64::from(u8::from(!kind.starts_with("reasoning")));
        assert_eq!(page.count("llm_time_to_first_answer_token_seconds", &[]), answers, "{kind}");
        assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_counted_in_every_protocol_that_has_one() {
    for (endpoint, content_type, answer) in [
        (
            "/v1/responses",
            "text/event-stream",
            "event: response.refusal.delta\ndata: {\"type\":\"response.refusal.delta\",\"delta\":\"No.\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n",
        ),
        (
            "/v1/responses",
            "application/json",
            "{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"No.\"}]}]}",
        ),
        (
            "/v1/messages",
            "text/event-stream",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"refusal\"},\"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        ("/v1/messages", "application/json", r#"{"type":"message","content":[],"stop_reason":"refusal"}"#),
    ] {
        let watched = Watched::start().await;
        let respond = move |_: &_, _: &_| Script::new([answer]).respond(content_type);
        let server = watched.answer_through(watched.metrics.layer(), respond).await;
        let request = r#"{"model":"Qwen3-4B","stream":true,"max_tokens":9}"#;
        Client::connect(server.addr).await.send(post(server.addr, endpoint, request)).await.text().await;
        let page = watched.settled().await;
        assert_ended(&page, 1, "success");
        assert_eq!(page.value("llm_refusals_total", &[("kind", "refusal_field")]), 1.0, "{endpoint} {content_type}");
        assert_eq!(
            page.value("llm_output_empty_total", &[]),
            0.0,
            "{endpoint} {content_type}: it is not an empty answer"
        );
    }
}

/// The settings for thinking and for the limit in a request, in the words of each protocol, count if there is no answer that shows them.
#[tokio::test(flavor = "multi_thread")]
async fn the_switch_for_thinking_and_the_limit_of_a_request_are_known_in_every_protocol() {
    for (endpoint, request, thinking, limit) in [
        (
            "/v1/messages",
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 50}),
            "true",
            50.0,
        ),
        ("/v1/messages", json!({"thinking": {"type": "adaptive"}, "max_tokens": 50}), "true", 50.0),
        ("/v1/messages", json!({"thinking": {"type": "disabled"}, "max_tokens": 50}), "false", 50.0),
        ("/v1/messages", json!({"max_tokens": 50}), "unknown", 50.0),
        (
            "/v1/responses",
            json!({"reasoning": {"effort": "high", "summary": "auto"}, "max_output_tokens": 60}),
            "true",
            60.0,
        ),
        ("/v1/responses", json!({"reasoning": {"effort": "none"}}), "false", 0.0),
        ("/v1/responses", json!({"reasoning": null, "max_output_tokens": null}), "unknown", 0.0),
        ("/api/chat", json!({"think": true, "options": {"num_predict": 70}}), "true", 70.0),
        ("/api/chat", json!({"think": "high"}), "true", 0.0),
        ("/api/generate", json!({"think": false, "options": {"num_predict": -1}}), "false", 0.0),
        ("/api/generate", json!({"prompt": "think"}), "unknown", 0.0),
        ("/api/chat", json!({"options": {"num_predict": 0}}), "unknown", 0.0),
        ("/completion", json!({"n_predict": 80}), "unknown", 80.0),
    ] {
        let how = format!("{endpoint} {request}");
        let mut request = request;
        request["model"] = "Qwen3-4B".into();
        // An answer that is cut before its first token.
        let watched = Watched::start().await;
        let content_type = case(endpoint).content_type;
        let answer = move |_: &_, _: &_| Script::new(["\n"]).respond(content_type);
        let server = watched.answer_through(watched.metrics.layer().ollama(), answer).await;
        Client::connect(server.addr).await.send(post(server.addr, endpoint, request.to_string())).await.text().await;
        let page = watched.settled().await;
        assert_eq!(page.value("llm_requests_total", &[("thinking", thinking), ("model", "Qwen3-4B")]), 1.0, "{how}");
        let asked = page.histogram("llm_request_max_tokens", &[]);
        assert_eq!((asked.count, asked.sum), (f64::from(u8::from(limit > 0.0)), limit), "{how}");
    }
}

/// Ollama omits counts: for a prompt that was completely cached, or if nothing was generated.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_ollama_leaves_out_is_absent_and_not_zero() {
    for endpoint in ["/api/chat", "/api/generate"] {
        let case = case(endpoint);
        let cached = |text: &str| {
            let changed = text.replace(&format!(",\"prompt_eval_count\":{}", case.input), "");
            changed.replace(&format!("\"prompt_eval_count\":{},", case.input), "")
        };
        assert_ne!(cached(&case.document.to_string()), case.document.to_string());
        for page in both(&case, cached).await {
            assert_ended(&page, 1, "success");
            assert_eq!(page.value("llm_input_tokens_total", &[]), 0.0, "{endpoint}");
            assert_eq!(page.count("llm_request_input_tokens", &[]), 0.0, "{endpoint}: no zero for what is not known");
            assert_eq!(page.value("llm_output_tokens_total", &[]), case.output as f64, "{endpoint}");
            assert_eq!(page.value("llm_usage_reports_total", &[("source", "upstream")]), 1.0, "{endpoint}");
        }
    }
}
