//! The metrics that the gateway has in addition to those of the layer.
//!
//! The rows are [`MetricDef`](llm_metrics::catalog::MetricDef)s like those of the core crate, so the same code describes them and sets their buckets:
//!
//! ```
//! use llm_metrics_gateway::catalog;
//!
//! assert_eq!(catalog::OVERHEAD.name, "llm_gateway_overhead_seconds");
//! assert!(catalog::OVERHEAD.buckets.is_sorted());
//! ```
//!
//! The label `upstream` is a name from the configuration. Values that an upstream does not report are absent, never 0.

pub mod labels;

use labels::*;

/// Seconds of the gateway's own work for a request: from a request that passes immediately to one that is delayed.
pub const OVERHEAD_BUCKETS: &[f64] = &[
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
];

/// Seconds that an upstream asks to wait, from `retry-after`.
pub const RETRY_AFTER_BUCKETS: &[f64] = &[0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

llm_metrics::catalogue! {
    "Gateway: requests" {
        /// Time that the gateway itself spent on a request, including its metrics, one sample per forwarded request. Waiting for the upstream (connection, response head, body) or for the client is excluded.
        OVERHEAD = histogram("llm_gateway_overhead_seconds", Seconds, OVERHEAD_BUCKETS)[UPSTREAM];
        /// Attempts to get a response, by result: `answered` (a response head came), `refused` (no connection), `reset` (the connection closed before the head), `timeout`, or `cancelled` (the client disconnected before the head). A request is retried only if nothing of it was sent.
        ATTEMPTS = counter("llm_gateway_attempts_total", Count)[UPSTREAM, ATTEMPT_RESULT];
        /// Responses with status 429, by reason: `quota` (the caller's quota is used up), `overload` (the upstream has no capacity), or `unknown`.
        THROTTLED = counter("llm_gateway_throttled_total", Count)[UPSTREAM, THROTTLED_KIND];
        /// Delay before a retry that the upstream asks for, from `retry-after` and `retry-after-ms` of responses with status 429 or 503.
        RETRY_AFTER = histogram("llm_gateway_retry_after_seconds", Seconds, RETRY_AFTER_BUCKETS)[UPSTREAM];
        /// Share of the quota that remains, from the last response that reported it (`x-ratelimit-*`, `anthropic-ratelimit-*`). With several API keys, the quota of the last one used.
        QUOTA_REMAINING = gauge("llm_gateway_quota_remaining_ratio", Ratio)[UPSTREAM, QUOTA_KIND];
        /// Open client connections.
        CONNECTIONS = gauge("llm_gateway_connections", Count)[];
    }
    "Gateway: upstreams" {
        /// 1 if the upstream answered the last probe, otherwise 0.
        UPSTREAM_UP = gauge("llm_gateway_upstream_up", Count)[UPSTREAM];
        /// Models that the engine has loaded, from Ollama's `/api/ps`.
        LOADED_MODELS = gauge("llm_gateway_loaded_models", Count)[UPSTREAM];
        /// Memory used by a loaded model, in all (`total`) and on GPUs (`gpu`), from Ollama's `/api/ps`. NaN after it was unloaded.
        MODEL_MEMORY = gauge("llm_gateway_model_memory_bytes", Bytes)[UPSTREAM, MODEL, MEMORY_KIND];
        /// Time at which a loaded model will be unloaded if it is not used, from Ollama's `/api/ps`. NaN after it was unloaded, far in the future for a model that stays loaded.
        MODEL_EXPIRY = gauge("llm_gateway_model_expiry_timestamp_seconds", UnixSeconds)[UPSTREAM, MODEL];
        /// Failed polls of an upstream (its list of models, loaded models, or own metrics).
        POLL_FAILURES = counter("llm_gateway_poll_failures_total", Count)[UPSTREAM];
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use llm_metrics::catalog::lint;

    use super::*;

    #[test]
    fn every_row_follows_the_rules() {
        assert_eq!(lint(SECTIONS), []);
        for row in all() {
            assert!(row.name.starts_with("llm_gateway_") && row.help.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn only_upstreams_and_models_have_an_open_set_of_values() {
        for row in all() {
            for label in row.labels {
                assert_eq!(label.values.is_empty(), [UPSTREAM, MODEL].contains(label), "{}: {label}", row.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_not_those_of_the_core() {
        let names: HashSet<_> = llm_metrics::catalog::all().chain(all()).map(|row| row.name).collect();
        assert_eq!(names.len(), llm_metrics::catalog::all().chain(all()).count());
    }
}
