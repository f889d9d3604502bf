//! Ollama's models, and the loaded ones. These requests neither load a model nor keep it loaded.

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::MAX_MODELS;
use crate::program::upstream::{FetchError, Upstream};

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
    #[serde(default)]
    size: u64,
    #[serde(default)]
    size_vram: u64,
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
    known: BTreeSet<String>,
}

impl LoadedModels {
    pub(super) fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream, known: BTreeSet::new() }
    }

    pub(super) async fn poll(&mut self) -> Result<(), FetchError> {
        let outcome = match self.upstream.fetch_ok("/api/ps").await {
            Ok(body) => serde_json::from_slice::<Processes>(&body).map_err(FetchError::from),
            Err(error) => Err(error),
        };
        let Ok(Processes { models }) = &outcome else {
            self.unloaded(|_| true);
            self.upstream.metrics.loaded_models(f64::NAN);
            return outcome.map(drop);
        };
        self.unloaded(|name| !models.iter().any(|model| model.name == name));
        for model in models {
            self.loaded(model);
        }
        self.upstream.metrics.loaded_models(models.len() as f64);
        Ok(())
    }

    fn loaded(&mut self, model: &Process) {
        if !self.known.contains(&model.name) {
            if self.known.len() >= MAX_MODELS || model.name.len() > llm_metrics::MAX_NAME_BYTES {
                return;
            }
            self.known.insert(model.name.clone());
        }
        let metrics = &self.upstream.metrics;
        metrics.model_memory(&model.name, [model.size as f64, model.size_vram as f64]);
        if let Some(expiry) = model.expires_at.as_deref().and_then(unix_seconds) {
            metrics.model_expiry(&model.name, expiry);
        }
    }

    fn unloaded(&self, is_gone: impl Fn(&str) -> bool) {
        for name in self.known.iter().filter(|name| is_gone(name)) {
            self.upstream.metrics.model_memory(name, [f64::NAN; 2]);
            self.upstream.metrics.model_expiry(name, f64::NAN);
        }
    }
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
