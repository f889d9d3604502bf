//! Names of models.

use super::*;

#[test]
fn names_are_learnt_from_requests_that_failed_without_the_callers_fault() {
    let named = |status: u16, end| {
        let mut request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
        request.tracker.head(status, None, None);
        request.end(end).counter("llm_requests_total", &[("model", "m")])
    };
    for status in [200, 500, 503, 504] {
        assert_eq!(named(status, End::Complete), 1, "{status}");
    }
    for status in [302, 400, 401, 404, 429, 499] {
        assert_eq!(named(status, End::Complete), 0, "{status}");
    }
    assert_eq!(named(200, End::Dropped { panicking: false }), 1);
    let without_head = |end| {
        let request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
        request.end(end).counter("llm_requests_total", &[("model", "m")])
    };
    assert_eq!(without_head(End::ServiceError(ErrorType::UpstreamUnavailable)), 1);
    assert_eq!(without_head(End::ServiceError(ErrorType::InvalidRequest)), 0);
    assert_eq!(without_head(End::Dropped { panicking: false }), 0);
}

#[test]
fn a_redirect_counts_no_usage() {
    let mut request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
    request.tracker.head(302, None, None);
    assert_eq!(request.end(End::Complete).counter("llm_usage_reports_total", &[]), 0);
}

#[test]
fn the_model_may_be_named_after_usage() {
    let mut request = Request::new("/v1/chat/completions", "{}", Role::Server, |builder| builder);
    request.tracker.head(200, Some(false), Some(Framing::Document));
    request.at(10, |frame| frame.usage(Usage::new().output(3), Finality::Final));
    request.at(20, |frame| {
        frame.model("late");
        frame.event_end();
    });
    assert_eq!(request.end(End::Complete).counter("llm_output_tokens_total", &[("model", "late")]), 3);
}
