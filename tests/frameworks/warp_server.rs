// docs: server
use std::io;

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use llm_metrics::LlmMetrics;
use tokio::net::TcpListener;
use tower::Layer;
use warp::Filter;

async fn serve(metrics: LlmMetrics, listener: TcpListener) -> io::Result<()> {
    let routes = warp::path!("v1" / "chat" / "completions").and(warp::post()).and(warp::body::json()).and_then(chat);
    // `warp::serve` takes no layers: its filters become a service, and hyper serves that.
    let service = metrics.layer().layer(warp::service(routes));
    loop {
        let (connection, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
        });
    }
}
// end

use std::{convert::Infallible, sync::Mutex};

use futures_util::{Stream, stream};
use llm_metrics::testing;
use serde_json::Value;
use warp::{
    http::StatusCode,
    reply::{Reply, Response},
};

use crate::asked::{self, Answer};

async fn chat(question: Value) -> Result<Response, Infallible> {
    Ok(match asked::answer(&question) {
        Answer::Events(events) => {
            let events = Mutex::new(Box::pin(events)); // warp asks for a stream that is `Sync`
            let events = stream::poll_fn(move |context| events.lock().unwrap().as_mut().poll_next(context));
            let reply = warp::reply::stream(events);
            warp::reply::with_header(reply, "content-type", "text/event-stream").into_response()
        }
        Answer::Json(answer) => warp::reply::with_header(answer, "content-type", "application/json").into_response(),
        Answer::Busy => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Answer::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    })
}

#[tokio::test]
async fn the_recipe_measures_a_server_on_warp() {
    let (metrics, page) = testing::metrics();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(metrics.clone(), listener));
    asked::assert_measured(&url, &metrics, &page).await;
}
