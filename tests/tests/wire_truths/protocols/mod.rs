//! Every protocol that streams, over sockets: one table of cases, and one test for each way in which a request can end.

mod cases;
mod documents;
mod first_token;
mod framing;
mod odd;
mod paths;
mod tokens;
mod words;

use bytes::Bytes;
use http::{Response, StatusCode};
use llm_metrics_tests::{Client, Gate, Http, Page, Script, Server, Step, Watched, post};
use serde_json::Value;

use crate::{assert_ended, assert_error};

/// A conversation in one protocol, and its expected metrics.
struct Case {
    endpoint: &'static str,
    operation: &'static str,
    /// A request for a stream.
    streamed: Value,
    /// A request for one document.
    whole: Value,
    content_type: &'static str,
    /// The stream, event by event.
    events: Vec<String>,
    /// The number of events at the end that complete the answer.
    end: usize,
    /// The same answer as one document.
    document: Value,
    /// A failure inside the stream.
    error: String,
    error_type: &'static str,
    input: u64,
    cached: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
    /// Further events, without a token and without any effect.
    silent: Vec<String>,
    /// The indices of events with a token.
    bearing: &'static [usize],
    /// The source of the token count if the end is missing.
    cut_source: &'static str,
    thinks: bool,
    finish: &'static str,
    /// The indices among them that belong to a tool call. There is at most one call.
    call: &'static [usize],
    /// The engine reports the times of its tokens.
    engine_times: bool,
}

impl Case {
    /// The events before the answer was complete.
    fn unfinished(&self) -> &[String] {
        &self.events[..self.events.len() - self.end]
    }

    async fn server(&self, watched: &Watched, steps: Vec<Step>) -> Server {
        let content_type = self.content_type;
        let layer = watched.metrics.layer().ollama();
        watched.answer_through(layer, move |_, _| Script::new(steps.clone()).respond(content_type)).await
    }

    /// Sends a request for a stream, and reads the answer, which has these steps, to its end.
    async fn stream(&self, http: Http, steps: Vec<Step>) -> Page {
        let watched = Watched::start().await;
        let data = steps.iter().filter_map(|step| if let Step::Data(data) = step { Some(&data[..]) } else { None });
        let sent = data.collect::<Vec<_>>().concat();
        let server = self.server(&watched, steps).await;
        let mut client = Client::open(http, server.addr).await;
        // If a stream of HTTP/2 is reset immediately, the client may not receive its head.
        if let Ok(answer) = client.try_send(post(server.addr, self.endpoint, self.streamed.to_string())).await
            && let Ok((bytes, _)) = answer.finish().await
        {
            assert_eq!(bytes, sent, "{}: everything passes unchanged", self.endpoint);
        }
        watched.settled().await
    }

    /// Asserts that a page has the labels and all values of the complete answer.
    fn assert_served(&self, page: &Page, stream: bool, how: &str) {
        let how = format!("{} {how}", self.endpoint);
        assert_ended(page, 1, "success");
        let is = |what: bool| if what { "true" } else { "false" };
        let labels = [
            ("endpoint", self.endpoint),
            ("operation", self.operation),
            ("model", "Qwen3-4B"),
            ("stream", is(stream)),
            ("thinking", if self.thinks { "true" } else { "false" }),
        ];
        assert_eq!(page.value("llm_requests_total", &labels), 1.0, "{how}");
        for (name, tokens) in [
            ("llm_input_tokens_total", self.input),
            ("llm_input_cached_tokens_total", self.cached),
            ("llm_input_cache_write_tokens_total", self.cache_write),
            ("llm_output_tokens_total", self.output),
            ("llm_output_reasoning_tokens_total", self.reasoning),
        ] {
            assert_eq!(page.value(name, &labels[1..3]), tokens as f64, "{how}: {name}");
        }
        assert_eq!(page.value("llm_usage_reports_total", &[("source", "upstream"), labels[3]]), 1.0, "{how}");
        assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", self.finish)]), 1.0, "{how}");
        assert_eq!(page.value("llm_finish_reasons_total", &[]), 1.0, "{how}");
        let once = f64::from(u8::from(stream));
        assert_eq!(page.count("llm_time_to_first_token_seconds", &labels[1..3]), once, "{how}");
        let reasoned = f64::from(u8::from(stream && self.thinks));
        assert_eq!(page.count("llm_reasoning_duration_seconds", &[]), reasoned, "{how}");
        let calls = f64::from(u8::from(!self.call.is_empty()));
        assert_eq!(page.value("llm_tool_calls_total", &[("result", "valid")]), calls, "{how}");
        assert_eq!(page.value("llm_tool_calls_total", &[]), calls, "{how}");
        self.assert_nothing_lost(page, &how);
        assert_eq!(page.value("llm_discarded_tokens_total", &[]), 0.0, "{how}");
    }

    /// The events without those with a token, except those at these indices.
    fn without_tokens(&self, but: &[usize]) -> Vec<String> {
        let left_out = |at: &usize| self.bearing.contains(at) && !but.contains(at);
        let all = self.events.iter().enumerate();
        all.filter(|(at, _)| !left_out(at)).map(|(_, event)| event.clone()).collect()
    }

    fn assert_nothing_lost(&self, page: &Page, how: &str) {
        assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0, "{how}");
    }

    /// Asserts that a page has the tokens of an incomplete answer.
    fn assert_discarded(&self, page: &Page, reason: &str) {
        let how = format!("{}, {reason}", self.endpoint);
        let discarded = page.value("llm_discarded_tokens_total", &[("reason", reason)]);
        assert_eq!(discarded, self.bearing.len() as f64, "{how}");
        assert_eq!(page.value("llm_usage_reports_total", &[("source", self.cut_source)]), 1.0, "{how}");
        assert_eq!(page.count("llm_request_output_tokens", &[]), 0.0, "{how}: no length of an answer that was cut");
        self.assert_nothing_lost(page, &how);
    }
}

fn steps(events: &[String]) -> Vec<Step> {
    events.iter().cloned().map(Step::from).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_counted_the_same_however_its_bytes_are_framed() {
    for case in cases::all() {
        let bytes = Bytes::from(case.events.concat());
        let one_byte_a_frame = (0..bytes.len()).map(|at| Step::Data(bytes.slice(at..=at))).collect();
        for (how, steps) in [
            ("an event a frame", steps(&case.events)),
            ("a byte a frame", one_byte_a_frame),
            ("all in one frame", vec![Step::Data(bytes)]),
        ] {
            for http in Http::BOTH {
                let page = case.stream(http, steps.clone()).await;
                case.assert_served(&page, true, &format!("{how}, {http:?}"));
                // Tokens that arrive together have no measurable time, unless the engine reports one.
                let timed = case.engine_times || how != "all in one frame";
                let samples = page.count("llm_time_per_output_token_seconds", &[("operation", case.operation)]);
                assert_eq!(samples, f64::from(u8::from(timed)), "{} {how}, {http:?}", case.endpoint);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_has_the_counts_of_the_stream() {
    for case in cases::all() {
        for http in Http::BOTH {
            let watched = Watched::start().await;
            let document = case.document.to_string();
            let answer = move |_: &_, _: &_| Script::json(document.clone());
            let server = watched.answer_through(watched.metrics.layer().ollama(), answer).await;
            let mut client = Client::open(http, server.addr).await;
            let answer = client.send(post(server.addr, case.endpoint, case.whole.to_string())).await;
            assert_eq!(answer.text().await, case.document.to_string());
            case.assert_served(&watched.settled().await, false, &format!("whole, {http:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_cut_is_not_a_success_and_one_whose_client_leaves_is_cancelled() {
    for case in cases::all() {
        let document = Bytes::from(case.document.to_string());
        let half = document.slice(..document.len() / 2);
        for http in Http::BOTH {
            for (end, outcome) in
                [(Some(Step::Fail), "error"), (None, "error"), (Some(Step::Hold(Gate::new())), "cancelled")]
            {
                let watched = Watched::start().await;
                let steps: Vec<_> = [Step::Data(half.clone())].into_iter().chain(end).collect();
                let answer = move |_: &_, _: &_| Script::new(steps.clone()).respond("application/json");
                let server = watched.answer_through(watched.metrics.layer().ollama(), answer).await;
                let mut client = Client::open(http, server.addr).await;
                // If a stream of HTTP/2 is reset immediately, the client may not receive its head.
                if let Ok(mut answer) = client.try_send(post(server.addr, case.endpoint, case.whole.to_string())).await
                {
                    if outcome == "cancelled" {
                        answer.bytes(half.len()).await;
                    } else {
                        let _ = answer.finish().await;
                    }
                }
                client.hang_up();
                let page = watched.settled().await;
                assert_ended(&page, 1, outcome);
                if outcome == "error" {
                    assert_error(&page, "internal", "200");
                }
                assert_eq!(page.value("llm_requests_total", &[("stream", "false")]), 1.0, "{}", case.endpoint);
                assert_eq!(page.value("llm_output_tokens_total", &[]), 0.0, "{}", case.endpoint);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_before_the_stream_is_its_status() {
    for case in cases::all() {
        for (status, outcome, error_type) in
            [(429, "rejected", "rate_limited"), (400, "rejected", "invalid_request"), (503, "error", "overloaded")]
        {
            let watched = Watched::start().await;
            let answer = move |_: &_, _: &_| -> Response<Script> {
                let mut answer = Script::json(r#"{"error":{"message":"no"}}"#);
                *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
                answer
            };
            let server = watched.answer_through(watched.metrics.layer().ollama(), answer).await;
            let mut client = Client::connect(server.addr).await;
            client.send(post(server.addr, case.endpoint, case.streamed.to_string())).await.text().await;
            let page = watched.settled().await;
            assert_ended(&page, 1, outcome);
            // It would have been streamed, which is Ollama's default.
            let labels = [("endpoint", case.endpoint), ("stream", "true"), ("model", "Qwen3-4B")];
            let labels = if outcome == "rejected" { &labels[..2] } else { &labels };
            assert_eq!(page.value("llm_requests_total", labels), 1.0, "{}", case.endpoint);
            assert_error(&page, error_type, &status.to_string());
            assert_eq!(page.value("llm_usage_reports_total", &[]), 0.0, "{}: it was not accepted", case.endpoint);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_inside_the_stream_is_not_a_success() {
    for case in cases::all() {
        for http in Http::BOTH {
            let mut steps = steps(case.unfinished());
            steps.push(case.error.clone().into());
            let page = case.stream(http, steps).await;
            assert_ended(&page, 1, "error");
            assert_error(&page, case.error_type, "200");
            case.assert_discarded(&page, "stream_error");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_is_truncated_and_its_tokens_are_those_that_were_seen() {
    for case in cases::all() {
        // If a stream of HTTP/2 breaks immediately, the client may not receive its head.
        for (http, breaks) in [(Http::One, false), (Http::One, true), (Http::Two, false)] {
            let mut steps = steps(case.unfinished());
            steps.extend(breaks.then_some(Step::Fail));
            let page = case.stream(http, steps).await;
            assert_ended(&page, 1, "error");
            assert_error(&page, "stream_truncated", "200");
            case.assert_discarded(&page, "stream_truncated");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_cancelled_before_the_end_and_served_after_it() {
    for case in cases::all() {
        for http in Http::BOTH {
            for finished in [false, true] {
                let watched = Watched::start().await;
                let events = if finished { &case.events[..] } else { case.unfinished() };
                let mut steps = steps(events);
                steps.push(Step::Hold(Gate::new()));
                let server = case.server(&watched, steps).await;
                let mut client = Client::open(http, server.addr).await;
                let mut answer = client.send(post(server.addr, case.endpoint, case.streamed.to_string())).await;
                answer.bytes(events.concat().len()).await;
                let streaming = [("phase", "streaming"), ("operation", case.operation)];
                assert_eq!(watched.scrape().await.value("llm_requests_in_flight", &streaming), 1.0);
                drop(answer);
                client.hang_up();
                let page = watched.settled().await;
                if finished {
                    case.assert_served(&page, true, "the client left at the end");
                } else {
                    assert_ended(&page, 1, "cancelled");
                    case.assert_discarded(&page, "client_disconnect");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_at_any_byte_before_its_end_is_truncated() {
    for case in cases::all() {
        let stream = Bytes::from(case.events.concat());
        // At the end of the body, the end of a line or an event is not needed: the event is complete.
        let unneeded = if case.content_type == "application/x-ndjson" { 1 } else { 2 };
        let ends: Vec<usize> = case
            .events
            .iter()
            .scan(0, |at, event| {
                *at += event.len();
                Some(*at - unneeded)
            })
            .collect();
        let complete = ends[case.events.len() - case.end];
        let watched = Watched::start().await;
        let content_type = case.content_type;
        let answer = {
            let stream = stream.clone();
            move |parts: &http::request::Parts, _: &_| {
                let length: usize = parts.headers["x-length"].to_str().unwrap().parse().unwrap();
                Script::new([stream.slice(..length)]).respond(content_type)
            }
        };
        let server = watched.answer_through(watched.metrics.layer().ollama(), answer).await;
        let mut client = Client::connect(server.addr).await;
        let (mut tokens, mut output) = (0, 0.0);
        for length in 1..=stream.len() {
            let mut request = post(server.addr, case.endpoint, case.streamed.to_string());
            request.headers_mut().insert("x-length", length.into());
            assert_eq!(client.send(request).await.text().await.len(), length);
            if length < complete {
                tokens += case.bearing.iter().filter(|at| ends[**at] <= length).count();
            }
            // The page is read where the outcome must change, and at the end.
            if length + 1 == complete {
                let page = watched.settled().await;
                assert_ended(&page, u32::try_from(length).unwrap(), "error");
                let truncated = page.value("llm_request_errors_total", &[("error_type", "stream_truncated")]);
                assert_eq!(truncated, length as f64, "{}", case.endpoint);
                let discarded = page.value("llm_discarded_tokens_total", &[("reason", "stream_truncated")]);
                assert_eq!(discarded, tokens as f64, "{}", case.endpoint);
                // Only tokens that the server itself counted are output tokens. llama.cpp counts in each event.
                output = if case.cut_source == "upstream" { discarded } else { 0.0 };
                assert_eq!(page.value("llm_output_tokens_total", &[]), output, "{}", case.endpoint);
            }
        }
        let page = watched.settled().await;
        let served = stream.len() - complete + 1;
        assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), served as f64, "{}", case.endpoint);
        assert_eq!(page.value("llm_requests_total", &[]), stream.len() as f64, "{}", case.endpoint);
        output += (served as u64 * case.output) as f64;
        assert_eq!(page.value("llm_output_tokens_total", &[]), output, "{}", case.endpoint);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_event_is_enough_if_a_server_gives_no_reason() {
    for (endpoint, last, outcome) in [
        ("/v1/messages", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", "success"),
        ("/v1/responses", "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n", "success"),
        ("/v1/responses", "event: response.failed\ndata: {\"type\":\"response.failed\"}\n\n", "error"),
        ("/api/chat", "{\"message\":{\"content\":\"\"},\"done\":true}\n", "success"),
        ("/api/generate", "{\"response\":\"\",\"done\":true}\n", "success"),
        ("/completion", "data: {\"content\":\"\",\"stop\":true}\n\n", "success"),
    ] {
        let case = cases::all().into_iter().find(|case| case.endpoint == endpoint).expect("a case");
        let mut steps = steps(case.unfinished());
        steps.push(last.into());
        let page = case.stream(Http::One, steps).await;
        assert_ended(&page, 1, outcome);
        if outcome == "error" {
            assert_error(&page, "stream_error", "200");
        }
    }
}
