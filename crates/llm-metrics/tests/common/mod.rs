//! A service with a scripted answer, the layer around it, and the recorded metrics.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, missing_docs)]

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use llm_metrics::{
    LlmMetrics,
    catalog::{self, Kind},
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

pub const MODEL: &str = "Qwen3-4B";
pub const CHAT: &str = "/v1/chat/completions";
pub const COMPLETIONS: &str = "/v1/completions";

/// The content of a recorder. A snapshot drains it, so it is taken only once.
pub struct Recorded(Vec<Series>);

type Series = (String, Vec<(String, String)>, DebugValue);

pub struct Recording {
    pub metrics: LlmMetrics,
    snapshotter: Snapshotter,
}

impl Recording {
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(set_up: impl FnOnce(llm_metrics::Builder) -> llm_metrics::Builder) -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let metrics = set_up(LlmMetrics::builder().recorder(recorder)).build().expect("valid settings");
        Self { metrics, snapshotter }
    }

    /// Metrics of a test that has its own recorder.
    pub fn of(metrics: LlmMetrics, snapshotter: Snapshotter) -> Self {
        Self { metrics, snapshotter }
    }

    pub fn take(&self) -> Recorded {
        let entries = self.snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
            let (_, key) = key.into_parts();
            let labels = key.labels().map(|l| (l.key().to_owned(), l.value().to_owned())).collect();
            (key.name().to_owned(), labels, value)
        });
        Recorded(entries.collect())
    }
}

impl Recorded {
    /// The series of this metric with at least these labels.
    ///
    /// # Panics
    /// If there can be no such series, because a test would then always get 0: no row of this kind has the name, or never such a label.
    #[track_caller]
    fn matching<'a>(
        &'a self,
        kind: Kind,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a DebugValue> {
        // Tests use the prefix `qwen` instead of `llm`.
        let prefix = if self.0.iter().any(|(name, _, _)| name.starts_with("qwen_")) { "qwen_" } else { "llm_" };
        let renamed = name.strip_prefix(prefix).map(|stem| format!("llm_{stem}"));
        let row = catalog::all().find(|row| row.kind == kind && Some(row.name) == renamed.as_deref());
        let row = row.unwrap_or_else(|| panic!("no {kind} of a catalogue with the prefix {prefix} is called {name}"));
        for (label, value) in labels {
            let recorded = || self.0.iter().any(|(n, l, _)| n == name && l.iter().any(|(key, _)| key == label));
            match row.label(label) {
                Some(declared) => assert!(declared.allows(value), "{value} is never a value of {declared:?}"),
                None => assert!(recorded(), "{name} has no label {label}: it has {:?}", row.labels),
            }
        }
        self.0
            .iter()
            .filter(move |(n, l, _)| {
                n == name && labels.iter().all(|(k, v)| l.iter().any(|(key, value)| key == k && value == v))
            })
            .map(|(_, _, value)| value)
    }

    /// The sum of a counter over all series that have these labels.
    #[track_caller]
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.matching(Kind::Counter, name, labels)
            .map(|value| match value {
                DebugValue::Counter(count) => *count,
                other => panic!("{name} is not a counter: {other:?}"),
            })
            .sum()
    }

    #[track_caller]
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(Kind::Gauge, name, labels)
            .map(|value| match value {
                DebugValue::Gauge(value) => value.into_inner(),
                other => panic!("{name} is not a gauge: {other:?}"),
            })
            .sum()
    }

    /// Every sample of a histogram over all series that have these labels.
    #[track_caller]
    pub fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.matching(Kind::Histogram, name, labels)
            .flat_map(|value| match value {
                DebugValue::Histogram(samples) => samples.iter().map(|sample| sample.into_inner()).collect::<Vec<_>>(),
                other => panic!("{name} is not a histogram: {other:?}"),
            })
            .collect()
    }

    pub fn series(&self) -> impl Iterator<Item = (&str, &[(String, String)], &DebugValue)> {
        self.0.iter().map(|(name, labels, value)| (name.as_str(), labels.as_slice(), value))
    }

    /// Asserts that exactly one request was recorded, and how it ended.
    #[track_caller]
    pub fn assert_ended(&self, outcome: &str, error: Option<(&str, &str)>) {
        assert_eq!(self.counter("llm_requests_total", &[]), 1, "one request is recorded once");
        assert_eq!(
            self.counter("llm_requests_total", &[("outcome", outcome)]),
            1,
            "its outcome is {outcome}: {:?}",
            self.outcomes()
        );
        assert_eq!(self.counter("llm_request_errors_total", &[]), u64::from(error.is_some()));
        if let Some((error, status)) = error {
            let labels = [("error_type", error), ("status", status)];
            assert_eq!(self.counter("llm_request_errors_total", &labels), 1, "{error}, {status}: {:?}", self.errors());
        }
        for phase in ["waiting", "streaming"] {
            let in_flight = self.gauge("llm_requests_in_flight", &[("phase", phase)]);
            assert_eq!(in_flight, 0.0, "nothing is in flight any more, {phase}");
        }
        assert_eq!(self.gauge("llm_model_requests_in_flight", &[]), 0.0, "nor of any model");
        assert_eq!(self.samples("llm_request_duration_seconds", &[("outcome", outcome)]).len(), 1);
    }

    fn outcomes(&self) -> Vec<String> {
        self.nonzero("llm_requests_total")
    }

    fn errors(&self) -> Vec<String> {
        self.nonzero("llm_request_errors_total")
    }

    fn nonzero(&self, name: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(n, _, value)| n == name && *value != DebugValue::Counter(0))
            .map(|(_, labels, _)| format!("{labels:?}"))
            .collect()
    }
}

/// One step of a body.
#[derive(Clone)]
pub enum Step {
    Data(&'static str),
    Wait(Duration),
    Fail,
    Panic,
    Pending,
}

/// A body that follows a list of steps.
pub struct Steps {
    steps: std::vec::IntoIter<Step>,
    exact: bool,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Steps {
    pub fn new(steps: impl Into<Vec<Step>>) -> Self {
        Self { steps: steps.into().into_iter(), exact: false, sleep: None }
    }

    /// Reports its end with its last frame.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }
}

#[derive(Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl Body for Steps {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.steps.next() {
                None => return Poll::Ready(None),
                Some(Step::Data(data)) => {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(data.as_bytes())))));
                }
                Some(Step::Wait(time)) => self.sleep = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Fail) => return Poll::Ready(Some(Err(Broken))),
                Some(Step::Panic) => panic!("a body that panics"),
                Some(Step::Pending) => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exact && self.steps.len() == 0
    }
}

pub type Answer = Response<UnsyncBoxBody<Bytes, Broken>>;

pub fn answer(status: u16, content_type: &str, steps: impl Into<Vec<Step>>) -> Answer {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(Steps::new(steps).boxed_unsync())
        .unwrap()
}

pub fn stream(steps: impl Into<Vec<Step>>) -> Answer {
    answer(200, "text/event-stream", steps)
}

pub fn json(text: &'static str) -> Answer {
    answer(200, "application/json", [Step::Data(text)])
}

pub fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).header("content-type", "application/json").body(Full::new(body.into())).unwrap()
}

/// A handler that reads the request to its end, as usual, and sends the answer.
pub async fn read<B: Body>(request: Request<B>) {
    let mut body = Box::pin(request.into_body());
    while let Some(Ok(_)) = body.as_mut().frame().await {}
}

/// Sends one request through the layer around a service with that answer, and reads the answer to its end.
pub async fn exchange(recording: &Recording, request: Request<Full<Bytes>>, answer: Answer) -> Result<Bytes, Broken> {
    let answer = std::sync::Mutex::new(Some(answer));
    let service = tower::ServiceBuilder::new().layer(recording.metrics.layer()).service_fn(|request| {
        let answer = answer.lock().unwrap().take().expect("one request");
        async move {
            read(request).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let response = tower::ServiceExt::oneshot(service, request).await.unwrap();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
        // hyper does not poll a body that has reported its end.
        if body.is_end_stream() {
            break;
        }
    }
    Ok(bytes.into())
}

pub const ASK: &str = r#"{"model":"Qwen3-4B","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// Events of a chat stream: a role, two tokens, the end, usage.
pub const ROLE: &str = "data: {\"id\":\"1\",\"model\":\"Qwen3-4B\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
pub const HELLO: &str = "data: {\"id\":\"1\",\"model\":\"Qwen3-4B\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}]}\n\n";
pub const WORLD: &str = "data: {\"id\":\"1\",\"model\":\"Qwen3-4B\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" world\"},\"finish_reason\":null}]}\n\n";
pub const STOP: &str = "data: {\"id\":\"1\",\"model\":\"Qwen3-4B\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub const USAGE: &str = "data: {\"id\":\"1\",\"model\":\"Qwen3-4B\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}\n\n";
pub const DONE: &str = "data: [DONE]\n\n";
