//! The exporter, set up so that the known mistakes cannot happen. Needs the feature `prometheus`.
//!
//! - Every histogram of the catalogue has its buckets bound by its full name. One that is missed becomes a summary without
//!   a word, and summaries cannot be aggregated.
//! - Their samples are counted as they come. `metrics-exporter-prometheus` keeps them until they are asked for: 15.6 bytes
//!   each, and all of them lost if a thread that records is held up at the wrong instant.
//! - For histograms of your own it still does. Upkeep takes them out every second, on a thread that the [`Exporter`] owns.
//! - Rendering happens on that thread, not on an async worker: with many series it takes tens of milliseconds.
//! - The content type is the one of the text format, version included.
//! - Process metrics (`process_cpu_seconds_total`, `process_resident_memory_bytes` …) come along.
//! - What has to be computed for a scrape, the gauges of the recent window, is computed before each. For that the exporter has
//!   to know the metrics: build them with [`Builder::exporter`], which also hands over its recorder and its names.
//!
//! ```
//! use axum::{Router, routing::post};
//! use llm_metrics::{LlmMetrics, prometheus::Exporter};
//!
//! # async fn chat() {}
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let exporter = Exporter::builder().install()?;
//! let metrics = LlmMetrics::builder().exporter(&exporter).build()?;
//! let app: Router = Router::new()
//!     .route("/v1/chat/completions", post(chat))
//!     .layer(metrics.layer())
//!     .route_service("/metrics", exporter.service());
//! # Ok(())
//! # }
//! ```
//!
//! For a port of its own, see [`Exporter::serve`].

mod builder;
mod histogram;
mod recorder;
mod serve;
mod service;
mod worker;

use std::{fmt, sync::Arc};

pub use builder::{Error, ExporterBuilder};
pub use recorder::ExporterRecorder;
pub use service::MetricsService;

use crate::{
    catalog::Naming,
    record::{Builder, Refreshed},
};
use worker::Worker;

/// The content type of what is rendered: Prometheus' text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A running exporter: it owns the thread that does upkeep and renders. The thread stops when the exporter and every
/// [`MetricsService`] of it are dropped.
#[must_use = "dropping it, and every service of it, stops the exporter"]
pub struct Exporter {
    worker: Arc<Worker>,
    recorder: Arc<ExporterRecorder>,
    naming: Naming,
    refreshed: Refreshed,
}

impl Exporter {
    /// Settings, with every bucket of the catalogue bound.
    pub fn builder() -> ExporterBuilder {
        ExporterBuilder::default()
    }

    /// What a scrape would get now.
    ///
    /// Blocks until it is rendered, some tens of milliseconds with many series: in async code, use
    /// [`service`](Self::service) or [`serve`](Self::serve).
    #[must_use]
    pub fn render(&self) -> String {
        self.worker.render_blocking().map_or_else(String::new, |page| String::from_utf8_lossy(&page).into_owned())
    }

    /// A service that answers `GET` and `HEAD` with the metrics, whatever the path: mount it where you like.
    #[must_use]
    pub fn service(&self) -> MetricsService {
        MetricsService::new(Arc::clone(&self.worker))
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("naming", &self.naming).finish_non_exhaustive()
    }
}

impl Builder {
    /// Records with this exporter: with its recorder, and under names as it spells them. Each scrape of it brings the recent
    /// window up to date. The exporter does not keep the metrics alive.
    ///
    /// ```
    /// use llm_metrics::{LlmMetrics, prometheus::Exporter};
    ///
    /// let exporter = Exporter::builder().install()?;
    /// let metrics = LlmMetrics::builder().exporter(&exporter).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Metrics that share an exporter share their series: tell them apart by a [constant label](Self::constant_label).
    pub fn exporter(self, exporter: &Exporter) -> Self {
        self.recorder(Arc::clone(&exporter.recorder))
            .naming(exporter.naming.clone())
            .refreshed(exporter.refreshed.clone())
    }
}
