//! A real Prometheus that scrapes what a test serves.

use std::{
    net::SocketAddr,
    process::{Child, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Client, Tool};

/// A running Prometheus with storage of its own; dropping it ends the process.
#[derive(Debug)]
pub struct Prometheus {
    addr: SocketAddr,
    process: Child,
    folder: TempDir,
}

/// Starts a Prometheus that scrapes `target` every second.
///
/// # Panics
/// When it does not start.
pub async fn start_prometheus(tool: &Tool, target: SocketAddr) -> Prometheus {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: llm\n    static_configs:\n      - targets: ['{target}']\n"
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).expect("a file");
    let log = std::fs::File::create(folder.path().join("log")).expect("a file");
    // Prometheus takes no port 0: a free one is found, let go, and taken.
    let addr = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let process = tool
        .command()
        .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={addr}"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("Prometheus starts");
    let mut prometheus = Prometheus { addr, process, folder };
    for _ in 0..600 {
        if tokio::net::TcpStream::connect(addr).await.is_ok() && prometheus.get("/-/ready").await.is_some() {
            return prometheus;
        }
        if let Ok(Some(status)) = prometheus.process.try_wait() {
            panic!("Prometheus ended with {status}:\n{}", prometheus.log());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("Prometheus does not get ready:\n{}", prometheus.log());
}

impl Prometheus {
    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The result of an instant query: labels and value of each series.
    pub async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let text = self.get(&format!("/api/v1/query?query={query}")).await.expect("an answer");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(answer["status"], "success", "{text}");
        let series = answer["data"]["result"].as_array().expect("a vector");
        let value =
            |series: &Value| series["value"][1].as_str().and_then(|value| value.parse().ok()).expect("a number");
        series.iter().map(|series| (series["metric"].clone(), value(series))).collect()
    }

    /// The one value of an instant query; `None` where there is no series.
    pub async fn value(&self, query: &str) -> Option<f64> {
        let series = self.query(query).await;
        assert!(series.len() <= 1, "{query} gives several series: {series:?}");
        series.first().map(|(_, value)| *value)
    }

    /// The body of an answer with status 200.
    pub async fn get(&self, path: &str) -> Option<String> {
        let mut client = Client::connect(self.addr).await;
        let request = Request::get(path).header("host", self.addr.to_string());
        let answer = client.try_send(request.body(Empty::<Bytes>::new()).expect("a request")).await.ok()?;
        (answer.status() == 200).then_some(())?;
        Some(answer.text().await)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
