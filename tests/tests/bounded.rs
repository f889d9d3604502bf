//! The limits of memory: no allocation per chunk or per sample, and about a kilobyte per stream.

use std::{
    convert::Infallible,
    hint::black_box,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicIsize, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use llm_metrics::{FinishReason, LlmMetrics, Operation, QualityChecks, prometheus::Exporter};
use llm_metrics_tests::{
    MODEL,
    memory::{ALLOCATIONS, Counting, HELD, LIVE, PEAK, alone},
    stream::*,
};
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::json;
use tower::{Layer, Service, service_fn};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A recorder whose handles allocate nothing and count samples.
#[derive(Clone, Default)]
struct Samples(Arc<AtomicU64>);

struct Sampled(Arc<AtomicU64>);

impl HistogramFn for Sampled {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Recorder for Samples {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() == "llm_inter_token_latency_seconds" {
            Histogram::from_arc(Arc::new(Sampled(Arc::clone(&self.0))))
        } else {
            Histogram::noop()
        }
    }
}

/// A body that returns the same chunk forever, without allocating.
struct Again(Bytes);

impl Body for Again {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(self.0.clone()))))
    }
}

/// Runs a future that is never pending.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// Reads a request to its end and answers with this chunk forever.
async fn answer<B: Body>(request: Request<B>, chunk: Bytes) -> Result<Response<Again>, Infallible> {
    let is_ollama = request.uri().path().starts_with("/api/");
    let mut body = std::pin::pin!(request.into_body());
    while std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.is_some() {}
    let mut response = Response::new(Again(chunk));
    let content_type = if is_ollama { "application/x-ndjson" } else { "text/event-stream" };
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(content_type));
    Ok(response)
}

fn request() -> Request<Full<Bytes>> {
    request_to(CHAT)
}

fn request_to(path: &str) -> Request<Full<Bytes>> {
    Request::post(path).body(Full::new(Bytes::from(ask(MODEL)))).unwrap()
}

/// An answer in the middle of its stream: the request was read, and the first chunks have passed.
fn open_stream(
    metrics: &LlmMetrics,
    request: Request<Full<Bytes>>,
    chunk: &Bytes,
) -> impl Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
    let chunk = chunk.clone();
    let mut service = metrics.layer().ollama().layer(service_fn(move |request| answer(request, chunk.clone())));
    let mut body = now(service.call(request)).unwrap().into_body();
    for _ in 0..4 {
        next(&mut body);
    }
    body
}

fn next(body: &mut (impl Body<Data = Bytes, Error = Infallible> + Unpin)) {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => drop(black_box(frame)),
        _ => panic!("the body goes on forever"),
    }
}

/// A usual chunk of 230 bytes.
fn small_chunk() -> Bytes {
    let chunk = Bytes::from(event(&json!({
        "id": "chatcmpl-3f0c1b6e5d7a4b21", "object": "chat.completion.chunk", "created": 1_790_000_000_u64,
        "model": "Qwen/Qwen3-4B-Instruct-2507", "system_fingerprint": null,
        "choices": [{"index": 0, "delta": {"content": " world"}, "logprobs": null, "finish_reason": null}],
    })));
    assert!((215..=250).contains(&chunk.len()), "{} bytes", chunk.len());
    chunk
}

/// A chunk with the twenty likeliest tokens: 1.2 KB.
fn chunk_with_logprobs() -> Bytes {
    let candidate =
        |n: u32| json!({"token": format!(" word{n}"), "logprob": -0.125, "bytes": [32, 119, 111, 114, 100]});
    let top: Vec<_> = (0..14).map(candidate).collect();
    let logprobs = json!({"content": [{"token": " world", "logprob": -0.01, "bytes": [32, 119], "top_logprobs": top}]});
    let chunk = Bytes::from(event(&json!({
        "id": "chatcmpl-3f0c1b6e5d7a4b21", "object": "chat.completion.chunk", "created": 1_790_000_000_u64,
        "model": "Qwen/Qwen3-4B-Instruct-2507",
        "choices": [{"index": 0, "delta": {"content": " world"}, "logprobs": logprobs, "finish_reason": null}],
    })));
    assert!((1100..=1350).contains(&chunk.len()), "{} bytes", chunk.len());
    chunk
}

/// Deltas of the other protocols, with optional members around the text.
fn deltas() -> [(&'static str, Bytes); 5] {
    [
        ("/v1/messages", "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" world\"}}\n\n"),
        ("/v1/responses", "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":7,\"item_id\":\"msg_1\",\"delta\":\" world\",\"logprobs\":[],\"obfuscation\":\"xyz\"}\n\n"),
        ("/completion", "data: {\"index\":0,\"content\":\" world\",\"stop\":false,\"tokens_predicted\":2,\"tokens_evaluated\":4}\n\n"),
        ("/api/chat", "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00.1Z\",\"message\":{\"role\":\"assistant\",\"content\":\" world\"},\"done\":false}\n"),
        ("/api/generate", "{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00.1Z\",\"response\":\" world\",\"done\":false}\n"),
    ]
    .map(|(path, delta)| (path, Bytes::from_static(delta.as_bytes())))
}

#[test]
fn a_chunk_in_steady_state_allocates_nothing() {
    let _alone = alone();
    let chat = [
        (small_chunk(), 1),
        (chunk_with_logprobs(), 1),
        (Bytes::from(thought("Hm, let me see.")), 1),
        (Bytes::from(chunk_of_tool()), 1),
        (Bytes::from([token("one"), token(" two"), token(" three")].concat()), 3),
        (Bytes::from_static(b": keep-alive\n\n"), 0),
    ];
    let others = deltas().map(|(path, delta)| (path, delta, 1));
    for (path, chunk, tokens) in chat.map(|(chunk, tokens)| (CHAT, chunk, tokens)).into_iter().chain(others) {
        let samples = Samples::default();
        let metrics = LlmMetrics::builder().recorder(samples.clone()).build().unwrap();
        let mut body = open_stream(&metrics, request_to(path), &chunk);
        let (allocations, recorded) = (ALLOCATIONS.get(), samples.0.load(Ordering::Relaxed));
        for _ in 0..10_000 {
            next(&mut body);
        }
        let allocations = ALLOCATIONS.get() - allocations;
        let recorded = samples.0.load(Ordering::Relaxed) - recorded;
        let text = String::from_utf8_lossy(&chunk);
        assert_eq!(recorded, 10_000 * tokens, "every chunk is measured: {text}");
        assert_eq!(allocations, 0, "in 10,000 chunks of {} bytes: {text}", chunk.len());
    }
}

fn chunk_of_tool() -> String {
    chunk(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"city\":"}}]}), None)
}

#[test]
fn a_chunk_in_pieces_allocates_nothing() {
    let _alone = alone();
    /// A body that returns a chunk in pieces that end at any byte.
    struct Pieces(Bytes, usize);
    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let from = self.1;
            let to = (from + 7).min(self.0.len());
            self.1 = to % self.0.len();
            Poll::Ready(Some(Ok(Frame::data(self.0.slice(from..to)))))
        }
    }
    let metrics = LlmMetrics::builder().recorder(Samples::default()).build().unwrap();
    let chunk = small_chunk();
    let mut service = metrics.layer().layer(service_fn(move |request| {
        let chunk = chunk.clone();
        async move { Ok::<_, Infallible>(answer(request, Bytes::new()).await?.map(|_| Pieces(chunk, 0))) }
    }));
    let mut body = now(service.call(request())).unwrap().into_body();
    for _ in 0..1000 {
        next(&mut body);
    }
    let before = ALLOCATIONS.get();
    for _ in 0..10_000 {
        next(&mut body);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[test]
fn a_stream_without_checks_of_its_text_holds_a_kilobyte_at_most() {
    const STREAMS: usize = 1000;
    let _alone = alone();
    let chat = [small_chunk(), chunk_with_logprobs()].map(|chunk| (CHAT, chunk));
    for (path, chunk) in chat.into_iter().chain(deltas()) {
        let samples = Samples::default();
        let metrics = LlmMetrics::builder().recorder(samples.clone()).quality(QualityChecks::none()).build().unwrap();
        drop(open_stream(&metrics, request_to(path), &chunk));

        let before = HELD.get();
        let bare: Vec<_> = (0..STREAMS)
            .map(|_| {
                let mut body = Box::new(now(answer(request_to(path), chunk.clone())).unwrap().into_body());
                (0..4).for_each(|_| next(&mut body));
                body
            })
            .collect();
        let bare_bytes = HELD.get() - before;
        drop(bare);

        let before = HELD.get();
        let open = || Box::new(open_stream(&metrics, request_to(path), &chunk));
        let streams: Vec<_> = (0..STREAMS).map(|_| open()).collect();
        let bytes = HELD.get() - before;
        assert!(samples.0.load(Ordering::Relaxed) >= 2 * STREAMS as u64, "every stream is read");
        drop(streams);

        let each = (bytes - bare_bytes) / STREAMS as isize;
        println!("a stream of {path} in flight holds {each} bytes");
        assert!(each <= 1024, "{path}: {each} bytes a stream, {bytes} in all, {bare_bytes} without the layer");
    }
}

/// A request with seventy tools, for four answers in an output format.
fn demanding() -> Request<Full<Bytes>> {
    let tools: Vec<_> =
        (0..70).map(|n| json!({"type": "function", "function": {"name": format!("tool_{n}")}})).collect();
    let body = json!({
        "model": MODEL, "stream": true, "n": 4, "response_format": {"type": "json_object"}, "tools": tools,
        "messages": [{"role": "user", "content": "Say hi."}],
    });
    Request::post(CHAT).header("x-request-id", "r".repeat(128)).body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

#[test]
fn a_stream_with_every_check_holds_eight_kilobytes_at_most() {
    const STREAMS: usize = 100;
    let _alone = alone();
    let choices: Vec<_> = (0..6)
        .map(|index| {
            let calls: Vec<_> = (0..9)
                .map(|call| json!({"index": call, "function": {"name": "tool_1", "arguments": "{\"a\": [1,"}}))
                .collect();
            format!("{{\"index\":{index},\"delta\":{{\"content\":\"{{\",\"tool_calls\":{}}}}}", json!(calls))
        })
        .collect();
    let full = Bytes::from(format!("data: {{\"choices\":[{}]}}\n\n", choices.join(",")));
    for (request, chunk) in [(request as fn() -> _, small_chunk()), (demanding, full)] {
        let metrics = LlmMetrics::builder().recorder(Samples::default()).on_finding(|_| {}).build().unwrap();
        drop(open_stream(&metrics, request(), &chunk));
        let before = HELD.get();
        let streams: Vec<_> = (0..STREAMS).map(|_| Box::new(open_stream(&metrics, request(), &chunk))).collect();
        let each = (HELD.get() - before) / STREAMS as isize;
        drop(streams);
        println!("a stream in flight holds {each} bytes with every check");
        assert!(each <= 8192, "{each} bytes a stream");
    }
}

/// The only check that stores text: the schema of the request, and four answers.
#[test]
fn a_stream_that_is_validated_against_a_schema_holds_text_up_to_its_limits() {
    const STREAMS: usize = 20;
    const TEXT: usize = (32 << 10) + 4 * (64 << 10);
    let _alone = alone();
    let ask = |length: usize| {
        let schema = json!({"type": "array", "description": "d".repeat(length)});
        let format = json!({"type": "json_schema", "json_schema": {"name": "list", "schema": schema}});
        let body = json!({"model": MODEL, "stream": true, "n": 4, "response_format": format});
        Request::post(CHAT).body(Full::new(Bytes::from(body.to_string()))).unwrap()
    };
    // Four chunks of this length fit, and five do not.
    let chunk = |length: usize| {
        let content = " ".repeat(length);
        let choices: Vec<_> = (0..6).map(|index| json!({"index": index, "delta": {"content": content}})).collect();
        Bytes::from(format!("data: {}\n\n", json!({"choices": choices})))
    };
    for (schema, chunk, least, most) in
        [(32_000, chunk(16_000), TEXT - 20_000, TEXT + 8192), (33_000, chunk(16_400), 0, 8192)]
    {
        let checks = QualityChecks::all().json_schema(true);
        let metrics = LlmMetrics::builder().recorder(Samples::default()).quality(checks).build().unwrap();
        drop(open_stream(&metrics, ask(schema), &chunk));
        let before = HELD.get();
        let streams: Vec<_> = (0..STREAMS).map(|_| Box::new(open_stream(&metrics, ask(schema), &chunk))).collect();
        let each = (HELD.get() - before) as usize / STREAMS;
        drop(streams);
        println!("a stream in flight holds {each} bytes with a schema of {schema} bytes");
        assert!((least..=most).contains(&each), "{each} bytes a stream, not {least} to {most}");
    }
}

/// The text never repeats, so every check continues to the end.
#[test]
fn the_checks_allocate_nothing_a_chunk() {
    struct Varied(Arc<[Bytes]>, usize);
    impl Body for Varied {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.1 += 1;
            Poll::Ready(Some(Ok(Frame::data(self.0[self.1 % self.0.len()].clone()))))
        }
    }
    let _alone = alone();
    let findings = Arc::new(AtomicU64::new(0));
    let found = Arc::clone(&findings);
    let metrics = LlmMetrics::builder()
        .recorder(Samples::default())
        .on_finding(move |_| {
            found.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    let chunks: Arc<[Bytes]> = (0..4000_u64)
        .map(|n| {
            Bytes::from(token(&format!(
                " \"{}\": [{}, true],",
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 9973,
                n * n % 8209
            )))
        })
        .collect();
    let mut service = metrics.layer().layer(service_fn(move |request| {
        let chunks = Arc::clone(&chunks);
        async move { Ok::<_, Infallible>(answer(request, Bytes::new()).await?.map(|_| Varied(chunks, 0))) }
    }));
    let mut body = now(service.call(demanding())).unwrap().into_body();
    (0..10).for_each(|_| next(&mut body));
    let before = ALLOCATIONS.get();
    (0..3900).for_each(|_| next(&mut body));
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(findings.load(Ordering::Relaxed), 0, "nothing ended the checks");
}

/// Bodies that never end, each of which tries to fill the memory of its reader.
fn endless() -> [(&'static str, &'static str, &'static str); 9] {
    [
        ("a text without end", "data: {\"choices\":[{\"delta\":{\"content\":\"", "and so on "),
        ("a skipped text without end", "data: {\"padding\":\"", "and so on "),
        ("an object without end", "data: {\"x\":{", "\"key\":[1,2],"),
        ("depth without end", "data: {\"choices\":", "[{\"a\":"),
        ("a key without end", "data: {\"", "key"),
        ("a number without end", "data: {\"usage\":{\"completion_tokens\":", "123456789"),
        ("a field name without end", "", "data"),
        ("choices without end", "data: {\"choices\":[", "{\"index\":7000,\"delta\":{\"content\":\"a\"}},"),
        ("a model name without end", "data: {\"model\":\"", "qwen"),
    ]
}

#[test]
fn no_answer_makes_the_memory_of_its_reader_grow() {
    let _alone = alone();
    for (what, begin, rest) in endless() {
        for content_type in ["text/event-stream", "application/json"] {
            /// A body that has a beginning, and then continues forever.
            struct Endless(Option<Bytes>, Bytes);
            impl Body for Endless {
                type Data = Bytes;
                type Error = Infallible;
                fn poll_frame(
                    mut self: Pin<&mut Self>,
                    _: &mut Context<'_>,
                ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                    let data = self.0.take().unwrap_or_else(|| self.1.clone());
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
            }
            let begin = if content_type == "application/json" { begin.trim_start_matches("data: ") } else { begin };
            let (begin, rest) = (Bytes::from_static(begin.as_bytes()), Bytes::from(rest.repeat(2000)));
            let metrics = LlmMetrics::builder().recorder(Samples::default()).build().unwrap();
            let mut service = metrics.layer().layer(service_fn(move |request| {
                let body = Endless(Some(begin.clone()), rest.clone());
                async move {
                    let mut response = answer(request, Bytes::new()).await?.map(|_| body);
                    response.headers_mut().insert("content-type", http::HeaderValue::from_static(content_type));
                    Ok::<_, Infallible>(response)
                }
            }));
            let mut body = now(service.call(request())).unwrap().into_body();
            (0..10).for_each(|_| next(&mut body));
            let before = HELD.get();
            (0..300).for_each(|_| next(&mut body));
            let growth = HELD.get() - before;
            assert!(growth <= 0, "{what}, {content_type}: {growth} bytes more after 5 MB");
        }
    }
}

#[test]
fn no_request_makes_the_memory_of_its_reader_grow() {
    let _alone = alone();
    for (what, begin, rest) in endless() {
        let begin = begin.trim_start_matches("data: ").replace("choices", "messages");
        let rest = Bytes::from(rest.repeat(2000));
        let held = Arc::new(AtomicIsize::new(isize::MAX));
        let metrics = LlmMetrics::builder().recorder(Samples::default()).build().unwrap();
        let mut service = {
            let held = Arc::clone(&held);
            metrics.layer().layer(service_fn(move |request: Request<llm_metrics::layer::RequestBody<Again>>| {
                let mut body = request.into_body();
                (0..10).for_each(|_| next(&mut body));
                let before = HELD.get();
                (0..300).for_each(|_| next(&mut body));
                held.store(HELD.get() - before, Ordering::Relaxed);
                std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))))
            }))
        };
        // The first frame and the others are the same. A beginning inside a value is part of that value.
        let frame = Bytes::from([begin.as_bytes(), &rest].concat());
        let request = Request::post(CHAT).body(Again(frame)).unwrap();
        drop(now(service.call(request)));
        let growth = held.load(Ordering::Relaxed);
        assert!(growth <= 0, "{what}: {growth} bytes more after 5 MB");
    }
}

#[test]
fn finished_requests_do_not_add_up() {
    let _alone = alone();
    let metrics = LlmMetrics::builder().recorder(Samples::default()).build().unwrap();
    let finish = |requests: usize| {
        for _ in 0..requests {
            let mut request = metrics.start(Operation::Chat, MODEL);
            request.tokens(1);
            request.tokens(1);
            request.finish(FinishReason::Stop);
        }
        metrics.refresh();
    };
    let before = HELD.get();
    finish(1);
    let windows = HELD.get() - before;
    assert!(windows <= 100_000, "{windows} bytes for a model with all its windows, its handles included");
    finish(2000);
    let full = HELD.get() - before;
    assert!(full <= 400_000, "{full} bytes");
    finish(50_000);
    assert_eq!(HELD.get() - before, full, "and never more");
    // Not printed earlier, because the test harness stores the output of a test, which would count.
    println!("{windows} bytes after one request, {full} with a full ring");
}

#[test]
fn ten_million_samples_take_no_memory_and_none_is_lost() {
    const SAMPLES: usize = 10_000_000;
    let _alone = alone();
    let (recorder, exporter) = Exporter::builder().build().unwrap();
    let metadata = Metadata::new("test", metrics::Level::INFO, None);
    let histograms: Vec<Histogram> = (0..8)
        .map(|n| {
            let labels =
                vec![metrics::Label::new("model", format!("model-{n}")), metrics::Label::new("operation", "chat")];
            recorder.register_histogram(&Key::from_parts("llm_inter_token_latency_seconds", labels), &metadata)
        })
        .collect();
    drop(exporter.render());
    let live = LIVE.load(Ordering::Relaxed);
    PEAK.store(live, Ordering::Relaxed);
    for n in 0..SAMPLES {
        histograms[n % 8].record(0.001 * (n % 100) as f64);
    }
    let growth = PEAK.load(Ordering::Relaxed) - live;
    println!("{SAMPLES} samples: {growth} bytes more were alive at the peak");
    // The memory that upkeep uses for a moment.
    assert!(growth <= 256 << 10, "{growth} bytes");
    let page = llm_metrics_tests::Page::parse(exporter.render());
    assert_eq!(page.count("llm_inter_token_latency_seconds", &[]), SAMPLES as f64, "none is lost");
}

#[test]
fn samples_of_custom_histograms_are_drained_without_a_scrape() {
    const AT_ONCE: isize = 100_000;
    let _alone = alone();
    let mine = metrics_exporter_prometheus::Matcher::Full("mine_seconds".to_owned());
    let builder = Exporter::builder().configure(|exporter| exporter.set_buckets_for_metric(mine, &[1.0]).unwrap());
    let (recorder, exporter) = builder.build().unwrap();
    let metadata = Metadata::new("test", metrics::Level::INFO, None);
    let histogram = recorder.register_histogram(&Key::from_name("mine_seconds"), &metadata);
    let before = LIVE.load(Ordering::Relaxed);
    let mut samples = 0;
    // Drained samples are freed when new ones arrive. Until then, less is held than has arrived.
    while samples < 10 * AT_ONCE || LIVE.load(Ordering::Relaxed) - before > samples {
        assert!(samples < 500 * AT_ONCE, "all of them are kept");
        (0..AT_ONCE).for_each(|_| histogram.record(0.5));
        samples += AT_ONCE;
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let page = llm_metrics_tests::Page::parse(exporter.render());
    assert_eq!(page.value("mine_seconds_count", &[]), samples as f64);
}
