//! A server on hyper, without a framework, with its metrics on a separate port.
//!
//! ```text
//! cargo run -p llm-metrics --features prometheus --example hyper-server
//! curl -N http://127.0.0.1:8080/v1/completions -d '{"model":"parrot","stream":true,"prompt":"Say it again"}'
//! curl -s http://127.0.0.1:9464/metrics | grep ^llm_
//! ```

use std::{convert::Infallible, env, error::Error, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use llm_metrics::{LlmMetrics, layer::RequestBody, prometheus::Exporter};
use tokio::{net::TcpListener, time::sleep};
use tower::ServiceBuilder;

const STREAM: [&str; 5] = [
    "data: {\"model\":\"parrot\",\"choices\":[{\"index\":0,\"text\":\"Say \",\"finish_reason\":null}]}\n\n",
    "data: {\"model\":\"parrot\",\"choices\":[{\"index\":0,\"text\":\"it again\",\"finish_reason\":null}]}\n\n",
    "data: {\"model\":\"parrot\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"model\":\"parrot\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":3}}\n\n",
    "data: [DONE]\n\n",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exporter = Exporter::builder().install()?;
    let metrics = LlmMetrics::builder().exporter(&exporter).build()?;
    let mut addresses = env::args().skip(1);
    let listener = TcpListener::bind(addresses.next().as_deref().unwrap_or("127.0.0.1:8080")).await?;
    let scraped = TcpListener::bind(addresses.next().as_deref().unwrap_or("127.0.0.1:9464")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    println!("metrics at http://{}/metrics", scraped.local_addr()?);
    tokio::spawn(exporter.serve(scraped));

    // One service for all connections: a clone shares the metrics.
    let service = ServiceBuilder::new().layer(metrics.layer()).service_fn(answer);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        // If a connection breaks, the metrics show it: its request is `cancelled`.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The layer wraps the request body, to read the model's name as the bytes pass. It is a body like any other.
async fn answer(request: Request<RequestBody<Incoming>>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Empty::new().boxed_unsync());
    if request.uri().path() != "/v1/completions" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    // If the handler does not read the request, it is recorded under the model `unknown`.
    if Limited::new(request.into_body(), 1 << 20).collect().await.is_err() {
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(response);
    }
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    *response.body_mut() = StreamBody::new(stream::iter(STREAM).then(|event| async move {
        sleep(Duration::from_millis(20)).await;
        Ok(Frame::data(Bytes::from_static(event.as_bytes())))
    }))
    .boxed_unsync();
    Ok(response)
}
