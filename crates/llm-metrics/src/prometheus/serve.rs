use std::{convert::Infallible, future::Future, io, time::Duration};

use http::{Request, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};

use super::{Exporter, MetricsService, service::text};

/// How long to wait when no connection can be accepted, for lack of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Exporter {
    /// Serves `/metrics` on a port of its own, for as long as the future is polled: spawn it. Dropping it closes the
    /// connections.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let exporter = llm_metrics::prometheus::Exporter::builder().install()?;
    /// let metrics = llm_metrics::LlmMetrics::builder().exporter(&exporter).build()?;
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:9464").await?;
    /// tokio::spawn(exporter.serve(listener));
    /// # let _ = metrics;
    /// # Ok(())
    /// # }
    /// ```
    pub fn serve(&self, listener: TcpListener) -> impl Future<Output = Infallible> + Send + use<> {
        serve(listener, self.service())
    }
}

async fn serve(listener: TcpListener, metrics: MetricsService) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        let stream = match accept(&listener, &mut connections).await {
            Ok(stream) => stream,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let metrics = metrics.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let metrics = metrics.clone();
            async move {
                Ok::<_, Infallible>(match request.uri().path() {
                    "/metrics" => metrics.answer(request.method().clone()).await,
                    _ => text(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"),
                })
            }
        });
        connections.spawn(async move {
            // A scraper that goes away mid-answer is no concern of the server.
            let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// The next connection; meanwhile, those that have ended are let go.
async fn accept(listener: &TcpListener, connections: &mut JoinSet<()>) -> io::Result<tokio::net::TcpStream> {
    loop {
        tokio::select! {
            accepted = listener.accept() => return accepted.map(|(stream, _)| stream),
            Some(_) = connections.join_next() => {}
        }
    }
}
