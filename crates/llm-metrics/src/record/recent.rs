//! What the recent window says, as gauges and as an API.

use std::{
    array, fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use metrics::{Gauge, Label};

use super::{Inner, LlmMetrics, Registrar};
use crate::{
    catalog::{self, MetricDef, labels},
    recent::{Latency, Model, RecentLatency, RecentRequest},
    vocabulary::Stat,
};

impl LlmMetrics {
    /// Brings the gauges of the recent window (`llm_recent_…`) up to date. Do this before each scrape.
    ///
    /// An [`Exporter`](crate::prometheus::Exporter) does it by itself for the metrics that were
    /// [built with it](crate::Builder::exporter); this is for those with an exporter of their own. Waits for no request, and takes some 10 µs a
    /// model.
    pub fn refresh(&self) {
        self.0.refresh(Instant::now());
    }

    /// What the latencies of each model were over the last minute, or as long as
    /// [`recent_window`](crate::Builder::recent_window) says. Models without any request in it are left out.
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

    /// The requests that ended last, at most `limit` and never more than 1,024 of them, the newest first.
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
    /// The model as metrics have it: `other` stands for all that are over the cap.
    pub model: Arc<str>,
    /// From arrival to end, of the requests that succeeded or failed.
    pub duration: Option<RecentLatency>,
    /// To the first token, of the streams that had it in that time.
    pub time_to_first_token: Option<RecentLatency>,
    /// A token after the first one, of the streams that ended in that time.
    pub time_per_output_token: Option<RecentLatency>,
}

impl RecentModel {
    fn has_any(&self) -> bool {
        self.duration.is_some() || self.time_to_first_token.is_some() || self.time_per_output_token.is_some()
    }
}

impl Inner {
    pub(super) fn refresh(&self, now: Instant) {
        let mut gauges = self.recent_gauges.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, model) in self.recent.models().into_iter().enumerate() {
            // Models are only added, and at the end.
            if at == gauges.len() {
                gauges.push(RecentGauges::default());
            }
            gauges[at].set(&self.registrar, &model, now);
        }
    }
}

/// The gauges of one model. Those of a latency exist once it has had a sample.
#[derive(Default)]
pub(super) struct RecentGauges([Option<[Gauge; Stat::ALL.len()]>; Latency::ALL.len()]);

impl RecentGauges {
    fn set(&mut self, registrar: &Registrar, model: &Model, now: Instant) {
        for (latency, gauges) in Latency::ALL.into_iter().zip(&mut self.0) {
            if gauges.is_none() && !model.has(latency) {
                continue;
            }
            let gauges = gauges.get_or_insert_with(|| register(registrar, row(latency), model));
            let recent = model.latency(now, latency);
            for (gauge, stat) in gauges.iter().zip(Stat::ALL) {
                gauge.set(recent.map_or(f64::NAN, |recent| seconds(recent, *stat)));
            }
        }
    }
}

fn row(latency: Latency) -> &'static MetricDef {
    match latency {
        Latency::Duration => &catalog::RECENT_REQUEST_DURATION,
        Latency::FirstToken => &catalog::RECENT_TIME_TO_FIRST_TOKEN,
        Latency::PerToken => &catalog::RECENT_TIME_PER_OUTPUT_TOKEN,
    }
}

fn register(registrar: &Registrar, row: &MetricDef, model: &Model) -> [Gauge; Stat::ALL.len()] {
    array::from_fn(|stat| {
        let model = Label::new(labels::MODEL, Arc::clone(model.name()));
        registrar.gauge(row, vec![model, Label::from_static_parts(labels::STAT, Stat::WORDS[stat])])
    })
}

fn seconds(recent: RecentLatency, stat: Stat) -> f64 {
    let time = match stat {
        Stat::P50 => recent.p50,
        Stat::P95 => recent.p95,
        Stat::P99 => recent.p99,
        Stat::Max => recent.max,
    };
    time.as_secs_f64()
}

/// The metrics that an exporter refreshes before each scrape. It does not keep them alive.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "prometheus"), allow(dead_code, reason = "only an exporter refreshes"))]
pub(crate) struct Refreshed(Arc<Mutex<Vec<Weak<Inner>>>>);

#[cfg_attr(not(feature = "prometheus"), allow(dead_code, reason = "only an exporter refreshes"))]
impl Refreshed {
    pub(super) fn add(&self, metrics: &LlmMetrics) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|metrics| metrics.strong_count() > 0);
        all.push(Arc::downgrade(&metrics.0));
    }

    pub(crate) fn refresh(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Instant::now();
        for metrics in all.iter().filter_map(Weak::upgrade) {
            metrics.refresh(now);
        }
    }
}

impl fmt::Debug for Refreshed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refreshed").finish_non_exhaustive()
    }
}
