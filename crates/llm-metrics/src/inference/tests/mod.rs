//! Requests at times that a test sets, with events that a reader would emit, or with recorded answers.

mod endings;
mod events;
mod handles;
mod lone_texts;
mod recordings;

use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use super::{End, RequestTracker, Role, RouteFacts, frame_sink::FrameSink};
use crate::{
    catalog,
    record::{Builder, LlmMetrics},
    vocabulary::Operation,
    wire::{self, Framing, Route},
};

/// A request that has not ended.
struct Request {
    tracker: RequestTracker,
    route: &'static Route,
    snapshotter: Snapshotter,
}

/// The values that were recorded for it.
struct Recorded(Vec<RequestHandles>);

type RequestHandles = (String, Vec<(String, String)>, DebugValue);

impl Request {
    /// A request to the chat endpoint with this body, whose answer is a stream.
    fn streamed(asked: &str) -> Self {
        let mut request = Self::new("/v1/chat/completions", asked, Role::Server, |builder| builder);
        request.tracker.head(200, Some(true), Some(Framing::Events));
        request
    }

    fn new(path: &str, asked: &str, kind: Role, set: impl FnOnce(Builder) -> Builder) -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let metrics = set(LlmMetrics::builder().recorder(recorder)).build().expect("valid settings");
        let route = wire::route(&http::Method::POST, path, true).expect("a known endpoint");
        let route_facts = RouteFacts::of(route);
        let tracker = RequestTracker::start(&metrics, route_facts, None, kind);
        let mut scan = route.request_scan(false);
        scan.read(asked.as_bytes());
        tracker.shared().set_params(scan.facts(), None, None, None);
        assert_eq!(route_facts.operation == Operation::Chat, path.ends_with("/chat/completions"));
        Self { tracker, route, snapshotter }
    }

    /// A frame that arrived this many milliseconds after the request.
    fn at(&mut self, milliseconds: u64, emit: impl FnOnce(&mut FrameSink<'_>)) -> &mut Self {
        self.at_time(Duration::from_millis(milliseconds), emit)
    }

    fn at_time(&mut self, time: Duration, emit: impl FnOnce(&mut FrameSink<'_>)) -> &mut Self {
        let now = self.tracker.started() + time;
        let mut frame = self.tracker.frame();
        emit(&mut frame);
        frame.end_at(|| now);
        self
    }

    fn end(mut self, end: End) -> Recorded {
        self.tracker.settle(end);
        self.recorded()
    }

    /// The values that were recorded since the last call.
    fn recorded(&self) -> Recorded {
        let entries = self.snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
            let (_, key) = key.into_parts();
            let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
            (key.name().to_owned(), labels, value)
        });
        Recorded(entries.collect())
    }
}

impl Recorded {
    #[track_caller]
    fn with<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a DebugValue> {
        let row = catalog::all().find(|row| row.name == name);
        let row = row.unwrap_or_else(|| panic!("{name} is in no catalogue: it would be 0 whatever happens"));
        let unknown = labels.iter().find(|(label, value)| !row.label(label).is_some_and(|label| label.allows(value)));
        assert_eq!(unknown, None, "{name} never has such a label");
        let has = move |own: &[(String, String)]| {
            labels.iter().all(|(key, value)| own.iter().any(|(k, v)| k == key && v == value))
        };
        self.0.iter().filter(move |(own, labels, _)| own == name && has(labels)).map(|(_, _, value)| value)
    }

    #[track_caller]
    fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let counts = self.with(name, labels).map(|value| match value {
            DebugValue::Counter(count) => *count,
            other => panic!("{name} is {other:?}"),
        });
        counts.sum()
    }

    #[track_caller]
    fn samples(&self, name: &str) -> Vec<f64> {
        let samples = self.with(name, &[]).flat_map(|value| match value {
            DebugValue::Histogram(samples) => samples.iter().map(|sample| sample.into_inner()).collect::<Vec<_>>(),
            other => panic!("{name} is {other:?}"),
        });
        samples.collect()
    }

    /// Asserts that a histogram has these samples, in milliseconds, in any order.
    #[track_caller]
    fn assert_milliseconds(&self, name: &str, expected: &[f64]) {
        let mut samples: Vec<f64> = self.samples(name).iter().map(|seconds| (seconds * 1e6).round() / 1e3).collect();
        samples.sort_by(f64::total_cmp);
        assert_eq!(samples, expected, "{name}");
    }

    #[track_caller]
    fn assert_ended(&self, outcome: &str, error: Option<&str>) {
        let ended = |labels: &[(&str, &str)]| self.counter("llm_requests_total", labels);
        assert_eq!((ended(&[]), ended(&[("outcome", outcome)])), (1, 1), "{outcome}: {:?}", self.nonzero());
        let errors = |labels: &[(&str, &str)]| self.counter("llm_request_errors_total", labels);
        let expected = u64::from(error.is_some());
        assert_eq!(errors(&[]), expected, "{error:?}: {:?}", self.nonzero());
        let labels: Vec<_> = error.iter().map(|error| ("error_type", *error)).collect();
        assert_eq!(errors(&labels), expected, "{error:?}: {:?}", self.nonzero());
    }

    fn nonzero(&self) -> Vec<String> {
        let counted = |(_, _, value): &&RequestHandles| matches!(value, DebugValue::Counter(1..));
        self.0.iter().filter(counted).map(|(name, labels, value)| format!("{name}{labels:?} {value:?}")).collect()
    }
}
