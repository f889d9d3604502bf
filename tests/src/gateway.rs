//! A gateway in this process.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use llm_metrics_gateway::{Config, Gateway};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{Client, Page};

/// A running gateway; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// The address for clients.
    pub addr: SocketAddr,
    /// The address of its own endpoints.
    pub own: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<bool>,
}

impl Running {
    /// Starts it in front of one upstream, with these additional lines in the upstream's table.
    pub async fn before(upstream: SocketAddr, settings: &str) -> Self {
        Self::start(&format!(
            "[upstreams.up]\nurl = \"http://{upstream}\"\nprobe = \"0\"\nrefresh_models = \"0\"\n{settings}"
        ))
        .await
    }

    /// Starts it with this configuration, and with its own endpoints on a separate address.
    pub async fn start(config: &str) -> Self {
        Self::with(Config::parse(config).expect("a configuration")).await
    }

    /// The same, with a configuration that may have values that a file cannot have.
    pub async fn with(config: Config) -> Self {
        let gateway = Gateway::new(config).expect("a gateway");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addresses = (listener.local_addr().expect("an address"), own.local_addr().expect("an address"));
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(gateway.serve(listener, Some(own), stopped, std::future::pending()));
        Self { addr: addresses.0, own: addresses.1, stop: Some(stop), task }
    }

    /// Stops it, and returns whether all requests could end.
    pub async fn stop(mut self) -> bool {
        self.start_stopping();
        self.finished().await
    }

    /// Waits until it has stopped.
    pub async fn finished(mut self) -> bool {
        (&mut self.task).await.expect("no panic")
    }

    /// Tells it to stop.
    ///
    /// # Panics
    /// If it was told before.
    pub fn start_stopping(&mut self) {
        let _ = self.stop.take().expect("it runs").send(());
    }

    /// Sends a request to one of its own endpoints, and returns the status and the text.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut client = Client::connect(self.own).await;
        let request = Request::get(format!("http://{}{path}", self.own)).header("host", self.own.to_string());
        let answer = client.send(request.body(Empty::<Bytes>::new()).expect("a request")).await;
        (answer.status().as_u16(), answer.text().await)
    }

    /// The page that a scrape gets now.
    ///
    /// # Panics
    /// If there is no page.
    pub async fn scrape(&self) -> Page {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        Page::parse(text)
    }

    /// Scrapes until the page satisfies a condition.
    ///
    /// # Panics
    /// If it does not within 20 seconds.
    pub async fn when(&self, is: impl Fn(&Page) -> bool) -> Page {
        Page::when(async || self.scrape().await, 2000, is).await
    }

    /// The page when this many requests have ended.
    pub async fn ended(&self, requests: u32) -> Page {
        self.when(|page| page.value("llm_requests_total", &[]) == f64::from(requests)).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Attempts by result: answered, refused, reset, timeout, cancelled.
pub fn attempts(page: &Page) -> [f64; 5] {
    ["answered", "refused", "reset", "timeout", "cancelled"]
        .map(|result| page.value("llm_gateway_attempts_total", &[("result", result)]))
}
