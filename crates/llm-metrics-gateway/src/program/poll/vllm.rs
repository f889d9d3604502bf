//! vLLM's own metrics. Reading them costs it nothing, and does not end its sleep mode.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    engines::{ByModel, Figures, Totals},
    text_format::{Sample, samples},
};
use crate::program::upstream::{FetchError, Upstream};

pub(super) async fn figures(upstream: &Arc<Upstream>) -> Result<ByModel, FetchError> {
    let page = upstream.fetch_ok("/metrics").await?;
    Ok(read(&String::from_utf8_lossy(&page)))
}

fn read(page: &str) -> ByModel {
    let mut by_model = BTreeMap::<_, Vec<_>>::new();
    for sample in samples(page) {
        if let Some(model) = sample.label("model_name") {
            by_model.entry(model).or_default().push(sample);
        }
    }
    by_model.into_iter().map(|(model, samples)| (model, model_figures(&samples))).collect()
}

/// Several engines behind one server have separate samples. If the value of one of them is not known, that of the server is not known.
fn model_figures(samples: &[Sample<'_>]) -> Figures {
    let all = |name: &'static str| samples.iter().filter(move |sample| sample.name == name);
    let count = |name| all(name).map(Sample::count).reduce(|a, b| a?.checked_add(b?))?;
    let ratio = |name| all(name).map(Sample::ratio).reduce(|a, b| Some(a?.max(b?)))?;
    let counts = |whole, part| Some([count(whole)?, count(part)?]);
    Figures {
        running: count("vllm:num_requests_running"),
        waiting: count("vllm:num_requests_waiting"),
        // The second name was used until 0.10.
        kv_cache_usage: ratio("vllm:kv_cache_usage_perc").or_else(|| ratio("vllm:gpu_cache_usage_perc")),
        totals: Totals {
            preemptions: count("vllm:num_preemptions_total").map(|preemptions| [preemptions]),
            prefix_cache: counts("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total"),
            drafts: counts("vllm:spec_decode_num_draft_tokens_total", "vllm:spec_decode_num_accepted_tokens_total"),
        },
    }
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
        let totals = Totals { preemptions: Some([3]), prefix_cache: Some([2_097_152, 640]), drafts: Some([8, 5]) };
        let expected = Figures { running: Some(5), waiting: Some(7), kv_cache_usage: Some(0.5), totals };
        assert_eq!(models, ByModel::from([("m".to_owned(), expected)]));
    }

    #[test]
    fn a_value_that_one_engine_of_a_server_does_not_know_is_not_known() {
        let page = |name: &str, value: &str| {
            format!(
                "vllm:{name}{{engine=\"0\",model_name=\"m\"}} 1.0\nvllm:{name}{{engine=\"1\",model_name=\"m\"}} {value}\n"
            )
        };
        for name in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "num_preemptions_total"] {
            for value in ["NaN", "-1", "+Inf", "1e300"] {
                assert_eq!(read(&page(name, value))["m"], Figures::default(), "{name} {value}");
            }
        }
        for (whole, part) in [
            ("prefix_cache_queries_total", "prefix_cache_hits_total"),
            ("spec_decode_num_draft_tokens_total", "spec_decode_num_accepted_tokens_total"),
        ] {
            assert_eq!(read(&(page(whole, "9") + &page(part, "NaN")))["m"], Figures::default(), "{part}");
            assert_eq!(read(&(page(whole, "NaN") + &page(part, "1")))["m"], Figures::default(), "{whole}");
        }
    }

    #[test]
    fn the_cache_usage_is_read_under_its_former_name() {
        let models = read("vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.25\n");
        assert_eq!(models["m"].kv_cache_usage, Some(0.25));
    }
}
