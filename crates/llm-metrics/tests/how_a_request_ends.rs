//! How a request ends: one test per case.

mod common;

use std::{convert::Infallible, time::Duration};

use common::*;
use http::Response;
use http_body_util::{BodyExt, Empty};
use llm_metrics::ErrorType;
use tower::{ServiceBuilder, ServiceExt, service_fn};

async fn ends_by_status(status: u16, outcome: &str, error: Option<&str>) {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), answer(status, "application/json", [Step::Data("{\"error\":{}}")]))
        .await
        .unwrap();
    recording
        .take()
        .assert_ended(outcome, error.map(|error| (error, status.to_string())).as_ref().map(|(e, s)| (*e, s.as_str())));
}

#[tokio::test]
async fn bad_requests_count_as_rejected() {
    for status in [400, 402, 405, 406, 409, 411, 413, 415, 422, 431] {
        ends_by_status(status, "rejected", Some("invalid_request")).await;
    }
}

#[tokio::test]
async fn missing_rights_are_unauthorized() {
    for status in [401, 403, 407] {
        ends_by_status(status, "rejected", Some("unauthorized")).await;
    }
}

#[tokio::test]
async fn unknown_things_are_not_found() {
    for status in [404, 410] {
        ends_by_status(status, "rejected", Some("not_found")).await;
    }
}

#[tokio::test]
async fn too_many_requests_are_rate_limited() {
    ends_by_status(429, "rejected", Some("rate_limited")).await;
}

#[tokio::test]
async fn time_out_statuses_are_errors() {
    for status in [408, 504, 524] {
        ends_by_status(status, "error", Some("timeout")).await;
    }
}

#[tokio::test]
async fn client_closed_request_is_cancelled() {
    ends_by_status(499, "cancelled", None).await;
}

#[tokio::test]
async fn overload_and_lost_upstreams_are_separate_errors() {
    for status in [503, 529] {
        ends_by_status(status, "error", Some("overloaded")).await;
    }
    ends_by_status(502, "error", Some("upstream_unavailable")).await;
}

#[tokio::test]
async fn any_other_server_error_is_internal() {
    for status in [500, 501, 507] {
        ends_by_status(status, "error", Some("internal")).await;
    }
}

#[tokio::test]
async fn an_unusual_status_is_counted_as_other() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), answer(597, "text/plain", [])).await.unwrap();
    recording.take().assert_ended("error", Some(("internal", "other")));
}

#[tokio::test]
async fn at_a_proxy_a_server_error_is_the_upstreams() {
    let recording = Recording::new();
    let service = ServiceBuilder::new()
        .layer(recording.metrics.layer().proxy())
        .service_fn(|_| async { Ok::<_, Infallible>(answer(500, "text/plain", [])) });
    service.oneshot(post(CHAT, ASK)).await.unwrap();
    recording.take().assert_ended("error", Some(("upstream_error", "500")));
}

#[tokio::test]
async fn an_error_of_the_inner_service_counts_like_a_server_error() {
    let recording = Recording::new();
    let service = ServiceBuilder::new()
        .layer(recording.metrics.layer())
        .service_fn(|_| async { Err::<Response<Empty<bytes::Bytes>>, _>(Broken) });
    service.oneshot(post(CHAT, ASK)).await.unwrap_err();
    recording.take().assert_ended("error", Some(("internal", "none")));
}

#[tokio::test]
async fn an_error_of_the_inner_service_has_the_type_that_the_hook_returns() {
    let recording = Recording::new();
    let layer = recording.metrics.layer().classify_error(|_: &Broken| ErrorType::Timeout);
    let service =
        ServiceBuilder::new().layer(layer).service_fn(|_| async { Err::<Response<Empty<bytes::Bytes>>, _>(Broken) });
    service.oneshot(post(CHAT, ASK)).await.unwrap_err();
    recording.take().assert_ended("error", Some(("timeout", "none")));
}

#[tokio::test]
async fn an_error_inside_a_stream_that_began_with_200_is_a_stream_error() {
    for error in [
        "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\"}}\n\n",
        "event: error\ndata: {\"message\":\"out of memory\"}\n\n",
        "data: engine went away\n\n",
    ] {
        let recording = Recording::new();
        exchange(&recording, post(CHAT, ASK), stream([Step::Data(HELLO), Step::Data(error), Step::Data(DONE)]))
            .await
            .unwrap();
        let recorded = recording.take();
        recorded.assert_ended("error", Some(("stream_error", "200")));
        assert_eq!(recorded.counter("llm_discarded_tokens_total", &[("reason", "stream_error")]), 1);
    }
}

#[tokio::test]
async fn a_null_error_is_not_an_error() {
    let recording = Recording::new();
    let hello = "data: {\"error\":null,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n";
    exchange(&recording, post(CHAT, ASK), stream([Step::Data(hello), Step::Data(DONE)])).await.unwrap();
    recording.take().assert_ended("success", None);
}

#[tokio::test]
async fn an_error_in_a_document_with_status_200_is_an_error() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, "{}"), json("{\"error\":{\"message\":\"no\"}}")).await.unwrap();
    recording.take().assert_ended("error", Some(("internal", "200")));
}

#[tokio::test]
async fn a_stream_that_ends_without_a_terminal_event_is_truncated() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), stream([Step::Data(ROLE), Step::Data(HELLO)])).await.unwrap();
    let recorded = recording.take();
    recorded.assert_ended("error", Some(("stream_truncated", "200")));
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[("finish_reason", "missing")]), 1);
}

#[tokio::test]
async fn a_stream_whose_body_fails_is_truncated() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), stream([Step::Data(HELLO), Step::Fail])).await.unwrap_err();
    recording.take().assert_ended("error", Some(("stream_truncated", "200")));
}

#[tokio::test]
async fn an_empty_stream_is_truncated() {
    for body in [Steps::new([]), Steps::new([]).exact()] {
        let recording = Recording::new();
        let response =
            Response::builder().header("content-type", "text/event-stream").body(body.boxed_unsync()).unwrap();
        exchange(&recording, post(CHAT, ASK), response).await.unwrap();
        recording.take().assert_ended("error", Some(("stream_truncated", "200")));
    }
}

#[tokio::test]
async fn the_outcome_of_an_answer_without_a_body_depends_on_its_status() {
    for (status, outcome, error) in [(204, "success", None), (404, "rejected", Some(("not_found", "404")))] {
        let recording = Recording::new();
        let response = Response::builder().status(status).body(Steps::new([]).exact().boxed_unsync()).unwrap();
        exchange(&recording, post(CHAT, ASK), response).await.unwrap();
        let recorded = recording.take();
        recorded.assert_ended(outcome, error);
        assert_eq!(recorded.counter("llm_metrics_bodies_skipped_total", &[]), 0, "there was nothing to skip");
    }
}

/// Reads `frames` frames of the answer, then disconnects.
async fn hang_up_after(frames: usize, answer: Answer) -> Recorded {
    let recording = Recording::new();
    let answer = std::sync::Mutex::new(Some(answer));
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request| {
        let answer = answer.lock().unwrap().take().unwrap();
        async move {
            read(request).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let mut body = service.oneshot(post(CHAT, ASK)).await.unwrap().into_body();
    for _ in 0..frames {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    recording.take()
}

#[tokio::test]
async fn a_drop_after_the_terminal_event_is_success() {
    let steps = [Step::Data(HELLO), Step::Data(STOP), Step::Data(DONE), Step::Pending];
    hang_up_after(2, stream(steps.clone())).await.assert_ended("success", None);
    hang_up_after(3, stream(steps)).await.assert_ended("success", None);
}

#[tokio::test]
async fn a_failure_after_the_terminal_event_is_success() {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), stream([Step::Data(HELLO), Step::Data(STOP), Step::Fail])).await.unwrap_err();
    recording.take().assert_ended("success", None);
}

#[tokio::test]
async fn a_body_that_ends_by_exact_length_is_complete() {
    let recording = Recording::new();
    let body = Steps::new([Step::Data(
        "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}",
    )])
    .exact();
    let response = Response::builder().header("content-type", "application/json").body(body.boxed_unsync()).unwrap();
    exchange(&recording, post(CHAT, "{}"), response).await.unwrap();
    recording.take().assert_ended("success", None);
}

#[tokio::test]
async fn a_body_dropped_before_its_terminal_event_is_cancelled() {
    let recorded = hang_up_after(2, stream([Step::Data(HELLO), Step::Data(WORLD), Step::Pending])).await;
    recorded.assert_ended("cancelled", None);
    assert_eq!(recorded.counter("llm_discarded_tokens_total", &[("reason", "client_disconnect")]), 2);
}

#[tokio::test]
async fn one_choice_finished_of_two_is_not_the_end() {
    let both = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}},{\"index\":1,\"delta\":{\"content\":\"b\"}}]}\n\n";
    let first = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    hang_up_after(2, stream([Step::Data(both), Step::Data(first), Step::Pending]))
        .await
        .assert_ended("cancelled", None);
}

#[tokio::test]
async fn a_response_whose_client_has_gone_is_cancelled() {
    let recording = Recording::new();
    let service = ServiceBuilder::new()
        .layer(recording.metrics.layer())
        .service(service_fn(|_| async { std::future::pending::<Result<Answer, Infallible>>().await }));
    let waited = tokio::time::timeout(Duration::from_millis(10), service.oneshot(post(CHAT, ASK))).await;
    assert!(waited.is_err());
    recording.take().assert_ended("cancelled", None);
}

#[tokio::test]
async fn a_handler_that_panics_is_an_internal_error() {
    let recording = Recording::new();
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service(service_fn(|_| async {
        if true {
            panic!("a handler that panics");
        }
        Ok::<Answer, Infallible>(stream([]))
    }));
    let joined = tokio::spawn(service.oneshot(post(CHAT, ASK))).await;
    assert!(joined.is_err_and(|error| error.is_panic()));
    recording.take().assert_ended("error", Some(("internal", "none")));
}

#[tokio::test]
async fn a_body_that_panics_is_an_internal_error() {
    let recording = Recording::new();
    let layer = recording.metrics.layer();
    let joined = tokio::spawn(async move {
        let service = ServiceBuilder::new()
            .layer(layer)
            .service_fn(|_| async { Ok::<_, Infallible>(stream([Step::Data(HELLO), Step::Panic])) });
        let body = service.oneshot(post(CHAT, ASK)).await.unwrap().into_body();
        let _ = body.collect().await;
    })
    .await;
    assert!(joined.is_err_and(|error| error.is_panic()));
    recording.take().assert_ended("error", Some(("internal", "200")));
}

#[tokio::test]
async fn a_panic_that_is_caught_outside_is_still_an_internal_error() {
    use std::{future::Future, panic::AssertUnwindSafe, pin::pin, task::Context};

    let recording = Recording::new();
    let handler = service_fn(|_| async {
        if true {
            panic!("a handler that panics");
        }
        Ok::<Answer, Infallible>(stream([]))
    });
    let mut future =
        pin!(ServiceBuilder::new().layer(recording.metrics.layer()).service(handler).oneshot(post(CHAT, ASK)));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx))).unwrap_err();
    recording.take().assert_ended("error", Some(("internal", "none")));

    let recording = Recording::new();
    let service = ServiceBuilder::new()
        .layer(recording.metrics.layer())
        .service_fn(|_| async { Ok::<_, Infallible>(stream([Step::Data(HELLO), Step::Panic])) });
    let mut body = service.oneshot(post(CHAT, ASK)).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    std::panic::catch_unwind(AssertUnwindSafe(|| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), &mut cx)))
        .unwrap_err();
    recording.take().assert_ended("error", Some(("internal", "200")));
}

#[tokio::test]
async fn a_body_of_known_length_is_complete_with_its_last_byte() {
    for content_type in ["application/octet-stream", "application/json"] {
        let mut response = answer(200, content_type, [Step::Data("12345"), Step::Data("67890"), Step::Pending]);
        response.headers_mut().insert("content-length", "10".parse().unwrap());
        hang_up_after(2, response).await.assert_ended("success", None);
        let mut response = answer(200, content_type, [Step::Data("12345"), Step::Data("67890"), Step::Pending]);
        response.headers_mut().insert("content-length", "10".parse().unwrap());
        hang_up_after(1, response).await.assert_ended("cancelled", None);
    }
}

#[tokio::test]
async fn a_redirect_is_not_an_answer() {
    ends_by_status(307, "rejected", Some("invalid_request")).await;
}

#[tokio::test]
async fn the_outcome_of_an_unread_body_depends_on_status_and_clean_end() {
    for (header, value, reason) in
        [("content-encoding", "gzip", "compressed"), ("content-type", "application/octet-stream", "content_type")]
    {
        for fails in [false, true] {
            let recording = Recording::new();
            let steps = if fails { vec![Step::Data("???"), Step::Fail] } else { vec![Step::Data("???")] };
            let mut response = stream(steps);
            response.headers_mut().insert(header, value.parse().unwrap());
            let _ = exchange(&recording, post(CHAT, ASK), response).await;
            let recorded = recording.take();
            if fails {
                recorded.assert_ended("error", Some(("internal", "200")));
            } else {
                recorded.assert_ended("success", None);
            }
            assert_eq!(recorded.counter("llm_metrics_bodies_skipped_total", &[("reason", reason)]), 1);
            assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", "missing")]), 1);
        }
    }
}
