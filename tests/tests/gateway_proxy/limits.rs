//! The limits for clients, a full upstream, and how the gateway stops.

use std::time::Duration;

use http::{Response, StatusCode};
use llm_metrics_tests::{
    Client, Gate, Script, Step,
    gateway::Running,
    post,
    stream::{CHAT, ask, well},
};

use crate::{raw::Wire, recording_upstream::RecordingUpstream};

#[tokio::test]
async fn a_head_that_is_too_large_is_rejected_and_a_late_one_times_out() {
    let upstream = RecordingUpstream::start(|_, _| Script::json("{}")).await;
    let config = format!(
        "[limits]\nheader_bytes = 8192\nheader_timeout = \"200ms\"\n[upstreams.up]\nurl = \"{}\"\nkind = \"openai\"",
        upstream.server.url("")
    );
    let gateway = Running::start(&config).await;
    let mut client = Wire::open(gateway.addr).await;
    client.write(format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}", "y".repeat(9000))).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 431 "));
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HT"] {
        let mut client = Wire::open(gateway.addr).await;
        client.write(beginning).await;
        client.rest().await;
    }
}

#[tokio::test]
async fn without_a_limit_a_head_and_the_model_in_a_body_may_come_late() {
    let upstream = RecordingUpstream::start(|_, _| Script::json("{}")).await;
    let config = format!(
        "[limits]\nheader_timeout = \"0\"\n[upstreams.up]\nurl = \"{}\"\nkind = \"openai\"\nmodels = [\"m\"]",
        upstream.server.url("")
    );
    let gateway = Running::start(&config).await;
    let mut client = Wire::open(gateway.addr).await;
    for piece in [
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n",
        "connection: close\r\ncontent-length: 13\r\n\r\n",
        "{\"model\":",
        "\"m\"}",
    ] {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.write(piece).await;
    }
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_until_another_is_closed() {
    let upstream = RecordingUpstream::start(|_, _| Script::json("{}")).await;
    let config =
        format!("[limits]\nconnections = 1\n[upstreams.up]\nurl = \"{}\"\nkind = \"openai\"", upstream.server.url(""));
    let gateway = Running::start(&config).await;
    let mut first = Client::connect(gateway.addr).await;
    first.send(post(gateway.addr, "/x", "")).await.text().await;
    let mut second = Client::connect(gateway.addr).await;
    let request = second.send(post(gateway.addr, "/x", ""));
    let mut request = std::pin::pin!(request);
    let early = tokio::time::timeout(Duration::from_millis(200), request.as_mut()).await;
    assert!(early.is_err(), "there is no place yet");
    assert_eq!(gateway.scrape().await.value("llm_gateway_connections", &[]), 1.0);
    first.hang_up();
    assert_eq!(request.await.status(), 200);
}

#[tokio::test]
async fn a_429_has_its_cause_and_the_remaining_quota_is_exported() {
    let upstream = RecordingUpstream::start(|parts, _| {
        let quota = parts.uri.path().contains("/v1/chat");
        let body = if quota {
            "{\"error\":{\"code\":\"rate_limit_exceeded\",\"type\":\"tokens\"}}"
        } else {
            "{\"error\":{\"type\":\"overloaded_error\"}}"
        };
        let mut answer: Response<Script> = Script::json(body);
        *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        let headers = answer.headers_mut();
        headers.insert("retry-after", "20".parse().unwrap());
        if quota {
            headers.insert("x-ratelimit-limit-requests", "200".parse().unwrap());
            headers.insert("x-ratelimit-remaining-requests", "50".parse().unwrap());
        }
        answer
    })
    .await;
    let gateway = Running::before(upstream.server.addr, "").await;
    let page = gateway.scrape().await;
    assert_eq!(page.series("llm_gateway_quota_remaining_ratio", &[]), 0, "nobody has said");
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, ask("m"))).await;
    assert_eq!((answer.status().as_u16(), answer.head.headers["retry-after"].as_bytes()), (429, &b"20"[..]));
    assert!(answer.text().await.contains("rate_limit_exceeded"));
    client.send(post(gateway.addr, "/other", "")).await.text().await;
    let page = gateway.when(|page| page.value("llm_gateway_throttled_total", &[]) == 2.0).await;
    for (kind, count) in [("quota", 1.0), ("overload", 1.0), ("unknown", 0.0)] {
        assert_eq!(page.value("llm_gateway_throttled_total", &[("upstream", "up"), ("kind", kind)]), count, "{kind}");
    }
    assert_eq!(page.value("llm_gateway_quota_remaining_ratio", &[("kind", "requests")]), 0.25);
    assert_eq!(page.series("llm_gateway_quota_remaining_ratio", &[]), 1, "of tokens nothing was said");
    assert_eq!(page.histogram("llm_gateway_retry_after_seconds", &[]).sum, 40.0);
    assert_eq!(page.value("llm_request_errors_total", &[("error_type", "rate_limited")]), 1.0);
}

#[tokio::test]
async fn a_stream_may_end_while_the_gateway_stops_and_new_requests_are_rejected() {
    let gate = Gate::new();
    let hold = gate.clone();
    let upstream = RecordingUpstream::start(move |_, _| {
        let events = well(2);
        let mut steps: Vec<Step> = events.iter().take(2).cloned().map(Step::from).collect();
        steps.push(Step::Hold(hold.clone()));
        steps.extend(events.into_iter().skip(2).map(Step::from));
        Script::stream(steps)
    })
    .await;
    let mut gateway = Running::before(upstream.server.addr, "").await;
    let addr = gateway.addr;
    let mut client = Client::connect(addr).await;
    let mut answer = client.send(post(addr, CHAT, ask("m"))).await;
    let begun = answer.until("word0").await;
    gateway.start_stopping();
    while gateway.get("/ready").await.0 != 503 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(gateway.get("/ready").await.1.contains("draining"));
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.open();
    assert_eq!(begun + &answer.text().await, well(2).concat());
    assert!(gateway.finished().await, "everything came to its end");
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_cut_after_the_drain_timeout() {
    let upstream =
        RecordingUpstream::start(|_, _| Script::stream([Step::from(well(1).concat()), Step::Hold(Gate::new())])).await;
    let config = format!("drain_timeout = \"200ms\"\n[upstreams.up]\nurl = \"{}\"", upstream.server.url(""));
    let gateway = Running::start(&config).await;
    let mut client = Client::connect(gateway.addr).await;
    let mut answer = client.send(post(gateway.addr, CHAT, ask("m"))).await;
    answer.until("word0").await;
    assert!(!gateway.stop().await, "and says so");
}
