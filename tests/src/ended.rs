//! Checks of a page for requests that have ended.

use crate::Page;

/// Asserts that this many requests were recorded, all with this outcome, and that none is in flight.
///
/// # Panics
/// If this is not the case.
#[track_caller]
pub fn assert_ended(page: &Page, requests: u32, outcome: &str) {
    assert_eq!(page.value("llm_requests_started_total", &[]), f64::from(requests), "requests that were started");
    let outcomes = page.samples("llm_requests_total", &[]).filter(|sample| sample.value > 0.0).collect::<Vec<_>>();
    assert_eq!(page.value("llm_requests_total", &[]), f64::from(requests), "{outcomes:?}");
    assert_eq!(page.value("llm_requests_total", &[("outcome", outcome)]), f64::from(requests), "{outcomes:?}");
    for phase in ["waiting", "streaming"] {
        assert_eq!(page.value("llm_requests_in_flight", &[("phase", phase)]), 0.0, "requests in flight, {phase}");
    }
    assert_eq!(page.count("llm_request_duration_seconds", &[("outcome", outcome)]), f64::from(requests));
}

/// Asserts that exactly one request failed, with this error type and status.
///
/// # Panics
/// If this is not the case.
#[track_caller]
pub fn assert_error(page: &Page, error_type: &str, status: &str) {
    let errors = page.samples("llm_request_errors_total", &[]).filter(|sample| sample.value > 0.0).collect::<Vec<_>>();
    assert_eq!(page.value("llm_request_errors_total", &[]), 1.0, "{errors:?}");
    let labels = [("error_type", error_type), ("status", status)];
    assert_eq!(page.value("llm_request_errors_total", &labels), 1.0, "{errors:?}");
}
