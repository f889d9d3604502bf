//! Reads `/metrics`.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};

use super::{exposition::Page, gpu::GpuReader, names::Names};
use crate::{
    baseline::{MemoryPoint, Server},
    connection::{HttpClient, cause},
    target::Target,
};

const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
const PERIOD: Duration = Duration::from_secs(1);
const MOST_BYTES: usize = 64 << 20;

/// Why a page could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {why}")]
pub(crate) struct NoPage {
    address: http::Uri,
    why: String,
}

/// Reads the pages of one or more addresses, and merges them.
#[derive(Clone)]
pub(crate) struct Scraper {
    targets: Vec<(HttpClient, Target)>,
    names: Option<Names>,
    gpu: GpuReader,
    model: String,
}

/// The values of gauges at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) at: Duration,
    pub(crate) in_flight: Option<f64>,
    pub(crate) waiting: Option<f64>,
    pub(crate) kv_cache: Option<f64>,
    pub(crate) gpu_bytes: Option<f64>,
    pub(crate) gpu_utilization: Option<f64>,
    pub(crate) resident_bytes: Option<f64>,
}

impl Scraper {
    pub(crate) fn new(targets: Vec<(HttpClient, Target)>, model: &str, gpu: GpuReader) -> Self {
        Self { targets, names: None, gpu, model: model.to_owned() }
    }

    /// Detects which known names the page has. Returns false if it has none of them.
    pub(crate) fn recognise(&mut self, page: &Page, ours: Names) -> bool {
        self.names = [ours, Names::vllm()].into_iter().find(|names| names.are_on(page));
        self.names.is_some()
    }

    pub(crate) fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// The label that selects this model's series. `None` if the page has no such series, because the model may count under `other`.
    pub(crate) fn model_label<'a>(&'a self, page: &Page) -> Option<(&'a str, &'a str)> {
        let names = self.names.as_ref()?;
        [names.requests.clone(), format!("{}_count", names.duration)]
            .iter()
            .any(|name| page.has_label(name, names.model, &self.model))
            .then_some((names.model, self.model.as_str()))
    }

    pub(crate) async fn page(&self) -> Result<Page, NoPage> {
        let mut all = Page::default();
        for (client, target) in &self.targets {
            let address = target.uri(if target.has_path() { "" } else { "/metrics" });
            let one = tokio::time::timeout(SCRAPE_TIMEOUT, one(client, target, address.clone())).await;
            let one = one.unwrap_or_else(|_| Err(format!("no answer in {} s", SCRAPE_TIMEOUT.as_secs())));
            all.extend(one.map_err(|why| NoPage { address, why })?);
        }
        Ok(all)
    }

    /// Stores what the server reports about itself: its model and its GPUs.
    pub(crate) fn describe(&self, server: &mut Server, page: &Page) {
        server.metrics = self.names.as_ref().map(|names| names.dialect.to_owned());
        server.gpu_info = self.gpu.info(page);
        server.gpu_memory_bytes = self.gpu.memory_total(page);
        if let Some(names) = &self.names {
            server.model_info = page.info(&names.info).unwrap_or_default().into_iter().collect();
        }
    }

    /// The energy that all GPUs used between two pages, in joules.
    pub(crate) fn energy(&self, [before, after]: [&Page; 2]) -> Option<f64> {
        Some(self.gpu.energy(after)? - self.gpu.energy(before)?)
    }

    fn reading(&self, page: &Page, at: Duration) -> Reading {
        let names = self.names.as_ref();
        let sum = |name: &String| page.sum(name, &[]);
        Reading {
            at,
            in_flight: names.and_then(|names| names.in_flight.iter().filter_map(sum).reduce(|a, b| a + b)),
            waiting: names.and_then(|names| sum(&names.waiting)),
            kv_cache: names.and_then(|names| page.mean(&names.kv_cache)),
            gpu_bytes: self.gpu.memory_used(page),
            gpu_utilization: self.gpu.utilization(page),
            resident_bytes: page.sum("process_resident_memory_bytes", &[]),
        }
    }

    /// Reads the gauges every second, until the [`Watch`] is dropped.
    pub(crate) fn watch(&self, epoch: Instant) -> Watch {
        let readings = Arc::new(Mutex::new(Vec::new()));
        let (scraper, seen) = (self.clone(), readings.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PERIOD);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Ok(page) = scraper.page().await {
                    let reading = scraper.reading(&page, epoch.elapsed());
                    seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(reading);
                }
            }
        });
        Watch { readings, task }
    }
}

/// The readings of gauges over time.
pub(crate) struct Watch {
    readings: Arc<Mutex<Vec<Reading>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// The readings in this interval.
    pub(crate) fn between(&self, from: Duration, to: Duration) -> Vec<Reading> {
        let readings = self.readings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        readings.iter().filter(|reading| from <= reading.at && reading.at <= to).cloned().collect()
    }

    /// Memory over time, with at most `most` points.
    pub(crate) fn memory(&self, most: usize) -> Vec<MemoryPoint> {
        let readings = self.between(Duration::ZERO, Duration::MAX);
        let points = readings.into_iter().filter(|reading| reading.gpu_bytes.or(reading.resident_bytes).is_some());
        let points: Vec<_> = points
            .map(|reading| MemoryPoint {
                seconds: reading.at.as_secs_f64(),
                gpu_bytes: reading.gpu_bytes,
                resident_bytes: reading.resident_bytes,
            })
            .collect();
        let every = points.len().div_ceil(most).max(1);
        points.into_iter().step_by(every).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn one(client: &HttpClient, target: &Target, address: http::Uri) -> Result<Page, String> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = address;
    request.headers_mut().insert(header::HOST, target.host.clone());
    request.headers_mut().insert(header::ACCEPT, http::HeaderValue::from_static("text/plain; version=0.0.4"));
    let response = client.request(request).await.map_err(|error| cause(&error))?;
    if !response.status().is_success() {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.map_err(|error| error.to_string())?;
    Ok(Page::parse(&String::from_utf8_lossy(&body.to_bytes())))
}
