//! The API of the recent window.

use std::{sync::Arc, time::Instant};

use super::LlmMetrics;
use crate::recent::{Latency, RecentLatency, RecentRequest};

impl LlmMetrics {
    /// Updates the gauges of the recent window (`llm_recent_…`). Call it before each scrape.
    ///
    /// The exporter of the feature `prometheus` calls it for metrics that were built with it (`Builder::exporter`), and merges gauges with the same
    /// names and labels. This method is for other exporters. It does not wait for requests.
    ///
    /// When the last clone of the metrics is dropped, their gauges become NaN.
    pub fn refresh(&self) {
        self.0.recent_gauges.page_read(Instant::now());
    }

    /// The latencies of each model in the recent window: the last minute, or [`recent_window`](crate::Builder::recent_window). Models without a
    /// request in it are left out.
    #[must_use]
    pub fn recent_models(&self) -> Vec<RecentModel> {
        let now = Instant::now();
        let models = self.0.recent.models().into_iter().map(|model| RecentModel {
            model: Arc::clone(model.name()),
            duration: model.latency(now, Latency::Duration),
            time_to_first_token: model.latency(now, Latency::FirstToken),
            time_per_output_token: model.latency(now, Latency::PerToken),
        });
        models.filter(RecentModel::has_any).collect()
    }

    /// The requests that ended last, newest first: at most `limit`, and never more than 1,024.
    ///
    /// ```
    /// # let metrics = llm_metrics::LlmMetrics::new();
    /// for request in metrics.recent_requests(20) {
    ///     println!("{:?} ago: {} {:?}", request.ended.elapsed(), request.model, request.duration);
    /// }
    /// ```
    #[must_use]
    pub fn recent_requests(&self, limit: usize) -> Vec<RecentRequest> {
        self.0.recent.requests(limit)
    }
}

/// Latencies of one model over the recent window; see [`LlmMetrics::recent_models`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentModel {
    /// The value of the label `model`. `other` is all models that are over the cap.
    pub model: Arc<str>,
    /// From arrival to end, of requests that succeeded or failed.
    pub duration: Option<RecentLatency>,
    /// Time to first token, of the streams whose first token was in the window.
    pub time_to_first_token: Option<RecentLatency>,
    /// Mean time per output token after the first, of the streams that ended in the window.
    pub time_per_output_token: Option<RecentLatency>,
}

impl RecentModel {
    fn has_any(&self) -> bool {
        self.duration.is_some() || self.time_to_first_token.is_some() || self.time_per_output_token.is_some()
    }
}
