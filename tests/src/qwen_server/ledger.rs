//! A client's own record of its requests, which is compared with `/metrics` value by value.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Seen, TINY, Usage};
use crate::{Page, stream::CHAT};

/// All requests that the clients of one server sent, and the answers that they received.
#[derive(Debug, Default)]
pub struct Ledger(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    model: &'static str,
    operation: &'static str,
    endpoint: String,
    stream: bool,
    thinking: &'static str,
    outcome: &'static str,
    error: Option<(&'static str, u16)>,
    max_tokens: Option<u64>,
    usage: Usage,
    seen: Seen,
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Ledger {
    /// Adds a request that was answered. Anything except a complete, correct answer is rejected.
    #[track_caller]
    pub fn answered(&mut self, path: &str, request: &Value, seen: Seen) {
        let usage = seen.reported_usage();
        self.answered_without_usage(path, request, seen, usage);
    }

    /// Adds a request that was answered without token counts; `usage` has the expected ones.
    #[track_caller]
    pub fn answered_without_usage(&mut self, path: &str, request: &Value, seen: Seen, usage: Usage) {
        assert_eq!((seen.status, &seen.error, seen.whole), (200, &None, true), "{seen:?}");
        assert_eq!((seen.streamed, seen.done), (request["stream"] == true, request["stream"] == true), "{seen:?}");
        assert_eq!(seen.finish_reasons.len() as u64, request["n"].as_u64().unwrap_or(1), "{seen:?}");
        let thought = usage.reasoning > 0 || !seen.reasoning.trim().is_empty();
        let thinking = if thought { "true" } else { "false" };
        self.0.push(Entry { thinking, usage, ..Entry::new(TINY, path, request, "success", None, seen) });
    }

    /// Adds a request that got an error, and the model under which it counts.
    #[track_caller]
    pub fn refused(&mut self, model: &'static str, path: &str, request: &Value, error_type: &'static str, seen: Seen) {
        assert!(seen.status >= 400 && seen.error.is_some() && seen.whole && !seen.streamed, "{seen:?}");
        let outcome = if seen.status < 500 { "rejected" } else { "error" };
        let error = Some((error_type, seen.status));
        self.0.push(Entry::new(model, path, request, outcome, error, seen));
    }

    /// Compares with a page on which all of these requests, and no others, have ended.
    ///
    /// # Panics
    /// If a value differs.
    pub fn check(&self, page: &Page) {
        self.requests(page);
        self.tokens(page);
        self.latencies(page);
        for gauge in ["llm_requests_in_flight", "llm_engine_requests_running", "llm_engine_requests_waiting"] {
            assert!(
                page.series(gauge, &[]) > 0 && page.samples(gauge, &[]).all(|sample| sample.value == 0.0),
                "{gauge}"
            );
        }
        for zero in ["llm_discarded_tokens_total", "llm_input_cached_tokens_total", "llm_metrics_bodies_skipped_total"]
        {
            self.counter(page, zero, |_| None);
        }
    }

    fn requests(&self, page: &Page) {
        self.counter(page, "llm_requests_started_total", |entry| Some((entry.door(), 1)));
        self.counter(page, "llm_requests_total", |entry| {
            let mut labels = entry.door();
            labels.extend([("model", entry.model), ("stream", word(entry.stream))]);
            labels.extend([("thinking", entry.thinking), ("outcome", entry.outcome)]);
            Some((labels, 1))
        });
        let statuses: Vec<String> = self.0.iter().map(|entry| entry.seen.status.to_string()).collect();
        let mut statuses = statuses.iter();
        self.counter(page, "llm_request_errors_total", |entry| {
            let status = statuses.next()?;
            let mut labels = entry.door();
            labels.extend([("model", entry.model), ("error_type", entry.error?.0), ("status", status)]);
            Some((labels, 1))
        });
        let durations = self.group(|entry| {
            let mut labels = entry.served();
            labels.extend([("thinking", entry.thinking), ("outcome", entry.outcome)]);
            Some((labels, entry.seen.took.as_secs_f64()))
        });
        self.counts(page, "llm_request_duration_seconds", &durations);
        for operation in ["chat", "text_completion"] {
            let mut reasons = BTreeMap::<&str, f64>::new();
            for entry in self.accepted().filter(|entry| entry.operation == operation) {
                entry.seen.finish_reasons.iter().for_each(|reason| *reasons.entry(reason).or_default() += 1.0);
            }
            for sample in page.samples("llm_finish_reasons_total", &[("operation", operation)]) {
                let expected = reasons.remove(sample.labels["finish_reason"].as_str()).unwrap_or(0.0);
                assert_eq!(sample.value, expected, "{sample:?}");
            }
            assert!(reasons.is_empty(), "not on the page: {reasons:?}");
        }
    }

    fn tokens(&self, page: &Page) {
        let accepted = |entry: &Entry| entry.error.is_none();
        self.counter(page, "llm_input_tokens_total", |e| accepted(e).then(|| (e.served(), e.usage.input)));
        self.counter(page, "llm_output_tokens_total", |e| accepted(e).then(|| (e.served(), e.usage.output)));
        self.counter(page, "llm_output_reasoning_tokens_total", |e| {
            accepted(e).then(|| (e.served(), e.usage.reasoning))
        });
        self.counter(page, "llm_usage_reports_total", |e| {
            let labels = vec![("model", e.model), ("stream", word(e.stream)), ("source", "engine")];
            accepted(e).then_some((labels, 1))
        });
        let histogram = |name: &str, tokens: &dyn Fn(&Entry) -> Option<u64>| {
            let values = self.group(|e| Some((e.served(), tokens(e).filter(|_| accepted(e))? as f64)));
            self.counts(page, name, &values);
            for (labels, values) in &values {
                let found = page.histogram(name, labels);
                assert_eq!(found.sum, values.iter().sum::<f64>(), "{name}");
                for (bound, count) in found.buckets {
                    let expected = values.iter().filter(|value| **value <= bound).count() as f64;
                    assert_eq!(count, expected, "{name} up to {bound}: {values:?}");
                }
            }
        };
        histogram("llm_request_input_tokens", &|entry| Some(entry.usage.input));
        histogram("llm_request_output_tokens", &|entry| Some(entry.usage.output));
        histogram("llm_request_max_tokens", &|entry| entry.max_tokens);
    }

    /// Counts are exact. The sums cannot be greater than the times that the clients measured.
    fn latencies(&self, page: &Page) {
        let first = self.group(|e| Some((e.streamed(true)?, e.seen.first_token?.as_secs_f64())));
        self.counts(page, "llm_time_to_first_token_seconds", &first);
        for (labels, times) in &first {
            let found = page.histogram("llm_time_to_first_token_seconds", labels).sum;
            assert!(found > 0.0 && found <= times.iter().sum(), "{found} > {times:?}");
        }
        let took = |entry: &Entry| entry.seen.took.as_secs_f64();
        let bounded = |name: &str, of: &dyn Fn(&Entry) -> bool| {
            let times = self.group(|e| Some((e.streamed(of(e))?, took(e))));
            self.counts(page, name, &times);
            for (labels, times) in &times {
                let found = page.histogram(name, labels).sum;
                assert!(found > 0.0 && found <= times.iter().sum(), "{name}: {found} > {times:?}");
            }
        };
        let answered = |e: &Entry| !e.seen.answer().trim().is_empty() || !e.seen.tool_calls.is_empty();
        bounded("llm_time_to_first_answer_token_seconds", &answered);
        bounded("llm_reasoning_duration_seconds", &|e| answered(e) && !e.seen.reasoning.trim().is_empty());
        bounded("llm_stream_max_gap_seconds", &|e| e.seen.token_events > 1);
        // Several choices are generated together, so their tokens have no separate times.
        let each = self.group(|e| {
            let mut labels = e.streamed(e.seen.token_events > 1 && e.seen.finish_reasons.len() == 1)?;
            labels.push(("thinking", e.thinking));
            Some((labels, took(e)))
        });
        self.counts(page, "llm_time_per_output_token_seconds", &each);
        self.gaps_between_tokens(page);
    }

    /// An event has at least one token: the engine also generates invisible tokens, such as `</think>`. Tokens before the first event have no gap.
    fn gaps_between_tokens(&self, page: &Page) {
        let name = "llm_inter_token_latency_seconds";
        let streams = || self.accepted().filter(|entry| entry.seen.streamed && entry.seen.token_events > 1);
        for operation in ["chat", "text_completion"] {
            let of = || streams().filter(|entry| entry.operation == operation);
            let found = page.histogram(name, &[("operation", operation)]);
            let least: u64 = of().map(|entry| entry.seen.token_events - 1).sum();
            let most: u64 = of().map(|entry| entry.usage.output - 1).sum();
            let range = least as f64..=most as f64;
            assert!(range.contains(&found.count), "{name} of {operation}: {} is not in {range:?}", found.count);
            // Each choice has its own gaps.
            let most = of().map(|entry| entry.seen.finish_reasons.len().max(1) as f64 * entry.seen.took.as_secs_f64());
            assert!(found.sum <= most.sum(), "{name}: {}", found.sum);
        }
    }

    fn accepted(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(|entry| entry.error.is_none())
    }

    /// Every series of a counter has exactly the sum of the entries, or 0, and no series is missing.
    fn counter<'a>(&'a self, page: &Page, name: &str, mut add: impl FnMut(&'a Entry) -> Option<(Labels<'a>, u64)>) {
        let mut expected = BTreeMap::<BTreeMap<String, String>, u64>::new();
        for (labels, value) in self.0.iter().filter_map(&mut add) {
            let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            *expected.entry(labels).or_default() += value;
        }
        for sample in page.samples(name, &[]) {
            let value = expected.remove(&sample.labels).unwrap_or(0);
            assert_eq!(sample.value, value as f64, "{sample:?}");
        }
        assert!(expected.values().all(|value| *value == 0), "{name} lacks {expected:?}");
    }

    fn group<'a>(&'a self, value: impl Fn(&'a Entry) -> Option<(Labels<'a>, f64)>) -> BTreeMap<Labels<'a>, Vec<f64>> {
        let mut groups = BTreeMap::<_, Vec<f64>>::new();
        for (labels, value) in self.0.iter().filter_map(value) {
            groups.entry(labels).or_default().push(value);
        }
        groups
    }

    /// A histogram has this many samples in each of these series, and none in others.
    fn counts(&self, page: &Page, name: &str, groups: &BTreeMap<Labels<'_>, Vec<f64>>) {
        for (labels, values) in groups {
            assert_eq!(page.count(name, labels), values.len() as f64, "{name}{labels:?}");
        }
        let all: usize = groups.values().map(Vec::len).sum();
        assert_eq!(page.count(name, &[]), all as f64, "{name}, all series");
    }
}

impl Entry {
    fn new(
        model: &'static str,
        path: &str,
        request: &Value,
        outcome: &'static str,
        error: Option<(&'static str, u16)>,
        seen: Seen,
    ) -> Self {
        let switch = request["enable_thinking"].as_bool();
        Self {
            model,
            operation: if path == CHAT { "chat" } else { "text_completion" },
            endpoint: path.to_owned(),
            stream: request["stream"] == true,
            thinking: switch.map_or("unknown", word),
            outcome,
            error,
            max_tokens: request["max_tokens"].as_u64(),
            usage: Usage { input: 0, output: 0, reasoning: 0 },
            seen,
        }
    }

    fn door(&self) -> Labels<'_> {
        vec![("operation", self.operation), ("endpoint", &self.endpoint)]
    }

    fn served(&self) -> Labels<'_> {
        vec![("model", self.model), ("operation", self.operation)]
    }

    /// The labels of a stream that satisfies another condition, too.
    fn streamed(&self, and: bool) -> Option<Labels<'_>> {
        (self.seen.streamed && and).then(|| self.served())
    }
}

fn word(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
