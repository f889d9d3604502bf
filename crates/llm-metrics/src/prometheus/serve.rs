use std::{convert::Infallible, future::Future, io, time::Duration};

use http::{Request, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};

use super::{Exporter, MetricsService, deadline::WriteDeadline, service::text};

/// How long to wait if a connection cannot be accepted, for example because there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The maximum number of connections. A page has some megabytes at most, and each peer may read it slowly.
const CONNECTIONS: usize = 32;

/// How long a peer may take to send the request head, and again to read the response: three times the default scrape timeout of Prometheus.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Exporter {
    /// Serves `/metrics` on a separate port, for as long as the future is polled: spawn it. Dropping it closes the connections.
    ///
    /// At most 32 connections are open; others wait until one is closed. A connection is closed if its peer takes more than 30 seconds to send a
    /// request, or to read the response.
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
        let metrics = self.service();
        async move {
            let mut connections = JoinSet::new();
            loop {
                // Connections that have ended are removed here, too.
                while connections.len() >= CONNECTIONS {
                    connections.join_next().await;
                }
                let (stream, _) = until_it_works(|| listener.accept()).await;
                connections.spawn(connection(stream, metrics.clone()));
            }
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, metrics: MetricsService) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let metrics = metrics.clone();
        async move {
            Ok::<_, Infallible>(match request.uri().path() {
                "/metrics" => metrics.answer(request.method().clone(), request.headers().clone()).await,
                _ => text(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"),
            })
        }
    });
    let stream = WriteDeadline::new(TokioIo::new(stream), TIMEOUT);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(TIMEOUT);
    // If a scraper disconnects, that is not an error of the server.
    let _ = http.serve_connection(stream, answer).await;
}

async fn until_it_works<T, F: Future<Output = io::Result<T>>>(accept: impl Fn() -> F) -> T {
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        net::TcpStream,
        task::JoinHandle,
        time::{Instant, sleep},
    };

    use super::*;

    const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";

    /// A peer of a server whose buffers hold only a small part of a page.
    fn connect(exporter: &Exporter) -> (DuplexStream, JoinHandle<()>) {
        let (peer, stream) = duplex(64);
        (peer, tokio::spawn(connection(stream, exporter.service())))
    }

    fn exporter() -> Exporter {
        Exporter::builder().build().unwrap().1
    }

    /// Reads one response.
    async fn page(peer: &mut (impl AsyncRead + Unpin)) -> String {
        let mut page = String::new();
        let mut read = async || char::from(peer.read_u8().await.unwrap());
        while !page.ends_with("\r\n\r\n") {
            page.push(read().await);
        }
        let length = page.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        for _ in 0_usize..length {
            page.push(read().await);
        }
        page
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed() {
        let exporter = exporter();
        let (mut peer, server) = connect(&exporter);
        peer.write_all(&GET[..20]).await.unwrap();
        let began = Instant::now();
        let end = tokio::time::timeout(2 * TIMEOUT, peer.read_u8()).await.expect("it is closed");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        server.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_peer_reads_too_slowly_is_closed() {
        for sip in [0, 1] {
            let exporter = exporter();
            let (mut peer, mut server) = connect(&exporter);
            peer.write_all(GET).await.unwrap();
            // Not measured from the request on: the page is rendered on another thread, for which the clock of this test does not wait.
            peer.read_u8().await.unwrap();
            let (began, mut sips) = (Instant::now(), vec![0; sip]);
            loop {
                assert!(began.elapsed() < 2 * TIMEOUT, "it is not closed");
                tokio::select! {
                    ended = &mut server => break ended.unwrap(),
                    () = sleep(Duration::from_secs(1)) => peer.read_exact(&mut sips).await.map(drop).unwrap(),
                }
            }
            assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs(), "{sip} bytes a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_its_own_time() {
        let exporter = exporter();
        let (mut peer, server) = connect(&exporter);
        for _ in 0..3 {
            peer.write_all(GET).await.unwrap();
            peer.read_u8().await.unwrap();
            sleep(TIMEOUT * 2 / 3).await;
            assert!(page(&mut peer).await.contains("process_"));
        }
        assert!(!server.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_accept_is_tried_again_after_a_pause() {
        let (began, tries) = (Instant::now(), AtomicU32::new(0));
        let accept = || {
            let works = tries.fetch_add(1, Ordering::Relaxed) == 3;
            std::future::ready(if works { Ok("a connection") } else { Err(io::ErrorKind::Other.into()) })
        };
        assert_eq!(until_it_works(accept).await, "a connection");
        assert_eq!(began.elapsed(), 3 * ACCEPT_PAUSE);
    }

    #[tokio::test]
    async fn connections_over_the_limit_wait_until_another_has_ended() {
        let exporter = exporter();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(exporter.serve(listener));
        let ask = async || {
            let mut peer = TcpStream::connect(addr).await.unwrap();
            peer.write_all(GET).await.unwrap();
            peer
        };
        for _ in 0..2 * CONNECTIONS {
            page(&mut ask().await).await;
        }
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut peer = ask().await;
            page(&mut peer).await;
            open.push(peer);
        }
        let mut waits = ask().await;
        let none = tokio::time::timeout(Duration::from_millis(50), waits.read_u8()).await;
        assert!(none.is_err(), "it is not accepted: {none:?}");
        open.pop();
        page(&mut waits).await;
        server.abort();
    }
}
