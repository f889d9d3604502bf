//! The names of servers' metrics.

use llm_metrics::catalog::{self, InvalidPrefix, MetricDef, Naming};

use super::exposition::Page;

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
            model: "model",
            time_to_first_token: name(&catalog::TIME_TO_FIRST_TOKEN),
            time_per_output_token: name(&catalog::TIME_PER_OUTPUT_TOKEN),
            inter_token_latency: name(&catalog::INTER_TOKEN_LATENCY),
            duration: name(&catalog::REQUEST_DURATION),
            answered: &[("outcome", "success")],
            requests: name(&catalog::REQUESTS),
            input_tokens: name(&catalog::INPUT_TOKENS),
            output_tokens: name(&catalog::OUTPUT_TOKENS),
            errors: Some((name(&catalog::REQUEST_ERRORS), "error_type")),
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

/// Metrics per GPU of llm-metrics and of DCGM exporter, each with the factor that converts its unit to the base unit.
pub(super) const GPU_MEMORY_USED: [(&str, f64); 2] =
    [("gpu_memory_used_bytes", 1.0), ("DCGM_FI_DEV_FB_USED", 1_048_576.0)];
pub(super) const GPU_MEMORY_TOTAL: [(&str, f64); 2] =
    [("gpu_memory_total_bytes", 1.0), ("DCGM_FI_DEV_FB_TOTAL", 1_048_576.0)];
/// DCGM exporter does not export the total memory by default; it is the sum of used, free and reserved memory.
pub(super) const GPU_MEMORY_FREE: (&str, f64) = ("DCGM_FI_DEV_FB_FREE", 1_048_576.0);
pub(super) const GPU_MEMORY_RESERVED: (&str, f64) = ("DCGM_FI_DEV_FB_RESERVED", 1_048_576.0);
pub(super) const GPU_UTILIZATION: [(&str, f64); 2] = [("gpu_utilization_ratio", 1.0), ("DCGM_FI_DEV_GPU_UTIL", 0.01)];
pub(super) const GPU_ENERGY: [(&str, f64); 2] =
    [("gpu_energy_joules_total", 1.0), ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 0.001)];
