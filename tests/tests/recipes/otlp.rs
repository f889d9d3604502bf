// docs: metrics
use llm_metrics::{
    LlmMetrics,
    catalog::{self, Kind, Unit},
};
use metrics_exporter_opentelemetry::Recorder;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, SdkMeterProvider, Stream, exporter::PushMetricExporter};

fn by_otlp(exporter: impl PushMetricExporter) -> (llm_metrics::Builder, SdkMeterProvider) {
    let view = |instrument: &Instrument| {
        let row = catalog::all().find(|row| row.name == instrument.name())?;
        let unit = match row.unit {
            Unit::Seconds | Unit::UnixSeconds => "s",
            Unit::Bytes => "By",
            Unit::Tokens => "{token}",
            _ => "1",
        };
        let stream = Stream::builder()
            .with_name(row.name)
            .with_unit(unit)
            .with_description(row.help)
            .with_cardinality_limit(20_000);
        let buckets = Aggregation::ExplicitBucketHistogram { boundaries: row.buckets.to_vec(), record_min_max: true };
        if row.kind == Kind::Histogram { stream.with_aggregation(buckets) } else { stream }.build().ok()
    };
    let (provider, recorder) = Recorder::builder("llm-metrics")
        .with_meter_provider(|provider| provider.with_periodic_exporter(exporter).with_view(view))
        .build();
    (LlmMetrics::builder().recorder(recorder), provider)
}
// end

use std::collections::BTreeMap;

use axum::{Router, extract::State, routing::post};
use bytes::Bytes;
use llm_metrics::{
    Operation,
    catalog::{REQUESTS, REQUESTS_IN_FLIGHT, TIME_TO_FIRST_TOKEN},
};
use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_otlp::{MetricExporter, WithExportConfig};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, metric::Data, number_data_point::Value},
};
use prost::Message;
use tokio::sync::mpsc;

use crate::answer;

/// The metrics that a collector receives.
async fn exported<R>(
    record: impl FnOnce(llm_metrics::Builder, &SdkMeterProvider) -> R + Send + 'static,
) -> Vec<Metric> {
    let (sender, mut received) = mpsc::unbounded_channel();
    let take = async |State(sender): State<mpsc::UnboundedSender<Bytes>>, export: Bytes| sender.send(export).unwrap();
    let app = Router::new().route("/v1/metrics", post(take)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    // The exporter's client blocks.
    let recording = tokio::task::spawn_blocking(move || {
        let exporter = MetricExporter::builder().with_http().with_endpoint(endpoint).build().unwrap();
        let (builder, provider) = by_otlp(exporter);
        let _until_then = record(builder, &provider);
        provider.shutdown().unwrap();
    });
    recording.await.unwrap();
    let export = ExportMetricsServiceRequest::decode(received.recv().await.unwrap()).unwrap();
    let scopes = export.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    scopes.flat_map(|scope| scope.metrics).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_has_each_metric_once_with_our_buckets() {
    let exported = exported(|builder, _| {
        let metrics = builder.build().unwrap();
        ["Qwen3-4B", "Qwen3-8B"].iter().for_each(|model| answer(&metrics, model));
        metrics.refresh();
        [(); 2].map(|()| metrics.start(Operation::Chat, "Qwen3-4B"))
    });
    let mut data = BTreeMap::new();
    for metric in exported.await {
        let row = catalog::all().find(|row| row.name == metric.name).expect("a row of the catalogue");
        assert_eq!(metric.description, row.help);
        assert!(data.insert(row.name, metric.data.unwrap()).is_none(), "{} came twice", row.name);
    }
    for row in catalog::all().filter(|row| row.kind == Kind::Histogram) {
        let Some(data) = data.get(row.name) else { continue };
        let Data::Histogram(histogram) = data else { panic!("{} is not a histogram", row.name) };
        assert!(histogram.data_points.iter().all(|series| series.explicit_bounds == row.buckets), "{}", row.name);
    }
    let Data::Histogram(first_token) = &data[TIME_TO_FIRST_TOKEN.name] else { panic!("no histogram") };
    assert_eq!(first_token.data_points.iter().map(|series| series.count).collect::<Vec<_>>(), [1, 1], "a model each");
    let Data::Sum(requests) = &data[REQUESTS.name] else { panic!("no counter") };
    assert_eq!(requests.data_points.len(), 2);
    let Data::Gauge(in_flight) = &data[REQUESTS_IN_FLIGHT.name] else { panic!("no gauge") };
    assert!(in_flight.data_points.iter().any(|series| series.value == Some(Value::AsDouble(2.0))), "{in_flight:?}");
    assert!(data.contains_key("llm_recent_request_duration_seconds"));
}

#[tokio::test(flavor = "multi_thread")]
async fn otlp_keeps_more_series_apart_than_the_sdk_would() {
    let exported = exported(|_, provider| {
        let requests = provider.meter("test").u64_counter(REQUESTS.name).build();
        (0..3_000).for_each(|tenant| requests.add(1, &[KeyValue::new("tenant", tenant)]));
    });
    let Some(Data::Sum(requests)) = &exported.await[0].data else { panic!("no counter") };
    assert_eq!(requests.data_points.len(), 3_000);
}
