//! A service with metrics, and a scraper that watches it.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use llm_metrics::{
    Builder, LlmMetrics,
    layer::{LlmMetricsLayer, RequestBody},
    prometheus::{CONTENT_TYPE, Exporter, ExporterBuilder},
};
use tokio::task::JoinHandle;
use tower::{ServiceBuilder, service_fn};

use crate::{Client, Page, Script, Server, serve};

/// The model in the samples.
pub const MODEL: &str = "Qwen3-4B";

/// A request as a handler inside the layer receives it.
pub type MeasuredRequest = Request<RequestBody<Incoming>>;

/// Metrics with their own exporter, scraped over HTTP.
#[derive(Debug)]
#[non_exhaustive]
pub struct Watched {
    /// The metrics from which layers are made.
    pub metrics: LlmMetrics,
    /// The address of `/metrics`.
    pub addr: SocketAddr,
    exporter: Exporter,
    scraped: JoinHandle<()>,
}

impl Watched {
    /// With default settings.
    pub async fn start() -> Self {
        Self::with(|builder| builder, |exporter| exporter).await
    }

    /// With settings.
    pub async fn with(
        metrics: impl FnOnce(Builder) -> Builder,
        exporter: impl FnOnce(ExporterBuilder) -> ExporterBuilder,
    ) -> Self {
        let (_, exporter) = exporter(Exporter::builder()).build().expect("an exporter");
        let metrics = metrics(LlmMetrics::builder().exporter(&exporter)).build().expect("valid settings");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let serving = exporter.serve(listener);
        let scraped = tokio::spawn(async move {
            serving.await;
        });
        Self { metrics, addr, exporter, scraped }
    }

    /// The exporter.
    pub fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// A server with the layer, which reads each request to its end and then sends this answer.
    pub async fn answer(&self, answer: impl Fn(&Parts, &Bytes) -> Response<Script> + Clone + Send + 'static) -> Server {
        self.answer_through(self.metrics.layer(), answer).await
    }

    /// The same with a layer that the test has configured.
    pub async fn answer_through(
        &self,
        layer: LlmMetricsLayer,
        answer: impl Fn(&Parts, &Bytes) -> Response<Script> + Clone + Send + 'static,
    ) -> Server {
        let service = ServiceBuilder::new().layer(layer).service(service_fn(move |request: MeasuredRequest| {
            let answer = answer.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = match body.collect().await {
                    Ok(body) => body.to_bytes(),
                    Err(error) => return Err(error),
                };
                Ok::<_, hyper::Error>(answer(&parts, &body))
            }
        }));
        serve(service).await
    }

    /// Sends one request over a separate connection to a server with this answer, and reads the answer to its end.
    pub async fn exchange(
        &self,
        path: &str,
        request: impl Into<Bytes>,
        answer: impl Fn() -> Response<Script> + Clone + Send + 'static,
    ) -> Bytes {
        let server = self.answer(move |_, _| answer()).await;
        let mut client = Client::connect(server.addr).await;
        let answer = client.send(crate::post(server.addr, path, request)).await;
        answer.finish().await.expect("a whole answer").0
    }

    /// The page that a scrape gets now.
    pub async fn scrape(&self) -> Page {
        let mut client = Client::connect(self.addr).await;
        let request = Request::get(format!("http://{}/metrics", self.addr)).header("host", self.addr.to_string());
        let answer = client.send(request.body(Empty::<Bytes>::new()).expect("a request")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.head.headers["content-type"], CONTENT_TYPE);
        Page::parse(answer.text().await)
    }

    /// The page after every started request has ended. The server notices a disconnect later, and records the end of a request in several steps. So
    /// the page must stay the same for some time.
    pub async fn settled(&self) -> Page {
        let is_settled = |page: &Page| {
            let (started, ended) =
                (page.value("llm_requests_started_total", &[]), page.value("llm_requests_total", &[]));
            started == ended && page.samples("llm_requests_in_flight", &[]).all(|phase| phase.value == 0.0)
        };
        let mut page = self.when(is_settled).await;
        let mut same = 0;
        while same < 3 {
            tokio::time::sleep(Duration::from_millis(15)).await;
            let now = self.when(is_settled).await;
            same = if now.numbers() == page.numbers() { same + 1 } else { 0 };
            page = now;
        }
        page
    }

    /// Scrapes until the page satisfies a condition.
    ///
    /// # Panics
    /// If it does not within a minute.
    pub async fn when(&self, is: impl Fn(&Page) -> bool) -> Page {
        Page::when(async || self.scrape().await, 6000, is).await
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.scraped.abort();
    }
}
