//! Measures the statements of `docs/comparison.md` about streams that break. axum-prometheus and llm-metrics are around the same handler, in the
//! positions that `docs/migration.md` shows.

use std::{io, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::post,
};
use axum_prometheus::{
    PrometheusMetricLayerBuilder, metrics_exporter_prometheus::Matcher, utils::SECONDS_DURATION_BUCKETS,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use llm_metrics::{ErrorType, LlmMetrics, Outcome, prometheus::Exporter};
use serde_json::{Value, json};

const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Yes.\"},\"finish_reason\":null}]}\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\"}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// Sends two events with text and status 200, and then does what the name of the model says.
async fn chat(Json(question): Json<Value>) -> Response {
    let then = question["model"].as_str().unwrap_or_default().to_owned();
    let sent =
        |events: &'static [&'static str]| stream::iter(events).map(|event| Ok(Bytes::from_static(event.as_bytes())));
    let rest: std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> = match &*then {
        "breaks" => Box::pin(stream::once(async {
            tokio::time::sleep(Duration::from_millis(20)).await; // so that the previous bytes are sent
            Err(io::Error::other("the engine is gone"))
        })),
        "error event" => Box::pin(sent(&[ERROR, DONE])),
        "no end" => Box::pin(stream::empty()),
        _ => Box::pin(stream::pending()),
    };
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(sent(&[TEXT, TEXT]).chain(rest))).into_response()
}

#[tokio::test]
async fn failed_streams_are_200_for_one_crate_and_errors_for_the_other() {
    let duration = Matcher::Full("axum_http_requests_duration_seconds".to_owned());
    let exporter = Exporter::builder()
        .configure(|builder| {
            builder.set_buckets_for_metric(duration, SECONDS_DURATION_BUCKETS).expect("there are bounds")
        })
        .install()
        .unwrap();
    let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
    let http = PrometheusMetricLayerBuilder::new().build(); // not `with_default_metrics`, which installs a recorder
    let app = Router::new().route("/v1/chat/completions", post(chat)).layer(metrics.layer()).layer(http);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/chat/completions", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });

    let client = reqwest::Client::new();
    for (then, outcome, error) in [
        ("breaks", Outcome::Error, Some(ErrorType::StreamTruncated)),
        ("error event", Outcome::Error, Some(ErrorType::StreamError)),
        ("no end", Outcome::Error, Some(ErrorType::StreamTruncated)),
        ("client leaves", Outcome::Cancelled, None),
    ] {
        let question = json!({"model": then, "stream": true, "messages": []});
        let mut answer = client.post(&url).json(&question).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        if then == "client leaves" {
            let mut read = 0;
            while read < 2 * TEXT.len() {
                read += answer.chunk().await.unwrap().expect("two events").len();
            }
            drop(answer);
        } else {
            let _ = answer.bytes().await;
        }
        let request = loop {
            match metrics.recent_requests(1).into_iter().find(|request| &*request.model == then) {
                Some(request) => break request,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert_eq!((request.outcome, request.error_type), (outcome, error), "{then}");
    }

    let page = exporter.render();
    let lines = |begin: &str| page.lines().filter(|line| line.starts_with(begin)).collect::<Vec<_>>();
    let all = "{method=\"POST\",status=\"200\",endpoint=\"/v1/chat/completions\"} 4";
    assert_eq!(lines("axum_http_requests_total"), [format!("axum_http_requests_total{all}")]);
    let pending = "axum_http_requests_pending{method=\"POST\",endpoint=\"/v1/chat/completions\"} 0";
    assert_eq!(lines("axum_http_requests_pending"), [pending]);
    let count = format!("axum_http_requests_duration_seconds_count{all}");
    assert_eq!(lines("axum_http_requests_duration_seconds_count"), [count], "its duration ends with the head");
}
