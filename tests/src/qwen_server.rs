//! The Qwen server as a separate process, as users run it.
//!
//! Each test starts one, so all values on its `/metrics` are from that test.

mod binary;
mod ledger;
mod talk;

use std::{
    fs::File,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Empty;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Client, Page, post};

pub use binary::{binary, made_up_driver};
pub use ledger::Ledger;
pub use talk::{Reading, Seen, Usage};

/// The name of the tiny model that the server generates.
pub const TINY: &str = "Qwen3-tiny";

/// The limit for all waits. It only matters if something hangs.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// A command line for the server.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    folder: TempDir,
}

impl Launch {
    /// On free ports, with its own cache, and without environment variables that would change its behaviour.
    #[must_use]
    pub fn new(options: &[&str]) -> Self {
        Self::bare(&[&["--listen", "127.0.0.1:0"], options].concat())
    }

    /// The same with only these options.
    #[must_use]
    pub fn bare(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(binary());
        command.args(options).env("XDG_CACHE_HOME", folder.path());
        for variable in ["RUST_LOG", "RUST_BACKTRACE", "QWEN_MODEL", "QWEN_LISTEN", "HF_HOME", "HF_HUB_CACHE"] {
            command.env_remove(variable);
        }
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(variable);
        }
        Self { command, folder }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.command.env(name, value.as_ref());
        self
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub async fn start(self) -> QwenServer {
        let mut server = self.spawn();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let lines = server.output();
            let address = |start: &str, end: &str| {
                let line = lines.lines().find_map(|line| line.strip_prefix(start)?.strip_suffix(end))?;
                line.parse().ok()
            };
            let addresses = (address("listening on http://", ""), address("metrics on http://", "/metrics"));
            if let (Some(api), Some(metrics)) = addresses {
                (server.api, server.metrics) = (api, metrics);
                if fetch(api, "GET", "/ready").await.is_some_and(|ready| ready.status == 200) {
                    return server;
                }
            }
            if let Some(status) = server.exit_status() {
                panic!("the server ended with {status}:\n{}", server.log());
            }
            assert!(Instant::now() < deadline, "the server does not get ready:\n{}", server.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it, and waits until it has exited. Returns its exit status and its standard error.
    ///
    /// # Panics
    /// If it keeps running.
    pub async fn fails(self) -> (ExitStatus, String) {
        let mut server = self.spawn();
        let status = server.exited().await;
        (status, server.log())
    }

    fn spawn(mut self) -> QwenServer {
        let file = |name| File::create(self.folder.path().join(name)).expect("a file");
        self.command.stdin(Stdio::null()).stdout(file("output")).stderr(file("log"));
        let process = self.command.spawn().expect("the server's binary runs");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        QwenServer { api: nowhere, metrics: nowhere, process, folder: self.folder }
    }
}

/// A running server. Dropping it ends the process.
#[derive(Debug)]
#[non_exhaustive]
pub struct QwenServer {
    /// The address of the API.
    pub api: SocketAddr,
    /// The address of `/metrics`.
    pub metrics: SocketAddr,
    process: Child,
    folder: TempDir,
}

impl QwenServer {
    /// Serves the tiny model, with these options.
    pub async fn start(options: &[&str]) -> Self {
        Launch::new(options).start().await
    }

    /// Sends a request, and reads the answer to its end.
    pub async fn ask(&self, path: &str, request: &Value) -> Seen {
        self.open(path, request).await.rest().await
    }

    /// Sends a request, and waits for the response head.
    pub async fn open(&self, path: &str, request: &Value) -> Reading {
        Reading::open(self.api, post(self.api, path, request.to_string())).await
    }

    /// The same with a W3C `traceparent` header.
    ///
    /// # Panics
    /// If that is not a valid header value.
    pub async fn open_traced(&self, path: &str, request: &Value, traceparent: &str) -> Reading {
        let mut request = post(self.api, path, request.to_string());
        request.headers_mut().insert("traceparent", traceparent.parse().expect("a header"));
        Reading::open(self.api, request).await
    }

    /// Sends a body of any kind, and reads the answer to its end.
    pub async fn ask_raw(&self, path: &str, body: impl Into<Bytes>) -> Seen {
        Reading::open(self.api, post(self.api, path, body)).await.rest().await
    }

    /// Sends a request without a body to the API.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn send(&self, method: &str, path: &str) -> Fetched {
        fetch(self.api, method, path).await.expect("an answer")
    }

    /// The page that a scrape gets now.
    pub async fn scrape(&self) -> Page {
        let scraped = fetch(self.metrics, "GET", "/metrics").await.expect("an answer");
        assert_eq!(scraped.status, 200);
        assert!(scraped.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
        Page::parse(scraped.text)
    }

    /// The page after every request has ended, in the server and in the engine.
    pub async fn settled(&self) -> Page {
        self.when(|page| {
            let (started, ended) =
                (page.value("llm_requests_started_total", &[]), page.value("llm_requests_total", &[]));
            started == ended && in_engine(page) == 0.0 && page.value("llm_requests_in_flight", &[]) == 0.0
        })
        .await
    }

    /// Scrapes until the page satisfies a condition.
    ///
    /// # Panics
    /// If it never does.
    pub async fn when(&self, is: impl Fn(&Page) -> bool) -> Page {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let page = self.scrape().await;
            if is(&page) {
                return page;
            }
            let lines = || page.text.lines().filter(|line| line.starts_with("llm_") && !line.ends_with(" 0"));
            let lines = || lines().filter(|line| !line.contains("_bucket{")).collect::<Vec<_>>().join("\n");
            assert!(Instant::now() < deadline, "it never came:\n{}\n{}", lines(), self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal to the process: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        // The standard library cannot send signals, and every shell has `kill`.
        let command = format!("kill -{name} {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &command]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{command}");
    }

    /// Waits until the process has exited.
    ///
    /// # Panics
    /// If it does not exit.
    pub async fn exited(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server goes on:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All of its standard output.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    /// All of its standard error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The directory with the tiny model.
    #[must_use]
    pub fn model_directory(&self) -> std::path::PathBuf {
        let cache = self.folder.path().join("qwen-server");
        let mut entries = std::fs::read_dir(cache).expect("a cache");
        entries.next().expect("a model").expect("readable").path()
    }

    fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("a child process")
    }
}

impl Drop for QwenServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An answer, read to its end.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub text: String,
}

impl Fetched {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Sends a request without a body. `None` if there is no listener or the connection breaks.
///
/// # Panics
/// If there is a connection but no response.
pub async fn fetch(addr: SocketAddr, method: &str, path: &str) -> Option<Fetched> {
    drop(tokio::net::TcpStream::connect(addr).await.ok()?);
    let exchange = async {
        let mut client = Client::connect(addr).await;
        let request = Request::builder().method(method).uri(path).header("host", addr.to_string());
        let answer = client.try_send(request.body(Empty::<Bytes>::new()).expect("a request")).await.ok()?;
        let (status, headers) = (answer.status().as_u16(), answer.head.headers.clone());
        let (body, _) = answer.finish().await.ok()?;
        Some(Fetched { status, headers, text: String::from_utf8_lossy(&body).into_owned() })
    };
    tokio::time::timeout(TIMEOUT, exchange).await.expect("an answer in time")
}

/// The requests in the engine, running or waiting.
fn in_engine(page: &Page) -> f64 {
    page.value("llm_engine_requests_running", &[]) + page.value("llm_engine_requests_waiting", &[])
}
