//! The metrics do not depend on how the bytes are split.

use std::collections::BTreeMap;

use bytes::Bytes;
use llm_metrics_tests::{Client, MODEL, Page, Script, Step, Watched, post, stream::*};
use serde_json::json;

use crate::{assert_ended, assert_error};

/// A stream with all kinds of events.
fn rich() -> String {
    [
        ": comment\n\n".to_owned(),
        role(),
        thought("Hm, ünïcödé 🦀"),
        token("Hi \\u0022there\\u0022 {\"usage\": {\"completion_tokens\": 99}}"),
        token(" and }{ bye"),
        finish("stop"),
        usage(9, 5),
        DONE.to_owned(),
    ]
    .concat()
}

/// The values of a page, without times and zeros.
fn counts(page: &Page) -> BTreeMap<String, f64> {
    let timed = |name: &str| {
        name.starts_with("llm_recent_") || name.ends_with("_seconds_sum") || name.ends_with("_seconds_bucket")
    };
    let ours = page.families().iter().filter(|(name, _)| name.starts_with("llm_"));
    let samples = ours.flat_map(|(_, family)| &family.samples).filter(|s| !timed(&s.name) && s.value != 0.0);
    samples.map(|sample| (format!("{}{:?}", sample.name, sample.labels), sample.value)).collect()
}

async fn counts_of(frames: Vec<Bytes>) -> BTreeMap<String, f64> {
    let watched = Watched::start().await;
    let steps: Vec<Step> = frames.into_iter().map(Step::Data).collect();
    watched.exchange(CHAT, ask(MODEL), move || Script::stream(steps.clone())).await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    counts(&page)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_split_at_every_byte_gives_the_same_numbers() {
    let stream = rich();
    let whole = counts_of(vec![Bytes::from(stream.clone())]).await;
    assert!(whole.iter().any(|(name, value)| name.starts_with("llm_output_tokens_total") && *value == 5.0));
    // One server and one page for all splits, so each value is multiplied by the number of requests.
    let watched = Watched::start().await;
    let bytes = Bytes::from(stream);
    let server = {
        let bytes = bytes.clone();
        watched
            .answer(move |parts, _| {
                let at: usize = parts.headers["x-split"].to_str().unwrap().parse().unwrap();
                Script::stream([bytes.slice(..at), bytes.slice(at..)])
            })
            .await
    };
    let mut client = Client::connect(server.addr).await;
    for at in 1..bytes.len() {
        let mut request = post(server.addr, CHAT, ask(MODEL));
        request.headers_mut().insert("x-split", at.to_string().parse().unwrap());
        assert_eq!(client.send(request).await.text().await.as_bytes(), bytes, "split at {at}");
    }
    let page = watched.settled().await;
    let requests = (bytes.len() - 1) as f64;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), requests);
    // Tokens that arrive in one piece have no gap between them, so the number of gaps depends on the split.
    let by_cut = ["inter_token_latency", "max_gap", "time_per_output_token", "build_info"];
    let all = counts(&page);
    for (name, once) in whole.iter().filter(|(name, _)| !by_cut.iter().any(|part| name.contains(part))) {
        assert_eq!(all.get(name).copied(), Some(once * requests), "{name}");
    }
    for name in all.keys().filter(|name| !by_cut.iter().any(|part| name.contains(part))) {
        assert!(whole.contains_key(name), "{name} is there only when an event is split");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_flushed_byte_by_byte_gives_the_same_numbers() {
    let stream = rich();
    let by_event: Vec<Bytes> = stream.split_inclusive("\n\n").map(|event| Bytes::from(event.to_owned())).collect();
    let by_byte = stream.bytes().map(|byte| Bytes::from(vec![byte])).collect();
    assert_eq!(counts_of(by_byte).await, counts_of(by_event).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn line_ends_of_any_kind_give_the_same_numbers() {
    let by_event = |stream: String| stream.split_inclusive("[DONE]").map(|part| Bytes::from(part.to_owned())).collect();
    let plain = counts_of(by_event(rich())).await;
    for line_end in ["\r\n", "\r"] {
        let stream = rich().replace('\n', line_end);
        assert_eq!(counts_of(by_event(stream.clone())).await, plain, "{line_end:?}");
        // And with the two bytes of a line end in two frames.
        let cut = stream.split_inclusive('\r').map(|part| Bytes::from(part.to_owned())).collect::<Vec<_>>();
        let page = counts_of(cut).await;
        let tokens = page.iter().find(|(name, _)| name.starts_with("llm_output_tokens_total")).unwrap();
        assert_eq!(*tokens.1, 5.0, "{line_end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_over_several_lines_is_one_event() {
    let token = "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\ndata: \"Hi\"},\ndata: \"finish_reason\":null}]}\n\n";
    let last = "data:{\"choices\":[],\ndata:\"usage\":{\"prompt_tokens\":9,\ndata:\"completion_tokens\":1}}\n\n";
    let stream = [token.to_owned(), finish("stop"), last.to_owned(), DONE.to_owned()].concat();
    for line_end in ["\n", "\r\n", "\r"] {
        // The two bytes of a line end arrive in two frames.
        let stream = stream.replace('\n', line_end);
        let frames: Vec<String> = stream.split_inclusive(['\r', '\n']).map(str::to_owned).collect();
        let watched = Watched::start().await;
        watched.exchange(CHAT, ask(MODEL), move || Script::stream(frames.clone())).await;
        let page = watched.settled().await;
        assert_ended(&page, 1, "success");
        assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 1.0, "{line_end:?}");
        assert_eq!(page.value("llm_output_tokens_total", &[]), 1.0, "{line_end:?}");
        assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0, "{line_end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_skipped_counted_and_never_truncated() {
    // `gzip -c` of a few events, which are not read.
    const GZIP: &[u8] = &[0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0x02, 0xff, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let watched = Watched::start().await;
    let answer = || {
        let mut response = Script::stream([Bytes::from_static(GZIP)]);
        response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        response
    };
    assert_eq!(watched.exchange(CHAT, ask(MODEL), answer).await, GZIP);
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.value("llm_metrics_bodies_skipped_total", &[("reason", "compressed")]), 1.0);
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "missing"), ("stream", "true")]), 1.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_request_is_skipped_and_the_model_comes_from_the_answer() {
    let watched = Watched::start().await;
    let server = watched.answer(|_, _| Script::stream(well(2))).await;
    let mut request = post(server.addr, CHAT, &b"\x1f\x8b no JSON"[..]);
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    Client::connect(server.addr).await.send(request).await.text().await;
    let page = watched.settled().await;
    assert_eq!(page.value("llm_metrics_bodies_skipped_total", &[("reason", "compressed")]), 1.0);
    assert_eq!(page.value("llm_requests_total", &[("model", MODEL), ("outcome", "success")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_event_is_reported_once_and_the_stream_continues() {
    let watched = Watched::start().await;
    let broken = "data: {\"choices\":[{]}\n\n";
    let stream = [token("a"), broken.to_owned(), broken.to_owned(), token("b"), finish("stop"), DONE.to_owned()];
    watched.exchange(CHAT, ask(MODEL), move || Script::stream(stream.clone())).await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    let labels = [("protocol", "openai"), ("kind", "malformed")];
    assert_eq!(page.value("llm_metrics_inspection_failures_total", &labels), 1.0);
    assert_eq!(page.count("llm_inter_token_latency_seconds", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_plain_text_is_a_stream_error() {
    let watched = Watched::start().await;
    let stream = [token("a"), "data: engine died\n\n".to_owned()];
    watched.exchange(CHAT, ask(MODEL), move || Script::stream(stream.clone())).await;
    assert_error(&watched.settled().await, "stream_error", "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_inside_what_a_model_or_user_wrote_change_nothing() {
    let watched = Watched::start().await;
    let hostile = json!({
        "model": MODEL, "stream": true,
        "messages": [{"role": "user", "content": "{\"model\":\"evil\",\"stream\":false}", "model": "evil2"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"model": "evil3", "max_tokens": 7, "stream": false}}}],
    });
    let arguments =
        json!({"usage": {"completion_tokens": 7}, "error": {"message": "x"}, "done": true, "model": "evil4"});
    let call = json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": arguments}}]});
    let stream = [chunk(&call, None), token("{\"error\":{}}"), finish("stop"), DONE.to_owned()];
    watched.exchange(CHAT, hostile.to_string(), move || Script::stream(stream.clone())).await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.label_values("llm_requests_total", "model"), [MODEL.to_owned()].into());
    assert_eq!(page.count("llm_request_max_tokens", &[]), 0.0);
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "estimated")]), 1.0);
}
