//! The names of servers' metrics.

use llm_metrics::{
    Outcome,
    catalog::{self, InvalidPrefix, MetricDef, Naming, labels},
};

use super::exposition::Page;

/// The label of successful requests in our metrics.
const SUCCESS: &[(&str, &str)] = &[(labels::OUTCOME.name, Outcome::Success.as_str())];

/// The names of one kind of server.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) dialect: &'static str,
    /// The info metric of the model.
    pub(crate) info: String,
    /// The label with the model's name.
    pub(crate) model: &'static str,
    pub(crate) time_to_first_token: String,
    pub(crate) time_per_output_token: String,
    pub(crate) inter_token_latency: String,
    pub(crate) duration: String,
    /// The labels that select successful requests in `duration`.
    pub(crate) answered: &'static [(&'static str, &'static str)],
    pub(crate) requests: String,
    pub(crate) input_tokens: String,
    pub(crate) output_tokens: String,
    /// The counter of errors, and the label with their type.
    pub(crate) errors: Option<(String, &'static str)>,
    pub(crate) queue: String,
    /// Gauges whose sum is the number of requests in flight.
    pub(crate) in_flight: Vec<String>,
    pub(crate) waiting: String,
    pub(crate) kv_cache: String,
}

impl Names {
    /// The names of llm-metrics' catalogue, with a prefix.
    pub(crate) fn ours(prefix: &str) -> Result<Self, InvalidPrefix> {
        let naming = Naming::new().prefix(prefix)?;
        let name = |row: &'static MetricDef| naming.name(row).into_owned();
        Ok(Self {
            dialect: "llm",
            info: name(&catalog::MODEL_INFO),
            model: labels::MODEL.name,
            time_to_first_token: name(&catalog::TIME_TO_FIRST_TOKEN),
            time_per_output_token: name(&catalog::TIME_PER_OUTPUT_TOKEN),
            inter_token_latency: name(&catalog::INTER_TOKEN_LATENCY),
            duration: name(&catalog::REQUEST_DURATION),
            answered: SUCCESS,
            requests: name(&catalog::REQUESTS),
            input_tokens: name(&catalog::INPUT_TOKENS),
            output_tokens: name(&catalog::OUTPUT_TOKENS),
            errors: Some((name(&catalog::REQUEST_ERRORS), labels::ERROR_TYPE.name)),
            queue: name(&catalog::REQUEST_QUEUE),
            in_flight: vec![name(&catalog::REQUESTS_IN_FLIGHT)],
            waiting: name(&catalog::ENGINE_REQUESTS_WAITING),
            kv_cache: name(&catalog::ENGINE_KV_CACHE_USAGE),
        })
    }

    /// The names of vLLM 0.10 and later.
    pub(crate) fn vllm() -> Self {
        let name = |name: &str| format!("vllm:{name}");
        Self {
            dialect: "vllm",
            info: name("cache_config_info"),
            model: "model_name",
            time_to_first_token: name("time_to_first_token_seconds"),
            time_per_output_token: name("request_time_per_output_token_seconds"),
            inter_token_latency: name("inter_token_latency_seconds"),
            duration: name("e2e_request_latency_seconds"),
            answered: &[],
            requests: name("request_success_total"),
            input_tokens: name("prompt_tokens_total"),
            output_tokens: name("generation_tokens_total"),
            errors: None,
            queue: name("request_queue_time_seconds"),
            in_flight: vec![name("num_requests_running"), name("num_requests_waiting")],
            waiting: name("num_requests_waiting"),
            kv_cache: name("kv_cache_usage_perc"),
        }
    }

    /// Whether the page has any of these metrics.
    pub(crate) fn are_on(&self, page: &Page) -> bool {
        self.in_flight.iter().any(|name| page.has(name))
            || page.has(&self.requests)
            || page.has(&format!("{}_count", self.duration))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use llm_metrics::catalog::dialect::{Dialect, Family};

    use super::*;

    #[test]
    fn vllms_names_are_those_of_the_dialect() {
        let families = Dialect::Vllm.families();
        let of = |row: &MetricDef| {
            let shows = |family: &&Family| family.sources.iter().any(|source| source.row == *row);
            let names = families.iter().filter(shows).map(|family| family.name);
            names.filter(|name| name.starts_with("vllm:")).collect::<Vec<_>>()
        };
        let names = Names::vllm();
        for (name, row) in [
            (&names.time_to_first_token, &catalog::TIME_TO_FIRST_TOKEN),
            (&names.time_per_output_token, &catalog::TIME_PER_OUTPUT_TOKEN),
            (&names.inter_token_latency, &catalog::INTER_TOKEN_LATENCY),
            (&names.duration, &catalog::REQUEST_DURATION),
            (&names.requests, &catalog::FINISH_REASONS),
            (&names.input_tokens, &catalog::INPUT_TOKENS),
            (&names.output_tokens, &catalog::OUTPUT_TOKENS),
            (&names.queue, &catalog::REQUEST_QUEUE),
            (&names.in_flight[0], &catalog::ENGINE_REQUESTS_RUNNING),
            (&names.in_flight[1], &catalog::ENGINE_REQUESTS_WAITING),
            (&names.waiting, &catalog::ENGINE_REQUESTS_WAITING),
            (&names.kv_cache, &catalog::ENGINE_KV_CACHE_USAGE),
        ] {
            assert_eq!(of(row), [name.as_str()]);
        }
        let labels = families.iter().flat_map(|family| &family.sources).flat_map(|source| source.labels);
        let of_models: BTreeSet<_> = labels.filter(|label| label.from == labels::MODEL).map(|label| label.to).collect();
        assert_eq!(of_models, BTreeSet::from([names.model]));
    }
}
