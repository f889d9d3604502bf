// docs: metrics
use llm_metrics::{BuildError, LabelPolicy, LlmMetrics, prometheus::Exporter};

fn metrics(exporter: &Exporter) -> Result<LlmMetrics, BuildError> {
    // The label `upstream` has the server's address: of the first 20 servers that answer, and `other` for all others.
    LlmMetrics::builder().exporter(exporter).upstream_label(LabelPolicy::first_accepted(20)).build()
}
// end

// docs: reqwest
use llm_metrics_reqwest::{ReqwestLayer, ReqwestService};
use serde_json::json;
use tower::Layer;

fn client(metrics: &LlmMetrics) -> ReqwestService<reqwest::Client> {
    ReqwestLayer::new(metrics.layer()).layer(reqwest::Client::new())
}

async fn ask(client: &ReqwestService<reqwest::Client>, request: reqwest::RequestBuilder) -> reqwest::Result<String> {
    let question = json!({
        "model": "Qwen3-4B",
        "messages": [{"role": "user", "content": "Hello?"}],
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let mut answer = client.execute(request.json(&question).build()?).await?.error_for_status()?;
    let mut events = String::new();
    while let Some(chunk) = answer.chunk().await? {
        events.push_str(&String::from_utf8_lossy(&chunk));
    }
    Ok(events)
}
// end

use llm_metrics::catalog::{OUTPUT_TOKENS, REQUEST_ERRORS, REQUESTS};
use llm_metrics_tests::Page;

use crate::server;

#[tokio::test]
async fn the_recipe_measures_requests_of_reqwest() {
    let (_, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
    let metrics = metrics(&exporter).unwrap();
    let client = client(&metrics);
    let (server, nobody) = (server::start().await, server::nobody().await);
    let post = |server: &str| reqwest::Client::new().post(format!("{server}/v1/chat/completions"));
    assert!(ask(&client, post(&server)).await.unwrap().ends_with("data: [DONE]\n\n"));
    assert!(ask(&client, post(&nobody)).await.unwrap_err().is_connect());
    let page = Page::parse(exporter.render());
    let answered = [("model", "Qwen3-4B"), ("upstream", server::authority(&server))];
    assert_eq!(page.value(REQUESTS.name, &[answered[0], answered[1], ("outcome", "success")]), 1.0);
    assert_eq!(page.value(OUTPUT_TOKENS.name, &answered), 2.0);
    let failed =
        [("model", "Qwen3-4B"), ("upstream", server::authority(&nobody)), ("error_type", "upstream_unavailable")];
    assert_eq!(page.value(REQUEST_ERRORS.name, &failed), 1.0);
}
