//! vLLM's own metrics. Reading them costs it nothing, and does not end its sleep mode.

use std::sync::Arc;

use super::{
    engines::{ByModel, Figures, Totals},
    text_format::samples,
};
use crate::program::upstream::{FetchError, Upstream};

pub(super) async fn figures(upstream: &Arc<Upstream>) -> Result<ByModel, FetchError> {
    let page = upstream.fetch_ok("/metrics").await?;
    Ok(read(&String::from_utf8_lossy(&page)))
}

fn read(page: &str) -> ByModel {
    let mut models = ByModel::new();
    for sample in samples(page) {
        let count = Some(sample.value as u64);
        let figures = match sample.name {
            "vllm:num_requests_running" => Figures { running: count, ..Figures::default() },
            "vllm:num_requests_waiting" => Figures { waiting: count, ..Figures::default() },
            // The second name was used until 0.10.
            "vllm:kv_cache_usage_perc" | "vllm:gpu_cache_usage_perc" => {
                Figures { kv_cache_usage: Some(sample.value), ..Figures::default() }
            }
            name => match totals(name, count) {
                Some(totals) => Figures { totals, ..Figures::default() },
                None => continue,
            },
        };
        let Some(model) = sample.label("model_name") else { continue };
        let entry = models.entry(model).or_default();
        // Several engines behind one server have separate lines.
        *entry = entry.and(&figures);
    }
    models
}

fn totals(name: &str, count: Option<u64>) -> Option<Totals> {
    let none = Totals::default();
    Some(match name {
        "vllm:num_preemptions_total" => Totals { preemptions: count, ..none },
        "vllm:prefix_cache_queries_total" => Totals { queried_tokens: count, ..none },
        "vllm:prefix_cache_hits_total" => Totals { hit_tokens: count, ..none },
        "vllm:spec_decode_num_draft_tokens_total" => Totals { draft_tokens: count, ..none },
        "vllm:spec_decode_num_accepted_tokens_total" => Totals { accepted_tokens: count, ..none },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_of_a_server_add_up() {
        let models = read(concat!(
            "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\n",
            "vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 2.0\n",
            "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 7.0\n",
            "vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"m\",reason=\"capacity\"} 7.0\n",
            "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.25\n",
            "vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"m\"} 0.5\n",
            "vllm:num_preemptions_total{engine=\"0\",model_name=\"m\"} 1.0\n",
            "vllm:num_preemptions_total{engine=\"1\",model_name=\"m\"} 2.0\n",
            "vllm:num_preemptions_created{engine=\"1\",model_name=\"m\"} 1.7e+09\n",
            "vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"m\"} 2.097152e+06\n",
            "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"m\"} 640.0\n",
            "vllm:spec_decode_num_draft_tokens_total{engine=\"0\",model_name=\"m\"} 8.0\n",
            "vllm:spec_decode_num_accepted_tokens_total{engine=\"0\",model_name=\"m\"} 5.0\n",
        ));
        let totals = Totals {
            preemptions: Some(3),
            queried_tokens: Some(2_097_152),
            hit_tokens: Some(640),
            draft_tokens: Some(8),
            accepted_tokens: Some(5),
        };
        let expected = Figures { running: Some(5), waiting: Some(7), kv_cache_usage: Some(0.5), totals };
        assert_eq!(models, ByModel::from([("m".to_owned(), expected)]));
    }
}
