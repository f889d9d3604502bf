//! Requests in flight by model: which are counted, and under which model. Each of them is removed again.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use http::Request;
use llm_metrics::{
    Builder, ErrorType, FinishReason, InferenceHandle, LabelPolicy, LlmMetrics, Operation, catalog,
    observe::{ObservedRequest, ObservedResponse, ResponseHead},
};
use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

const CHAT: &str = "/v1/chat/completions";
const OK: ResponseHead<'_> = ResponseHead::new(200);
const TOKEN: &[u8] = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";

/// The lowest and the current value of each model's gauge.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<BTreeMap<String, Arc<Level>>>>);

#[derive(Default)]
struct Level {
    now: AtomicI64,
    lowest: AtomicI64,
}

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        self.now.fetch_add(value as i64, Ordering::SeqCst);
    }

    fn decrement(&self, value: f64) {
        let before = self.now.fetch_sub(value as i64, Ordering::SeqCst);
        self.lowest.fetch_min(before - value as i64, Ordering::SeqCst);
    }

    fn set(&self, _: f64) {}
}

impl Recorder for Watch {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        if key.name() != catalog::MODEL_REQUESTS_IN_FLIGHT.name {
            return Gauge::noop();
        }
        assert_eq!(key.labels().map(|label| label.key()).collect::<Vec<_>>(), ["model"], "no label multiplies it");
        let model = key.labels().next().unwrap().value().to_owned();
        Gauge::from_arc(Arc::clone(self.0.lock().unwrap().entry(model).or_default()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Metrics of which only this gauge is recorded.
struct Recording {
    metrics: LlmMetrics,
    watch: Watch,
}

impl Recording {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(set_up: impl FnOnce(Builder) -> Builder) -> Self {
        let watch = Watch::default();
        let metrics = set_up(LlmMetrics::builder().recorder(watch.clone())).build().expect("valid settings");
        Self { metrics, watch }
    }
}

#[track_caller]
fn assert_in_flight(recording: &Recording, expected: &[(&str, i64)]) {
    let levels = recording.watch.0.lock().unwrap();
    let now: Vec<_> = levels.iter().map(|(model, level)| (model.as_str(), level.now.load(Ordering::SeqCst))).collect();
    assert_eq!(now, expected);
}

fn request(metrics: &LlmMetrics) -> ObservedRequest {
    metrics.observer().request(&Request::post(CHAT).body(()).unwrap().into_parts().0)
}

fn asked(metrics: &LlmMetrics, model: &str) -> ObservedRequest {
    let request = request(metrics);
    let mut body = request.body_reader();
    body.read(format!("{{\"model\":\"{model}\",\"stream\":true,").as_bytes());
    body.read(b"\"messages\":[]}");
    body.end();
    request
}

fn answered(request: ObservedRequest) -> ObservedResponse {
    request.response(OK.content_type("text/event-stream"))
}

#[test]
fn a_request_is_in_flight_from_when_its_body_has_named_its_model_until_it_ends() {
    let recording = Recording::with(|builder| builder.models(["a", "b"]));
    let request = request(&recording.metrics);
    let mut body = request.body_reader();
    body.read(b"{\"model\":\"a");
    assert_in_flight(&recording, &[("a", 0), ("b", 0)]);
    body.read(b"\",\"stream\":true}");
    assert_in_flight(&recording, &[("a", 1), ("b", 0)]);
    let second = asked(&recording.metrics, "a");
    assert_in_flight(&recording, &[("a", 2), ("b", 0)]);
    let mut response = answered(request);
    response.read(TOKEN);
    assert_in_flight(&recording, &[("a", 2), ("b", 0)]);
    drop(second);
    drop(response);
    assert_in_flight(&recording, &[("a", 0), ("b", 0)]);
}

#[test]
fn a_name_is_not_learnt_before_its_request_is_accepted() {
    let recording = Recording::with(|builder| builder.model_labels(LabelPolicy::first_accepted(2)));
    let request = asked(&recording.metrics, "a");
    assert_in_flight(&recording, &[]);
    let response = answered(request);
    assert_in_flight(&recording, &[("a", 1)]);
    let known = asked(&recording.metrics, "a");
    let made_up = asked(&recording.metrics, "made-up");
    assert_in_flight(&recording, &[("a", 2)]);
    made_up.response(ResponseHead::new(404)).end();
    assert_in_flight(&recording, &[("a", 2), ("other", 0)]);
    drop((response, known));
    assert_in_flight(&recording, &[("a", 0), ("other", 0)]);
}

#[test]
fn a_name_that_can_only_become_other_is_other_at_once() {
    let recording = Recording::with(|builder| builder.models(["a"]));
    let requests = [asked(&recording.metrics, "b"), asked(&recording.metrics, "c")];
    assert_in_flight(&recording, &[("a", 0), ("other", 2)]);
    drop(requests);
    let recording = Recording::new();
    let unfit = asked(&recording.metrics, "a\\\\b");
    assert_in_flight(&recording, &[("other", 1)]);
    let _response = answered(unfit);
    assert_in_flight(&recording, &[("other", 1)]);
}

#[test]
fn a_request_that_names_no_model_is_unknown_from_its_first_token_on() {
    let recording = Recording::new();
    for body in ["{\"stream\":true}", "{\"model\":\"\",\"stream\":true}"] {
        let request = request(&recording.metrics);
        request.body_reader().read(body.as_bytes());
        let mut response = answered(request);
        response.read(TOKEN);
        assert_in_flight(&recording, &[("unknown", 1)]);
        drop(response);
        assert_in_flight(&recording, &[("unknown", 0)]);
    }
}

#[test]
fn a_map_decides_the_model_even_if_it_uses_the_handle_of_the_request() {
    let policy = LabelPolicy::only(["Qwen3"]).map(|name| name.to_ascii_lowercase().into());
    let recording = Recording::with(|builder| builder.model_labels(policy));
    let request = asked(&recording.metrics, "QWEN3");
    assert_in_flight(&recording, &[("qwen3", 1)]);
    drop(request);

    let handle = Arc::new(Mutex::new(None::<InferenceHandle>));
    let used = Arc::clone(&handle);
    let policy = LabelPolicy::only(["a", "b"]).map(move |name| {
        if let Some(handle) = used.lock().unwrap().take() {
            handle.model("b");
        }
        name.into()
    });
    let recording = Recording::with(|builder| builder.model_labels(policy));
    let request = self::request(&recording.metrics);
    *handle.lock().unwrap() = request.handle();
    request.body_reader().read(b"{\"model\":\"a\"}");
    let response = answered(request);
    assert_in_flight(&recording, &[("a", 0), ("b", 1)]);
    drop(response);
    assert_in_flight(&recording, &[("a", 0), ("b", 0)]);
}

#[test]
fn map_is_called_once_for_the_name_and_once_more_when_it_is_learnt_or_has_no_room() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let policy = LabelPolicy::first_accepted(1).map(move |name| {
        counted.fetch_add(1, Ordering::SeqCst);
        name.into()
    });
    let Recording { metrics, .. } = Recording::with(|builder| builder.model_labels(policy));
    let by_layer = |name: &str| {
        let request = asked(&metrics, name);
        let named = calls.swap(0, Ordering::SeqCst);
        drop(answered(request));
        (named, calls.swap(0, Ordering::SeqCst))
    };
    let by_hand = |name: &str| {
        let request = metrics.start(Operation::Chat, name);
        let named = calls.swap(0, Ordering::SeqCst);
        request.finish(FinishReason::Stop);
        (named, calls.swap(0, Ordering::SeqCst))
    };
    for (name, recorded) in [("new", 1), ("new", 0), ("no room", 1)] {
        assert_eq!(by_layer(name), (1, recorded), "{name}");
        assert_eq!(by_hand(name), (1, if name == "new" { 0 } else { 1 }), "{name}, by hand");
    }
}

#[test]
fn the_handler_moves_it_to_another_model_until_it_is_recorded_under_one() {
    let recording = Recording::with(|builder| builder.models(["a", "b"]));
    let request = asked(&recording.metrics, "a");
    let handle = request.handle().unwrap();
    handle.model("b");
    assert_in_flight(&recording, &[("a", 0), ("b", 1)]);
    handle.model("b");
    assert_in_flight(&recording, &[("a", 0), ("b", 1)]);
    let mut body = request.body_reader();
    body.read(b"{\"model\":\"a\"}");
    assert_in_flight(&recording, &[("a", 0), ("b", 1)]);
    let response = answered(request);
    handle.model("a");
    assert_in_flight(&recording, &[("a", 0), ("b", 1)]);
    drop(response);
    handle.model("a");
    assert_in_flight(&recording, &[("a", 0), ("b", 0)]);

    let recording = Recording::new();
    let known = answered(asked(&recording.metrics, "a"));
    let request = asked(&recording.metrics, "a");
    assert_in_flight(&recording, &[("a", 2)]);
    request.handle().unwrap().model("new");
    assert_in_flight(&recording, &[("a", 1)]);
    let response = answered(request);
    assert_in_flight(&recording, &[("a", 1), ("new", 1)]);
    drop((known, response));
    assert_in_flight(&recording, &[("a", 0), ("new", 0)]);
}

#[test]
fn request_labels_are_not_on_the_gauge() {
    let recording = Recording::with(|builder| {
        builder.models(["a"]).request_label("tenant", LabelPolicy::first_accepted(9), |head| {
            Some(head.headers.get("tenant")?.to_str().ok()?.to_owned())
        })
    });
    let of = |tenant: &str| {
        let head = Request::post(CHAT).header("tenant", tenant).body(()).unwrap().into_parts().0;
        let request = recording.metrics.observer().request(&head);
        request.body_reader().read(b"{\"model\":\"a\"}");
        answered(request)
    };
    let both = [of("x"), of("y")];
    assert_in_flight(&recording, &[("a", 2)]);
    drop(both);
    assert_in_flight(&recording, &[("a", 0)]);
}

#[test]
fn every_request_is_removed_again_and_no_gauge_is_ever_negative() {
    const NAMES: [&str; 6] = ["a", "b", "learnt", "new", "", "x\\y"];
    let Recording { metrics, watch } = Recording::with(|builder| builder.model_labels(LabelPolicy::first_accepted(3)));
    let life = |mut random: u64| {
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let request = asked(&metrics, NAMES[next(NAMES.len())]);
        let handle = request.handle().unwrap();
        std::thread::scope(|scope| {
            let other = handle.clone();
            let (name, tokens, late) = (NAMES[next(NAMES.len())], next(2) as u64, NAMES[next(NAMES.len())]);
            scope.spawn(move || {
                other.model(name);
                other.tokens(tokens);
                other.model(late);
            });
            handle.model(NAMES[next(NAMES.len())]);
            match next(7) {
                0 => drop(request),
                1 => request.fail(ErrorType::UpstreamUnavailable),
                2 => request.response(ResponseHead::new(429)).end(),
                3 => {
                    let panicked = catch_unwind(AssertUnwindSafe(|| {
                        let _response = answered(request);
                        std::panic::resume_unwind(Box::new("a handler that panics"));
                    }));
                    assert!(panicked.is_err());
                }
                4 => answered(request).fail(),
                _ => {
                    let mut response = answered(request);
                    response.read(TOKEN);
                    handle.model("b");
                    response.end();
                }
            }
        });
        let mut by_hand = metrics.start(Operation::Chat, NAMES[next(NAMES.len())]);
        match next(4) {
            0 => drop(by_hand),
            1 => by_hand.fail(ErrorType::Internal),
            2 => by_hand.finish(FinishReason::Stop),
            _ => by_hand.tokens(1),
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let life = &life;
            scope.spawn(move || (0..400).for_each(|n| life(thread * 1000 + n)));
        }
    });
    let levels = watch.0.lock().unwrap();
    assert!(levels.len() > 3, "models were learnt, and others had no place: {:?}", levels.keys());
    for (model, level) in levels.iter() {
        assert_eq!(level.now.load(Ordering::SeqCst), 0, "{model}");
        assert!(level.lowest.load(Ordering::SeqCst) >= 0, "{model}");
    }
}
