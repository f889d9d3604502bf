//! A service that is also a client: the requests of its callers and those to its upstream, each counted once, on one page.
//!
//! ```text
//! cargo run -p llm-metrics --features prometheus --example both-sides
//! ```

use std::error::Error;

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, Response, Uri, header},
    response::IntoResponse,
    routing::post,
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use llm_metrics::{
    LlmMetrics,
    catalog::{self, Naming},
    layer::{LlmMetricsService, RequestBody},
    prometheus::Exporter,
};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};

const PATH: &str = "/v1/chat/completions";
const QUESTION: &str = r#"{"model":"parrot","messages":[{"role":"user","content":"Hello?"}]}"#;
const ANSWER: &str = r#"{"model":"parrot","choices":[{"index":0,"message":{"content":"Hello!"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":2}}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Two sets of names: `llm_…` for callers, `upstream_…` for the upstream. The exporter must know both to set the buckets.
    let upstream_names = Naming::new().prefix("upstream")?;
    let exporter = Exporter::builder().process_metrics(false).catalogue(catalog::SECTIONS, upstream_names.clone());
    let (_, exporter) = exporter.build()?;
    let served = LlmMetrics::builder().exporter(&exporter).build()?;
    let asked = LlmMetrics::builder().exporter(&exporter).naming(upstream_names).build()?;

    let upstream = serve(Router::new().route(PATH, post(answer))).await?;
    let client = legacy::Client::builder(TokioExecutor::new()).build_http();
    let client = asked.layer().proxy().layer(client); // around the client
    let app = Router::new().route(PATH, post(forward)).with_state((client, upstream)).layer(served.layer()); // around the router
    let service = serve(app).await?;

    let caller = legacy::Client::builder(TokioExecutor::new()).build_http::<Body>();
    let answer = caller.request(Request::post(format!("{service}{PATH}")).body(Body::from(QUESTION))?).await?;
    axum::body::to_bytes(Body::new(answer.into_body()), usize::MAX).await?;

    let page = exporter.render();
    let brief = |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.ends_with(" 0");
    page.lines().filter(brief).for_each(|line| println!("{line}"));
    Ok(())
}

type Client = LlmMetricsService<legacy::Client<HttpConnector, RequestBody<Body>>>;

async fn forward(
    State((client, upstream)): State<(Client, String)>,
    mut request: Request<Body>,
) -> Result<Response<Body>, String> {
    *request.uri_mut() = format!("{upstream}{PATH}").parse::<Uri>().map_err(|error| error.to_string())?;
    let answer = client.oneshot(request).await.map_err(|error| error.to_string())?;
    Ok(answer.map(Body::new))
}

async fn answer() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], ANSWER)
}

async fn serve(app: Router) -> Result<String, std::io::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(url)
}
