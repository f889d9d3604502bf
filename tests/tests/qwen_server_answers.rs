//! The answers of the Qwen server, and the resulting values on its `/metrics`.

use llm_metrics_tests::{
    qwen_server::{Ledger, QwenServer, Seen, TINY},
    stream::{CHAT, COMPLETIONS},
};
use serde_json::{Value, json};

const THOUGHT: &str = "Okay this seems simple enough";
const ANSWER: &str = "\n\nMeasure at the edge where users wait.";

/// A chat with a known answer, and `more` fields.
fn chat(more: &Value) -> Value {
    with(json!({"model": TINY, "temperature": 0, "messages": [{"role": "user", "content": "Where to measure?"}]}), more)
}

/// A completion with a known answer, and `more` fields.
fn completion(more: &Value) -> Value {
    with(json!({"model": TINY, "temperature": 0, "prompt": "Measure at"}), more)
}

fn with(mut request: Value, more: &Value) -> Value {
    let fields = more.as_object().expect("fields").clone();
    request.as_object_mut().expect("an object").extend(fields);
    request
}

#[tokio::test]
async fn chat_and_completion_streamed_and_not_are_counted_as_the_client_saw_them() {
    let server = QwenServer::start(&[]).await;
    let mut ledger = Ledger::default();
    for (path, request) in [(CHAT, chat(&json!({}))), (COMPLETIONS, completion(&json!({})))] {
        let whole = server.ask(path, &request).await;
        let usage = whole.reported_usage();

        let streamed = with(request.clone(), &json!({"stream": true}));
        let without_usage = server.ask(path, &streamed).await;
        assert_eq!(without_usage.usage, None);

        let streamed_with_usage = with(streamed.clone(), &json!({"stream_options": {"include_usage": true}}));
        let with_usage = server.ask(path, &streamed_with_usage).await;
        assert_eq!(with_usage.reported_usage(), usage);
        for seen in [&without_usage, &with_usage] {
            assert_eq!((&seen.text, &seen.reasoning), (&whole.text, &whole.reasoning));
            assert_eq!(seen.finish_reasons, whole.finish_reasons);
        }

        ledger.answered(path, &request, whole);
        ledger.answered_without_usage(path, &streamed, without_usage, usage);
        ledger.answered(path, &streamed_with_usage, with_usage);
    }
    ledger.check(&server.settled().await);
}

#[tokio::test]
async fn thinking_shows_in_the_label_the_reasoning_tokens_and_the_time_to_the_answer() {
    let server = QwenServer::start(&[]).await;
    let mut ledger = Ledger::default();
    let usage = json!({"include_usage": true});

    let request = chat(&json!({"stream": true, "stream_options": usage, "enable_thinking": true}));
    let thought = server.ask(CHAT, &request).await;
    assert_eq!((thought.reasoning.as_str(), thought.answer()), (THOUGHT, ANSWER));
    assert_eq!(thought.reported_usage().reasoning, 5, "a word is a token");
    ledger.answered(CHAT, &request, thought);
    let page = server.settled().await;
    ledger.check(&page);
    let sum = |name: &str| page.histogram(name, &[]).sum;
    let (first, answer) = (sum("llm_time_to_first_token_seconds"), sum("llm_time_to_first_answer_token_seconds"));
    assert!(answer > first, "the thought comes before the answer: {first} {answer}");
    assert!((answer - first - sum("llm_reasoning_duration_seconds")).abs() < 1e-6);

    let request = chat(&json!({"stream": true, "stream_options": usage, "enable_thinking": false}));
    let direct = server.ask(CHAT, &request).await;
    assert_eq!((direct.reasoning.as_str(), direct.answer().trim()), ("", ANSWER.trim()));
    assert_eq!(direct.reported_usage().reasoning, 0);
    ledger.answered(CHAT, &request, direct);

    let request = chat(&json!({"chat_template_kwargs": {"enable_thinking": false}}));
    let direct = server.ask(CHAT, &request).await;
    assert_eq!(direct.reported_usage().reasoning, 0);
    ledger.answered(CHAT, &request, direct);

    let page = server.settled().await;
    ledger.check(&page);
    assert_eq!(page.value("llm_requests_total", &[("thinking", "true"), ("outcome", "success")]), 1.0);
    assert_eq!(page.value("llm_requests_total", &[("thinking", "false"), ("outcome", "success")]), 2.0);
}

#[tokio::test]
async fn the_time_per_token_of_a_stream_is_between_its_gaps_and_its_duration() {
    let server = QwenServer::start(&[]).await;
    let request = chat(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let seen = server.ask(CHAT, &request).await;
    let page = server.settled().await;
    let gaps = page.histogram("llm_inter_token_latency_seconds", &[]);
    let each = page.histogram("llm_time_per_output_token_seconds", &[]).sum;
    let tokens = seen.reported_usage().output as f64;
    let decode = each * (tokens - 1.0);
    // The end token has no text and so no gap, but takes time.
    assert!(gaps.sum <= decode + 1e-6, "{gaps:?} {each} {tokens}");
    assert!(page.histogram("llm_stream_max_gap_seconds", &[]).sum <= gaps.sum);
    assert!(seen.took.as_secs_f64() >= page.histogram("llm_time_to_first_token_seconds", &[]).sum + decode);
}

#[tokio::test]
async fn two_choices_are_two_finish_reasons_and_one_request() {
    let server = QwenServer::start(&[]).await;
    let mut ledger = Ledger::default();
    for (path, request) in [
        (CHAT, chat(&json!({"n": 2}))),
        (CHAT, chat(&json!({"n": 2, "temperature": 1, "stream": true, "stream_options": {"include_usage": true}}))),
        (COMPLETIONS, completion(&json!({"n": 2, "max_tokens": 4}))),
    ] {
        let seen = server.ask(path, &request).await;
        assert_eq!(seen.text.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert!(seen.text.values().all(|text| !text.is_empty()), "{seen:?}");
        ledger.answered(path, &request, seen);
    }
    let page = server.settled().await;
    ledger.check(&page);
    assert_eq!(page.value("llm_requests_total", &[]), 3.0);
    assert_eq!(page.value("llm_finish_reasons_total", &[]), 6.0);
}

#[tokio::test]
async fn stop_sequences_and_token_limits_give_their_finish_reasons() {
    let server = QwenServer::start(&[]).await;
    let mut ledger = Ledger::default();
    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    for streamed in [json!({}), usage] {
        let request = with(chat(&json!({"stop": [" users", "never"]})), &streamed);
        let stopped = server.ask(CHAT, &request).await;
        assert_eq!(
            (stopped.answer(), stopped.finish_reasons.as_slice()),
            ("\n\nMeasure at the edge where", &["stop".into()][..])
        );
        ledger.answered(CHAT, &request, stopped);

        let request = with(chat(&json!({"max_tokens": 5, "enable_thinking": false})), &streamed);
        let cut = server.ask(CHAT, &request).await;
        assert_eq!(
            (cut.answer(), cut.finish_reasons.as_slice()),
            ("Measure at the edge where", &["length".into()][..])
        );
        assert_eq!(cut.reported_usage().output, 5);
        ledger.answered(CHAT, &request, cut);

        let request = with(completion(&json!({"max_tokens": 2})), &streamed);
        let cut = server.ask(COMPLETIONS, &request).await;
        assert_eq!((cut.answer(), cut.finish_reasons.as_slice()), (" the edge", &["length".into()][..]));
        assert_eq!(cut.reported_usage().output, 2);
        ledger.answered(COMPLETIONS, &request, cut);

        let request = with(completion(&json!({"max_tokens": 1})), &streamed);
        let one = server.ask(COMPLETIONS, &request).await;
        assert_eq!(one.token_events, 1, "one token has no time per token and no gap");
        ledger.answered(COMPLETIONS, &request, one);
    }
    ledger.check(&server.settled().await);
}

#[tokio::test]
async fn a_forced_tool_call_is_an_answer() {
    let server = QwenServer::start(&[]).await;
    let mut ledger = Ledger::default();
    let parameters = json!({"type": "object", "properties": {"day": {"type": "integer", "minimum": 10, "maximum": 99}},
        "required": ["day"], "additionalProperties": false});
    let tool = json!({"type": "function", "function": {"name": "forecast", "parameters": parameters}});
    for streamed in [json!({}), json!({"stream": true, "stream_options": {"include_usage": true}})] {
        // With greedy decoding, the tiny model would put blank lines between the tokens of its JSON forever.
        let request = with(chat(&json!({"tools": [tool], "tool_choice": "required", "temperature": 1})), &streamed);
        let seen = server.ask(CHAT, &request).await;
        assert!(seen.tool_calls.starts_with("forecast{"), "{seen:?}");
        assert_eq!(seen.finish_reasons, ["tool_calls"]);
        ledger.answered(CHAT, &request, seen);
    }
    ledger.check(&server.settled().await);
}

#[tokio::test]
async fn sixteen_at_once_are_all_answered_and_all_counted() {
    let server = QwenServer::start(&[]).await;
    let requests: Vec<(&str, Value)> = (0..16u64)
        .map(|number| {
            let mut more = json!({"temperature": 1, "max_tokens": 5 + number, "stream": number % 2 == 0});
            if number % 2 == 0 {
                more["stream_options"] = json!({"include_usage": true});
            }
            match number % 4 {
                0 | 1 => (CHAT, chat(&with(more, &json!({"enable_thinking": number % 8 < 4})))),
                _ => (COMPLETIONS, completion(&more)),
            }
        })
        .collect();
    let mut answers: Vec<Option<Seen>> = Vec::new();
    answers.resize_with(requests.len(), || None);
    let server = std::sync::Arc::new(server);
    let mut running = tokio::task::JoinSet::new();
    for (number, (path, request)) in requests.clone().into_iter().enumerate() {
        let server = std::sync::Arc::clone(&server);
        running.spawn(async move { (number, server.ask(path, &request).await) });
    }
    while let Some(answer) = running.join_next().await {
        let (number, seen) = answer.expect("an answer");
        answers[number] = Some(seen);
    }
    let mut ledger = Ledger::default();
    for ((path, request), seen) in requests.iter().zip(answers) {
        ledger.answered(path, request, seen.expect("an answer"));
    }
    ledger.check(&server.settled().await);
}
