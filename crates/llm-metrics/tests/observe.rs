//! Requests that are passed to an observer as bytes, without tower.
#![cfg(feature = "test-util")]

use http::{Request, request::Parts};
use llm_metrics::{
    Endpoint, ErrorType, InferenceHandle, LlmMetrics, Outcome, catalog,
    observe::{ObservedRequest, ResponseHead},
    testing,
};

const EVENTS: ResponseHead<'_> = ResponseHead::new(200);
const TOKEN: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
const END: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

fn head(path: &str) -> Parts {
    Request::post(path).body(()).unwrap().into_parts().0
}

fn asked(metrics: &LlmMetrics) -> ObservedRequest {
    let request = metrics.observer().request(&head("/v1/chat/completions"));
    let mut body = request.body_reader();
    body.read(b"{\"model\":\"Qwen3");
    body.read(b"-4B\",\"stream\":true}");
    body.end();
    request
}

#[test]
fn it_ends_as_reported_and_is_cancelled_if_dropped() {
    type Case = (fn(ObservedRequest), Outcome, Option<ErrorType>);
    let cases: [Case; 8] = [
        (|request| drop(request), Outcome::Cancelled, None),
        (|request| request.fail(ErrorType::Timeout), Outcome::Error, Some(ErrorType::Timeout)),
        (|request| drop(request.response(EVENTS.content_type("text/event-stream"))), Outcome::Cancelled, None),
        (
            |request| {
                let mut response = request.response(EVENTS.content_type("text/event-stream"));
                response.read(TOKEN);
                response.end();
            },
            Outcome::Error,
            Some(ErrorType::StreamTruncated),
        ),
        (
            |request| {
                let mut response = request.response(EVENTS.content_type("text/event-stream"));
                response.read(TOKEN);
                response.read(END);
                assert!(response.is_open());
                response.end();
            },
            Outcome::Success,
            None,
        ),
        (
            |request| {
                let head = EVENTS.content_type("text/event-stream").content_length((TOKEN.len() + END.len()) as u64);
                let mut response = request.response(head);
                response.read(TOKEN);
                response.read(END);
                assert!(!response.is_open(), "the last byte of a known length is the end");
                response.read(TOKEN);
            },
            Outcome::Success,
            None,
        ),
        (
            |request| {
                let mut response = request.response(EVENTS.content_type("text/event-stream"));
                response.read(TOKEN);
                response.fail();
            },
            Outcome::Error,
            Some(ErrorType::StreamTruncated),
        ),
        (|request| request.response(ResponseHead::new(429)).end(), Outcome::Rejected, Some(ErrorType::RateLimited)),
    ];
    for (case, (end, outcome, error)) in cases.into_iter().enumerate() {
        let (metrics, _page) = testing::metrics();
        end(asked(&metrics));
        let ended = metrics.recent_requests(2);
        assert_eq!(ended.len(), 1, "case {case}");
        assert_eq!((ended[0].outcome, ended[0].error_type), (outcome, error), "case {case}");
    }
}

#[test]
fn the_model_is_that_of_the_body_and_reports_of_the_handle_are_used() {
    let (metrics, page) = testing::metrics();
    let request = asked(&metrics);
    request.handle().unwrap().tokens(7);
    let mut response = request.response(EVENTS.content_type("text/event-stream"));
    response.read(TOKEN);
    response.read(END);
    response.end();
    assert_eq!(page.value(&catalog::OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(7.0));
}

#[test]
fn a_request_that_is_already_measured_is_not_measured_again() {
    let (metrics, page) = testing::metrics();
    let mut head = head("/v1/chat/completions");
    let outer = metrics.observer().request(&head);
    head.extensions.insert::<InferenceHandle>(outer.handle().unwrap());
    let inner = metrics.observer().request(&head);
    assert!(outer.is_measured() && !inner.is_measured());
    inner.response(ResponseHead::new(200)).end();
    outer.response(ResponseHead::new(200).content_length(0)).end();
    assert_eq!(page.value(&catalog::REQUESTS, &[]), Some(1.0));
}

#[test]
fn unmeasured_requests_that_look_like_model_calls_are_counted_if_they_succeed() {
    let (metrics, page) = testing::metrics();
    let observer =
        metrics.observer().path("/my/chat/room", Endpoint::Other).path("/rooms/{room}/chat", Endpoint::Other);
    let pass = |path: &str, response: ResponseHead<'_>| observer.request(&head(path)).response(response).end();
    pass("/api/chat", ResponseHead::new(200));
    pass("/api/chat", ResponseHead::new(404));
    pass("/ask", ResponseHead::new(200).content_type("text/event-stream; charset=utf-8"));
    pass("/ask", ResponseHead::new(200).content_type("text/html"));
    pass("/rooms/7/chat", ResponseHead::new(200).content_type("text/event-stream"));
    drop(observer.request(&head("/api/chat")));
    assert_eq!(page.value(&catalog::REQUESTS_PASSED, &[("reason", "unknown_path")]), Some(1.0));
    assert_eq!(page.value(&catalog::REQUESTS_PASSED, &[("reason", "event_stream")]), Some(1.0));
    assert_eq!(page.value(&catalog::REQUESTS_STARTED, &[]), Some(0.0));
}

#[test]
fn a_request_that_ends_in_the_middle_is_malformed_and_one_that_was_not_read_to_its_end_is_not() {
    for (ended, malformed) in [(true, 1.0), (false, 0.0)] {
        let (metrics, page) = testing::metrics();
        let request = metrics.observer().request(&head("/v1/chat/completions"));
        let mut body = request.body_reader();
        body.read(b"{\"model\":\"Qwen3");
        if ended {
            body.end()
        } else {
            drop(body)
        }
        request.response(ResponseHead::new(200).content_length(0)).end();
        assert_eq!(page.value(&catalog::INSPECTION_FAILURES, &[("kind", "malformed")]), Some(malformed));
    }
}
