// docs: client
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use llm_metrics::{
    ErrorType, LlmMetrics,
    layer::{LlmMetricsService, RequestBody},
};
use tower::Layer;

type HttpClient = legacy::Client<HttpConnector, RequestBody<Full<Bytes>>>;
type Client = LlmMetricsService<HttpClient, fn(&legacy::Error) -> ErrorType>;

fn client(metrics: &LlmMetrics) -> Client {
    let http = legacy::Client::builder(TokioExecutor::new()).build_http();
    metrics.layer().proxy().classify_error(error_type as fn(&legacy::Error) -> ErrorType).layer(http)
}

/// Classifies the error if there was no response.
fn error_type(error: &legacy::Error) -> ErrorType {
    if error.is_connect() { ErrorType::UpstreamUnavailable } else { ErrorType::UpstreamError }
}
// end

use http::{Request, header};
use http_body_util::BodyExt;
use llm_metrics::{
    LabelPolicy,
    catalog::{OUTPUT_TOKENS, REQUEST_ERRORS, REQUESTS},
    testing,
};
use tower::ServiceExt;

use crate::server;

fn question(server: &str) -> Request<Full<Bytes>> {
    Request::post(format!("{server}/v1/chat/completions"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(r#"{"model": "Qwen3-4B", "stream": true}"#))
        .unwrap()
}

#[tokio::test]
async fn the_recipe_measures_requests_of_hyper() {
    let (metrics, page) = testing::metrics_with(|builder| builder.upstream_label(LabelPolicy::first_accepted(20)));
    let client = client(&metrics);
    let (server, nobody) = (server::start().await, server::nobody().await);
    client.clone().oneshot(question(&server)).await.unwrap().collect().await.unwrap();
    client.oneshot(question(&nobody)).await.unwrap_err();
    let answered = [("model", "Qwen3-4B"), ("upstream", server::authority(&server))];
    assert_eq!(page.value(&REQUESTS, &[answered[0], answered[1], ("outcome", "success")]), Some(1.0));
    assert_eq!(page.value(&OUTPUT_TOKENS, &answered), Some(2.0));
    let failed =
        [("model", "Qwen3-4B"), ("upstream", server::authority(&nobody)), ("error_type", "upstream_unavailable")];
    assert_eq!(page.value(&REQUEST_ERRORS, &failed), Some(1.0), "its model is known, though nobody answered");
}
