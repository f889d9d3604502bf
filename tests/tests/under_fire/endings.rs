//! Every ending is recorded in the same way over HTTP/1.1 and HTTP/2, alone and with other streams on the connection.

use http::HeaderMap;
use llm_metrics_tests::{
    Client, Gate, Http, MODEL, Script, Step, Watched, assert_ended, assert_error, post, stream::*,
};

use crate::{ended, short, short_and};

fn grpc_like(status: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", "as the server says".parse().unwrap());
    trailers
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_read_to_its_end_ends_alike_over_both_versions() {
    let error = "data: {\"error\":{\"message\":\"no\"}}\n\n".to_owned();
    let cut = vec![token("Hi")];
    for (events, outcome, error_type) in [
        (short(), "success", None),
        (vec![error], "error", Some("stream_error")),
        (cut, "error", Some("stream_truncated")),
    ] {
        for http in Http::BOTH {
            let watched = Watched::start().await;
            let server = {
                let events = events.clone();
                watched.answer(move |_, _| Script::stream(events.clone())).await
            };
            let mut client = Client::open(http, server.addr).await;
            let text = client.send(post(server.addr, CHAT, ask(MODEL))).await.text().await;
            assert_eq!(text, events.concat());
            let page = watched.settled().await;
            assert_ended(&page, 1, outcome);
            if let Some(error_type) = error_type {
                assert_error(&page, error_type, "200");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_alike_over_both_versions() {
    for http in Http::BOTH {
        for (steps, outcome) in [
            (vec![Step::from(token("Hi")), Step::Hold(Gate::new())], "cancelled"),
            (short_and(Step::Hold(Gate::new())), "success"),
        ] {
            let watched = Watched::start().await;
            let last = if outcome == "success" { "[DONE]" } else { "Hi" };
            let server = watched.answer(move |_, _| Script::stream(steps.clone())).await;
            let mut client = Client::open(http, server.addr).await;
            let mut answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
            answer.until(last).await;
            // Over HTTP/2 the connection stays open: the server gets a reset of the stream.
            drop(answer);
            if http == Http::One {
                client.hang_up();
            }
            let page = watched.settled().await;
            assert_ended(&page, 1, outcome);
            let discarded = page.value("llm_discarded_tokens_total", &[("reason", "client_disconnect")]);
            assert_eq!(discarded, if outcome == "cancelled" { 1.0 } else { 0.0 }, "{http:?}, {outcome}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_end_an_answer_and_decide_nothing() {
    let cut = || vec![token("Hi")];
    let encoded = || vec!["\u{1b}\u{e} and so on".to_owned()];
    for http in Http::BOTH {
        // An encoded body is not read. It is complete if its transport reports that.
        for (status, events, encoding, outcome) in [
            ("0", short(), "identity", "success"),
            ("13", cut(), "identity", "error"),
            ("0", encoded(), "br", "success"),
        ] {
            let watched = Watched::start().await;
            let server = {
                let events = events.clone();
                watched
                    .answer(move |_, _| {
                        let steps = events.clone().into_iter().map(Step::from);
                        let mut response = Script::stream(steps.chain([Step::Trailers(grpc_like(status))]));
                        response.headers_mut().insert("trailer", "grpc-status, grpc-message".parse().unwrap());
                        response.headers_mut().insert("content-encoding", encoding.parse().unwrap());
                        response
                    })
                    .await
            };
            let mut request = post(server.addr, CHAT, ask(MODEL));
            request.headers_mut().insert("te", "trailers".parse().unwrap());
            let mut client = Client::open(http, server.addr).await;
            let answer = client.send(request).await;
            let (bytes, trailers) = answer.finish().await.unwrap();
            assert_eq!(bytes, events.concat());
            assert_eq!(trailers, Some(grpc_like(status)), "{http:?}");
            let page = watched.settled().await;
            assert_ended(&page, 1, outcome);
            if outcome == "error" {
                assert_error(&page, "stream_truncated", "200");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_share_a_connection_end_independently() {
    const EACH: usize = 40;
    let watched = Watched::start().await;
    let gate = Gate::new();
    let server = {
        let gate = gate.clone();
        watched
            .answer(move |parts, _| {
                let held = [Step::from(token("Hi")), Step::Hold(gate.clone())];
                let end = match parts.headers["x-case"].to_str().unwrap() {
                    "well" => vec![Step::from(finish("stop")), Step::from(DONE)],
                    "fails" => vec![Step::Fail],
                    "cut" => vec![],
                    "error" => vec![Step::from("data: {\"error\":\"no\"}\n\n")],
                    // The client does not wait for it.
                    "leaves" => vec![Step::Hold(Gate::new())],
                    other => panic!("no such case: {other}"),
                };
                Script::stream(held.into_iter().chain(end))
            })
            .await
    };
    let mut client = Client::connect_http2(server.addr).await;
    let mut open = Vec::new();
    for n in 0..5 * EACH {
        let case = ["well", "fails", "leaves", "cut", "error"][n % 5];
        let mut request = post(server.addr, CHAT, ask(MODEL));
        request.headers_mut().insert("x-case", case.parse().unwrap());
        let mut answer = client.send(request).await;
        answer.until("Hi").await;
        open.push((case, answer));
    }
    let all_open = |page: &llm_metrics_tests::Page| {
        page.value("llm_requests_in_flight", &[("phase", "streaming")]) == (5 * EACH) as f64
    };
    watched.when(all_open).await;
    gate.open();
    for (case, answer) in open {
        match case {
            "leaves" => drop(answer),
            "fails" => drop(answer.finish().await.expect_err("the body fails for the client too")),
            _ => drop(answer.text().await),
        }
    }
    let page = watched.settled().await;
    let each = EACH as f64;
    assert_eq!(page.value("llm_requests_total", &[]), 5.0 * each);
    assert_eq!((ended(&page, "success"), ended(&page, "cancelled"), ended(&page, "error")), (each, each, 3.0 * each));
    let errors = |error_type| page.value("llm_request_errors_total", &[("error_type", error_type)]);
    assert_eq!((errors("stream_truncated"), errors("stream_error")), (2.0 * each, each));
    for phase in ["waiting", "streaming"] {
        assert_eq!(page.value("llm_requests_in_flight", &[("phase", phase)]), 0.0, "{phase}");
    }
}
