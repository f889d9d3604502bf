// docs: serve
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use llm_metrics::{LlmMetrics, layer::RequestBody};
use tokio::net::TcpListener;
use tower::ServiceBuilder;

async fn serve(metrics: LlmMetrics, listener: TcpListener) -> std::io::Result<()> {
    // One service for all connections. Its clones share the metrics.
    let service = ServiceBuilder::new().layer(metrics.layer()).service_fn(chat);
    loop {
        let (connection, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            // If a connection breaks, its request is counted as cancelled.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

async fn chat(request: Request<RequestBody<Incoming>>) -> Result<Response<Body>, Infallible> {
    let question = request.into_body().collect().await; // if it is not read, the model is `unknown`
    Ok(answer(&question.map(|question| question.to_bytes()).unwrap_or_default()))
}
// end

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use llm_metrics::testing;

use crate::asked::{self, Answer};

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn answer(question: &[u8]) -> Response<Body> {
    let full = |bytes: &'static str| Full::from(bytes).boxed_unsync();
    let (status, content_type, body) = match asked::answer(&serde_json::from_slice(question).unwrap_or_default()) {
        Answer::Events(events) => (
            StatusCode::OK,
            "text/event-stream",
            StreamBody::new(events.map(|bytes| bytes.map(Frame::data))).boxed_unsync(),
        ),
        Answer::Json(answer) => (StatusCode::OK, "application/json", full(answer)),
        Answer::Busy => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", full("")),
        Answer::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", full("")),
    };
    Response::builder().status(status).header(CONTENT_TYPE, content_type).body(body).unwrap()
}

#[tokio::test]
async fn the_recipe_measures_a_server_on_hyper() {
    let (metrics, page) = testing::metrics();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(metrics.clone(), listener));
    asked::assert_measured(&url, &metrics, &page).await;
    asked::assert_hang_up_is_noticed_in_silence(&url, &metrics).await;
}
