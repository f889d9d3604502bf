//! Values that engines report about themselves, in the terms of the core.

use std::{
    array,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use llm_metrics::{EngineMetrics, LlmMetrics};

use super::measured_models::MeasuredModels;

/// The values of one model. A value that the engine does not report is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) running: Option<u64>,
    pub(crate) waiting: Option<u64>,
    pub(crate) kv_cache_usage: Option<f64>,
    pub(crate) totals: Totals,
}

/// The counts of an engine since its start. Two that belong together are only known together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) preemptions: Option<[u64; 1]>,
    /// Tokens that were looked up in the prefix cache, and those that were found.
    pub(crate) prefix_cache: Option<[u64; 2]>,
    /// Draft tokens, and those that the model accepted.
    pub(crate) drafts: Option<[u64; 2]>,
}

/// By model.
pub(crate) type ByModel = BTreeMap<String, Figures>;

/// The metrics of all engines. Several may run the same model: their requests are added up, and the fullest cache counts.
#[derive(Clone)]
pub(crate) struct Engines(Arc<Mutex<State>>);

struct State {
    metrics: LlmMetrics,
    models: MeasuredModels<EngineMetrics>,
    /// The latest values, by upstream.
    latest: HashMap<String, ByModel>,
    /// The last counts of each engine, by model and upstream, even if it does not answer any more.
    counted: HashMap<(String, String), Totals>,
}

impl Engines {
    pub(crate) fn new(metrics: LlmMetrics) -> Self {
        Self(Arc::new(Mutex::new(State {
            metrics,
            models: MeasuredModels::new(),
            latest: HashMap::new(),
            counted: HashMap::new(),
        })))
    }

    /// Replaces the values of an upstream.
    pub(crate) fn publish(&self, upstream: &str, figures: ByModel) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.latest.insert(upstream.to_owned(), figures.clone()).unwrap_or_default();
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
        let Some(engine) = self.models.get_or_insert_with(model, || self.metrics.engine(model)) else { return };
        let all = || self.latest.values().filter_map(|by_model| by_model.get(model));
        engine.running(all().filter_map(|figures| figures.running).reduce(u64::saturating_add));
        engine.waiting(all().filter_map(|figures| figures.waiting).reduce(u64::saturating_add));
        engine.kv_cache_usage(all().filter_map(|figures| figures.kv_cache_usage).reduce(f64::max));
    }

    fn count(&mut self, model: String, upstream: &str, totals: Totals) {
        let Some(engine) = self.models.get(&model) else { return };
        let last = self.counted.entry((model, upstream.to_owned())).or_default();
        if let Some([preemptions]) = increase(&mut last.preemptions, totals.preemptions) {
            engine.preempted(preemptions);
        }
        // Two counters that are read one after the other may be one step apart.
        if let Some([queried, hit]) = increase(&mut last.prefix_cache, totals.prefix_cache) {
            engine.prefix_cache(queried, hit.min(queried));
        }
        if let Some([drafted, accepted]) = increase(&mut last.drafts, totals.drafts) {
            engine.drafted(drafted, accepted.min(drafted));
        }
    }
}

/// The increase since the last poll that knew these counts. At the first poll they are from before this process, so they increase by 0. If one
/// decreased, the engine was restarted.
fn increase<const N: usize>(last: &mut Option<[u64; N]>, now: Option<[u64; N]>) -> Option<[u64; N]> {
    let now = now?;
    let before = last.replace(now).unwrap_or(now);
    let restarted = now.iter().zip(&before).any(|(now, before)| now < before);
    Some(if restarted { now } else { array::from_fn(|n| now[n] - before[n]) })
}

#[cfg(test)]
mod tests {
    use llm_metrics::prometheus::Exporter;

    use super::{super::measured_models::MAX_MODELS, *};

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
        let (engines, exporter) = engines();
        let publish = |upstream: &str, running, kv_cache_usage| {
            let figures = Figures { running, kv_cache_usage, ..Figures::default() };
            engines.publish(upstream, ByModel::from([("m".to_owned(), figures)]));
            exporter.render()
        };
        publish("a", Some(2), Some(0.75));
        let page = publish("b", Some(3), Some(0.25));
        assert!(page.contains("llm_engine_requests_running{model=\"m\"} 5\n"), "{page}");
        assert!(page.contains("llm_engine_kv_cache_usage_ratio{model=\"m\"} 0.75\n"), "{page}");
        assert!(!page.contains("llm_engine_requests_waiting"), "no engine reports it: {page}");
        let page = publish("a", None, None);
        assert!(page.contains("llm_engine_requests_running{model=\"m\"} 3\n"), "{page}");
        assert!(page.contains("llm_engine_kv_cache_usage_ratio{model=\"m\"} 0.25\n"), "{page}");
    }

    #[test]
    fn counts_are_added_from_the_first_poll_on_and_after_a_restart() {
        let mut last = None;
        let mut poll = |now| increase(&mut last, now);
        assert_eq!(poll(None), None);
        assert_eq!(poll(Some([7, 3])), Some([0, 0]), "earlier counts are not counted, and the series exists");
        assert_eq!(poll(Some([9, 3])), Some([2, 0]));
        assert_eq!(poll(None), None);
        assert_eq!(poll(Some([12, 5])), Some([3, 2]), "a poll that did not know the counts loses nothing");
        assert_eq!(poll(Some([4, 5])), Some([4, 5]), "after a restart, both start at 0");
    }

    #[test]
    fn of_two_counts_that_are_a_step_apart_the_part_is_at_most_the_whole() {
        let (engines, exporter) = engines();
        let publish = |prefix_cache, drafts| {
            let totals = Totals { prefix_cache: Some(prefix_cache), drafts: Some(drafts), ..Totals::default() };
            engines.publish("up", ByModel::from([("m".to_owned(), Figures { totals, ..Figures::default() })]));
            exporter.render()
        };
        publish([0, 0], [0, 0]);
        let page = publish([4, 6], [8, 9]);
        for (name, value) in [
            ("prefix_cache_queried_tokens", 4),
            ("prefix_cache_hit_tokens", 4),
            ("draft_tokens", 8),
            ("accepted_draft_tokens", 8),
        ] {
            assert!(page.contains(&format!("llm_engine_{name}_total{{model=\"m\"}} {value}\n")), "{name}: {page}");
        }
    }
}
