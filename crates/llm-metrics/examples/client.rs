//! The layer around a *client*: what a gateway or an agent sees of the servers that it asks.
//!
//! Asks the server at the given address, or without one a server that it starts itself, and lets four requests end in
//! four ways.
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

    // `proxy`: what fails with 5xx is the server behind us. `classify_error`: what fails without an answer.
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
    // Given up after the first frame: cancelled, and its tokens count as discarded.
    let mut answer = client.ready().await?.call(ask(&server, "parrot")?).await?.into_body();
    let _ = answer.frame().await;
    drop(answer);
    // Sent away: rejected.
    let answer = client.ready().await?.call(ask(&server, "a-model-that-nobody-has")?).await?;
    println!("{}", answer.status());
    answer.into_body().collect().await?;
    // Nobody there: an error, under the name that its question has, though nobody read it.
    let failed = client.ready().await?.call(ask("http://127.0.0.1:1", "parrot")?).await;
    println!("{}", failed.expect_err("nothing listens at port 1"));

    // What a scrape would get, without the buckets and without what is 0.
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

/// Somebody to talk to.
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
