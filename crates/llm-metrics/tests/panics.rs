//! Panics in code of the embedder. The request continues, is counted once, and does not stay in flight.

mod common;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::*;
use http::request::Parts;
use http_body_util::BodyExt;
use llm_metrics::{
    BuildError, ErrorType, FinishReason, InferenceHandle, InvalidObjective, LabelPolicy, LlmMetrics, Objective,
    Operation, catalog,
};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_util::debugging::DebuggingRecorder;
use tower::{ServiceBuilder, ServiceExt};

const EVENTS: [Step; 5] = [Step::Data(HELLO), Step::Data(WORLD), Step::Data(STOP), Step::Data(USAGE), Step::Data(DONE)];

/// A name with a character that does not end after three bytes.
const ODD: &str = "{\"model\":\"ab\u{e9}\",\"stream\":true}";

/// Cuts a name without regard to character boundaries, as a careless map may do.
fn sloppy(cap: usize) -> LabelPolicy {
    LabelPolicy::first_accepted(cap).map(|name| name[..name.len().min(3)].into())
}

#[tokio::test]
async fn a_map_that_panics_makes_the_model_other_and_counts_as_an_overflow() {
    let recording = Recording::with(|builder| builder.model_labels(sloppy(4)));
    exchange(&recording, post(CHAT, ODD), stream(EVENTS)).await.unwrap();
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "other")]), 1);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[("model", "other")]), 3);
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[("label", "model")]), 1);
}

#[tokio::test]
async fn rejected_and_cancelled_requests_are_counted_if_a_map_panics() {
    let recording = Recording::with(|builder| builder.model_labels(sloppy(4)));
    exchange(&recording, post(CHAT, ODD), answer(401, "application/json", [Step::Data("{}")])).await.unwrap();
    let recorded = recording.take();
    recorded.assert_ended("rejected", Some(("unauthorized", "401")));
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[]), 0, "of accepted requests alone");

    let recording = Recording::with(|builder| builder.model_labels(sloppy(4)));
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request| async {
        read(request).await;
        std::future::pending::<Result<Answer, Infallible>>().await
    });
    let waiting = service.oneshot(post(CHAT, ODD));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(20), waiting).await.is_err());
    recording.take().assert_ended("cancelled", None);
}

#[tokio::test]
async fn a_map_that_panics_while_a_panic_unwinds_does_not_end_the_process() {
    let recording = Recording::with(|builder| builder.model_labels(sloppy(4)));
    let layer = recording.metrics.layer();
    let task = tokio::spawn(async move {
        let service = ServiceBuilder::new().layer(layer).service_fn(|request| async {
            read(request).await;
            if true {
                panic!("a handler that panics");
            }
            Ok::<_, Infallible>(json("{}"))
        });
        let _ = service.oneshot(post(CHAT, ODD)).await;
    });
    assert!(task.await.unwrap_err().is_panic(), "the handler's panic is passed on");
    recording.take().assert_ended("error", Some(("internal", "none")));
}

#[test]
fn a_map_that_panics_does_not_affect_a_request_without_http() {
    let recording = Recording::with(|builder| builder.model_labels(sloppy(4)));
    let mut inference = recording.metrics.start(Operation::Chat, "ab\u{e9}");
    inference.tokens(1);
    inference.finish(FinishReason::Stop);
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[("model", "other")]), 1);
}

/// Builds metrics whose map passes the handle of a running request to `act`.
fn with_handle_in_map(act: impl Fn(&InferenceHandle) + Send + Sync + 'static) -> u64 {
    let handle = Arc::new(Mutex::new(None::<InferenceHandle>));
    let recording = Recording::with(|builder| {
        let handle = Arc::clone(&handle);
        builder.model_labels(LabelPolicy::first_accepted(4).map(move |name| {
            let handle = handle.lock().unwrap().clone();
            if let Some(handle) = &handle {
                act(handle);
            }
            name.into()
        }))
    });
    let metrics = recording.metrics.clone();
    let (ended, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut inference = metrics.start(Operation::Chat, "m");
        *handle.lock().unwrap() = Some(inference.handle());
        inference.tokens(1);
        inference.finish(FinishReason::Stop);
        ended.send(()).unwrap();
    });
    waits.recv_timeout(std::time::Duration::from_secs(60)).expect("no deadlock, and no recursion without end");
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "m")]), 1, "under its own name");
    recorded.counter("llm_output_tokens_total", &[("model", "m")])
}

#[test]
fn a_map_may_use_the_handle_of_the_request_whose_name_it_maps() {
    let usage = llm_metrics::Usage::new().input(1);
    assert_eq!(with_handle_in_map(move |handle| handle.usage(usage)), 1);
    assert_eq!(with_handle_in_map(|handle| handle.queue_time(std::time::Duration::from_secs(1))), 1);
    assert!(with_handle_in_map(|handle| handle.tokens(1)) > 1, "its reports are counted");
}

#[test]
fn a_map_that_calls_its_policy_does_not_recurse_forever() {
    let again = Arc::new(Mutex::new(None::<LlmMetrics>));
    let recording = Recording::with(|builder| {
        let again = Arc::clone(&again);
        builder.model_labels(LabelPolicy::first_accepted(4).map(move |name| {
            let metrics = again.lock().unwrap().clone();
            if let Some(metrics) = metrics {
                metrics.start(Operation::Chat, "inner").finish(FinishReason::Stop);
            }
            name.into()
        }))
    });
    *again.lock().unwrap() = Some(recording.metrics.clone());
    recording.metrics.start(Operation::Chat, "outer").finish(FinishReason::Stop);
    *again.lock().unwrap() = None;
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_requests_total", &[("model", "outer")]), 1);
    assert!(recorded.counter("llm_requests_total", &[("model", "other")]) > 0, "those that it started");
}

#[test]
fn a_declared_name_on_which_the_map_panics_is_rejected_at_once() {
    let policy = || LabelPolicy::only(["ab\u{e9}"]).map(|name| name[..name.len().min(3)].into());
    let model = LlmMetrics::builder().model_labels(policy()).build().unwrap_err();
    assert_eq!(model, BuildError::ModelName { name: "ab\u{e9}".into() });
    let label = LlmMetrics::builder().request_label("tenant", policy(), |_| None).build().unwrap_err();
    assert_eq!(label, BuildError::LabelValue { label: "tenant".into(), value: "ab\u{e9}".into() });
    let objective = Objective::new("slow").duration(std::time::Duration::from_secs(1)).models(["ab\u{e9}"]);
    let error = LlmMetrics::builder().model_labels(sloppy(1)).objective(objective).build().unwrap_err();
    let source = InvalidObjective::Model { model: "ab\u{e9}".into() };
    assert_eq!(error, BuildError::Objective { name: "slow".into(), source });
}

#[tokio::test]
async fn a_request_label_that_panics_is_other_and_counts_as_an_overflow() {
    let tenant = |parts: &Parts| Some(parts.headers["x-tenant"].to_str().unwrap().to_owned());
    let recording = Recording::with(|builder| builder.request_label("tenant", LabelPolicy::first_accepted(4), tenant));
    exchange(&recording, post(CHAT, ASK), stream(EVENTS)).await.unwrap();
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_requests_total", &[("model", MODEL), ("tenant", "other")]), 1);
    assert_eq!(recorded.counter("llm_metrics_label_overflow_total", &[("label", "tenant")]), 1);
}

#[tokio::test]
async fn an_error_whose_classification_panics_counts_like_a_5xx_and_is_passed_on() {
    for (proxy, error_type) in [(false, "internal"), (true, "upstream_error")] {
        let recording = Recording::new();
        let layer = recording.metrics.layer();
        let layer = if proxy { layer.proxy() } else { layer };
        let layer = layer.classify_error(|_: &&str| -> ErrorType { panic!("a classification that panics") });
        let service = ServiceBuilder::new().layer(layer).service_fn(|request| async {
            read(request).await;
            Err::<Answer, _>("the service's own error")
        });
        let error = service.oneshot(post(CHAT, ASK)).await.map(drop).unwrap_err();
        assert_eq!(error, "the service's own error");
        recording.take().assert_ended("error", Some((error_type, "none")));
    }
}

/// A recorder that panics for one metric, when the metric is described, registered or used.
struct Faulty {
    inner: DebuggingRecorder,
    metric: &'static str,
    when: When,
    panics: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Described,
    Registered,
    Used,
}

struct Trap(Arc<AtomicUsize>);

impl Trap {
    fn spring(&self) -> ! {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a recorder that panics");
    }
}

impl CounterFn for Trap {
    fn increment(&self, _: u64) {
        self.spring()
    }
    fn absolute(&self, _: u64) {
        self.spring()
    }
}

impl GaugeFn for Trap {
    fn increment(&self, _: f64) {
        self.spring()
    }
    fn decrement(&self, _: f64) {
        self.spring()
    }
    fn set(&self, _: f64) {
        self.spring()
    }
}

impl HistogramFn for Trap {
    fn record(&self, _: f64) {
        self.spring()
    }
}

impl Faulty {
    /// Panics, returns a handle that will panic, or does neither.
    fn trap(&self, name: &str, when: When) -> Option<Arc<Trap>> {
        let trap = Trap(Arc::clone(&self.panics));
        if name != self.metric || self.when != when && self.when != When::Used {
            return None;
        }
        if self.when == when {
            trap.spring();
        }
        (when == When::Registered).then(|| Arc::new(trap))
    }
}

impl Recorder for Faulty {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.trap(name.as_str(), When::Described);
        self.inner.describe_counter(name, unit, help);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.trap(name.as_str(), When::Described);
        self.inner.describe_gauge(name, unit, help);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.trap(name.as_str(), When::Described);
        self.inner.describe_histogram(name, unit, help);
    }
    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let trap = self.trap(key.name(), When::Registered);
        trap.map_or_else(|| self.inner.register_counter(key, metadata), Counter::from_arc)
    }
    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let trap = self.trap(key.name(), When::Registered);
        trap.map_or_else(|| self.inner.register_gauge(key, metadata), Gauge::from_arc)
    }
    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let trap = self.trap(key.name(), When::Registered);
        trap.map_or_else(|| self.inner.register_histogram(key, metadata), Histogram::from_arc)
    }
}

/// Silences the panic hook, because these tests panic often, and on purpose.
fn quietly() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref() != Some(&"a recorder that panics") {
                loud(info);
            }
        }));
    });
}

#[tokio::test]
async fn a_recorder_that_panics_loses_that_metric_but_no_request() {
    quietly();
    let mut sprung = 0;
    for row in catalog::all() {
        for when in [When::Described, When::Registered, When::Used] {
            let inner = DebuggingRecorder::new();
            let (snapshotter, panics) = (inner.snapshotter(), Arc::new(AtomicUsize::new(0)));
            let recorder = Faulty { inner, metric: row.name, when, panics: Arc::clone(&panics) };
            let metrics = LlmMetrics::builder().recorder(recorder).models([MODEL]).build().unwrap();
            let recording = Recording::of(metrics, snapshotter);
            exchange(&recording, post(CHAT, ASK), stream(EVENTS)).await.unwrap();
            exchange(&recording, post(CHAT, ASK), answer(503, "application/json", [Step::Data("{}")])).await.unwrap();
            let mut response = exchange_begun(&recording, stream([Step::Data(HELLO), Step::Pending])).await;
            response.body_mut().frame().await.unwrap().unwrap();
            drop(response);
            recording.metrics.refresh();
            sprung += usize::from(panics.load(Ordering::Relaxed) > 0);

            let recorded = recording.take();
            let is_there = |name: &str| row.name != name || when == When::Described;
            let what = format!("{} {when:?}", row.name);
            if is_there("llm_requests_total") {
                for outcome in ["success", "error", "cancelled"] {
                    let requests = recorded.counter("llm_requests_total", &[("outcome", outcome)]);
                    assert_eq!(requests, 1, "{what}: {outcome}");
                }
            }
            if is_there("llm_requests_in_flight") {
                for phase in ["waiting", "streaming"] {
                    assert_eq!(recorded.gauge("llm_requests_in_flight", &[("phase", phase)]), 0.0, "{what}: {phase}");
                }
            }
            if is_there("llm_output_tokens_total") {
                assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 3, "{what}");
            }
            if is_there("llm_request_duration_seconds") {
                assert_eq!(recorded.samples("llm_request_duration_seconds", &[]).len(), 3, "{what}");
            }
        }
    }
    assert!(sprung >= 60, "{sprung} of the recorders did panic");
}

/// A response whose body has not been read yet.
async fn exchange_begun(recording: &Recording, answer: Answer) -> http::Response<impl http_body::Body<Error = Broken>> {
    let answer = Mutex::new(Some(answer));
    let service = ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request| {
        let answer = answer.lock().unwrap().take().unwrap();
        async move {
            read(request).await;
            Ok::<_, Infallible>(answer)
        }
    });
    service.oneshot(post(CHAT, ASK)).await.unwrap().map(Box::pin)
}
