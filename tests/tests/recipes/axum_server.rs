// docs: layers
use axum::{Router, body::Body, middleware, routing::post};
use llm_metrics::LlmMetrics;
use tower::{ServiceBuilder, limit::ConcurrencyLimitLayer};

/// In a router, the last layer is the outermost, and covers the routes above it.
fn by_the_router(metrics: &LlmMetrics) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .layer(ConcurrencyLimitLayer::new(64))
        .layer(middleware::from_fn(check_key))
        .layer(metrics.layer())
}

/// In a `ServiceBuilder`, the first layer is the outermost. `from_fn` accepts only axum's body, so `request_body` converts to it.
fn by_a_service_builder(metrics: &LlmMetrics) -> Router {
    let layers = ServiceBuilder::new()
        .layer(metrics.layer().request_body(Body::new))
        .layer(middleware::from_fn(check_key))
        .layer(ConcurrencyLimitLayer::new(64));
    Router::new().route("/v1/chat/completions", post(chat)).layer(layers)
}
// end

use axum::{
    extract::{Json, Request},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::Next,
    response::{IntoResponse, Response},
};
use llm_metrics::testing;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::asked::{self, Answer};

async fn check_key(request: Request, next: Next) -> Response {
    next.run(request).await
}

async fn chat(Json(question): Json<Value>) -> Response {
    match asked::answer(&question) {
        Answer::Events(events) => ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response(),
        Answer::Json(answer) => ([(CONTENT_TYPE, "application/json")], answer).into_response(),
        Answer::Busy => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Answer::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[tokio::test]
async fn the_recipes_measure_a_server_on_axum() {
    for app in [by_the_router, by_a_service_builder] {
        let (metrics, page) = testing::metrics();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = app(&metrics);
        tokio::spawn(async { axum::serve(listener, app).await });
        asked::assert_measured(&url, &metrics, &page).await;
    }
}
