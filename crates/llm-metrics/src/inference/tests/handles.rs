//! Values that the handle reports, also after the request has ended.

use super::{End, Request, Role};
use crate::{
    vocabulary::{ErrorType, Usage},
    wire::Framing,
};

const ASKED: &str = r#"{"model":"m"}"#;

#[test]
fn a_total_that_is_published_late_is_not_counted_again() {
    let request = Request::streamed(ASKED);
    let shared = request.tracker.shared();
    let series = shared.series(None, true);
    // Two threads may publish their totals in the opposite order.
    for total in [5, 3, 5, 6] {
        shared.publish(series, total);
    }
    assert_eq!(request.recorded().counter("llm_output_tokens_total", &[]), 6);
}

#[test]
fn implausible_counts_are_discarded() {
    let absurd = 1 << 31;
    for usage in [
        Usage::new().input(absurd),
        Usage::new().cached_input(absurd),
        Usage::new().output(absurd),
        Usage::new().reasoning(absurd),
        Usage::new().input(absurd).reasoning(absurd),
    ] {
        let request = Request::streamed(ASKED);
        request.tracker.handle().usage(usage);
        assert_eq!(request.tracker.shared().reports().engine.as_ref().map(|engine| engine.usage), Some(Usage::new()));
        let recorded = request.end(End::Failed);
        assert_eq!(recorded.counter("llm_metrics_inspection_failures_total", &[("protocol", "handle")]), 1);
    }
    let request = Request::streamed(r#"{"model":"m","max_tokens":1073741824}"#);
    let most = Usage::new().input(1 << 30).output(1 << 30);
    request.tracker.handle().usage(most);
    request.tracker.handle().tokens(1 << 30);
    let recorded = request.end(End::Failed);
    assert_eq!(recorded.counter("llm_input_tokens_total", &[]), 1 << 30);
    assert_eq!(recorded.samples("llm_request_max_tokens"), [f64::from(1 << 30)]);
    assert_eq!(recorded.counter("llm_metrics_inspection_failures_total", &[]), 0);
}

#[test]
fn tokens_are_counted_when_they_are_reported_and_zero_tokens_are_not_a_step() {
    let request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
    request.tracker.handle().tokens(2);
    assert_eq!(request.recorded().counter("llm_output_tokens_total", &[]), 2);
    request.tracker.handle().tokens(0);
    assert_eq!(request.tracker.shared().steps(), 1);
}

#[test]
fn a_request_for_zero_choices_has_one() {
    for (asked, choices) in [("{}", 1), (r#"{"n":0}"#, 1), (r#"{"n":3}"#, 3), (r#"{"n":99999}"#, u16::MAX)] {
        let request = Request::streamed(asked);
        assert_eq!(request.tracker.shared().reports().params.choices, Some(choices), "{asked}");
    }
}

#[test]
fn nobody_listens_after_the_end() {
    let mut request = Request::streamed(ASKED);
    let handle = request.tracker.handle();
    handle.tokens(2);
    request.tracker.settle(End::Failed);
    request.recorded();
    handle.tokens(1 << 31);
    handle.tokens(3);
    handle.usage(Usage::new().input(1 << 31));
    handle.usage(Usage::new().input(9));
    handle.decode_time(std::time::Duration::MAX);
    handle.queue_time(std::time::Duration::from_secs(1));
    handle.error(ErrorType::Internal);
    assert!(request.tracker.shared().reports().engine.is_none(), "nothing is stored");
    request.tracker.settle(End::Failed);
    assert!(request.recorded().nonzero().is_empty());
}

#[test]
fn the_first_model_that_a_handle_sets_is_kept() {
    let mut request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
    request.tracker.handle().model("by-the-handle");
    request.tracker.head(200, Some(true), Some(Framing::Events));
    request.tracker.handle().model("too-late");
    assert_eq!(request.end(End::Failed).counter("llm_requests_total", &[("model", "by-the-handle")]), 1);
}
