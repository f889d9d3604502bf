//! Ollama's models, and the loaded ones. These requests neither load a model nor keep it loaded.

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::measured_models::MeasuredModels;
use crate::program::{
    record::LoadedModelMetrics,
    upstream::{FetchError, Upstream},
};

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

#[derive(Deserialize)]
struct Processes {
    #[serde(default)]
    models: Vec<Process>,
}

#[derive(Deserialize)]
struct Process {
    name: String,
    size: Option<u64>,
    size_vram: Option<u64>,
    expires_at: Option<String>,
}

/// The installed models.
pub(super) async fn models(upstream: &Arc<Upstream>) -> Result<BTreeSet<String>, FetchError> {
    let tags: Tags = serde_json::from_slice(&upstream.fetch_ok("/api/tags").await?)?;
    Ok(tags.models.into_iter().map(|tag| tag.name).collect())
}

/// The loaded models, and those that were loaded before.
pub(super) struct LoadedModels {
    upstream: Arc<Upstream>,
    models: MeasuredModels<LoadedModelMetrics>,
}

impl LoadedModels {
    pub(super) fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream, models: MeasuredModels::new() }
    }

    pub(super) async fn poll(&mut self) -> Result<(), FetchError> {
        let loaded = loaded(&self.upstream).await;
        let processes = loaded.as_deref().unwrap_or_default();
        let metrics = &self.upstream.metrics;
        metrics.loaded_models(loaded.as_ref().ok().map(Vec::len));
        for (name, model) in self.models.iter_mut() {
            if !processes.iter().any(|process| process.name == name) {
                model.unloaded();
            }
        }
        for process in processes {
            if let Some(model) = self.models.get_or_insert_with(&process.name, || metrics.loaded_model(&process.name)) {
                model.memory([process.size, process.size_vram]);
                model.expiry(process.expires_at.as_deref().and_then(unix_seconds));
            }
        }
        loaded.map(drop)
    }
}

async fn loaded(upstream: &Arc<Upstream>) -> Result<Vec<Process>, FetchError> {
    let Processes { models } = serde_json::from_slice(&upstream.fetch_ok("/api/ps").await?)?;
    Ok(models)
}

/// `None` for an invalid time, and for Go's zero time.
fn unix_seconds(time: &str) -> Option<f64> {
    let seconds = OffsetDateTime::parse(time, &Rfc3339).ok()?.unix_timestamp_nanos() as f64 / 1e9;
    (seconds > 0.0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_offset() {
        assert_eq!(unix_seconds("2024-06-04T14:38:31.5-07:00"), Some(1_717_537_111.5));
        assert_eq!(unix_seconds("2024-06-04T21:38:31Z"), Some(1_717_537_111.0));
        assert_eq!(unix_seconds("2318-09-17T00:00:00.123456789+02:00").map(|at| at > 1e10), Some(true));
        assert_eq!((unix_seconds("0001-01-01T00:00:00Z"), unix_seconds("soon")), (None, None));
    }
}
