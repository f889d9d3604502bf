//! The time of the first token, in each protocol.

use std::time::Duration;

use llm_metrics_tests::{Histogram, Http, Page, Step};

use super::{cases, steps};
use crate::assert_ended;

const TTFT: &str = "llm_time_to_first_token_seconds";
const TTFAT: &str = "llm_time_to_first_answer_token_seconds";

/// Long enough to be distinguished from no wait at all.
const PAUSE: Duration = Duration::from_millis(300);

#[track_caller]
fn once(page: &Page, name: &str, how: &str) -> Histogram {
    let histogram = page.histogram(name, &[("model", "Qwen3-4B")]);
    assert_eq!(histogram.count, 1.0, "{how}: {name} has one sample");
    histogram
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_a_token_are_not_the_first_token() {
    for case in cases::all() {
        for silent in &case.silent {
            let mut steps = steps(&case.events);
            let first = case.bearing[0];
            steps.splice(first..first, [Step::from(silent.clone()), Step::Wait(PAUSE)]);
            let page = case.stream(Http::One, steps).await;
            case.assert_served(&page, true, silent);
            assert!(once(&page, TTFT, silent).sum >= 0.3, "{} {silent}", case.endpoint);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_any_token_has_no_time_to_one() {
    for case in cases::all() {
        let mut steps = steps(&case.without_tokens(&[]));
        steps.splice(0..0, case.silent.iter().cloned().map(Step::from));
        let page = case.stream(Http::One, steps).await;
        assert_ended(&page, 1, "success");
        for name in [TTFT, TTFAT, "llm_inter_token_latency_seconds", "llm_reasoning_duration_seconds"] {
            assert_eq!(page.count(name, &[]), 0.0, "{}: {name}", case.endpoint);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_is_a_first_token_but_not_an_answer() {
    for case in cases::all().into_iter().filter(|case| case.thinks) {
        let mut steps = steps(&case.events);
        steps.insert(case.bearing[0] + 1, Step::Wait(PAUSE));
        let page = case.stream(Http::One, steps).await;
        let how = case.endpoint;
        let (first, answer) = (once(&page, TTFT, how).sum, once(&page, TTFAT, how).sum);
        let reasoning = once(&page, "llm_reasoning_duration_seconds", how).sum;
        assert!(reasoning >= 0.29, "{how}: {reasoning}");
        assert!((answer - first - reasoning).abs() < 1e-6, "{how}: {first} + {reasoning} is {answer}");
        assert_eq!(page.value("llm_requests_total", &[("thinking", "true")]), 1.0, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_only_calls_a_tool_has_a_first_token() {
    for case in cases::all().into_iter().filter(|case| !case.call.is_empty()) {
        let events = case.without_tokens(case.call);
        let first = events.iter().position(|event| *event == case.events[case.call[0]]).expect("the call");
        let mut steps = steps(&events);
        steps.insert(first, Step::Wait(PAUSE));
        let page = case.stream(Http::One, steps).await;
        assert_ended(&page, 1, "success");
        for name in [TTFT, TTFAT] {
            assert!(once(&page, name, case.endpoint).sum >= 0.3, "{}: {name}", case.endpoint);
        }
        assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", case.finish)]), 1.0);
        assert_eq!(page.value("llm_tool_calls_total", &[("result", "valid")]), 1.0, "{}", case.endpoint);
    }
}
