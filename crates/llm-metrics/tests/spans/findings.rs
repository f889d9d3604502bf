//! The event of a finding: its fields, its span, and what it never contains.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use llm_metrics::spans::{FINDINGS, TARGET};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    layer::Context,
    prelude::*,
    registry::LookupSpan,
};

use crate::common::*;

/// A text of the model and of its caller, which must not appear anywhere.
const SECRET: &str = "xyzzy";

/// The event of a finding, and the target of its span.
#[derive(Clone, Debug, PartialEq)]
struct FindingEvent {
    fields: BTreeMap<&'static str, String>,
    inside: Option<String>,
}

/// A subscriber that stores the events of findings, and all texts in spans and events.
#[derive(Clone, Default)]
struct Findings {
    events: Arc<Mutex<Vec<FindingEvent>>>,
    texts: Arc<Mutex<Vec<String>>>,
}

impl Findings {
    fn subscribe(filter: Targets) -> (Self, DefaultGuard) {
        let findings = Self::default();
        let subscriber = Registry::default().with(findings.clone().with_filter(filter));
        (findings, tracing::subscriber::set_default(subscriber))
    }

    fn events(&self) -> Vec<FindingEvent> {
        self.events.lock().unwrap().clone()
    }

    fn note(&self, fields: &Fields) {
        self.texts.lock().unwrap().extend(fields.0.values().cloned());
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Findings {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.note(&fields);
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.note(&fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.note(&fields);
        if event.metadata().target() == FINDINGS {
            let inside = context.event_span(event).map(|span| span.metadata().target().to_owned());
            self.events.lock().unwrap().push(FindingEvent { fields: fields.0, inside });
        }
    }
}

fn everything() -> Targets {
    Targets::new().with_default(LevelFilter::TRACE)
}

/// Requests JSON, and gets prose with a leaked token and with the secret.
async fn fail_to_write_json(recording: &Recording) -> bytes::Bytes {
    let ask = format!(
        r#"{{"model":"Qwen3-4B","stream":true,"response_format":{{"type":"json_object"}},"messages":[{{"role":"user","content":"{SECRET}"}}]}}"#
    );
    let said = r#"data: {"choices":[{"index":0,"delta":{"content":"xyzzy! <|im_end|>"},"finish_reason":null}]}

"#;
    let mut request = post(CHAT, ask);
    request.headers_mut().insert("x-request-id", http::HeaderValue::from_static("req-7"));
    exchange(recording, request, stream([ROLE, said, STOP, DONE].map(Step::Data))).await.unwrap()
}

fn expected(request_id: Option<&str>) -> Vec<BTreeMap<&'static str, String>> {
    let of = |metric: &str, kind: &str| {
        let mut fields = BTreeMap::from([
            ("message", "output quality".to_owned()),
            ("model", MODEL.to_owned()),
            ("metric", metric.to_owned()),
            ("kind", kind.to_owned()),
        ]);
        fields.extend(request_id.map(|id| ("request_id", id.to_owned())));
        fields
    };
    vec![of("llm_output_anomalies_total", "special_token_leak"), of("llm_structured_outputs_total", "invalid_json")]
}

#[tokio::test]
async fn each_finding_is_an_event_in_the_span_of_its_request_and_holds_no_text() {
    let (findings, _guard) = Findings::subscribe(everything());
    let recording = Recording::new();
    fail_to_write_json(&recording).await;
    let events = findings.events();
    assert_eq!(events.iter().map(|event| event.fields.clone()).collect::<Vec<_>>(), expected(Some("req-7")));
    assert!(events.iter().all(|event| event.inside.as_deref() == Some(TARGET)), "{events:?}");
    let texts = findings.texts.lock().unwrap();
    assert!(texts.len() > 10, "spans and events were seen: {texts:?}");
    assert!(!texts.iter().any(|text| text.contains(SECRET) || text.contains("im_end")), "{texts:?}");
}

#[tokio::test]
async fn findings_are_reported_even_without_spans() {
    let (findings, _guard) = Findings::subscribe(Targets::new().with_target(FINDINGS, LevelFilter::INFO));
    let recording = Recording::new();
    fail_to_write_json(&recording).await;
    let events = findings.events();
    assert_eq!(events.iter().map(|event| event.fields.clone()).collect::<Vec<_>>(), expected(Some("req-7")));
}

#[tokio::test]
async fn good_output_causes_no_event() {
    let (findings, _guard) = Findings::subscribe(everything());
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), stream([ROLE, HELLO, WORLD, STOP, DONE].map(Step::Data))).await.unwrap();
    assert_eq!(findings.events(), []);
}

#[tokio::test]
async fn a_panic_of_the_callback_changes_neither_the_answer_nor_the_events_nor_the_counts() {
    let (findings, _guard) = Findings::subscribe(everything());
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let recording = Recording::with(move |builder| {
        builder.on_finding(move |finding| {
            seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(finding.kind);
            panic!("of {}", finding.kind)
        })
    });
    let body = fail_to_write_json(&recording).await;
    assert!(body.ends_with(DONE.as_bytes()), "the answer is whole");
    assert_eq!(
        *calls.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        ["special_token_leak", "invalid_json"]
    );
    assert_eq!(findings.events().len(), 2);
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_requests_total", &[("outcome", "success")]), 1);
    assert_eq!(recorded.counter("llm_structured_outputs_total", &[("result", "invalid_json")]), 1);
}
