//! The metrics do not depend on the framing, in each protocol.

use http::{HeaderValue, header};
use llm_metrics_tests::{Client, Http, Script, Step, Watched, post};
use serde_json::Value;

use super::{Case, cases, steps};
use crate::assert_ended;

fn is_lines(case: &Case) -> bool {
    case.content_type == "application/x-ndjson"
}

#[tokio::test(flavor = "multi_thread")]
async fn line_ends_of_any_kind_give_the_same_numbers() {
    for case in cases::all() {
        // A line with a document ends only with a line feed, and white space before it is ignored.
        for line_end in if is_lines(&case) { &["\r\n"][..] } else { &["\r\n", "\r"] } {
            let events = case.events.iter().map(|event| event.replace('\n', line_end));
            let page = case.stream(Http::One, events.map(Step::from).collect()).await;
            case.assert_served(&page, true, line_end);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_over_several_lines_is_one_event() {
    for case in cases::all().into_iter().filter(|case| !is_lines(case)) {
        let spread = |event: &String| {
            let (name, data) = event.split_once("data: ").expect("data");
            let data: Value = serde_json::from_str(data).expect("a document");
            let lines = format!("{data:#}").lines().map(|line| format!("data: {line}\n")).collect::<String>();
            Step::from(format!("{name}{lines}\n"))
        };
        let page = case.stream(Http::One, case.events.iter().map(spread).collect()).await;
        case.assert_served(&page, true, "over several lines");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_skipped_and_counted() {
    for case in cases::all() {
        let content_type = case.content_type;
        let watched = Watched::start().await;
        let answer = move |_: &_, _: &_| {
            let mut answer = Script::new([Step::from("\u{1f}\u{8b}\u{8} and so on")]).respond(content_type);
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer
        };
        let server = watched.answer_through(watched.metrics.layer().ollama(), answer).await;
        let mut client = Client::connect(server.addr).await;
        client.send(post(server.addr, case.endpoint, case.streamed.to_string())).await.text().await;
        let page = watched.settled().await;
        assert_ended(&page, 1, "success");
        let skipped = page.value("llm_metrics_bodies_skipped_total", &[("reason", "compressed")]);
        assert_eq!(skipped, 1.0, "{}", case.endpoint);
        assert_eq!(page.value("llm_output_tokens_total", &[]), 0.0, "{}", case.endpoint);
        case.assert_nothing_lost(&page, "compressed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_say_nothing_change_nothing() {
    for case in cases::all() {
        let mut steps = steps(&case.events);
        for at in (0..case.events.len()).rev() {
            steps.splice(at..at, case.silent.iter().cloned().map(Step::from));
        }
        let page = case.stream(Http::One, steps).await;
        case.assert_served(&page, true, "with silent events between the others");
    }
}
