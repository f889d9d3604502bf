//! Requests with proxies and engines that omit or add events.

use http::Response;
use llm_metrics_tests::{Client, Script, Step, Watched, post};

use crate::{assert_ended, assert_error};

const EVENTS: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";
const DOCUMENT: &str = "application/json";

const HELLO: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n";
const STOPS: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}\n\n";
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const DELTA: &str =
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n";
const LINE: &str = "{\"model\":\"Qwen3-4B\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"done\":false}\n";

/// An answer, the outcome of its request (`success`, `cancelled`, or an error type), and the number of finished outputs.
struct Odd {
    endpoint: &'static str,
    content_type: &'static str,
    answer: &'static [&'static str],
    ended: &'static str,
    finished: f64,
}

const fn odd(
    endpoint: &'static str,
    content_type: &'static str,
    answer: &'static [&'static str],
    ended: &'static str,
    finished: f64,
) -> Odd {
    Odd { endpoint, content_type, answer, ended, finished }
}

const ALL: [Odd; 23] = [
    // Without `message_stop`; without `message_delta`; only pings; with OpenAI's end after it.
    odd("/v1/messages", EVENTS, &[HELLO, STOPS], "success", 1.0),
    odd("/v1/messages", EVENTS, &[HELLO, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"], "success", 0.0),
    odd("/v1/messages", EVENTS, &[PING, PING, PING], "stream_truncated", 0.0),
    odd("/v1/messages", EVENTS, &[HELLO, STOPS, DONE], "success", 1.0),
    odd(
        "/v1/messages",
        EVENTS,
        &[HELLO, "event: error\ndata: {\"error\":{\"type\":\"rate_limit_error\"}}\n\n"],
        "rate_limited",
        0.0,
    ),
    odd("/v1/messages", EVENTS, &[HELLO, "data: upstream is gone\n\n"], "stream_error", 0.0),
    odd(
        "/v1/messages",
        DOCUMENT,
        &["{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}"],
        "overloaded",
        0.0,
    ),
    // In the background: another request gets the answer later.
    odd(
        "/v1/responses",
        DOCUMENT,
        &["{\"object\":\"response\",\"status\":\"queued\",\"output\":[],\"usage\":null}"],
        "success",
        0.0,
    ),
    odd(
        "/v1/responses",
        DOCUMENT,
        &["{\"object\":\"response\",\"status\":\"in_progress\",\"output\":[]}"],
        "success",
        0.0,
    ),
    odd(
        "/v1/responses",
        DOCUMENT,
        &["{\"status\":\"failed\",\"error\":{\"code\":\"server_error\"},\"output\":[]}"],
        "internal",
        1.0,
    ),
    odd(
        "/v1/responses",
        EVENTS,
        &["event: response.queued\ndata: {\"type\":\"response.queued\",\"response\":{\"status\":\"queued\"}}\n\n"],
        "stream_truncated",
        0.0,
    ),
    odd(
        "/v1/responses",
        EVENTS,
        &[DELTA, "data: {\"type\":\"response.done\",\"response\":{\"status\":\"completed\"}}\n\n", DONE],
        "success",
        1.0,
    ),
    odd("/v1/responses", EVENTS, &[DELTA, DONE], "success", 0.0),
    odd(
        "/v1/responses",
        EVENTS,
        &[
            DELTA,
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"error\":{\"type\":\"rate_limit_error\"}}\n\n",
        ],
        "rate_limited",
        0.0,
    ),
    // A response in the background that its caller has cancelled with another request.
    odd(
        "/v1/responses",
        EVENTS,
        &[
            DELTA,
            "event: response.cancelled\ndata: {\"type\":\"response.cancelled\",\"response\":{\"status\":\"cancelled\"}}\n\n",
        ],
        "cancelled",
        1.0,
    ),
    // A model is loaded or unloaded; a line reports an error; the last line is missing.
    odd(
        "/api/chat",
        LINES,
        &[
            "{\"model\":\"Qwen3-4B\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done_reason\":\"load\",\"done\":true}\n",
        ],
        "success",
        0.0,
    ),
    odd(
        "/api/generate",
        DOCUMENT,
        &["{\"model\":\"Qwen3-4B\",\"response\":\"\",\"done_reason\":\"unload\",\"done\":true}"],
        "success",
        0.0,
    ),
    odd("/api/chat", LINES, &[LINE, "{\"error\":\"an error was encountered\"}\n", LINE], "stream_error", 0.0),
    odd("/api/chat", LINES, &[LINE, LINE], "stream_truncated", 0.0),
    odd("/rerank", DOCUMENT, &["[{\"index\":1,\"score\":0.9},{\"index\":0,\"score\":0.1}]"], "success", 0.0),
    odd("/v1/rerank", DOCUMENT, &["{\"results\":[],\"meta\":{\"billed_units\":{\"search_units\":1}}}"], "success", 0.0),
    odd("/v1/embeddings", DOCUMENT, &["{\"data\":[{\"embedding\":\"AACAPw==\"}]}"], "success", 0.0),
    odd("/api/embeddings", DOCUMENT, &["{\"embedding\":[0.1,0.2]}"], "success", 0.0),
];

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_proxies_and_engines_have_the_right_outcome() {
    for Odd { endpoint, content_type, answer, ended, finished } in ALL {
        let watched = Watched::start().await;
        let respond = move |_: &_, _: &_| -> Response<Script> {
            Script::new(answer.iter().copied().map(Step::from)).respond(content_type)
        };
        let server = watched.answer_through(watched.metrics.layer().ollama(), respond).await;
        let mut client = Client::connect(server.addr).await;
        let request = r#"{"model":"Qwen3-4B","stream":true}"#;
        assert_eq!(client.send(post(server.addr, endpoint, request)).await.text().await, answer.concat());
        let page = watched.settled().await;
        let how = format!("{endpoint} {answer:?}");
        if ["success", "cancelled"].contains(&ended) {
            assert_ended(&page, 1, ended);
            assert_eq!(page.value("llm_request_errors_total", &[]), 0.0, "{how}");
        } else {
            assert_eq!(page.value("llm_request_errors_total", &[("error_type", ended)]), 1.0, "{how}");
            assert_error(&page, ended, "200");
        }
        let reasons = page.samples("llm_finish_reasons_total", &[]);
        let told = reasons.filter(|sample| sample.labels.iter().all(|(_, value)| value != "missing"));
        assert_eq!(told.map(|sample| sample.value).sum::<f64>(), finished, "{how}");
        assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0, "{how}");
    }
}

const QUEUED: &str = "event: response.queued\ndata: {\"type\":\"response.queued\",\"response\":{\"id\":\"r\",\"status\":\"queued\",\"output\":[]}}\n\n";
const BEGUN: &str = "event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\"}}\n\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_the_background_may_be_left_before_the_response_has_begun() {
    let (asked, unasked) =
        (r#"{"model":"Qwen3-4B","background":true,"stream":true}"#, r#"{"model":"Qwen3-4B","stream":true}"#);
    for (request, answer, error) in [
        (asked, &[QUEUED][..], None),
        (asked, &[QUEUED, BEGUN], None),
        (asked, &[BEGUN], None),
        (asked, &[QUEUED, BEGUN, DELTA], Some("stream_truncated")),
        (asked, &[], Some("stream_truncated")),
        (unasked, &[QUEUED, BEGUN], Some("stream_truncated")),
    ] {
        let watched = Watched::start().await;
        let respond = move |_: &_, _: &_| Script::new(answer.iter().copied().map(Step::from)).respond(EVENTS);
        let server = watched.answer_through(watched.metrics.layer(), respond).await;
        let mut client = Client::connect(server.addr).await;
        assert_eq!(client.send(post(server.addr, "/v1/responses", request)).await.text().await, answer.concat());
        let page = watched.settled().await;
        let how = format!("{request} {answer:?}");
        let labels = [("model", "Qwen3-4B"), ("stream", "true"), ("endpoint", "/v1/responses")];
        assert_eq!(page.value("llm_requests_total", &labels), 1.0, "{how}");
        assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0, "{how}");
        if let Some(error) = error {
            assert_error(&page, error, "200");
            continue;
        }
        assert_ended(&page, 1, "success");
        for name in [
            "llm_request_errors_total",
            "llm_input_tokens_total",
            "llm_output_tokens_total",
            "llm_usage_reports_total",
            "llm_finish_reasons_total",
            "llm_discarded_tokens_total",
            "llm_outputs_total",
            "llm_output_truncated_total",
            "llm_output_empty_total",
        ] {
            assert_eq!(page.value(name, &[]), 0.0, "{how}: {name}");
        }
        for name in ["llm_time_to_first_token_seconds", "llm_request_output_tokens", "llm_stream_max_gap_seconds"] {
            assert_eq!(page.count(name, &[]), 0.0, "{how}: {name}");
        }
    }
}
