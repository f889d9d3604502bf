//! Every error of the Qwen server: the response to the client, and how it is counted.

use llm_metrics_tests::{
    qwen_server::{Ledger, QwenServer, Seen, TINY},
    stream::{CHAT, COMPLETIONS},
};
use serde_json::{Value, json};

fn chat() -> Value {
    json!({"model": TINY, "temperature": 0, "messages": [{"role": "user", "content": "hi"}]})
}

/// Generates until the context is full.
fn endless(stream: bool) -> Value {
    json!({"model": TINY, "stream": stream, "ignore_eos": true, "n": 8, "messages": [{"role": "user", "content": "hi"}]})
}

/// Asserts the shape of OpenAI's errors. Returns the message, the name of the field, and the code.
#[track_caller]
fn error(seen: &Seen) -> (String, Value, Value) {
    let error = seen.error.as_ref().unwrap_or_else(|| panic!("no error: {seen:?}"));
    let fields: Vec<_> = error.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(fields, ["code", "message", "param", "type"]);
    let kind = if seen.status < 500 && !seen.streamed { "invalid_request_error" } else { "server_error" };
    assert_eq!(error["type"], kind, "{seen:?}");
    let message = error["message"].as_str().expect("text");
    assert!(!message.is_empty());
    (message.to_owned(), error["param"].clone(), error["code"].clone())
}

#[tokio::test]
async fn a_malformed_body_is_a_400() {
    let server = QwenServer::start(&[]).await;
    let mut ledger = Ledger::default();
    let named = format!(r#"{{"model": "{TINY}", "messages": [{{"role": "#);
    for (model, body) in
        [("unknown", ""), ("unknown", "{nope"), ("unknown", "[1, 2]"), ("unknown", "\u{0}\u{1}"), (TINY, &*named)]
    {
        for path in [CHAT, COMPLETIONS] {
            let seen = server.ask_raw(path, body.to_owned()).await;
            assert_eq!((seen.status, error(&seen).1), (400, Value::Null), "{body}");
            ledger.refused(model, path, &Value::Null, "invalid_request", seen);
        }
    }
    ledger.check(&server.settled().await);
}

#[tokio::test]
async fn a_wrong_field_is_a_400_that_names_it() {
    let server = QwenServer::start(&[]).await;
    let mut ledger = Ledger::default();
    let cases = [
        ("temperature", json!("hot")),
        ("temperature", json!(3)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!("many")),
        ("stream", json!("yes")),
        ("n", json!(0)),
        ("n", json!(100_000)),
        ("stop", json!(7)),
        ("messages", json!("hi")),
        ("messages", json!([])),
        ("messages[0]", json!(null)),
        ("response_format", json!({"type": "yaml"})),
        ("tool_choice", json!("required")),
        ("logprobs", json!(true)),
        ("logit_bias", json!({"x": 1})),
        ("enable_thinking", json!("a bit")),
    ];
    for (field, wrong) in cases {
        let mut request = chat();
        match field {
            "messages[0]" => request["messages"] = json!([{"role": "wizard", "content": "hi"}]),
            field => request[field] = wrong,
        }
        let seen = server.ask(CHAT, &request).await;
        assert_eq!((seen.status, error(&seen).1), (400, json!(field)), "{request}");
        ledger.refused(TINY, CHAT, &request, "invalid_request", seen);
    }
    let seen = server.ask(COMPLETIONS, &json!({"model": TINY})).await;
    assert_eq!((seen.status, error(&seen).1), (400, json!("prompt")));
    ledger.refused(TINY, COMPLETIONS, &Value::Null, "invalid_request", seen);

    // The fields of the request are known, although it was not processed.
    let mut request = chat();
    (request["stream"], request["enable_thinking"], request["top_p"]) = (json!(true), json!(true), json!(2));
    let seen = server.ask(CHAT, &request).await;
    assert_eq!((seen.status, error(&seen).1), (400, json!("top_p")));
    ledger.refused(TINY, CHAT, &request, "invalid_request", seen);
    ledger.check(&server.settled().await);
}

#[tokio::test]
async fn an_unknown_model_is_a_404_and_no_new_series() {
    let server = QwenServer::start(&[]).await;
    let mut ledger = Ledger::default();
    let mut series = Vec::new();
    for name in ["gpt-5", "Qwen3-tiny ", "qwen3-tiny", "evil\"}\n{", &"x".repeat(100_000)] {
        let mut request = chat();
        request["model"] = json!(name);
        let seen = server.ask(CHAT, &request).await;
        assert_eq!((seen.status, error(&seen).1, error(&seen).2), (404, json!("model"), json!("model_not_found")));
        assert!(error(&seen).0.contains(TINY), "it says what there is: {seen:?}");
        ledger.refused("other", CHAT, &request, "not_found", seen);
        let page = server.settled().await;
        series.push(page.families().values().map(|family| family.samples.len()).sum::<usize>());
    }
    let page = server.settled().await;
    ledger.check(&page);
    assert!(series.windows(2).all(|pair| pair[0] == pair[1]), "{series:?}");
    assert!(!page.text.contains("gpt-5") && !page.text.contains("evil") && !page.text.contains("xxx"));
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_a_400_and_a_body_that_does_not_a_413() {
    let server = QwenServer::start(&["--body-limit", "64k"]).await;
    let mut ledger = Ledger::default();
    let long = "word ".repeat(5000);

    let request = json!({"model": TINY, "messages": [{"role": "user", "content": long}], "stream": true});
    let seen = server.ask(CHAT, &request).await;
    assert_eq!(
        (seen.status, error(&seen).1, error(&seen).2),
        (400, json!("messages"), json!("context_length_exceeded"))
    );
    ledger.refused(TINY, CHAT, &request, "invalid_request", seen);
    let request = json!({"model": TINY, "prompt": long});
    let seen = server.ask(COMPLETIONS, &request).await;
    assert_eq!((seen.status, error(&seen).1, error(&seen).2), (400, json!("prompt"), json!("context_length_exceeded")));
    ledger.refused(TINY, COMPLETIONS, &request, "invalid_request", seen);

    // The name of the model came before the limit was reached.
    let request = json!({"model": TINY, "prompt": long.repeat(4)});
    let seen = server.ask(COMPLETIONS, &request).await;
    assert_eq!((seen.status, error(&seen).1), (413, Value::Null));
    assert!(error(&seen).0.contains("65536"), "{seen:?}");
    ledger.refused(TINY, COMPLETIONS, &request, "invalid_request", seen);
    ledger.check(&server.settled().await);
}

#[tokio::test]
async fn requests_that_are_not_model_calls_are_not_counted() {
    let server = QwenServer::start(&[]).await;
    for (method, path, status) in [
        ("GET", CHAT, 405),
        ("PUT", COMPLETIONS, 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/nothing", 404),
        ("GET", "/health", 200),
        ("GET", "/ready", 200),
    ] {
        let answer = server.send(method, path).await;
        assert_eq!(answer.status, status, "{method} {path}");
        let json: Value = serde_json::from_str(&answer.text).expect("JSON");
        assert_eq!(json["error"].is_object(), status >= 400, "{json}");
    }
    Ledger::default().check(&server.settled().await);
}

#[tokio::test]
async fn a_full_server_rejects_at_once_with_retry_after() {
    let server = QwenServer::start(&["--max-seqs", "1", "--max-queue", "0"]).await;
    let request =
        json!({"model": TINY, "stream": true, "ignore_eos": true, "messages": [{"role": "user", "content": "hi"}]});
    let mut running = server.open(CHAT, &request).await;
    running.until_tokens(1).await;
    for _ in 0..2 {
        let seen = server.ask(CHAT, &chat()).await;
        assert_eq!((seen.status, error(&seen).2), (503, json!("overloaded")));
        assert_eq!(seen.headers["retry-after"], "1");
    }
    let page = server.scrape().await;
    let overloaded = [("model", TINY), ("error_type", "overloaded"), ("status", "503")];
    assert_eq!(page.value("llm_request_errors_total", &overloaded), 2.0);
    assert_eq!(
        page.value("llm_requests_total", &[("outcome", "error"), ("thinking", "unknown"), ("stream", "false")]),
        2.0
    );
    assert_eq!(page.value("llm_engine_requests_running", &[]), 1.0);
    assert_eq!(page.value("llm_requests_in_flight", &[]), 1.0);

    running.hang_up();
    server.settled().await;
    assert_eq!(server.ask(CHAT, &chat()).await.finish_reasons, ["stop"], "there is room again");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_504() {
    let server = QwenServer::start(&["--request-timeout", "2s"]).await;
    let seen = server.ask(CHAT, &endless(false)).await;
    assert_eq!((seen.status, error(&seen).2), (504, json!("timeout")));
    let page = server.settled().await;
    assert_eq!(page.value("llm_request_errors_total", &[]), 1.0);
    let labels = [("model", TINY), ("error_type", "timeout"), ("status", "504")];
    assert_eq!(page.value("llm_request_errors_total", &labels), 1.0);
    assert_eq!(page.value("llm_requests_total", &[("outcome", "error"), ("stream", "false")]), 1.0);
    let duration = page.histogram("llm_request_duration_seconds", &[("outcome", "error")]);
    assert!(duration.count == 1.0 && duration.sum >= 2.0 && duration.sum <= seen.took.as_secs_f64(), "{duration:?}");
    assert_eq!(page.count("llm_request_output_tokens", &[]), 0.0);
}

#[tokio::test]
async fn the_tokens_of_a_request_that_got_a_504_are_discarded() {
    let server = QwenServer::start(&["--request-timeout", "2s"]).await;
    let seen = server.ask(CHAT, &endless(false)).await;
    assert_eq!(seen.status, 504);
    let page = server.settled().await;
    let discarded = page.value("llm_discarded_tokens_total", &[("reason", "timeout")]);
    assert!(discarded > 0.0, "the engine worked for two seconds");
    assert_eq!(page.value("llm_output_tokens_total", &[]), discarded);
}

#[tokio::test]
async fn a_stream_that_takes_too_long_ends_with_an_error_in_it() {
    let server = QwenServer::start(&["--request-timeout", "2s"]).await;
    let seen = server.ask(CHAT, &endless(true)).await;
    assert_eq!((seen.status, seen.streamed, seen.whole, seen.done), (200, true, true, false));
    assert_eq!(error(&seen).2, json!("timeout"));
    assert!(seen.token_events > 0 && seen.finish_reasons.is_empty(), "{seen:?}");
    let page = server.settled().await;
    let labels = [("model", TINY), ("error_type", "timeout"), ("status", "200")];
    assert_eq!(page.value("llm_request_errors_total", &labels), 1.0);
    assert_eq!(page.value("llm_request_errors_total", &[]), 1.0);
    assert_eq!(
        page.value("llm_requests_total", &[("outcome", "error"), ("stream", "true"), ("thinking", "true")]),
        1.0
    );
    let discarded = page.value("llm_discarded_tokens_total", &[("reason", "timeout")]);
    assert!(discarded >= seen.token_events as f64, "{discarded} {}", seen.token_events);
    assert_eq!(page.value("llm_discarded_tokens_total", &[]), discarded);
    assert_eq!(page.value("llm_output_tokens_total", &[]), discarded);
    assert_eq!(page.value("llm_finish_reasons_total", &[]), 0.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 1.0);
    assert_eq!(page.count("llm_request_output_tokens", &[]), 0.0);
}
