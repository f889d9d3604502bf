// docs: client
use llm_metrics::LlmMetrics;
use llm_metrics_reqwest::ReqwestLayer;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};

fn client(metrics: &LlmMetrics) -> ClientWithMiddleware {
    // Outside a middleware that retries (`.with` before it), a request counts once. Inside it, each attempt counts.
    ClientBuilder::new(reqwest::Client::new()).with(ReqwestLayer::new(metrics.layer())).build()
}
// end

use llm_metrics::{
    LabelPolicy,
    catalog::{OUTPUT_TOKENS, REQUEST_ERRORS, REQUESTS},
    testing,
};
use serde_json::json;

use crate::server;

#[tokio::test]
async fn the_recipe_measures_requests_of_reqwest_middleware() {
    let (metrics, page) = testing::metrics_with(|builder| builder.upstream_label(LabelPolicy::first_accepted(20)));
    let client = client(&metrics);
    let server = server::start().await;
    for model in ["Qwen3-4B", "busy"] {
        let question = client.post(format!("{server}/v1/chat/completions")).json(&json!({"model": model}));
        question.send().await.unwrap().bytes().await.unwrap();
    }
    let answered = [("model", "Qwen3-4B"), ("upstream", server::authority(&server))];
    assert_eq!(page.value(&REQUESTS, &[answered[0], answered[1], ("outcome", "success")]), Some(1.0));
    assert_eq!(page.value(&OUTPUT_TOKENS, &answered), Some(2.0));
    assert_eq!(
        page.value(&REQUEST_ERRORS, &[("model", "busy"), ("error_type", "overloaded")]),
        Some(1.0),
        "{}",
        page.text()
    );
}
