//! Tokens are counted once, and unknown values are not zero.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::channel::Channel;
use llm_metrics::{InferenceHandle, Usage};
use llm_metrics_tests::{Client, Gate, MODEL, MeasuredRequest, Page, Script, Step, Watched, post, serve, stream::*};
use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder, service_fn};

use crate::assert_ended;

const ITL: &str = "llm_inter_token_latency_seconds";
const TPOT: &str = "llm_time_per_output_token_seconds";

async fn page_of(steps: Vec<Step>) -> Page {
    let watched = Watched::start().await;
    watched.exchange(CHAT, ask(MODEL), move || Script::stream(steps.clone())).await;
    watched.settled().await
}

/// A chunk with text and the usage so far, as vLLM sends with `continuous_usage_stats`.
fn token_with_usage(text: &str, output: u64) -> String {
    event(&json!({
        "id": "1", "model": MODEL, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}],
        "usage": {"prompt_tokens": 9, "completion_tokens": output, "total_tokens": 9 + output},
    }))
}

fn usage_with(details: Value) -> String {
    let mut usage = json!({"prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940});
    usage.as_object_mut().unwrap().extend(details.as_object().unwrap().clone());
    event(&json!({"id": "1", "choices": [], "usage": usage}))
}

/// Asserts that no histogram of tokens has a sample of zero.
#[track_caller]
fn assert_nothing_is_zero(page: &Page) {
    for name in ["llm_request_input_tokens", "llm_request_output_tokens", "llm_request_max_tokens", TPOT] {
        let histogram = page.histogram(name, &[]);
        assert_eq!(histogram.count, 0.0, "{name} has no sample: {histogram:?}");
    }
    for name in ["llm_input_tokens_total", "llm_output_tokens_total", "llm_output_reasoning_tokens_total"] {
        assert_eq!(page.value(name, &[]), 0.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_tokens_in_one_event_are_five_samples_that_add_up_to_the_gap() {
    let steps = [
        Step::from(token_with_usage("one", 1)),
        Step::Wait(Duration::from_millis(300)),
        Step::from(token_with_usage(" two three four five six", 6)),
        Step::from(finish("stop")),
        Step::from(DONE),
    ];
    let page = page_of(steps.to_vec()).await;
    let (latency, gap) = (page.histogram(ITL, &[]), page.histogram("llm_stream_max_gap_seconds", &[]));
    assert_eq!((latency.count, gap.count), (5.0, 1.0));
    assert!(latency.sum >= 0.29, "{latency:?}");
    assert!((latency.sum - gap.sum).abs() < 1e-6, "five samples are one gap: {latency:?} {gap:?}");
    let (_, in_first_half) = latency.buckets.iter().find(|(bound, _)| *bound == 0.05).unwrap();
    assert_eq!(*in_first_half, 0.0, "each sample is a fifth of the gap, none of them next to nothing");
    assert_eq!(page.value("llm_output_tokens_total", &[]), 6.0);
    let each = page.histogram(TPOT, &[]);
    assert_eq!(each.count, 1.0);
    assert!(each.sum >= gap.sum / 5.0 - 1e-6, "to the finish reason, which came later: {each:?} {gap:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_the_handle_reports_are_counted_immediately_and_once() {
    let watched = Watched::start().await;
    let gate = Gate::new();
    let service = {
        let gate = gate.clone();
        service_fn(move |request: MeasuredRequest| {
            let gate = gate.clone();
            async move {
                let handle = request.extensions().get::<InferenceHandle>().expect("the layer's handle").clone();
                handle.tokens(4);
                let steps = [
                    Step::from(token("one two three four")),
                    Step::Hold(gate),
                    Step::from(finish("stop")),
                    Step::from(usage(9, 3)),
                    Step::from(DONE),
                ];
                handle.usage(Usage::new().input(9));
                Ok::<_, BoxError>(Script::stream(steps))
            }
        })
    };
    let server = serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await;
    let mut client = Client::connect(server.addr).await;
    let mut answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
    answer.until("four").await;
    assert_eq!(watched.scrape().await.value("llm_output_tokens_total", &[]), 4.0, "counted while the stream is open");
    gate.open();
    answer.text().await;
    let page = watched.settled().await;
    assert_eq!(page.value("llm_output_tokens_total", &[]), 4.0, "the engine knows better than the wire");
    assert_eq!(page.histogram("llm_request_output_tokens", &[]).sum, 4.0);
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "engine")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_tokens_that_the_handle_reports_for_one_event_are_five_samples() {
    let watched = Watched::start().await;
    let service = service_fn(|request: MeasuredRequest| async move {
        let handle = request.extensions().get::<InferenceHandle>().expect("the layer's handle").clone();
        let (mut body, answer) = Channel::<Bytes, BoxError>::new(1);
        tokio::spawn(async move {
            for (tokens, text) in [(1, "one"), (5, " two three four five six")] {
                handle.tokens(tokens);
                body.send_data(token(text).into()).await?;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            body.send_data([finish("stop"), DONE.to_owned()].concat().into()).await
        });
        Ok::<_, BoxError>(Response::builder().header("content-type", "text/event-stream").body(answer)?)
    });
    let server = serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await;
    Client::connect(server.addr).await.send(post(server.addr, CHAT, ask(MODEL))).await.text().await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    let (latency, gap) = (page.histogram(ITL, &[]), page.histogram("llm_stream_max_gap_seconds", &[]));
    assert_eq!(latency.count, 5.0);
    assert!(latency.sum >= 0.29 && (latency.sum - gap.sum).abs() < 1e-6, "{latency:?} {gap:?}");
    assert_eq!(page.value("llm_output_tokens_total", &[]), 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nulls_in_every_place_say_nothing() {
    let null = |delta: Value| {
        event(&json!({
            "id": "1", "model": MODEL, "usage": null, "error": null, "system_fingerprint": null,
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}],
        }))
    };
    let stream = [
        null(json!(null)),
        null(
            json!({"role": "assistant", "content": null, "reasoning_content": null, "refusal": null, "tool_calls": null}),
        ),
        event(&json!({"choices": null, "usage": null})),
        null(json!({"content": "a", "reasoning_content": null})),
        null(json!({"content": "b", "tool_calls": null})),
        finish("stop"),
        usage(9, 2),
        DONE.to_owned(),
    ];
    let page = page_of(stream.map(Step::from).to_vec()).await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.count(ITL, &[]), 1.0);
    assert_eq!(page.value("llm_requests_total", &[("thinking", "false")]), 1.0);
    assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_one_token_has_no_time_per_token() {
    let steps = [token("Yes"), finish("stop"), usage(9, 1), DONE.to_owned()].map(Step::from);
    let page = page_of(steps.to_vec()).await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 1.0);
    assert_eq!((page.count(TPOT, &[]), page.count(ITL, &[])), (0.0, 0.0));
    assert_eq!(page.histogram("llm_request_output_tokens", &[]).sum, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_usage_is_estimated_and_nothing_is_zero() {
    let steps = [role(), token("a"), token("b"), finish("stop"), DONE.to_owned()].map(Step::from);
    let page = page_of(steps.to_vec()).await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "estimated"), ("stream", "true")]), 1.0);
    assert_eq!(page.value("llm_usage_reports_total", &[]), 1.0);
    for name in ["llm_request_input_tokens", "llm_request_output_tokens"] {
        assert_eq!(page.count(name, &[]), 0.0, "{name}");
    }
    assert_eq!(page.value("llm_output_tokens_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_without_usage_is_missing_and_nothing_is_zero() {
    let watched = Watched::start().await;
    let documents = [
        r#"{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":null}"#,
        r#"{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{}}"#,
        r#"{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":null}}"#,
    ];
    for document in documents {
        watched.exchange(CHAT, ask_whole(MODEL), move || Script::json(document)).await;
    }
    let page = watched.settled().await;
    assert_ended(&page, 4, "success");
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "missing"), ("stream", "false")]), 4.0);
    assert_nothing_is_zero(&page);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_read_in_every_place_where_servers_put_it() {
    let last_chunk = event(&json!({
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
    }));
    let streams = [
        // With an empty list of choices, before `[DONE]`.
        vec![role(), token("a"), token("b"), token("c"), finish("stop"), usage(9, 3), DONE.to_owned()],
        // In the last chunk.
        vec![token("a"), token("b"), token("c"), last_chunk, DONE.to_owned()],
        // Cumulative in each chunk, as vLLM sends it.
        vec![
            token_with_usage("a", 1),
            token_with_usage("b", 2),
            token_with_usage("c", 3),
            finish("stop"),
            usage(9, 3),
            DONE.to_owned(),
        ],
        // After `[DONE]`, which violates the protocol.
        vec![token("a"), token("b"), token("c"), finish("stop"), DONE.to_owned(), usage(9, 3)],
    ];
    for stream in streams {
        let page = page_of(stream.iter().cloned().map(Step::from).collect()).await;
        assert_ended(&page, 1, "success");
        assert_eq!(page.value("llm_input_tokens_total", &[("model", MODEL)]), 9.0, "{stream:?}");
        assert_eq!(page.value("llm_output_tokens_total", &[("model", MODEL)]), 3.0, "{stream:?}");
        assert_eq!(page.histogram("llm_request_input_tokens", &[]).sum, 9.0);
        assert_eq!(page.histogram("llm_request_output_tokens", &[]).sum, 3.0);
        assert_eq!(page.value("llm_usage_reports_total", &[("source", "upstream")]), 1.0);
        assert_eq!(page.count(ITL, &[]), 2.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cumulative_usage_is_counted_when_it_arrives() {
    let watched = Watched::start().await;
    let gate = Gate::new();
    let steps = [
        Step::from(token_with_usage("a", 1)),
        Step::from(token_with_usage("b c", 3)),
        Step::Hold(gate.clone()),
        Step::from(token_with_usage("d", 4)),
        Step::from(finish("stop")),
        Step::from(DONE),
    ];
    let server = watched.answer(move |_, _| Script::stream(steps.clone())).await;
    let mut client = Client::connect(server.addr).await;
    let mut answer = client.send(post(server.addr, CHAT, ask(MODEL))).await;
    answer.until("b c").await;
    assert_eq!(watched.scrape().await.value("llm_output_tokens_total", &[]), 3.0);
    gate.open();
    answer.text().await;
    assert_eq!(watched.settled().await.value("llm_output_tokens_total", &[]), 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_and_reasoning_tokens_are_parts_and_are_not_added() {
    for reasoning in [json!({"completion_tokens_details": {"reasoning_tokens": 25}}), json!({"reasoning_tokens": 25})] {
        let mut details = json!({"prompt_tokens_details": {"cached_tokens": 512}});
        details.as_object_mut().unwrap().extend(reasoning.as_object().unwrap().clone());
        let steps = [thought("Hm"), token("a"), finish("stop"), usage_with(details), DONE.to_owned()];
        let page = page_of(steps.map(Step::from).to_vec()).await;
        for (name, tokens) in [
            ("llm_input_tokens_total", 900.0),
            ("llm_input_cached_tokens_total", 512.0),
            ("llm_output_tokens_total", 40.0),
            ("llm_output_reasoning_tokens_total", 25.0),
        ] {
            assert_eq!(page.value(name, &[("model", MODEL), ("operation", "chat")]), tokens, "{name}");
        }
        assert_eq!(page.histogram("llm_request_output_tokens", &[]).sum, 40.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_implausible_count_is_discarded_and_reported() {
    let steps = [token("a"), finish("stop"), usage(9, 18_446_744_073_709_551_615), DONE.to_owned()].map(Step::from);
    let page = page_of(steps.to_vec()).await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.value("llm_output_tokens_total", &[]), 0.0);
    assert_eq!(page.value("llm_input_tokens_total", &[]), 9.0);
    assert_eq!(page.value("llm_metrics_inspection_failures_total", &[("kind", "implausible")]), 1.0);
    assert_eq!(page.value("llm_usage_reports_total", &[("source", "estimated")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_choices_are_one_request_that_ends_when_the_last_does() {
    let both = event(&json!({"choices": [
        {"index": 0, "delta": {"content": "a"}, "finish_reason": null},
        {"index": 1, "delta": {"content": "b"}, "finish_reason": null},
    ]}));
    let end =
        |index: u32, reason: &str| event(&json!({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]}));
    let steps = [both, end(1, "length"), end(0, "stop"), usage(9, 2), DONE.to_owned()].map(Step::from);
    let page = page_of(steps.to_vec()).await;
    assert_ended(&page, 1, "success");
    for reason in ["stop", "length"] {
        assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", reason)]), 1.0);
    }
    assert_eq!(page.value("llm_finish_reasons_total", &[]), 2.0);
    assert_eq!(page.value("llm_output_tokens_total", &[]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_completions_are_counted_under_their_own_names() {
    let watched = Watched::start().await;
    let piece = |text: &str, reason: Option<&str>| {
        event(&json!({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": reason}]}))
    };
    let stream = [piece("Once", None), piece(" upon", None), piece("", Some("length")), usage(2, 2), DONE.to_owned()];
    let ask = r#"{"model":"Qwen3-4B","prompt":"Once","stream":true}"#;
    watched.exchange(COMPLETIONS, ask, move || Script::stream(stream.clone())).await;
    let whole = r#"{"choices":[{"index":0,"text":"Once upon","finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":2}}"#;
    watched.exchange(COMPLETIONS, r#"{"model":"Qwen3-4B","prompt":"Once"}"#, move || Script::json(whole)).await;
    let page = watched.settled().await;
    assert_ended(&page, 2, "success");
    let labels = [("model", MODEL), ("operation", "text_completion"), ("endpoint", COMPLETIONS)];
    assert_eq!(page.value("llm_requests_total", &labels), 2.0);
    assert_eq!(page.value("llm_output_tokens_total", &labels[..2]), 4.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &labels[..2]), 1.0);
}
