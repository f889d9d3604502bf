// docs: server
use axum::{Router, routing::post};
use llm_metrics::LlmMetrics;
use tonic::service::Routes;

/// Both on one port: requests to `/v1` are measured, gRPC calls are not.
fn app(metrics: &LlmMetrics, grpc: Routes) -> Router {
    Router::new().route("/v1/chat/completions", post(chat)).layer(metrics.layer()).merge(grpc.into_axum_router())
}
// end

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use axum::{
    Json,
    body::Body,
    http::{Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use llm_metrics::{InferenceHandle, testing};
use serde_json::Value;
use tonic::server::NamedService;
use tower::Service;

use crate::asked::{self, Answer};

async fn chat(Json(question): Json<Value>) -> Response {
    match asked::answer(&question) {
        Answer::Events(events) => {
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
        }
        Answer::Json(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Answer::Busy => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Answer::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A service as tonic generates them: it answers `/greeter.Greeter/…`.
#[derive(Clone)]
struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "greeter.Greeter";
}

impl Service<Request<tonic::body::Body>> for Greeter {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        assert!(request.extensions().get::<InferenceHandle>().is_none());
        ready(Ok(tonic::Status::ok("").into_http()))
    }
}

#[tokio::test]
async fn the_recipe_measures_a_server_with_grpc_beside_it() {
    let (metrics, page) = testing::metrics();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = app(&metrics, Routes::new(Greeter));
    tokio::spawn(async { axum::serve(listener, app).await });
    let greeting = reqwest::Client::new().post(format!("{url}/greeter.Greeter/Hello"));
    let answer = greeting.header("content-type", "application/grpc").send().await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "0");
    asked::assert_measured(&url, &metrics, &page).await;
}
