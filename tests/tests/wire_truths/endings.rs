//! How requests end, with a client on the other side of a socket.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use llm_metrics::ErrorType;
use llm_metrics_tests::{Client, Gate, MODEL, MeasuredRequest, Script, Step, Watched, post, serve, stream::*};
use tower::{BoxError, ServiceBuilder, service_fn, timeout::TimeoutLayer};

use crate::{assert_ended, assert_error};

/// A stream of this many tokens that then waits forever.
fn endless(tokens: usize) -> Vec<Step> {
    let mut steps = vec![Step::from(role())];
    steps.extend((0..tokens).map(|n| Step::from(token(&format!("word{n} ")))));
    steps.push(Step::Hold(Gate::new()));
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_mid_stream_is_cancelled_and_its_tokens_are_discarded() {
    let watched = Watched::start().await;
    let server = watched.answer(|_, _| Script::stream(endless(3))).await;
    let mut client = Client::connect(server.addr).await;
    let mut answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
    answer.until("word2").await;
    let page = watched.scrape().await;
    assert_eq!(page.value("llm_requests_in_flight", &[("phase", "streaming"), ("operation", "chat")]), 1.0);
    assert_eq!(page.value("llm_requests_total", &[]), 0.0);

    client.hang_up();
    drop(answer);
    let page = watched.settled().await;
    assert_ended(&page, 1, "cancelled");
    assert_eq!(page.value("llm_discarded_tokens_total", &[("reason", "client_disconnect"), ("model", MODEL)]), 3.0);
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "estimated"), ("stream", "true")]), 1.0);
    assert_eq!(page.value("llm_request_errors_total", &[]), 0.0, "a client that disconnects is not an error");
    assert_eq!(page.value("llm_finish_reasons_total", &[]), 0.0);
    assert_eq!(page.count("llm_request_output_tokens", &[]), 0.0, "no length of an answer that was cut");
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_http2_stream_is_cancelled_and_leaves_its_neighbours_alone() {
    let watched = Watched::start().await;
    let gate = Gate::new();
    let server = {
        let gate = gate.clone();
        watched
            .answer(move |_, _| {
                let end = [token("and more"), finish("stop"), DONE.to_owned()].map(Step::from);
                Script::stream([Step::from(token("hello")), Step::Hold(gate.clone())].into_iter().chain(end))
            })
            .await
    };
    let mut client = Client::connect_http2(server.addr).await;
    let mut left = client.send(post(server.addr, CHAT, ask(MODEL))).await;
    let mut stays = client.send(post(server.addr, CHAT, ask(MODEL))).await;
    left.until("hello").await;
    stays.until("hello").await;
    drop(left);
    let page = watched.when(|page| page.value("llm_requests_total", &[("outcome", "cancelled")]) == 1.0).await;
    assert_eq!(page.value("llm_requests_in_flight", &[("phase", "streaming")]), 1.0);
    gate.open();
    assert!(stays.text().await.ends_with(DONE));
    let page = watched.settled().await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), 1.0);
    assert_eq!(page.value("llm_requests_total", &[]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_head_is_cancelled_and_was_never_streaming() {
    let watched = Watched::start().await;
    let arrived = Gate::new();
    let service = {
        let arrived = arrived.clone();
        service_fn(move |request: MeasuredRequest| {
            let arrived = arrived.clone();
            async move {
                request.into_body().collect().await?;
                arrived.open();
                std::future::pending::<Result<http::Response<Script>, BoxError>>().await
            }
        })
    };
    let server = serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await;
    let mut client = Client::connect(server.addr).await;
    let sent = tokio::spawn({
        let request = post(server.addr, CHAT, ask(MODEL));
        async move { client.try_send(request).await.map(drop) }
    });
    arrived.opened().await;
    let page = watched.when(|page| page.value("llm_requests_in_flight", &[("phase", "waiting")]) == 1.0).await;
    assert_eq!(page.value("llm_requests_in_flight", &[("phase", "streaming")]), 0.0);
    sent.abort();
    let page = watched.settled().await;
    assert_ended(&page, 1, "cancelled");
    assert_eq!(page.value("llm_usage_reports_total", &[]), 0.0, "a request that was not accepted reports no usage");
    assert_eq!(page.value("llm_requests_total", &[("stream", "true")]), 1.0, "as the request asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_event_after_200_is_a_stream_error_and_not_a_success() {
    let watched = Watched::start().await;
    let error = "data: {\"error\":{\"message\":\"CUDA out of memory\",\"type\":\"server_error\",\"code\":500}}\n\n";
    let answer = move || Script::stream([role(), token("I "), error.to_owned(), DONE.to_owned()]);
    watched.exchange(CHAT, ask(MODEL), answer).await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "error");
    assert_error(&page, "stream_error", "200");
    assert_eq!(page.value("llm_discarded_tokens_total", &[("reason", "stream_error")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_without_a_terminal_event_is_truncated() {
    let watched = Watched::start().await;
    watched.exchange(CHAT, ask(MODEL), || Script::stream([role(), token("I "), token("was")])).await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "error");
    assert_error(&page, "stream_truncated", "200");
    assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", "missing")]), 1.0);
    assert_eq!(page.value("llm_discarded_tokens_total", &[("reason", "stream_truncated")]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_off_mid_stream_is_truncated_and_the_client_sees_the_failure() {
    let watched = Watched::start().await;
    let steps = [Step::from(role()), Step::from(token("I ")), Step::Fail];
    let server = watched.answer(move |_, _| Script::stream(steps.clone())).await;
    let mut client = Client::connect(server.addr).await;
    let answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
    answer.finish().await.expect_err("the body fails for the client too");
    let page = watched.settled().await;
    assert_ended(&page, 1, "error");
    assert_error(&page, "stream_truncated", "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_after_done_has_a_complete_answer() {
    let watched = Watched::start().await;
    let steps: Vec<Step> = well(2).into_iter().map(Step::from).chain([Step::Hold(Gate::new())]).collect();
    let server = watched.answer(move |_, _| Script::stream(steps.clone())).await;
    let mut client = Client::connect(server.addr).await;
    let mut answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
    answer.until("[DONE]").await;
    client.hang_up();
    drop(answer);
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.value("llm_output_tokens_total", &[]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_at_the_token_limit_counts_as_length() {
    let watched = Watched::start().await;
    let ask = r#"{"model":"Qwen3-4B","stream":true,"max_tokens":2,"messages":[]}"#;
    let answer = || Script::stream([token("I "), token("was"), finish("length"), usage(9, 2), DONE.to_owned()]);
    watched.exchange(CHAT, ask, answer).await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", "length")]), 1.0);
    assert_eq!(page.value("llm_finish_reasons_total", &[]), 1.0);
    assert_eq!(
        (page.count("llm_request_max_tokens", &[]), page.histogram("llm_request_max_tokens", &[]).sum),
        (1.0, 2.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_inside_the_layer_is_an_error_of_that_kind() {
    let watched = Watched::start().await;
    let layer = watched.metrics.layer().classify_error(|error: &BoxError| {
        if error.is::<tower::timeout::error::Elapsed>() { ErrorType::Timeout } else { ErrorType::Internal }
    });
    let service = ServiceBuilder::new()
        .layer(layer)
        .layer(TimeoutLayer::new(Duration::from_millis(20)))
        .service(service_fn(|_: MeasuredRequest| std::future::pending::<Result<http::Response<Script>, BoxError>>()));
    let server = serve(service).await;
    let mut client = Client::connect(server.addr).await;
    assert!(client.try_send(post(server.addr, CHAT, ask(MODEL))).await.is_err());
    let page = watched.settled().await;
    assert_ended(&page, 1, "error");
    assert_error(&page, "timeout", "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_requests_that_end_in_different_ways() {
    let watched = Watched::start().await;
    let server = watched
        .answer(|parts, _| match parts.headers["x-case"].to_str().unwrap() {
            "stream" => Script::stream(well(3)),
            "whole" => Script::json(completion("Hi.", 9, 2)),
            "truncated" => Script::stream([token("Hi")]),
            status => {
                let mut response = Script::json(r#"{"error":{"message":"no"}}"#);
                *response.status_mut() = StatusCode::from_bytes(status.as_bytes()).unwrap();
                response
            }
        })
        .await;
    let mut client = Client::connect(server.addr).await;
    for case in ["stream", "429", "whole", "truncated", "stream", "503", "400", "stream"] {
        let mut request = post(server.addr, CHAT, ask(MODEL));
        request.headers_mut().insert("x-case", case.parse().unwrap());
        client.send(request).await.finish().await.unwrap();
    }
    let page = watched.settled().await;
    for (outcome, requests) in [("success", 4.0), ("rejected", 2.0), ("error", 2.0), ("cancelled", 0.0)] {
        assert_eq!(page.value("llm_requests_total", &[("outcome", outcome)]), requests, "{outcome}");
    }
    for (error, status) in
        [("rate_limited", "429"), ("overloaded", "503"), ("invalid_request", "400"), ("stream_truncated", "200")]
    {
        assert_eq!(
            page.value("llm_request_errors_total", &[("error_type", error), ("status", status)]),
            1.0,
            "{error}"
        );
    }
    assert_eq!(page.value("llm_requests_total", &[("stream", "false"), ("outcome", "success")]), 1.0);
    assert_eq!(page.value("llm_output_tokens_total", &[("model", MODEL)]), 3.0 * 3.0 + 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_completes_while_requests_are_open_and_a_handler_blocks_its_thread() {
    let watched = Watched::start().await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let entered = Gate::new();
    let server = {
        let entered = entered.clone();
        watched
            .answer(move |_, _| {
                entered.open();
                // An engine that computes on the async worker does this.
                let _ = tokio::task::block_in_place(|| held.lock().unwrap().recv());
                Script::stream(well(1))
            })
            .await
    };
    let mut client = Client::connect(server.addr).await;
    let request = post(server.addr, CHAT, ask(MODEL));
    let asked = tokio::spawn(async move { client.send(request).await.text().await });
    entered.opened().await;
    for _ in 0..20 {
        let page = watched.scrape().await;
        assert_eq!(page.value("llm_requests_in_flight", &[("phase", "waiting")]), 1.0);
    }
    release.send(()).unwrap();
    asked.await.unwrap();
    assert_ended(&watched.settled().await, 1, "success");
}
