//! One span per request: its fields, its parent, and its end.

#![cfg(feature = "tracing")]

#[path = "../common/mod.rs"]
mod common;
mod findings;
mod opentelemetry;
mod subscriber;

use std::{convert::Infallible, sync::Mutex, time::Duration};

use bytes::Bytes;
use common::*;
use http::Request;
use http_body_util::{BodyExt, Full};
use llm_metrics::{ErrorType, FinishReason, InferenceHandle, LlmMetrics, Operation, Usage, spans::TARGET};
use subscriber::{Seen, Spans};
use tower::{BoxError, Layer as _, ServiceBuilder, ServiceExt, service_fn};
use tracing_subscriber::filter::LevelFilter;

fn tokens() -> Vec<Step> {
    [ROLE, HELLO, WORLD, STOP, USAGE, DONE].map(Step::Data).to_vec()
}

const LIMITED: &str =
    r#"{"model":"Qwen3-4B","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn a_stream_is_one_span_with_all_known_attributes() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    exchange(&recording, post(CHAT, LIMITED), stream(tokens())).await.unwrap();
    let mut span = spans.request();
    assert!(span.closed);
    let first: f64 = span.fields.remove("gen_ai.response.time_to_first_chunk").expect("it streamed").parse().unwrap();
    assert_eq!(first, recording.take().samples("llm_time_to_first_token_seconds", &[])[0]);
    span.assert_fields(&[
        ("otel.name", "chat Qwen3-4B"),
        ("otel.kind", "server"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "Qwen3-4B"),
        ("gen_ai.request.stream", "true"),
        ("gen_ai.request.max_tokens", "50"),
        ("gen_ai.response.model", "Qwen3-4B"),
        ("gen_ai.response.finish_reasons", r#"["stop"]"#),
        ("gen_ai.usage.input_tokens", "9"),
        ("gen_ai.usage.output_tokens", "3"),
        ("llm.outcome", "success"),
    ]);
}

#[tokio::test]
async fn a_document_is_one_span_with_all_known_attributes() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    let document = concat!(
        r#"{"model":"qwen3-4b-instruct","choices":[{"index":0,"text":"a","finish_reason":"length"},"#,
        r#"{"index":1,"text":"b","finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":30,"#,
        r#""prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":20}}}"#
    );
    exchange(&recording, post(COMPLETIONS, r#"{"model":"Qwen3-4B","prompt":"hi"}"#), json(document)).await.unwrap();
    spans.request().assert_fields(&[
        ("otel.name", "text_completion Qwen3-4B"),
        ("otel.kind", "server"),
        ("gen_ai.operation.name", "text_completion"),
        ("gen_ai.request.model", "Qwen3-4B"),
        ("gen_ai.request.stream", "false"),
        ("gen_ai.response.model", "qwen3-4b-instruct"),
        ("gen_ai.response.finish_reasons", r#"["stop","length"]"#),
        ("gen_ai.usage.input_tokens", "9"),
        ("gen_ai.usage.cache_read.input_tokens", "8"),
        ("gen_ai.usage.output_tokens", "30"),
        ("gen_ai.usage.reasoning.output_tokens", "20"),
        ("llm.outcome", "success"),
    ]);
}

#[tokio::test]
async fn unknown_values_are_absent() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), stream([HELLO, WORLD, STOP, DONE].map(Step::Data))).await.unwrap();
    let span = spans.request();
    for field in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.request.max_tokens"] {
        assert_eq!(span.field(field), None, "{field}: two events are an estimate, not a count");
    }
}

/// The response head of a service whose body the test controls.
async fn head(
    recording: &Recording,
    steps: impl Into<Vec<Step>>,
) -> impl BodyExt<Data = Bytes, Error = Broken> + Unpin {
    let answer = Mutex::new(Some(stream(steps)));
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request| {
        let answer = answer.lock().unwrap().take().unwrap();
        async move {
            read(request).await;
            Ok::<_, Infallible>(answer)
        }
    });
    service.oneshot(post(CHAT, ASK)).await.unwrap().into_body()
}

#[tokio::test]
async fn a_finish_reason_with_text_after_it_counts_if_the_answer_is_complete() {
    for (last, reasons) in [(DONE, Some(r#"["stop"]"#)), (HELLO, None)] {
        let (spans, _guard) = Spans::subscribe();
        let recording = Recording::new();
        exchange(&recording, post(CHAT, ASK), stream([STOP, WORLD, last].map(Step::Data))).await.unwrap();
        assert_eq!(spans.request().field("gen_ai.response.finish_reasons"), reasons);
    }
}

#[tokio::test]
async fn it_ends_when_the_body_ends_and_not_when_the_head_is_ready() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    let mut body = head(&recording, tokens()).await;
    for _ in tokens() {
        assert!(!spans.request().closed);
        body.frame().await.unwrap().unwrap();
    }
    assert!(body.frame().await.is_none());
    assert!(spans.request().closed, "though the body is still there");
}

#[tokio::test]
async fn a_client_that_leaves_ends_it_as_cancelled() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    let mut body = head(&recording, tokens()).await;
    for _ in 0..2 {
        body.frame().await.unwrap().unwrap();
    }
    assert!(!spans.request().closed);
    drop(body);
    let span = spans.request();
    assert!(span.closed);
    assert_eq!(span.ending(), (Some("cancelled"), None, None));
    assert_eq!(span.field("gen_ai.response.finish_reasons"), None);
    assert_eq!(span.field("gen_ai.request.model"), Some(MODEL));
}

#[tokio::test]
async fn the_span_of_a_response_whose_client_has_gone_ends_as_cancelled() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    let service = ServiceBuilder::new()
        .layer(recording.metrics.layer())
        .service_fn(|_| std::future::pending::<Result<Answer, Infallible>>());
    let waiting = service.oneshot(post(CHAT, ASK));
    assert!(tokio::time::timeout(Duration::ZERO, waiting).await.is_err());
    assert_eq!(spans.request().ending(), (Some("cancelled"), None, None));
    assert!(spans.request().closed);
}

#[tokio::test]
async fn an_error_inside_a_stream_is_the_status_of_the_span() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    let steps = [HELLO, "data: {\"error\":{\"message\":\"SECRET\"}}\n\n"].map(Step::Data);
    exchange(&recording, post(CHAT, ASK), stream(steps)).await.unwrap();
    assert_eq!(spans.request().ending(), (Some("error"), Some("stream_error"), Some("error")));
}

#[tokio::test]
async fn a_client_span_has_the_address_of_the_server() {
    for (address, host, port) in [
        ("http://gpu-1:8000", Some("gpu-1"), Some("8000")),
        ("https://user:SECRET@api.example.com", Some("api.example.com"), Some("443")),
        ("http://[::1]", Some("::1"), Some("80")),
        ("", None, None),
    ] {
        for proxy in [true, false] {
            let (spans, _guard) = Spans::subscribe();
            let layer = Recording::new().metrics.layer();
            let layer = if proxy { layer.proxy() } else { layer };
            let service = layer.layer(service_fn(|_| async { Ok::<_, Infallible>(json("{}")) }));
            drop(service.oneshot(post(&format!("{address}{CHAT}"), ASK)).await.unwrap());
            let span = spans.request();
            let named = (span.field("server.address"), span.field("server.port"));
            assert_eq!(named, if proxy { (host, port) } else { (None, None) }, "{address}");
        }
    }
}

#[tokio::test]
async fn an_error_of_the_caller_is_an_error_only_in_a_client_span() {
    for (proxy, kind, status) in [(false, "server", None), (true, "client", Some("error"))] {
        let (spans, _guard) = Spans::subscribe();
        let layer = Recording::new().metrics.layer();
        let layer = if proxy { layer.proxy() } else { layer };
        let service = layer.layer(service_fn(|request| async {
            read(request).await;
            Ok::<_, Infallible>(answer(404, "application/json", [Step::Data("{}")]))
        }));
        drop(service.oneshot(post(CHAT, ASK)).await.unwrap());
        let span = spans.request();
        assert_eq!(span.field("otel.kind"), Some(kind));
        assert_eq!(span.ending(), (Some("rejected"), Some("not_found"), status));
    }
}

#[tokio::test]
async fn a_service_that_fails_ends_it() {
    let (spans, _guard) = Spans::subscribe();
    let layer = Recording::new().metrics.layer().classify_error(|_: &BoxError| ErrorType::Timeout);
    let service = layer.layer(service_fn(|_| async { Err::<Answer, BoxError>("SECRET".into()) }));
    assert!(service.oneshot(post(CHAT, ASK)).await.is_err());
    assert_eq!(spans.request().ending(), (Some("error"), Some("timeout"), Some("error")));
    assert!(spans.request().closed);
}

#[tokio::test]
async fn a_panic_ends_it_and_leaves_no_span_behind() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    let mut body = head(&recording, [Step::Data(HELLO), Step::Panic]).await;
    body.frame().await.unwrap().unwrap();
    let polled = catch_panic(body.frame()).await;
    assert!(polled.is_err());
    assert_eq!(spans.request().ending(), (Some("error"), Some("internal"), Some("error")));
    assert!(spans.request().closed);
    assert!(tracing::Span::current().is_none(), "every entered span was exited");
}

/// Polls a future until it is done or has panicked.
async fn catch_panic<T>(future: impl Future<Output = T>) -> std::thread::Result<T> {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        }
    })
    .await
}

#[tokio::test]
async fn it_is_a_child_of_the_callers_span_and_the_parent_of_spans_of_the_service() {
    /// A body that opens a span in each frame.
    struct Traced(common::Steps);
    impl http_body::Body for Traced {
        type Data = Bytes;
        type Error = Broken;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Broken>>> {
            tracing::info_span!("in the body").in_scope(|| ());
            std::pin::Pin::new(&mut self.0).poll_frame(cx)
        }
    }
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    let service = recording.metrics.layer().layer(service_fn(|request| {
        tracing::info_span!("in the call").in_scope(|| ());
        async move {
            read(request).await;
            tokio::task::yield_now().await;
            tracing::info_span!("in the future").in_scope(|| ());
            let answer = stream([]).map(|_| Traced(Steps::new([HELLO, STOP, DONE].map(Step::Data))));
            Ok::<_, Infallible>(answer)
        }
    }));
    let outer = tracing::info_span!("of the caller");
    let called = {
        let mut service = service;
        let _entered = outer.enter();
        tower::Service::call(&mut service, post(CHAT, ASK))
    };
    let mut body = called.await.unwrap().into_body();
    while body.frame().await.is_some() {
        assert!(tracing::Span::current().is_none(), "nothing stays entered between polls");
    }

    let all = spans.all();
    let place = all.iter().position(|span| span.target == TARGET).unwrap();
    assert_eq!(all[all[place].parent.unwrap()].name, "of the caller");
    for (name, times) in [("in the call", 1), ("in the future", 1), ("in the body", 4)] {
        let children: Vec<_> = all.iter().filter(|span| span.name == name).collect();
        assert_eq!(children.len(), times, "{name}");
        assert!(children.iter().all(|span| span.parent == Some(place)), "{name}");
    }
    assert!(spans.request().closed);
}

#[tokio::test]
async fn a_handle_that_outlives_the_request_does_not_keep_it_open() {
    let (spans, _guard) = Spans::subscribe();
    let kept: Mutex<Option<InferenceHandle>> = Mutex::default();
    let service = Recording::new().metrics.layer().layer(service_fn(|request: Request<_>| {
        *kept.lock().unwrap() = request.extensions().get().cloned();
        async {
            read(request).await;
            Ok::<_, Infallible>(json(r#"{"choices":[]}"#))
        }
    }));
    let body = service.oneshot(post(CHAT, ASK)).await.unwrap().into_body();
    body.collect().await.unwrap();
    assert!(kept.lock().unwrap().is_some());
    assert!(spans.request().closed);
}

#[tokio::test]
async fn a_request_that_is_not_an_llm_call_has_no_span() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    exchange(&recording, post("/v1/files", ASK), json("{}")).await.unwrap();
    let get = Request::get(CHAT).body(Full::default()).unwrap();
    exchange(&recording, get, json("{}")).await.unwrap();
    assert!(spans.all().is_empty(), "{:?}", spans.all());
}

#[tokio::test]
async fn it_contains_no_content() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::new();
    let request = concat!(
        r#"{"model":"Qwen3-4B","stream":true,"user":"SECRET","stop":["SECRET"],"messages":[{"role":"system","content":"SECRET"},"#,
        r#"{"role":"user","content":[{"type":"text","text":"SECRET"}]}],"metadata":{"model":"SECRET"},"#,
        r#""tools":[{"type":"function","function":{"name":"SECRET","parameters":{"model":"SECRET"}}}]}"#
    );
    let answer = concat!(
        "data: {\"id\":\"SECRET\",\"model\":\"Qwen3-4B\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"SECRET\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"SECRET\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"SECRET\",\"arguments\":\"{\\\"model\\\":\\\"SECRET\\\"}\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"SECRET\"}]}\n\n",
        "data: {\"error\":{\"message\":\"SECRET\",\"type\":\"SECRET\",\"code\":\"SECRET\"}}\n\n",
    );
    exchange(&recording, post(CHAT, request), stream([Step::Data(answer)])).await.unwrap();
    let span = spans.request();
    assert_eq!(span.field("gen_ai.response.finish_reasons"), Some(r#"["other"]"#));
    assert_eq!(span.field("error.type"), Some("stream_error"), "all of it was read");
    assert!(!format!("{:?}", spans.all()).contains("SECRET"), "{span:?}");
}

#[tokio::test]
async fn a_name_that_is_not_a_valid_label_value_is_other() {
    for name in ["x".repeat(129), "a\\nb".into(), "a\\u0000b".into(), "a\\\\b".into()] {
        let (spans, _guard) = Spans::subscribe();
        let ask = format!(r#"{{"model":"{name}","messages":[]}}"#);
        let answer: &'static str = format!(r#"{{"model":"{name}","choices":[]}}"#).leak();
        exchange(&Recording::new(), post(CHAT, ask), json(answer)).await.unwrap();
        let span = spans.request();
        let names = ["otel.name", "gen_ai.request.model", "gen_ai.response.model"].map(|field| span.field(field));
        assert_eq!(names, [Some("chat other"), Some("other"), Some("other")], "{name}");
    }
}

#[tokio::test]
async fn an_invented_model_does_not_become_a_span_name() {
    let (spans, _guard) = Spans::subscribe();
    let ask = r#"{"model":"made-up","messages":[]}"#;
    exchange(&Recording::new(), post(CHAT, ask), answer(404, "application/json", [])).await.unwrap();
    let span = spans.request();
    assert_eq!((span.field("otel.name"), span.field("gen_ai.request.model")), (Some("chat other"), Some("made-up")));

    let (spans, _guard) = Spans::subscribe();
    exchange(&Recording::new(), post(CHAT, "{}"), answer(400, "application/json", [])).await.unwrap();
    let span = spans.request();
    assert_eq!((span.field("otel.name"), span.field("gen_ai.request.model")), (Some("chat"), None), "there was none");
}

#[test]
fn a_request_by_hand_has_its_span() {
    let (spans, _guard) = Spans::subscribe();
    let recording = Recording::with(|builder| builder.models(["m"]));
    let mut inference = recording.metrics.start(Operation::Chat, "m");
    assert_eq!(spans.request().field("otel.name"), Some("chat m"), "a known model is in its name from the start");
    inference.span().in_scope(|| tracing::info_span!("engine").in_scope(|| ()));
    inference.tokens(2);
    inference.usage(Usage::new().input(9).cached_input(4).output(2));
    assert!(!spans.request().closed);
    inference.finish(FinishReason::Length);
    let mut span = spans.request();
    assert!(span.closed && span.fields.remove("gen_ai.response.time_to_first_chunk").is_some());
    span.assert_fields(&[
        ("otel.name", "chat m"),
        ("otel.kind", "internal"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "m"),
        ("gen_ai.request.stream", "true"),
        ("gen_ai.response.finish_reasons", r#"["length"]"#),
        ("gen_ai.usage.input_tokens", "9"),
        ("gen_ai.usage.cache_read.input_tokens", "4"),
        ("gen_ai.usage.output_tokens", "2"),
        ("llm.outcome", "success"),
    ]);
    let all = spans.all();
    assert_eq!(all.iter().find(|span| span.name == "engine").unwrap().parent, Some(0));
}

#[test]
fn a_failure_and_a_drop_by_hand_end_it() {
    let (spans, _guard) = Spans::subscribe();
    let metrics = Recording::new().metrics;
    metrics.start(Operation::Embeddings, "made-up").fail(ErrorType::InvalidRequest);
    metrics.start(Operation::Embeddings, "m").fail(ErrorType::Overloaded);
    drop(metrics.start(Operation::Chat, "made-up"));
    let [refused, failed, dropped] = <[Seen; 3]>::try_from(spans.requests()).unwrap();
    assert_eq!(refused.field("otel.name"), Some("embeddings other"));
    assert_eq!(failed.ending(), (Some("error"), Some("overloaded"), Some("error")));
    assert_eq!(failed.field("otel.name"), Some("embeddings m"), "by no fault of the caller's");
    assert_eq!(dropped.ending(), (Some("cancelled"), None, None));
    assert!(failed.closed && dropped.closed);
}

#[tokio::test]
async fn a_handler_can_record_the_provider() {
    let (spans, _guard) = Spans::subscribe();
    let service = Recording::new().metrics.layer().layer(service_fn(|request| async {
        tracing::Span::current().record("gen_ai.provider.name", "vllm");
        read(request).await;
        Ok::<_, Infallible>(json(r#"{"choices":[]}"#))
    }));
    drop(service.oneshot(post(CHAT, ASK)).await.unwrap());
    assert_eq!(spans.request().field("gen_ai.provider.name"), Some("vllm"));
}

#[tokio::test]
async fn a_subscriber_that_does_not_want_it_does_not_get_it() {
    let (spans, _guard) = Spans::subscribe_to(LevelFilter::WARN);
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), stream(tokens())).await.unwrap();
    assert!(LlmMetrics::new().start(Operation::Chat, "m").span().is_disabled());
    assert!(spans.all().is_empty());
    recording.take().assert_ended("success", None);
}
