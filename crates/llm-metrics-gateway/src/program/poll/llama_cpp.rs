//! llama.cpp's own metrics, polled only if that has no side effect.
//!
//! `GET /metrics` and `GET /slots` are tasks in its queue: they postpone the idle time after which the model is unloaded, and load a sleeping model
//! again. So they are only polled while a client's request runs, which has the same effect, and after `/props`, which has no effect, has reported
//! that the model is awake.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    ModelList,
    engines::{ByModel, Figures, Totals},
    text_format::samples,
};
use crate::program::upstream::{FetchError, Upstream};

#[derive(Deserialize)]
struct Props {
    #[serde(default)]
    is_sleeping: bool,
}

#[derive(Deserialize)]
struct Slot {
    is_processing: bool,
}

pub(super) async fn figures(upstream: &Arc<Upstream>) -> Result<ByModel, FetchError> {
    let models: ModelList = serde_json::from_slice(&upstream.fetch_ok("/v1/models").await?)?;
    // A router has one server per model, and the gateway does not know which of them handles a request.
    let [model] = &models.data[..] else { return Ok(ByModel::new()) };
    if model.status.is_some() {
        return Ok(ByModel::new());
    }
    let props: Props = serde_json::from_slice(&upstream.fetch_ok("/props").await?)?;
    if props.is_sleeping || upstream.in_flight() == 0 {
        return Ok(ByModel::new());
    }
    let figures = match upstream.fetch_ok("/metrics").await {
        Ok(page) => read(&String::from_utf8_lossy(&page)),
        // Without --metrics there are still the slots, unless they are disabled, too.
        Err(FetchError::Status(_)) if upstream.in_flight() > 0 => {
            let slots: Vec<Slot> = serde_json::from_slice(&upstream.fetch_ok("/slots").await?)?;
            let running = slots.iter().filter(|slot| slot.is_processing).count() as u64;
            Figures { running: Some(running), ..Figures::default() }
        }
        Err(error) => return Err(error),
    };
    Ok(ByModel::from([(model.id.clone(), figures)]))
}

fn read(page: &str) -> Figures {
    let sample = |name: &str| samples(page).find(|sample| sample.name == name);
    let count = |name: &str| sample(name)?.count();
    let drafts = count("llamacpp:spec_decode_num_draft_tokens_total");
    let accepted = count("llamacpp:spec_decode_num_accepted_tokens_total");
    Figures {
        running: count("llamacpp:requests_processing"),
        waiting: count("llamacpp:requests_deferred"),
        // Absent since 2025.
        kv_cache_usage: sample("llamacpp:kv_cache_usage_ratio").and_then(|sample| sample.ratio()),
        totals: Totals {
            drafts: drafts.zip(accepted).map(|(drafts, accepted)| [drafts, accepted]),
            ..Totals::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_names_are_read() {
        let page =
            "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 2\nllamacpp:requests_deferred 5\n";
        assert_eq!(read(page), Figures { running: Some(2), waiting: Some(5), ..Figures::default() });
        let drafts =
            "llamacpp:spec_decode_num_draft_tokens_total 8\nllamacpp:spec_decode_num_accepted_tokens_total 5\n";
        let totals = Totals { drafts: Some([8, 5]), ..Totals::default() };
        assert_eq!(read(drafts), Figures { totals, ..Figures::default() });
        let usage = Figures { kv_cache_usage: Some(0.25), ..Figures::default() };
        assert_eq!(read("llamacpp:kv_cache_usage_ratio 0.25\n"), usage);
        assert_eq!(read(""), Figures::default());
        assert_eq!(read("llamacpp:requests_processing NaN\nllamacpp:kv_cache_usage_ratio NaN\n"), Figures::default());
    }
}
