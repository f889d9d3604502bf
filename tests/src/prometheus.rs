//! A real Prometheus.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Daemon, Tool, free_address};

/// A running Prometheus with its own storage; dropping it ends the process.
#[derive(Debug)]
pub struct Prometheus(Daemon);

/// Starts a Prometheus that scrapes `target` every second.
///
/// # Panics
/// If it does not start.
pub async fn start_prometheus(tool: &Tool, target: SocketAddr) -> Prometheus {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "llm", "static_configs": [{"targets": [target]}]}],
    });
    std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).expect("a file");
    Prometheus::start(tool, free_address(), folder).await
}

impl Prometheus {
    /// Starts it with the `prometheus.yml` of a folder.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(tool: &Tool, addr: SocketAddr, folder: TempDir) -> Self {
        let listen = format!("--web.listen-address={addr}");
        let arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", &listen];
        Self(Daemon::start(tool, addr, folder, &arguments, "/-/ready").await)
    }

    /// The log of Prometheus.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// The result of an instant query: labels and value of each series.
    ///
    /// # Panics
    /// If Prometheus rejects the query.
    pub async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let series = self.results(query).await;
        let value =
            |series: &Value| series["value"][1].as_str().and_then(|value| value.parse().ok()).expect("a number");
        series.iter().map(|series| (series["metric"].clone(), value(series))).collect()
    }

    /// The result of a range query: the labels of each series, and its samples with their time in milliseconds.
    ///
    /// # Panics
    /// If Prometheus rejects the query.
    pub async fn samples(&self, query: &str) -> Vec<(Value, Vec<(i64, f64)>)> {
        let sample = |sample: &Value| {
            let seconds = sample[0].as_f64().expect("a time");
            ((seconds * 1e3).round() as i64, sample[1].as_str().and_then(|value| value.parse().ok()).expect("a number"))
        };
        let samples = |series: &Value| series["values"].as_array().into_iter().flatten().map(sample).collect();
        let series = self.results(query).await;
        series.iter().map(|series| (series["metric"].clone(), samples(series))).collect()
    }

    /// The single value of an instant query; `None` if there is no series.
    pub async fn value(&self, query: &str) -> Option<f64> {
        let series = self.query(query).await;
        assert!(series.len() <= 1, "{query} gives several series: {series:?}");
        series.first().map(|(_, value)| *value)
    }

    /// Waits until a query has a result.
    ///
    /// # Panics
    /// If it has none within a minute.
    pub async fn until(&self, query: &str) {
        for _ in 0..600 {
            if !self.query(query).await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{query} never came:\n{}", self.log());
    }

    /// The body of a response with status 200.
    pub async fn get(&self, path: &str) -> Option<String> {
        self.0.get(path).await
    }

    async fn results(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await;
        let answer = answer.unwrap_or_else(|| panic!("no answer to {query}\n{}", self.log()));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        match &answer["data"] {
            data if data["resultType"] == "scalar" => vec![json!({"metric": {}, "value": data["result"]})],
            data => data["result"].as_array().expect("series").clone(),
        }
    }
}
