// docs: tenants
use std::error::Error;

use axum::{Router, routing::post};
use llm_metrics::{LabelPolicy, LlmMetrics, catalog::Naming, prometheus::Exporter};

fn tenants() -> Result<(Exporter, LlmMetrics), Box<dyn Error>> {
    let (_, exporter) = Exporter::builder()
        .naming(Naming::new().prefix("qwen")?) // `qwen_requests_total`
        .buckets("llm_request_duration_seconds", [0.5, 1.0, 2.0, 5.0, 10.0]) // the name as in the catalogue
        .build()?;
    let metrics = LlmMetrics::builder()
        .exporter(&exporter) // uses its names, too
        .models(["Qwen3-4B", "Qwen3-14B"])
        .request_label("tenant", LabelPolicy::first_accepted(2), |head| {
            Some(head.headers.get("x-tenant")?.to_str().ok()?.to_owned())
        })
        .build()?;
    Ok((exporter, metrics))
}

fn app(exporter: &Exporter, metrics: &LlmMetrics) -> Router {
    let chat = post(async |question: String| question); // the model's answer
    Router::new()
        .route("/v1/chat/completions", chat)
        .layer(metrics.layer())
        .route_service("/metrics", exporter.service())
}
// end

use axum::body::{Body, to_bytes};
use http::Request;
use llm_metrics_tests::Page;
use tower::ServiceExt;

#[tokio::test]
async fn tenants_are_distinguished_up_to_their_limit_under_custom_names() {
    let (exporter, metrics) = tenants().unwrap();
    let app = app(&exporter, &metrics);
    for (tenant, model) in [("acme", "Qwen3-4B"), ("initech", "Qwen3-4B"), ("hooli", "made-up"), ("", "Qwen3-14B")] {
        let question = Request::post("/v1/chat/completions").header("content-type", "application/json");
        let question = if tenant.is_empty() { question } else { question.header("x-tenant", tenant) };
        let body = Body::from(format!("{{\"model\":\"{model}\",\"choices\":[]}}"));
        let answer = app.clone().oneshot(question.body(body).unwrap()).await.unwrap();
        to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    }
    let scrape = app.oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
    let page = to_bytes(scrape.into_body(), 1 << 20).await.unwrap();
    let page = Page::parse(String::from_utf8_lossy(&page).into_owned());
    for (tenant, model) in [("acme", "Qwen3-4B"), ("initech", "Qwen3-4B"), ("other", "other"), ("unknown", "Qwen3-14B")]
    {
        let labels = [("tenant", tenant), ("model", model), ("outcome", "success")];
        assert_eq!(page.value("qwen_requests_total", &labels), 1.0, "{tenant}");
    }
    assert_eq!(page.value("qwen_metrics_label_overflow_total", &[("label", "tenant")]), 1.0);
    assert_eq!(page.histogram("qwen_request_duration_seconds", &[("tenant", "acme")]).buckets.len(), 6);
}
