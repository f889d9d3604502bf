//! Values that engines report about themselves, in the terms of the core.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use llm_metrics::{EngineMetrics, LlmMetrics};

use super::MAX_MODELS;

/// The values of one model. A value that the engine does not report is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) running: Option<u64>,
    pub(crate) waiting: Option<u64>,
    pub(crate) kv_cache_usage: Option<f64>,
    pub(crate) totals: Totals,
}

/// The counts of an engine since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) preemptions: Option<u64>,
    pub(crate) queried_tokens: Option<u64>,
    pub(crate) hit_tokens: Option<u64>,
    pub(crate) draft_tokens: Option<u64>,
    pub(crate) accepted_tokens: Option<u64>,
}

/// By model.
pub(crate) type ByModel = BTreeMap<String, Figures>;

/// The metrics of all engines. Several may run the same model: their requests are added up, and the fullest cache counts.
#[derive(Clone)]
pub(crate) struct Engines(Arc<Mutex<State>>);

struct State {
    metrics: LlmMetrics,
    gauges: HashMap<String, EngineMetrics>,
    /// By upstream.
    said: HashMap<String, ByModel>,
    /// The last counts of each engine, by model and upstream, even if it does not answer any more.
    counted: HashMap<(String, String), Totals>,
}

impl Engines {
    pub(crate) fn new(metrics: LlmMetrics) -> Self {
        Self(Arc::new(Mutex::new(State {
            metrics,
            gauges: HashMap::new(),
            said: HashMap::new(),
            counted: HashMap::new(),
        })))
    }

    /// Replaces the values of an upstream.
    pub(crate) fn publish(&self, upstream: &str, figures: ByModel) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.said.insert(upstream.to_owned(), figures.clone()).unwrap_or_default();
        for model in before.keys().chain(figures.keys()) {
            state.publish(model);
        }
        for (model, figures) in figures {
            state.count(model, upstream, figures.totals);
        }
    }
}

impl State {
    fn publish(&mut self, model: &str) {
        if self.gauges.len() >= MAX_MODELS && !self.gauges.contains_key(model) {
            return;
        }
        let gauges = self.gauges.entry(model.to_owned()).or_insert_with(|| self.metrics.engine(model));
        let total = self.said.values().filter_map(|said| said.get(model)).fold(Figures::default(), Figures::and);
        gauges.running(total.running);
        gauges.waiting(total.waiting);
        gauges.kv_cache_usage(total.kv_cache_usage);
    }

    /// Adds the counts since the last poll. The counts of the first poll are from before this process, and are not added.
    fn count(&mut self, model: String, upstream: &str, totals: Totals) {
        let Some(engine) = self.gauges.get(&model) else { return };
        let last = self.counted.entry((model, upstream.to_owned())).or_insert(totals);
        let more = totals.since(last);
        *last = totals.or(last);
        if let Some(preemptions) = more.preemptions {
            engine.preempted(preemptions);
        }
        // Two counters that are read one after the other may be one step apart.
        if let (Some(queried), Some(hit)) = (more.queried_tokens, more.hit_tokens) {
            engine.prefix_cache(queried, hit.min(queried));
        }
        if let (Some(drafted), Some(accepted)) = (more.draft_tokens, more.accepted_tokens) {
            engine.drafted(drafted, accepted.min(drafted));
        }
    }
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.map_or(b, |a| Some(a.saturating_add(b.unwrap_or(0))))
}

impl Figures {
    pub(crate) fn and(self, other: &Self) -> Self {
        let max = |a: Option<f64>, b: Option<f64>| a.map_or(b, |a| Some(a.max(b.unwrap_or(a))));
        Self {
            running: sum(self.running, other.running),
            waiting: sum(self.waiting, other.waiting),
            kv_cache_usage: max(self.kv_cache_usage, other.kv_cache_usage),
            totals: self.totals.with(&other.totals, sum),
        }
    }
}

impl Totals {
    /// The increase since the last poll. If a total decreased, the engine was restarted.
    fn since(&self, before: &Self) -> Self {
        self.with(before, |now, before| {
            now.map(|now| before.map_or(0, |before| if now < before { now } else { now - before }))
        })
    }

    fn or(&self, other: &Self) -> Self {
        self.with(other, Option::or)
    }

    fn with(&self, other: &Self, join: impl Fn(Option<u64>, Option<u64>) -> Option<u64>) -> Self {
        Self {
            preemptions: join(self.preemptions, other.preemptions),
            queried_tokens: join(self.queried_tokens, other.queried_tokens),
            hit_tokens: join(self.hit_tokens, other.hit_tokens),
            draft_tokens: join(self.draft_tokens, other.draft_tokens),
            accepted_tokens: join(self.accepted_tokens, other.accepted_tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use llm_metrics::prometheus::Exporter;

    use super::*;

    fn engines() -> (Engines, Exporter) {
        let (_, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
        (Engines::new(LlmMetrics::builder().exporter(&exporter).build().unwrap()), exporter)
    }

    fn running(requests: u64) -> Figures {
        Figures { running: Some(requests), ..Figures::default() }
    }

    #[test]
    fn a_known_value_is_on_every_page_while_its_engine_is_polled() {
        let (engines, exporter) = engines();
        let poll = || engines.publish("up", ByModel::from([("m".to_owned(), running(3))]));
        poll();
        std::thread::scope(|scope| {
            let polls = scope.spawn(|| (0..50_000).for_each(|_| poll()));
            while !polls.is_finished() {
                let page = exporter.render();
                assert!(page.contains("llm_engine_requests_running{model=\"m\"} 3\n"), "{page}");
            }
        });
    }

    #[test]
    fn above_the_limit_no_model_gets_gauges_and_those_that_have_them_keep_them() {
        let (engines, exporter) = engines();
        let poll = |models: usize, count| {
            engines.publish("up", (0..models).map(|n| (format!("m{n}"), running(count))).collect());
            let page = exporter.render();
            page.lines()
                .filter(|line| line.starts_with("llm_engine_requests_running{") && line.ends_with(&format!(" {count}")))
                .count()
        };
        assert_eq!(poll(MAX_MODELS, 1), MAX_MODELS);
        assert_eq!(poll(MAX_MODELS + 1, 2), MAX_MODELS);
    }

    #[test]
    fn engines_of_one_model_add_up_and_the_fullest_cache_counts() {
        let figures = |running, usage| Figures { running, kv_cache_usage: usage, ..Figures::default() };
        let total = figures(Some(2), Some(0.25)).and(&figures(Some(3), Some(0.75)));
        assert_eq!(total, figures(Some(5), Some(0.75)));
        assert_eq!(figures(None, None).and(&figures(Some(1), None)), figures(Some(1), None));
        assert_eq!(figures(Some(1), Some(0.5)).and(&figures(None, None)), figures(Some(1), Some(0.5)));
    }

    #[test]
    fn counts_are_added_from_the_first_poll_on_and_after_a_restart() {
        let total = |preemptions| Totals { preemptions, ..Totals::default() };
        let more = |now, before| total(now).since(&total(before)).preemptions;
        assert_eq!(more(Some(7), None), Some(0), "earlier counts are not counted, and the series exists");
        assert_eq!(more(Some(9), Some(7)), Some(2));
        assert_eq!(more(Some(3), Some(9)), Some(3));
        assert_eq!(more(None, Some(9)), None);
        let two = Figures { totals: total(Some(2)), ..Figures::default() };
        assert_eq!(two.and(&two).totals, total(Some(4)));
        assert_eq!(total(None).or(&total(Some(9))), total(Some(9)));
    }
}
