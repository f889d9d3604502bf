//! An OpenTelemetry collector that stores what it receives: OTLP over HTTP, as protobuf.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, routing::post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
};
use prost::Message;
use serde_json::{Value, json};

use crate::{Server, serve};

/// A running collector; dropping it ends it.
#[derive(Debug)]
pub struct Collector {
    server: Server,
    received: Received,
}

/// A span as it was exported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportedSpan {
    /// Its name.
    pub name: String,
    /// The trace that it belongs to, in hexadecimal.
    pub trace_id: String,
    /// Its parent, in hexadecimal; empty for a root.
    pub parent_id: String,
    /// `SpanKind` of the protocol: 1 internal, 2 server, 3 client.
    pub kind: i32,
    /// `StatusCode` of the protocol: 0 unset, 1 ok, 2 error.
    pub status: i32,
    /// From its start to its end.
    pub duration: Duration,
    /// Its attributes.
    pub attributes: BTreeMap<String, Value>,
    /// The number of its events.
    pub events: usize,
    /// The resource attributes of the process that sent it.
    pub resource: BTreeMap<String, Value>,
}

impl ExportedSpan {
    /// An attribute; `null` if it is absent.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Null)
    }
}

#[derive(Clone, Debug, Default)]
struct Received(Arc<Mutex<Vec<Bytes>>>);

/// Starts a collector that accepts everything.
pub async fn collector() -> Collector {
    let received = Received::default();
    let routes = Router::new().route("/v1/traces", post(take)).with_state(received.clone());
    Collector { server: serve(routes).await, received }
}

impl Collector {
    /// The URL for an exporter.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.url("")
    }

    /// The bodies of all exports so far.
    #[must_use]
    pub fn exports(&self) -> Vec<Bytes> {
        self.received.0.lock().expect("no panic").clone()
    }

    /// Every span so far.
    #[must_use]
    pub fn spans(&self) -> Vec<ExportedSpan> {
        self.exports().iter().flat_map(spans).collect()
    }

    /// Waits until this many spans have arrived, and returns all of them.
    ///
    /// # Panics
    /// If they do not arrive in time.
    pub async fn until_spans(&self, at_least: usize) -> Vec<ExportedSpan> {
        let deadline = Instant::now() + crate::qwen_server::TIMEOUT;
        loop {
            let spans = self.spans();
            if spans.len() >= at_least {
                return spans;
            }
            assert!(Instant::now() < deadline, "{at_least} spans were to come: {spans:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the only span.
    ///
    /// # Panics
    /// If there are none, or several.
    pub async fn span(&self) -> ExportedSpan {
        let [span] = <[ExportedSpan; 1]>::try_from(self.until_spans(1).await).expect("one span");
        span
    }
}

async fn take(State(received): State<Received>, headers: HeaderMap, export: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    received.0.lock().expect("no panic").push(export);
    StatusCode::OK
}

fn spans(export: &Bytes) -> Vec<ExportedSpan> {
    let export = ExportTraceServiceRequest::decode(export.clone()).expect("OTLP");
    let mut spans = Vec::new();
    for sender in export.resource_spans {
        let resource = attributes(sender.resource.expect("a resource").attributes);
        for span in sender.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(ExportedSpan {
                name: span.name,
                trace_id: hex(&span.trace_id),
                parent_id: hex(&span.parent_span_id),
                kind: span.kind,
                status: span.status.map_or(0, |status| status.code),
                duration: Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano),
                attributes: attributes(span.attributes),
                events: span.events.len(),
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, Value> {
    let value = |pair: KeyValue| {
        let value = match pair.value.and_then(|value| value.value) {
            Some(any_value::Value::StringValue(text)) => json!(text),
            Some(any_value::Value::IntValue(number)) => json!(number),
            Some(any_value::Value::DoubleValue(number)) => json!(number),
            Some(any_value::Value::BoolValue(flag)) => json!(flag),
            other => panic!("{} is {other:?}", pair.key),
        };
        (pair.key, value)
    };
    pairs.into_iter().map(value).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
