// docs: server
use http_body_util::BodyExt;
use llm_metrics::{LlmMetrics, layer::RequestBody};
use salvo::{
    Router,
    http::ReqBody,
    prelude::{Request, Response, TowerLayerCompat, handler},
};

fn app(metrics: &LlmMetrics) -> Router {
    // `compat` starts a task: call this on the runtime.
    let measured = metrics.layer().request_body(body).compat();
    Router::new().hoop(measured).push(Router::with_path("v1/chat/completions").post(chat))
}

/// Converts the body back to salvo's type, the only one that its handlers accept.
fn body(body: RequestBody<ReqBody>) -> ReqBody {
    ReqBody::Boxed { inner: Box::pin(body.map_err(Into::into)), fuse_config: None }
}
// end

use llm_metrics::{InferenceHandle, testing};
use salvo::{Server, conn::tcp::TcpAcceptor, http::StatusCode};
use serde_json::Value;

use crate::asked::{self, Answer};

#[handler]
async fn chat(request: &mut Request, response: &mut Response) {
    assert!(request.extensions().get::<InferenceHandle>().is_some());
    let question: Value = request.parse_json().await.unwrap();
    match asked::answer(&question) {
        Answer::Events(events) => {
            response.add_header("content-type", "text/event-stream", true).unwrap();
            response.stream(events);
        }
        Answer::Json(answer) => {
            response.add_header("content-type", "application/json", true).unwrap();
            response.add_header("content-length", answer.len(), true).unwrap(); // salvo does not set it behind a tower layer
            response.write_body(answer).unwrap();
        }
        Answer::Busy => drop(response.status_code(StatusCode::SERVICE_UNAVAILABLE)),
        Answer::Broken => drop(response.status_code(StatusCode::INTERNAL_SERVER_ERROR)),
    }
}

#[tokio::test]
async fn the_recipe_measures_a_server_on_salvo() {
    let (metrics, page) = testing::metrics();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::new(TcpAcceptor::try_from(listener).unwrap());
    tokio::spawn(server.serve(app(&metrics)));
    asked::assert_measured(&url, &metrics, &page).await;
}
