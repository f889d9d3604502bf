//! A client that leaves after each byte of a stream.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use llm_metrics_tests::{Client, Gate, Http, MODEL, Script, Step, Watched, post, stream::*};

use crate::ended;

/// The number of clients at the same time.
const AT_ONCE: usize = 8;

/// Lets one client after another read `0..`, `1..`, … of these bytes, and disconnect. Each is a separate request.
async fn leave_after(watched: &Watched, http: Http, stream: &Bytes, lengths: std::ops::Range<usize>) {
    let server = {
        let stream = stream.clone();
        watched
            .answer(move |parts, _| {
                let length: usize = parts.headers["x-length"].to_str().unwrap().parse().unwrap();
                Script::stream([Step::Data(stream.slice(..length)), Step::Hold(Gate::new())])
            })
            .await
    };
    let next = Arc::new(AtomicUsize::new(lengths.start));
    let clients = (0..AT_ONCE).map(|_| {
        let (next, addr) = (Arc::clone(&next), server.addr);
        tokio::spawn(async move {
            let mut client = Client::open(http, addr).await;
            loop {
                let length = next.fetch_add(1, Ordering::Relaxed);
                if length >= lengths.end {
                    return;
                }
                let mut request = post(addr, CHAT, ask(MODEL));
                request.headers_mut().insert("x-length", length.into());
                let mut answer = client.send(request).await;
                assert_eq!(answer.bytes(length).await.len(), length);
                drop(answer);
                if http == Http::One {
                    client = Client::open(http, addr).await;
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

/// A stream, and the number of its bytes after which it is complete.
fn streams() -> Vec<(&'static str, Bytes, usize)> {
    let stream = |events: &[String], terminal: usize| {
        (Bytes::from(events.concat()), events[..terminal].iter().map(String::len).sum::<usize>())
    };
    let small = |delta: &str, finish: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n")
    };
    let token = small("{\"content\":\"Hi\"}", "null");
    let finish = small("{}", "\"stop\"");
    // An event is complete with its blank line: a client cannot read it earlier.
    let (with_reason, ends) = stream(&[token.clone(), token.clone(), finish, DONE.to_owned()], 3);
    let (without, done_ends) = stream(&[token, DONE.to_owned()], 2);
    vec![("a finish reason", with_reason, ends), ("only [DONE]", without, done_ends)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_cancelled_up_to_the_byte_that_ends_the_terminal_event_and_served_from_there_on() {
    for http in Http::BOTH {
        for (what, stream, terminal) in streams() {
            let watched = Watched::start().await;
            leave_after(&watched, http, &stream, 0..terminal).await;
            let page = watched.settled().await;
            let all = page.value("llm_requests_total", &[]);
            assert_eq!(
                (all, ended(&page, "cancelled")),
                (terminal as f64, terminal as f64),
                "{http:?}, {what}: before"
            );

            leave_after(&watched, http, &stream, terminal..stream.len() + 1).await;
            let page = watched.settled().await;
            let served = stream.len() + 1 - terminal;
            assert_eq!(ended(&page, "success"), served as f64, "{http:?}, {what}: after");
            assert_eq!(page.value("llm_requests_total", &[]), (stream.len() + 1) as f64, "{http:?}, {what}: in all");
        }
    }
}
