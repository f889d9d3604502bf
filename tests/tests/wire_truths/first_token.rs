//! The time to first token is measured at the first *token*, and the time to first answer token at the first token of the answer.

use std::time::Duration;

use llm_metrics_tests::{Histogram, MODEL, Page, Script, Step, Watched, stream::*};
use serde_json::json;

use crate::assert_ended;

const TTFT: &str = "llm_time_to_first_token_seconds";
const TTFAT: &str = "llm_time_to_first_answer_token_seconds";
const REASONING: &str = "llm_reasoning_duration_seconds";

/// Long enough to be distinguished from no wait at all.
const PAUSE: Duration = Duration::from_millis(300);

async fn page_of(steps: Vec<Step>) -> Page {
    let watched = Watched::start().await;
    watched.exchange(CHAT, ask(MODEL), move || Script::stream(steps.clone())).await;
    watched.settled().await
}

fn end() -> [Step; 2] {
    [Step::from(finish("stop")), Step::from(DONE)]
}

#[track_caller]
fn once(page: &Page, name: &str) -> Histogram {
    let histogram = page.histogram(name, &[("model", MODEL), ("operation", "chat")]);
    assert_eq!(histogram.count, 1.0, "{name} has one sample");
    histogram
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_empty_texts_comments_and_pings_are_not_the_first_token() {
    let preludes = [
        role(),
        chunk(&json!({"role": "assistant", "content": null}), None),
        chunk(&json!({"content": ""}), None),
        chunk(&json!({}), None),
        ": keep-alive\n\n".to_owned(),
        ":\n\n".to_owned(),
        "event: ping\ndata: {\"type\":\"ping\"}\n\n".to_owned(),
        event(&json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}})),
        event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": []}, "finish_reason": null}]})),
    ];
    for prelude in preludes {
        let steps = [Step::from(prelude.clone()), Step::Wait(PAUSE), Step::from(token("Hello"))];
        let page = page_of(steps.into_iter().chain(end()).collect()).await;
        assert_ended(&page, 1, "success");
        assert!(once(&page, TTFT).sum >= 0.3, "{prelude}");
        assert!(once(&page, TTFAT).sum >= 0.3, "{prelude}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_any_token_has_no_time_to_one() {
    let page = page_of([Step::from(role())].into_iter().chain(end()).collect()).await;
    assert_ended(&page, 1, "success");
    for name in [TTFT, TTFAT, REASONING, "llm_inter_token_latency_seconds", "llm_time_per_output_token_seconds"] {
        assert_eq!(page.count(name, &[]), 0.0, "{name}");
    }
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "missing")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_is_a_first_token_but_not_an_answer_whatever_the_key() {
    for key in ["reasoning_content", "reasoning"] {
        let thought = chunk(&json!({key: "Hm."}), None);
        let steps = [Step::from(thought), Step::Wait(PAUSE), Step::from(token("Yes."))];
        let page = page_of(steps.into_iter().chain(end()).collect()).await;
        let (first, answer, reasoning) = (once(&page, TTFT).sum, once(&page, TTFAT).sum, once(&page, REASONING).sum);
        assert!(reasoning >= 0.29 && answer >= 0.3 && first <= answer, "{key}: {first} {reasoning} {answer}");
        assert!((answer - first - reasoning).abs() < 1e-6, "{key}: {first} + {reasoning} is {answer}");
        assert_eq!(page.value("llm_requests_total", &[("thinking", "true")]), 1.0, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_think_block_inside_the_content_is_reasoning() {
    for block in [vec!["<think>", "\nHm.\n", "</think>"], vec!["<th", "ink>Hm.</", "think>\n\n"]] {
        let mut steps: Vec<Step> = block.iter().map(|text| Step::from(token(text))).collect();
        steps.extend([Step::Wait(PAUSE), Step::from(token("Yes."))]);
        let page = page_of(steps.into_iter().chain(end()).collect()).await;
        assert!(once(&page, TTFAT).sum >= 0.3);
        assert!(once(&page, REASONING).sum >= 0.29);
        assert_eq!(page.value("llm_requests_total", &[("thinking", "true")]), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_closing_tag_makes_reasoning_of_all_that_came_before() {
    let steps = [
        Step::from(token("Let me see.")),
        Step::from(token(" Hm.")),
        Step::Wait(PAUSE),
        Step::from(token("</think>")),
        Step::from(token("\n\nYes.")),
    ];
    let page = page_of(steps.into_iter().chain(end()).collect()).await;
    assert!(once(&page, TTFT).sum <= once(&page, TTFAT).sum);
    assert!(once(&page, TTFAT).sum >= 0.3, "the answer begins after the tag");
    assert!(once(&page, REASONING).sum >= 0.29);
    assert_eq!(page.value("llm_requests_total", &[("thinking", "true")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_think_block_is_not_thinking() {
    let steps = [Step::from(token("<think>\n\n</think>\n\n")), Step::Wait(PAUSE), Step::from(token("Yes."))];
    let page = page_of(steps.into_iter().chain(end()).collect()).await;
    assert_eq!(page.value("llm_requests_total", &[("thinking", "false")]), 1.0);
    assert!(once(&page, TTFAT).sum >= 0.3);
    assert_eq!(page.count(REASONING, &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_only_reasons_has_a_first_token_and_no_answer_token() {
    let page =
        page_of([Step::from(thought("Hm.")), Step::from(thought(" Hm."))].into_iter().chain(end()).collect()).await;
    assert_ended(&page, 1, "success");
    once(&page, TTFT);
    assert_eq!(page.count(TTFAT, &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_only_calls_a_tool_has_both() {
    let call =
        |function| json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]});
    let steps = [
        Step::from(role()),
        Step::Wait(PAUSE),
        Step::from(chunk(&call(json!({"name": "weather", "arguments": ""})), None)),
        Step::from(chunk(&call(json!({"arguments": "{\"error\":{\"usage\":1},\"done\":true}"})), None)),
        Step::from(finish("tool_calls")),
        Step::from(DONE),
    ];
    let page = page_of(steps.to_vec()).await;
    assert_ended(&page, 1, "success");
    assert!(once(&page, TTFT).sum >= 0.3);
    assert!(once(&page, TTFAT).sum >= 0.3);
    assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", "tool_calls")]), 1.0);
    assert_eq!(page.count("llm_inter_token_latency_seconds", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_one_piece_has_no_time_to_its_first_token() {
    let watched = Watched::start().await;
    watched.exchange(CHAT, ask_whole(MODEL), || Script::json(completion("Hi there.", 9, 3))).await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    for name in [TTFT, TTFAT, REASONING, "llm_inter_token_latency_seconds", "llm_time_per_output_token_seconds"] {
        assert_eq!(page.count(name, &[]), 0.0, "{name}");
    }
    assert_eq!(page.value("llm_requests_total", &[("stream", "false"), ("thinking", "false")]), 1.0);
    assert_eq!(page.histogram("llm_request_output_tokens", &[]).sum, 3.0);
}
