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
    /// The exporter of the feature `prometheus` does it by itself for metrics that were built with it (`Builder::exporter`); this is for
    /// those with an exporter of their own. Waits for no request.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

    use super::*;

    struct Watched {
        metrics: LlmMetrics,
        snapshotter: Snapshotter,
        began: Instant,
    }

    impl Watched {
        fn start() -> Self {
            let recorder = DebuggingRecorder::new();
            let snapshotter = recorder.snapshotter();
            let metrics = LlmMetrics::builder().recorder(recorder).build().unwrap();
            // Not the instant of construction, so that seconds do not begin with the test's.
            Self { metrics, snapshotter, began: Instant::now() + Duration::from_millis(700) }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.began + Duration::from_secs_f64(seconds)
        }

        fn ended(&self, model: &str, at: f64, took: f64) {
            let took = Duration::from_secs_f64(took);
            self.metrics.0.recent.model(&model.into()).record(self.at(at), [(Latency::Duration, took)]);
        }

        fn scrape(&self, at: f64) -> Shown {
            self.metrics.0.refresh(self.at(at));
            let mut shown = Vec::new();
            for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
                let (_, key) = key.into_parts();
                let label = |name| key.labels().find(|l| l.key() == name).map(|l| l.value().to_owned()).unwrap();
                if let DebugValue::Gauge(value) = value {
                    if key.name() == catalog::RECENT_REQUEST_DURATION.name {
                        shown.push((label("model"), label("stat"), value.into_inner()));
                    }
                }
            }
            Shown(shown)
        }
    }

    /// What a scrape shows, by model and `stat`.
    #[derive(Debug)]
    struct Shown(Vec<(String, String, f64)>);

    impl Shown {
        fn of(&self, model: &str, stat: &str) -> f64 {
            let mut found = self.0.iter().filter(|(m, s, _)| m == model && s == stat);
            found.next().unwrap_or_else(|| panic!("{self:?}")).2
        }

        fn value(&self, stat: &str) -> f64 {
            self.of(&self.0[0].0, stat)
        }
    }

    #[test]
    fn a_spike_of_two_seconds_between_two_scrapes_shows_in_the_maximum_at_any_rate_in_the_same_memory() {
        let mut bytes = Vec::new();
        for rate in [10, 10_000] {
            let watched = Watched::start();
            let (mut maxima, mut medians) = (Vec::new(), Vec::new());
            for second in 0..105 {
                // Between the scrapes at 15 s and at 30 s.
                let took = if (21..23).contains(&second) { 7.25 } else { 0.2 };
                for n in 0..rate {
                    watched.ended("Qwen3-4B", f64::from(second) + f64::from(n) / f64::from(rate), took);
                }
                if second % 15 == 14 {
                    let shown = watched.scrape(f64::from(second + 1));
                    maxima.push(shown.value("max"));
                    medians.push(shown.value("p50"));
                }
            }
            assert_eq!(maxima, [0.2, 7.25, 7.25, 7.25, 7.25, 0.2, 0.2], "{rate} requests a second");
            assert!(medians.iter().all(|median| (0.16..=0.22).contains(median)), "{medians:?}");
            bytes.push(watched.metrics.0.recent.model(&"Qwen3-4B".into()).bytes());
        }
        assert_eq!(bytes[0], bytes[1]);
        // What the module's documentation says.
        assert_eq!(bytes[0], 61 * 416);
    }

    #[test]
    fn quantiles_tell_the_usual_from_the_worst() {
        let watched = Watched::start();
        for n in 0..100 {
            watched.ended("m", 1.0, if n < 97 { 0.5 } else { 4.0 });
        }
        let shown = watched.scrape(2.0);
        let usual = 0.5..0.63;
        assert!(usual.contains(&shown.value("p50")) && usual.contains(&shown.value("p95")), "{shown:?}");
        assert!((3.5..=4.0).contains(&shown.value("p99")), "{shown:?}");
        assert_eq!(shown.value("max"), 4.0);
    }

    #[test]
    fn an_empty_window_is_nan_and_a_model_that_was_never_seen_has_no_series() {
        let watched = Watched::start();
        assert_eq!(watched.scrape(0.0).0, []);
        watched.metrics.0.recent.model(&"never asked".into());
        watched.ended("m", 1.0, 0.5);
        assert_eq!(watched.scrape(2.0).value("max"), 0.5);
        let shown = watched.scrape(90.0).0;
        assert_eq!(shown.len(), Stat::ALL.len(), "{shown:?}");
        assert!(shown.iter().all(|(model, _, value)| model == "m" && value.is_nan()), "{shown:?}");
        watched.ended("m", 91.0, 0.25);
        assert_eq!(watched.scrape(92.0).value("max"), 0.25, "and it comes back");
    }

    #[test]
    fn models_keep_their_gauges_apart_when_more_come() {
        let watched = Watched::start();
        watched.ended("a", 1.0, 1.0);
        watched.scrape(1.0);
        watched.ended("b", 2.0, 2.0);
        let shown = watched.scrape(3.0);
        assert_eq!((shown.of("a", "max"), shown.of("b", "max")), (1.0, 2.0));
    }

    #[test]
    fn metrics_that_are_gone_are_no_longer_refreshed() {
        let refreshed = Refreshed::default();
        let metrics = LlmMetrics::new();
        refreshed.add(&metrics);
        drop(metrics);
        refreshed.refresh();
        refreshed.add(&LlmMetrics::new());
        assert_eq!(refreshed.0.lock().unwrap().len(), 1);
    }
}
