//! The layer around a *client*: what a gateway or an agent measures of its upstream servers.
//!
//! Sends requests to the server at the given address, or to a server that it starts itself, and ends four requests in four ways.
//!
//! ```text
//! cargo run -p llm-metrics --features prometheus --example client
//! cargo run -p llm-metrics --features prometheus --example client -- http://127.0.0.1:8080
//! ```

use std::{convert::Infallible, env, error::Error, time::Duration};

use axum::{Router, body::Body, response::IntoResponse, routing::post};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy, rt::TokioExecutor};
use llm_metrics::{ErrorType, LlmMetrics, layer::RequestBody, prometheus::Exporter};
use serde_json::json;
use tokio::{net::TcpListener, time::sleep};
use tower::{Service, ServiceBuilder, ServiceExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (_, exporter) = Exporter::builder().process_metrics(false).build()?;
    let metrics = LlmMetrics::builder().exporter(&exporter).build()?;

    // `proxy`: a 5xx is a failure of the upstream. `classify_error`: the type of a failure without a response.
    let layer = metrics.layer().proxy().classify_error(|error: &legacy::Error| {
        if error.is_connect() { ErrorType::UpstreamUnavailable } else { ErrorType::UpstreamError }
    });
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<RequestBody<Full<Bytes>>>();
    let mut client = ServiceBuilder::new().layer(layer).service(client);

    let server = match env::args().nth(1) {
        Some(url) => url,
        None => start_server().await?,
    };
    // Read to its end: a success.
    let answer = client.ready().await?.call(ask(&server, "parrot")?).await?;
    println!("{} {}", answer.status(), String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()));
    // Dropped after the first frame: cancelled, and its tokens count as discarded.
    let mut answer = client.ready().await?.call(ask(&server, "parrot")?).await?.into_body();
    let _ = answer.frame().await;
    drop(answer);
    // Rejected by the server.
    let answer = client.ready().await?.call(ask(&server, "a-model-that-nobody-has")?).await?;
    println!("{}", answer.status());
    answer.into_body().collect().await?;
    // No connection: an error, under the model in the request, although no server read it.
    let failed = client.ready().await?.call(ask("http://127.0.0.1:1", "parrot")?).await;
    println!("{}", failed.expect_err("nothing listens at port 1"));

    // The page of a scrape, without buckets and zeros.
    let page = exporter.render();
    let brief = |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.contains("_bucket{");
    page.lines().filter(brief).filter(|line| !line.ends_with(" 0")).for_each(|line| println!("{line}"));
    Ok(())
}

fn ask(server: &str, model: &str) -> http::Result<Request<Full<Bytes>>> {
    let question = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "Hello?"}]});
    Request::post(format!("{server}/v1/chat/completions"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(question.to_string()))
}

const ANSWER: [&str; 4] = [
    "data: {\"model\":\"parrot\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello!\"},\"finish_reason\":null}]}\n\n",
    "data: {\"model\":\"parrot\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"model\":\"parrot\",\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":2}}\n\n",
    "data: [DONE]\n\n",
];

/// A server to connect to.
async fn start_server() -> Result<String, Box<dyn Error>> {
    let chat = |question: String| async move {
        if !question.contains("parrot") {
            return (StatusCode::NOT_FOUND, "no such model\n").into_response();
        }
        let events = stream::iter(ANSWER).then(|event| async move {
            sleep(Duration::from_millis(20)).await;
            Ok::<_, Infallible>(event)
        });
        ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = Router::new().route("/v1/chat/completions", post(chat));
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(url)
}
