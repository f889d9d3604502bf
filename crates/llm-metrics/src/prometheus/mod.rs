//! A Prometheus exporter with the right settings for these metrics. Requires the feature `prometheus`.
//!
//! - Every histogram of the catalogue has explicit buckets. A histogram without buckets would silently be exported as a summary, and summaries cannot
//!   be aggregated.
//! - Samples of these histograms are counted when they are recorded. `metrics-exporter-prometheus` stores samples until they are read: 15.6 bytes
//!   each, and they can be lost if a recording thread is descheduled at the wrong moment.
//! - Counters are read in a fixed order: if a scrape includes a request as ended, it also includes its tokens and
//!   all other values.
//! - Metrics can be exported under the names of OpenTelemetry or vLLM, in addition to ours or instead: [`ExporterBuilder::dialects`]. Each
//!   measurement is stored once.
//! - Samples of your own histograms are stored, and moved into buckets every second by upkeep, on a thread that the [`Exporter`] owns.
//! - Rendering happens on that thread, not on an async worker: with many series it takes tens of milliseconds. Concurrent scrapes
//!   share a page.
//! - The content type is that of the text format, with its version.
//! - Process metrics (`process_cpu_seconds_total`, `process_resident_memory_bytes` …) are included.
//! - Gauges of the recent window are computed before each scrape. For that, build the metrics with [`Builder::exporter`], which also sets the
//!   recorder and the names.
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
//! For a separate port, see [`Exporter::serve`]. To use an existing `metrics-exporter-prometheus`, add our buckets to it with [`bind_buckets`].

mod builder;
mod configured;
mod counter;
mod deadline;
mod families;
mod gauge;
mod histogram;
mod recorder;
mod series_names;
mod serve;
mod service;
mod textfile;
mod unknown_prefix;
mod views;
mod worker;

use std::{fmt, sync::Arc};

pub use builder::{ExporterBuilder, ExporterError, bind_buckets, render};
pub use recorder::ExporterRecorder;
pub use service::MetricsService;

use crate::{
    catalog::Naming,
    record::{Builder, RecentGauges},
};
use views::Spelling;
use worker::Worker;

/// The content type of a page in Prometheus' text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The content type of a page with UTF-8 names, which only some scrapers accept.
const UTF8_CONTENT_TYPE: &str = "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8";

/// A running exporter. It owns the thread that does upkeep and renders pages. The thread stops when the exporter and every [`MetricsService`] of it
/// are dropped.
#[must_use = "dropping it, and every service of it, stops the exporter"]
pub struct Exporter {
    worker: Arc<Worker>,
    recorder: Arc<ExporterRecorder>,
    naming: Naming,
    recent_gauges: RecentGauges,
}

impl Exporter {
    /// Starts from default settings, with the buckets of the catalogue.
    pub fn builder() -> ExporterBuilder {
        ExporterBuilder::default()
    }

    /// Renders the page that a scrape would get now.
    ///
    /// Blocks while rendering, which takes some tens of milliseconds with many series. In async code, use [`service`](Self::service) or
    /// [`serve`](Self::serve).
    #[must_use]
    pub fn render(&self) -> String {
        self.worker
            .render_blocking(Spelling::Underscores)
            .map_or_else(String::new, |page| String::from_utf8_lossy(&page).into_owned())
    }

    /// A service that answers `GET` and `HEAD` with the metrics at any path.
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
    /// Records with this exporter: uses its recorder and its naming, and updates the recent window before each scrape. The exporter does not keep the
    /// metrics alive.
    ///
    /// ```
    /// use llm_metrics::{LlmMetrics, prometheus::Exporter};
    ///
    /// let exporter = Exporter::builder().install()?;
    /// let metrics = LlmMetrics::builder().exporter(&exporter).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Building fails if a constant label or a request label has the name of a label in a dialect of the exporter, such as `model_name` in vLLM's.
    ///
    /// Metrics that share an exporter share their series, and their recent windows are added up. To keep them separate, give each a [constant
    /// label](Self::constant_label).
    pub fn exporter(self, exporter: &Exporter) -> Self {
        self.recorder(Arc::clone(&exporter.recorder))
            .naming(exporter.naming.clone())
            .recent_gauges(exporter.recent_gauges.clone())
            .labels_of_dialects(exporter.recorder.labels_of_dialects().collect())
    }
}
