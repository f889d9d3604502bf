//! Likely mistakes are logged once, with their remedies.
#![cfg(all(feature = "test-util", feature = "tracing"))]

use std::{
    convert::Infallible,
    fmt::{self, Write},
    future::{pending, ready},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use llm_metrics::{
    ErrorType, FinishReason, InferenceHandle, InvalidPage, LlmMetrics, Operation,
    catalog::{self, Naming},
    observe::ResponseHead,
    prometheus::{Exporter, bind_buckets, render},
    spans::HINTS,
    testing,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

/// A subscriber that stores the messages with the target of hints.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{value:?}").unwrap();
    }
}

impl<S: Subscriber> Layer<S> for Said {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == HINTS {
            let mut message = Message(String::new());
            event.record(&mut message);
            let may_be_well = message.0.starts_with("the page was read");
            assert_eq!(*event.metadata().level(), if may_be_well { Level::INFO } else { Level::WARN });
            self.0.lock().unwrap().push(message.0);
        }
    }
}

const EVENTS: ResponseHead<'_> = ResponseHead::new(200);
const NAMED: &[u8] = br#"{"model": "Qwen3-4B", "stream": true}"#;

fn request(metrics: &LlmMetrics, path: &str, body: &[u8], response: ResponseHead<'_>, answer: &[u8]) {
    let (head, ()) = Request::post(path).body(()).unwrap().into_parts();
    let request = metrics.observer().request(&head);
    let mut reader = request.body_reader();
    reader.read(body);
    reader.end();
    let mut response = request.response(response);
    response.read(answer);
    response.end();
}

#[test]
fn each_mistake_is_logged_once_with_its_remedy() {
    type Case = (fn(&LlmMetrics), &'static str);
    let cases: [Case; 6] = [
        (|metrics| request(metrics, "/api/chat", b"", EVENTS, b""), "`.ollama()`"),
        (
            |metrics| request(metrics, "/ask", b"", EVENTS.content_type("text/event-stream"), b""),
            "Endpoint::ChatCompletions",
        ),
        (
            |metrics| request(metrics, "/v1/chat/completions", NAMED, EVENTS.content_encoding("gzip"), b"\x1f\x8b\x08"),
            "inside compression",
        ),
        (
            |metrics| {
                let events = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
                request(metrics, "/v1/chat/completions", NAMED, EVENTS.content_type("text/event-stream"), events);
            },
            "include_usage",
        ),
        (
            |metrics| {
                let answer = br#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"completion_tokens":1}}"#;
                request(metrics, "/v1/chat/completions", b"{}", EVENTS.content_type("application/json"), answer);
            },
            "InferenceHandle::model",
        ),
        (|metrics| drop(metrics.inference(Operation::Chat, "m").label("tenant", "acme")), "`Builder::request_label`"),
    ];
    let said = Said::default();
    let subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let (metrics, _page) = testing::metrics();
    cases.iter().for_each(|(mistake, _)| mistake(&metrics));
    assert_eq!(said.0.lock().unwrap().len(), cases.len(), "each hint is logged, whatever else was logged");
    drop(subscribed);
    for (mistake, remedy) in cases {
        let said = Said::default();
        let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
        let (metrics, _page) = testing::metrics();
        for _ in 0..3 {
            mistake(&metrics);
        }
        let said = said.0.lock().unwrap();
        assert_eq!(said.len(), 1, "{remedy}: {said:?}");
        assert!(said[0].contains(remedy), "{remedy}: {said:?}");
    }
}

#[test]
fn nothing_is_logged_without_a_mistake() {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let (metrics, _page) = testing::metrics();
    let answer = br#"{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"completion_tokens":1}}"#;
    request(&metrics, "/v1/chat/completions", NAMED, EVENTS.content_type("application/json"), answer);
    request(&metrics, "/login", b"", EVENTS.content_type("application/json"), b"{}");
    request(&metrics, "/api/chat", b"", ResponseHead::new(404), b"");
    assert!(said.0.lock().unwrap().is_empty(), "{said:?}", said = said.0.lock().unwrap());
}

#[test]
fn metrics_without_a_recorder_log_that_nothing_is_recorded() {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let metrics = LlmMetrics::new();
    assert!(said.0.lock().unwrap().is_empty(), "a recorder may still be installed in time");
    (0..3).for_each(|_| drop(metrics.start(Operation::Chat, "m")));
    let said = said.0.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("cargo tree -d -i metrics") && said[0].contains("Builder::exporter"), "{said:?}");
}

#[test]
fn metrics_with_a_recorder_log_nothing() {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let global = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&global, || drop(LlmMetrics::new().start(Operation::Chat, "m")));
    // A no-op recorder that was passed explicitly is not a mistake.
    let off = LlmMetrics::builder().recorder(metrics::NoopRecorder).build().unwrap();
    drop(off.start(Operation::Chat, "m"));
    assert!(said.0.lock().unwrap().is_empty(), "{said:?}", said = said.0.lock().unwrap());
}

/// The problems that are found and logged for another exporter with a request on its page.
fn checked(builder: PrometheusBuilder) -> (Vec<InvalidPage>, Vec<String>) {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    let metrics = LlmMetrics::builder().recorder(recorder).build().unwrap();
    let _ = render(&metrics, &handle);
    assert!(said.0.lock().unwrap().is_empty(), "a page without a request shows nothing");
    let mut inference = metrics.start(Operation::Chat, "m");
    inference.tokens(1);
    inference.finish(FinishReason::Stop);
    let page = render(&metrics, &handle);
    let _ = render(&metrics, &handle);
    let said = said.0.lock().unwrap().clone();
    (metrics.check_page(&page), said)
}

#[test]
fn an_exporter_without_our_buckets_is_logged_once() {
    let (faults, said) = checked(PrometheusBuilder::new());
    assert!(faults.contains(&InvalidPage::Summary { metric: "llm_request_duration_seconds" }), "{faults:?}");
    assert!(faults.contains(&InvalidPage::Summary { metric: "llm_time_to_first_token_seconds" }), "{faults:?}");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("prometheus::bind_buckets"), "{said:?}");

    let theirs = PrometheusBuilder::new().set_buckets(&[0.1, 1.0]).unwrap();
    let (faults, said) = checked(bind_buckets(theirs, catalog::SECTIONS, &Naming::new()).unwrap());
    assert_eq!((faults, said), (vec![], vec![]));
}

#[test]
fn buckets_of_another_crate_are_logged_once() {
    let suffix = Matcher::Suffix("duration_seconds".to_owned());
    let builder = bind_buckets(PrometheusBuilder::new(), &catalog::SECTIONS[1..], &Naming::new()).unwrap();
    let (faults, said) = checked(builder.set_buckets_for_metric(suffix, &[0.3, 1.0]).unwrap());
    assert_eq!(faults, [InvalidPage::OtherBuckets { metric: "llm_request_duration_seconds" }]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("full name"), "{said:?}");
}

#[test]
fn a_prefix_that_the_exporter_does_not_know_is_logged_once() {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let (recorder, exporter) = Exporter::builder().build().unwrap();
    // Histograms of your own, although their names are like those of the catalogue.
    metrics::with_local_recorder(&recorder, || {
        metrics::histogram!("http_request_duration_seconds").record(1.0);
        metrics::histogram!("job_request_duration_seconds", "model" => "m", "operation" => "chat").record(1.0);
    });
    assert!(said.0.lock().unwrap().is_empty(), "{said:?}", said = said.0.lock().unwrap());
    assert!(exporter.render().contains("# TYPE http_request_duration_seconds summary"));

    let naming = Naming::new().prefix("qwen").unwrap();
    let metrics = LlmMetrics::builder().recorder(recorder).naming(naming).build().unwrap();
    for _ in 0..2 {
        let mut inference = metrics.start(Operation::Chat, "m");
        inference.tokens(1);
        inference.finish(FinishReason::Stop);
    }
    let said = said.0.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("`qwen_") && said[0].contains("ExporterBuilder::naming"), "{said:?}");
}

#[test]
fn a_histogram_with_other_buckets_is_not_of_a_catalogue_whatever_its_labels() {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let own = Matcher::Full("job_stream_max_gap_seconds".to_owned());
    let builder = Exporter::builder().configure(|builder| builder.set_buckets_for_metric(own, &[1.0]).unwrap());
    let (recorder, _exporter) = builder.build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        metrics::histogram!("job_stream_max_gap_seconds", "model" => "m", "operation" => "chat").record(1.0);
    });
    assert!(said.0.lock().unwrap().is_empty(), "{said:?}", said = said.0.lock().unwrap());
}

const CHAT: &str = "/v1/chat/completions";

fn chat() -> Request<Full<Bytes>> {
    Request::post(CHAT).body(Full::from(NAMED)).unwrap()
}

type Answered = Response<Full<Bytes>>;

/// The messages that are logged for a service that is called three times.
async fn said_of<S, B>(service: S) -> Vec<String>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    S::Error: fmt::Debug,
    B: http_body::Body,
    B::Error: fmt::Debug,
{
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    for _ in 0..3 {
        if let Ok(response) = service.clone().oneshot(chat()).await {
            response.into_body().collect().await.unwrap();
        }
    }
    let said = said.0.lock().unwrap();
    said.clone()
}

#[tokio::test]
async fn an_unclassified_error_is_logged_once_with_its_type() {
    let (metrics, page) = testing::metrics();
    let timeout = ServiceBuilder::new()
        .layer(metrics.layer())
        .timeout(Duration::from_millis(1))
        .service_fn(|_| pending::<Result<Answered, Infallible>>());
    let said = said_of(timeout).await;
    assert_eq!(said.len(), 1, "{said:?}");
    for expected in ["dyn core::error::Error", "error_type=\"internal\"", ".classify_error(TowerErrors)"] {
        assert!(said[0].contains(expected), "{expected}: {said:?}");
    }
    assert_eq!(page.value(&catalog::REQUEST_ERRORS, &[("error_type", "internal")]), Some(3.0));

    let (metrics, _page) = testing::metrics();
    let client = ServiceBuilder::new()
        .layer(metrics.layer().proxy())
        .service_fn(|_| ready(Err::<Answered, _>(io::Error::from(io::ErrorKind::ConnectionRefused))));
    let said = said_of(client).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("`std::io::error::Error`") && said[0].contains("upstream_error"), "{said:?}");
}

#[tokio::test]
async fn a_classified_error_is_not_a_mistake() {
    let (metrics, _page) = testing::metrics();
    let failing = |_| ready(Err::<Answered, _>(BoxError::from("on purpose")));
    let by_hand = metrics.layer().classify_error(|_: &BoxError| ErrorType::Internal);
    assert_eq!(said_of(ServiceBuilder::new().layer(by_hand).service_fn(failing)).await, [""; 0]);

    let by_handler = service_fn(|request: Request<_>| {
        InferenceHandle::of(request.extensions()).error(ErrorType::Overloaded);
        failing(request)
    });
    assert_eq!(said_of(ServiceBuilder::new().layer(metrics.layer()).service(by_handler)).await, [""; 0]);

    let not_measured = ServiceBuilder::new()
        .layer(metrics.layer())
        .map_request(|_: Request<_>| ())
        .service_fn(|()| ready(Err::<Answered, _>(BoxError::from("on purpose"))));
    let elsewhere = not_measured.map_request(|mut request: Request<Full<Bytes>>| {
        *request.uri_mut() = "/login".parse().unwrap();
        request
    });
    assert_eq!(said_of(elsewhere).await, [""; 0]);
}

#[cfg(feature = "tower")]
#[tokio::test]
async fn towers_errors_are_classified_and_others_logged() {
    use llm_metrics::layer::TowerErrors;

    let (metrics, page) = testing::metrics();
    let timeout = ServiceBuilder::new()
        .layer(metrics.layer().classify_error(TowerErrors))
        .timeout(Duration::from_millis(1))
        .service_fn(|_| pending::<Result<Answered, Infallible>>());
    assert_eq!(said_of(timeout).await, [""; 0]);
    assert_eq!(page.value(&catalog::REQUEST_ERRORS, &[("error_type", "timeout")]), Some(3.0));

    let other = ServiceBuilder::new()
        .layer(metrics.layer().classify_error(TowerErrors))
        .service_fn(|_| ready(Err::<Answered, _>(BoxError::from("on purpose"))));
    let said = said_of(other).await;
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn a_timeout_outside_of_the_layer_is_logged_once() {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let (metrics, page) = testing::metrics();
    let mut service = ServiceBuilder::new()
        .timeout(Duration::from_millis(150))
        .layer(metrics.layer())
        .service_fn(|_| pending::<Result<Answered, Infallible>>());
    // Eight requests are enough, unless the machine is so busy that some of them are dropped late.
    for _ in 0..200 {
        service.ready().await.unwrap().call(chat()).await.unwrap_err();
        if !said.0.lock().unwrap().is_empty() {
            break;
        }
    }
    let cancelled = page.value(&catalog::REQUESTS, &[("outcome", "cancelled")]).unwrap();
    assert!(cancelled >= 8.0, "{cancelled}");
    for _ in 0..8 {
        service.ready().await.unwrap().call(chat()).await.unwrap_err();
    }
    let said = said.0.lock().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("age, 0.2 s") && said[0].contains("put it inside"), "{said:?}");
}

#[tokio::test]
async fn a_client_that_disconnects_with_all_its_requests_is_not_a_timeout() {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let (metrics, page) = testing::metrics();
    let service =
        ServiceBuilder::new().layer(metrics.layer()).service_fn(|_| pending::<Result<Answered, Infallible>>());
    let requests = join_all((0..64).map(|_| service.clone().oneshot(chat())));
    tokio::time::timeout(Duration::from_millis(300), requests).await.unwrap_err();
    assert_eq!(page.value(&catalog::REQUESTS, &[("outcome", "cancelled")]), Some(64.0));
    assert_eq!(*said.0.lock().unwrap(), [""; 0]);
}

/// A separate thread renders the page of the exporter, so only a global subscriber gets its messages.
#[test]
fn pages_without_any_request_are_logged_once_if_there_is_a_layer() {
    let everywhere = Said::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(everywhere.clone())).unwrap();
    let (metrics, page) = testing::metrics();
    let by_hand = testing::metrics();
    let called = testing::metrics();
    let layer = metrics.layer();
    request(&called.0, "/login", b"", ResponseHead::new(200), b"");
    let read = |times| {
        for _ in 0..times {
            let _ = [&page, &by_hand.1, &called.1].map(|page| page.text());
        }
        everywhere.0.lock().unwrap().clone()
    };
    assert_eq!(read(9), [""; 0]);
    let said = read(20);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("read 10 times") && said[0].contains("added before it"), "{said:?}");
    drop(layer);
}

#[test]
fn pages_of_another_exporter_count_as_well() {
    let said = Said::default();
    let _subscribed = tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let metrics = LlmMetrics::builder().recorder(recorder).build().unwrap();
    let _observer = metrics.observer();
    for _ in 0..9 {
        let _ = render(&metrics, &handle);
    }
    assert_eq!(*said.0.lock().unwrap(), [""; 0]);
    let _ = render(&metrics, &handle);
    assert_eq!(said.0.lock().unwrap().len(), 1);
}
