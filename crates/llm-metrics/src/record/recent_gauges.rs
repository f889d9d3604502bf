//! The gauges of the recent window (`llm_recent_…`).

use std::{
    array,
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use metrics::{Gauge, Key, Label};

use super::Inner;
use crate::{
    catalog::{self, MetricDef, Registrar, labels},
    recent::{Histogram, Latency, RecentLatency},
    vocabulary::Stat,
};

impl Drop for Inner {
    fn drop(&mut self) {
        // These metrics are gone, so their gauges become NaN, or have the values of the others alone.
        self.recent_gauges.refresh(Instant::now());
    }
}

/// The gauges of the recent window, and the metrics whose windows they show: all metrics that were built with one exporter, because they share its
/// series, or one alone. It does not keep the metrics alive.
#[derive(Clone, Default)]
pub(crate) struct RecentGauges(Arc<Shared>);

#[derive(Default)]
struct Shared {
    metrics: Mutex<Vec<Weak<Inner>>>,
    /// The key is that of the first gauge.
    latencies: Mutex<HashMap<Key, LatencyGauges>>,
}

/// The gauges of one latency under one label set. They exist after the first sample.
struct LatencyGauges {
    gauges: [Gauge; Stat::ALL.len()],
    /// The current latencies; `None` if the metrics are gone.
    samples: Option<Histogram>,
}

impl RecentGauges {
    pub(super) fn add(&self, metrics: &Arc<Inner>) {
        let mut all = self.0.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|metrics| metrics.strong_count() > 0);
        all.push(Arc::downgrade(metrics));
    }

    /// Call it before a page is rendered.
    pub(crate) fn page_read(&self, now: Instant) {
        self.alive().iter().for_each(|inner| inner.page_read());
        self.refresh(now);
    }

    fn alive(&self) -> Vec<Arc<Inner>> {
        let all = self.0.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    fn refresh(&self, now: Instant) {
        // Dropped after the lock is released, because dropping the last clone of the metrics refreshes again.
        let alive = self.alive();
        let mut shown = self.0.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        for inner in &alive {
            for model in inner.recent.models() {
                for latency in Latency::ALL {
                    let Some(samples) = model.samples(now, latency) else { continue };
                    let (row, registrar) = (row(latency), &inner.registrar);
                    let key = registrar.key(row, stat_labels(model.name(), 0));
                    let gauges = shown.entry(key).or_insert_with(|| LatencyGauges::new(registrar, row, model.name()));
                    gauges.samples.get_or_insert(Histogram::EMPTY).add(&samples);
                }
            }
        }
        shown.retain(|_, gauges| gauges.set());
    }
}

impl LatencyGauges {
    fn new(registrar: &Registrar, row: &MetricDef, model: &Arc<str>) -> Self {
        Self { gauges: array::from_fn(|stat| registrar.gauge(row, stat_labels(model, stat))), samples: None }
    }

    /// Sets the gauges, to NaN if the windows are empty. Returns whether there are any windows.
    fn set(&mut self) -> bool {
        let samples = self.samples.take();
        let recent = samples.as_ref().and_then(RecentLatency::of);
        for (gauge, stat) in self.gauges.iter().zip(Stat::ALL) {
            gauge.set(recent.map_or(f64::NAN, |recent| seconds(recent, *stat)));
        }
        samples.is_some()
    }
}

fn stat_labels(model: &Arc<str>, stat: usize) -> Vec<Label> {
    vec![labels::MODEL.label(Arc::clone(model)), labels::STAT.label(Stat::WORDS[stat])]
}

fn row(latency: Latency) -> &'static MetricDef {
    match latency {
        Latency::Duration => &catalog::RECENT_REQUEST_DURATION,
        Latency::FirstToken => &catalog::RECENT_TIME_TO_FIRST_TOKEN,
        Latency::PerToken => &catalog::RECENT_TIME_PER_OUTPUT_TOKEN,
    }
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

impl fmt::Debug for RecentGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentGauges").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

    use super::*;
    use crate::LlmMetrics;

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
            // Not the instant of construction, so that seconds do not start together with the test.
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
            self.metrics.0.recent_gauges.refresh(self.at(at));
            Shown::of_all(&self.snapshotter)
        }
    }

    /// The result of a scrape, by model and `stat`.
    #[derive(Debug)]
    struct Shown(Vec<(String, String, f64)>);

    impl Shown {
        fn of_all(snapshotter: &Snapshotter) -> Self {
            let mut shown = Vec::new();
            for (key, _, _, value) in snapshotter.snapshot().into_vec() {
                let (_, key) = key.into_parts();
                let label = |name| key.labels().find(|l| l.key() == name).map(|l| l.value().to_owned()).unwrap();
                if let DebugValue::Gauge(value) = value {
                    if key.name() == catalog::RECENT_REQUEST_DURATION.name {
                        shown.push((label("model"), label("stat"), value.into_inner()));
                    }
                }
            }
            Self(shown)
        }

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
        // The case in the documentation of the module.
        assert_eq!(bytes[0], 61 * 416);
    }

    #[test]
    fn quantiles_distinguish_usual_from_worst_latencies() {
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
    fn models_keep_separate_gauges_when_more_models_are_added() {
        let watched = Watched::start();
        watched.ended("a", 1.0, 1.0);
        watched.scrape(1.0);
        watched.ended("b", 2.0, 2.0);
        let shown = watched.scrape(3.0);
        assert_eq!((shown.of("a", "max"), shown.of("b", "max")), (1.0, 2.0));
    }

    /// Metrics that share the windows of one exporter.
    fn together() -> [Watched; 2] {
        let (recorder, recent_gauges) = (Arc::new(DebuggingRecorder::new()), RecentGauges::default());
        let began = Instant::now() + Duration::from_millis(700);
        [(); 2].map(|()| {
            let (snapshotter, builder) =
                (recorder.snapshotter(), LlmMetrics::builder().recorder(Arc::clone(&recorder)));
            Watched { metrics: builder.recent_gauges(recent_gauges.clone()).build().unwrap(), snapshotter, began }
        })
    }

    #[test]
    fn windows_of_metrics_that_share_their_gauges_are_added_up() {
        let [a, b] = together();
        (0..3).for_each(|_| a.ended("m", 1.0, 0.5));
        b.ended("m", 1.0, 4.0);
        b.ended("b alone", 1.0, 2.0);
        let shown = a.scrape(2.0);
        assert_eq!(shown.of("m", "max"), 4.0);
        assert!((0.4..=0.63).contains(&shown.of("m", "p50")), "{shown:?}");
        assert_eq!(shown.of("b alone", "max"), 2.0);
        b.ended("m", 50.0, 8.0);
        assert_eq!(a.scrape(90.0).of("m", "max"), 8.0, "one of them is idle");
        let shown = b.scrape(200.0);
        assert!(shown.of("m", "max").is_nan() && shown.of("b alone", "max").is_nan(), "both are idle: {shown:?}");
    }

    #[test]
    fn gauges_of_dropped_metrics_are_nan_and_the_others_stay() {
        let [a, b] = together();
        a.ended("m", 1.0, 0.5);
        b.ended("m", 1.0, 4.0);
        b.ended("b alone", 1.0, 2.0);
        a.scrape(2.0);
        let (metrics, snapshotter) = (b.metrics.clone(), b.snapshotter);
        drop(b.metrics);
        assert_eq!(metrics.recent_models().len(), 2, "a clone keeps them alive");
        drop(metrics);
        let shown = a.scrape(3.0);
        assert_eq!(shown.of("m", "max"), 0.5);
        assert!(shown.of("b alone", "max").is_nan(), "{shown:?}");
        drop(a.metrics);
        let shown = Shown::of_all(&snapshotter);
        assert!(shown.of("m", "max").is_nan() && shown.of("m", "p50").is_nan(), "{shown:?}");
    }

    #[test]
    fn metrics_that_are_dropped_leave_no_memory_allocated() {
        let recent_gauges = RecentGauges::default();
        for _ in 0..3 {
            let metrics = LlmMetrics::builder().recent_gauges(recent_gauges.clone()).build().unwrap();
            metrics.0.recent.model(&"m".into()).record(Instant::now(), [(Latency::Duration, Duration::from_secs(1))]);
            metrics.refresh();
            assert_eq!(recent_gauges.0.latencies.lock().unwrap().len(), 1);
        }
        assert_eq!(recent_gauges.0.metrics.lock().unwrap().len(), 1, "a new one replaces those that are gone");
        assert_eq!(recent_gauges.0.latencies.lock().unwrap().len(), 0);
    }
}
