//! Reasoning: in tags, in fields, and as reported.

use super::*;

#[test]
fn a_lone_closing_tag_turns_the_text_before_it_in_the_frame_into_reasoning() {
    let mut request = Request::streamed(ASKED);
    request
        .at(10, |frame| {
            says(frame, 0, "hm");
            says(frame, 0, "</think>");
        })
        .at(30, |frame| says(frame, 0, "Yes"));
    let recorded = request.end(End::Failed);
    recorded.assert_milliseconds(ANSWER, &[30.0]);
    recorded.assert_milliseconds("llm_reasoning_duration_seconds", &[20.0]);

    let mut request = Request::streamed(ASKED);
    request
        .at(10, |frame| {
            frame.text(0, TextKind::Answer, b"hm");
            says(frame, 0, "</think>");
        })
        .at(30, |frame| says(frame, 0, "Yes"));
    request.end(End::Failed).assert_milliseconds(ANSWER, &[30.0]);
}

#[test]
fn an_answer_may_mention_tags() {
    let answers = |first: Emit<'_>| {
        Request::streamed(ASKED)
            .each(&[first, &|frame| says(frame, 0, "Close it with"), &|frame| says(frame, 0, "`</think>`"), &stop])
            .end(End::Complete)
    };
    answers(&|frame| thinks(frame, "hm")).assert_milliseconds(ANSWER, &[20.0]);
    answers(&|frame| says(frame, 0, "<think>hm</think>")).assert_milliseconds(ANSWER, &[20.0]);
    let names_both = answers(&|frame| says(frame, 0, "Open it with `<think>`."));
    names_both.assert_milliseconds(ANSWER, &[10.0]);
    assert_eq!(names_both.counter("llm_requests_total", &[("thinking", "false")]), 1);
}

#[test]
fn only_the_first_choice_is_used_for_the_time_of_the_answer() {
    let recorded = Request::streamed(TWO).each(&[&|frame| says(frame, 1, "Yes"), &token]).end(End::Failed);
    recorded.assert_milliseconds(ANSWER, &[20.0]);
    let recorded = Request::streamed(TWO)
        .each(&[&|frame| says(frame, 0, "<think>hm"), &|frame| says(frame, 1, "Yes"), &|frame| {
            says(frame, 0, "</think>Yes");
        }])
        .end(End::Failed);
    recorded.assert_milliseconds(ANSWER, &[30.0]);
}

#[test]
fn blank_reasoning_is_not_reasoning() {
    let recorded = Request::streamed(ASKED).each(&[&|frame| thinks(frame, " \n"), &token, &stop]).end(End::Complete);
    assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "false")]), 1);
    let recorded = Request::streamed(ASKED).each(&[&|frame| thinks(frame, " \nhm"), &token, &stop]).end(End::Complete);
    assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "true")]), 1);
}

#[test]
fn tokens_that_only_the_handle_reported_are_output_without_reasoning() {
    let mut request = Request::new("/v1/chat/completions", r#"{"enable_thinking":true}"#, Role::Server, |b| b);
    request.tracker.head(200, Some(true), Some(Framing::Events));
    request.tracker.handle().tokens(1);
    assert_eq!(request.end(End::Failed).counter("llm_requests_total", &[("thinking", "false")]), 1);
}

#[test]
fn no_reasoning_and_no_output_are_not_counted() {
    for (asked, usage, thinking) in [
        (r#"{"model":"m"}"#, Usage::new().reasoning(0), "unknown"),
        (r#"{"enable_thinking":true}"#, Usage::new().output(0), "true"),
        (r#"{"enable_thinking":true}"#, Usage::new().output(1), "false"),
        (r#"{"enable_thinking":true}"#, Usage::new().output(1).reasoning(1), "true"),
    ] {
        let mut request = Request::new("/v1/chat/completions", asked, Role::Server, |builder| builder);
        request.tracker.head(200, Some(false), None);
        request.tracker.handle().usage(usage);
        let recorded = request.end(End::Complete);
        assert_eq!(recorded.counter("llm_requests_total", &[("thinking", thinking)]), 1, "{asked} {usage:?}");
    }
}
