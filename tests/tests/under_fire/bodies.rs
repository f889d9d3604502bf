//! Bodies that are compressed, have the wrong type, or have lines of a megabyte.

use bytes::Bytes;
use llm_metrics_tests::{
    Client, Gate, Http, MODEL, Script, Step, Watched, assert_ended, assert_error, post, stream::*,
};
use serde_json::json;

use crate::short;

/// A token, a finish reason and `[DONE]`, compressed with `gzip -n`.
pub(crate) const GZIP: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x8d\xcc\x31\x0a\x84\x30\x10\x05\xd0\x3e\xa7\x90\x5f\x5b\x58\x4f\
    \xad\x60\xa5\x07\x10\x59\x82\x19\x71\x20\x4c\xc4\x8c\x20\x48\xee\xbe\x96\x0b\xdb\x58\x3f\x78\xc1\x9b\xa7\
    \xea\xc6\xb2\x25\x59\x38\x83\xa6\x1b\xa2\x81\x2f\x50\x53\x23\x70\x34\x0f\x7a\x38\xa9\xb1\x1a\x08\xbd\xa0\
    \xd4\x58\x45\x25\x6f\x9f\x83\x7d\x4e\x0a\xd2\x33\xc6\x32\x17\xe7\xc2\xab\xee\x3f\x40\xb6\xb4\xe3\xa7\x98\
    \xda\x71\xe8\x66\xe7\xbe\x26\x25\x83\xe3\xa0\x00\x00\x00";

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_of_a_compressed_stream_depends_on_the_end_of_its_transport() {
    enum Ends {
        Well,
        Fails,
        ClientLeaves,
    }
    for http in Http::BOTH {
        for (ends, outcome) in [(Ends::Well, "success"), (Ends::Fails, "error"), (Ends::ClientLeaves, "cancelled")] {
            let watched = Watched::start().await;
            let (first, second) = GZIP.split_at(50);
            let read = Gate::new();
            let mut steps = vec![Step::Data(Bytes::from_static(first))];
            steps.extend(match ends {
                Ends::Well => vec![Step::Data(Bytes::from_static(second))],
                Ends::Fails => vec![Step::Hold(read.clone()), Step::Fail],
                Ends::ClientLeaves => vec![Step::Hold(Gate::new())],
            });
            let server = watched
                .answer(move |_, _| {
                    let mut response = Script::stream(steps.clone());
                    response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
                    response
                })
                .await;
            let mut client = Client::open(http, server.addr).await;
            let mut answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
            assert_eq!(answer.bytes(50).await, first);
            read.open();
            match ends {
                Ends::Well => assert_eq!(answer.finish().await.unwrap().0, second),
                Ends::Fails => drop(answer.finish().await.unwrap_err()),
                Ends::ClientLeaves => drop((answer, client)),
            }
            let page = watched.settled().await;
            assert_ended(&page, 1, outcome);
            if outcome == "error" {
                assert_error(&page, "internal", "200");
            }
            assert_eq!(page.value("llm_metrics_bodies_skipped_total", &[("reason", "compressed")]), 1.0);
            assert_eq!(page.value("llm_metrics_bodies_skipped_total", &[]), 1.0);
            assert_eq!(page.value("llm_usage_reports_total", &[("source", "missing")]), 1.0);
            assert_eq!(page.value("llm_output_tokens_total", &[]), 0.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_a_wrong_content_type_passes_and_is_not_misread() {
    let html = || "<html><body>502 Bad Gateway</body></html>".to_owned();
    let events = || short().concat();
    let document = || completion("Hi", 9, 2);
    // The content type, the body, the outcome, and the counter that changes.
    let skipped = ("llm_metrics_bodies_skipped_total", "reason", "content_type");
    let malformed = ("llm_metrics_inspection_failures_total", "kind", "malformed");
    for (content_type, body, outcome, counted) in [
        ("text/html", html(), "success", Some(skipped)),
        // If the head does not decide, the first bytes do.
        ("text/plain", events(), "success", None),
        ("application/x-ndjson", document(), "success", None),
        ("text/event-stream,application/json", events(), "success", None),
        ("application/json", events(), "success", None),
        ("application/json", html(), "success", Some(malformed)),
        // No line is an event, so the stream has no terminal event.
        ("text/event-stream", html(), "error", None),
        ("text/event-stream", document(), "success", None),
        ("TEXT/Event-Stream ; charset=UTF-8", events(), "success", None),
        ("application/problem+json", document(), "success", None),
    ] {
        for http in Http::BOTH {
            let watched = Watched::start().await;
            let server = {
                let body = body.clone();
                watched.answer(move |_, _| Script::new([body.clone()]).respond(content_type)).await
            };
            let mut client = Client::open(http, server.addr).await;
            let text = client.send(post(server.addr, CHAT, ask(MODEL))).await.text().await;
            assert_eq!(text, body);
            let page = watched.settled().await;
            assert_ended(&page, 1, outcome);
            if outcome == "error" {
                assert_error(&page, "stream_truncated", "200");
            }
            for known in [skipped, malformed] {
                let (name, label, value) = known;
                let expected = f64::from(u8::from(counted == Some(known)));
                assert_eq!(page.value(name, &[(label, value)]), expected, "{name} for {content_type}: {body}");
                assert_eq!(page.value(name, &[]), expected);
            }
            let understood = outcome == "success" && counted.is_none();
            assert_eq!(
                page.value("llm_output_tokens_total", &[]),
                if understood { 2.0 } else { 0.0 },
                "{content_type}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_megabyte_are_read_to_their_end_and_pass_unchanged() {
    let long = "a \"word\" and so on, ".repeat(1 << 16);
    assert!(long.len() > 1 << 20);
    let with = |what: &str, value: serde_json::Value| {
        event(&json!({
            what: value, "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": null}],
        }))
    };
    let end = || [finish("stop"), usage(9, 3), DONE.to_owned()].concat();
    let streams = [
        ("a text", [token("Hi"), token(&long), end()].concat()),
        ("a comment", [format!(": {long}\n\n"), token("Hi"), end()].concat()),
        ("a field that nobody knows", [format!("{long}\n\n"), token("Hi"), end()].concat()),
        ("a string that nobody looks at", [with("padding", json!(long)), token("Hi"), end()].concat()),
        ("an object that nobody looks at", [with("x", json!({"a": [long]})), token("Hi"), end()].concat()),
        ("a key", [with(&long, json!(1)), token("Hi"), end()].concat()),
        ("white space", [token("Hi").replace("data: {", &format!("data: {{{}", " ".repeat(1 << 20))), end()].concat()),
        ("one line of many events", [token("a").repeat(5000), end()].concat()),
    ];
    let ask = json!({"messages": [{"role": "user", "content": long}], "model": MODEL, "stream": true}).to_string();
    for (n, (what, stream)) in streams.into_iter().enumerate() {
        let watched = Watched::start().await;
        let server = {
            let (ask, stream) = (ask.clone(), stream.clone());
            watched
                .answer(move |_, body| {
                    assert!(*body == ask);
                    Script::stream([stream.clone()])
                })
                .await
        };
        let http = Http::BOTH[n % 2];
        let mut client = Client::open(http, server.addr).await;
        let text = client.send(post(server.addr, CHAT, ask.clone())).await.text().await;
        assert!(text == stream, "{what}: {} bytes instead of {}", text.len(), stream.len());
        let page = watched.settled().await;
        assert_ended(&page, 1, "success");
        assert_eq!(page.value("llm_requests_total", &[("model", MODEL)]), 1.0, "{what}: the request was read");
        assert_eq!(page.value("llm_output_tokens_total", &[]), 3.0, "{what}: usage was read");
        assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 1.0, "{what}");
        assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_in_a_line_of_megabytes_is_read_to_its_end() {
    let watched = Watched::start().await;
    let text = "word ".repeat(1 << 19);
    let server = {
        let text = text.clone();
        watched.answer(move |_, _| Script::json(completion(&text, 9, 700))).await
    };
    for http in Http::BOTH {
        let mut client = Client::open(http, server.addr).await;
        let answer = client.send(post(server.addr, CHAT, ask_whole(MODEL))).await;
        assert_eq!(answer.text().await.len(), completion(&text, 9, 700).len());
    }
    let page = watched.settled().await;
    assert_ended(&page, 2, "success");
    assert_eq!(page.value("llm_output_tokens_total", &[]), 1400.0);
}
