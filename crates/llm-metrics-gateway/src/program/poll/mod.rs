//! Polls of an upstream: whether it answers, which models it has, and the metrics of its engine.
//!
//! All polls run in their own tasks, never during a scrape, and never cause a model to be loaded or kept loaded:
//!
//! | upstream | polled | setting |
//! | --- | --- | --- |
//! | a hosted API | only a connection | `probe` |
//! | Ollama | `/api/version`; `/api/tags`; `/api/ps`, none of which touches a model | `probe`; `refresh_models`; `poll` |
//! | llama.cpp | `/health`; `/v1/models`, which are exempt from its idle timer | `probe`; `refresh_models` |
//! | | `/metrics`, which is not exempt: it wakes a sleeping model, and restarts its idle timer | `poll`, and only while a client's request runs there, after `/props` has said that it does not sleep |
//! | vLLM | `/health`; `/v1/models`; `/metrics` | `probe`; `refresh_models`; `poll` |

mod engines;
mod llama_cpp;
mod measured_models;
mod ollama;
mod text_format;
mod vllm;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

pub(crate) use engines::Engines;

use self::ollama::LoadedModels;
use crate::program::{
    config::Kind,
    models::ModelNames,
    upstream::{FetchError, Upstream},
};

/// The interval of closing idle connections.
const SWEEP: Duration = Duration::from_secs(1);

/// Polls an upstream until the future is dropped.
pub(crate) async fn watch(upstream: Arc<Upstream>, models: ModelNames, engines: Engines) {
    let name = upstream.config.name.clone();
    let mut watch =
        Watch { loaded: LoadedModels::new(Arc::clone(&upstream)), upstream, models, engines, failing: BTreeSet::new() };
    let config = &watch.upstream.config;
    let mut probe = ticks(config.probe);
    let mut refresh = ticks(config.refresh_models);
    let mut poll = ticks(config.poll);
    let mut sweep = ticks(Some(SWEEP));
    loop {
        tokio::select! {
            () = tick(&mut probe) => watch.probe().await,
            () = tick(&mut refresh) => {
                let outcome = watch.refresh().await;
                watch.outcome(&name, "its models", outcome);
            }
            () = tick(&mut poll) => {
                let outcome = watch.poll().await;
                watch.outcome(&name, "its engine", outcome);
            }
            () = tick(&mut sweep) => watch.upstream.sweep(),
        }
    }
}

struct Watch {
    upstream: Arc<Upstream>,
    models: ModelNames,
    engines: Engines,
    loaded: LoadedModels,
    /// The failures of the last poll, so that a failure is logged once and not each time.
    failing: BTreeSet<&'static str>,
}

impl Watch {
    /// Whether the upstream answers. Any answer counts, even an error.
    async fn probe(&mut self) {
        self.find_out().await;
        let path = match self.upstream.kind() {
            Kind::OpenAi | Kind::Anthropic | Kind::Auto => {
                return self.upstream.probed(self.upstream.reach().await.is_ok());
            }
            Kind::Ollama => "/api/version",
            Kind::LlamaCpp | Kind::Vllm => "/health",
        };
        let up = matches!(self.upstream.fetch(path).await, Ok((status, _)) if !status.is_server_error());
        self.upstream.probed(up);
    }

    /// Detects the kind of an upstream, if it is not configured.
    async fn find_out(&self) {
        if self.upstream.kind() != Kind::Auto {
            return;
        }
        if self.upstream.config.url.is_https() {
            return self.upstream.found(Kind::OpenAi);
        }
        // An upstream that does not answer is asked again.
        let Ok((status, version)) = self.upstream.fetch("/api/version").await else { return };
        let kind = if status.is_success() && has_key(&version, "version") {
            Kind::Ollama
        } else if matches!(self.upstream.fetch("/props").await, Ok((status, props)) if status.is_success() && has_key(&props, "default_generation_settings"))
        {
            Kind::LlamaCpp
        } else if matches!(self.upstream.fetch("/version").await, Ok((status, version)) if status.is_success() && has_key(&version, "version"))
        {
            Kind::Vllm
        } else {
            Kind::OpenAi
        };
        tracing::info!(upstream = %self.upstream.config.name, kind = kind.as_str(), "detected the kind of the upstream");
        self.upstream.found(kind);
    }

    async fn refresh(&mut self) -> Result<(), FetchError> {
        self.find_out().await;
        let models = match self.upstream.kind() {
            Kind::Auto => return Ok(()),
            Kind::Ollama => ollama::models(&self.upstream).await?,
            Kind::OpenAi | Kind::Anthropic | Kind::LlamaCpp | Kind::Vllm => openai_models(&self.upstream).await?,
        };
        self.models.are(&self.upstream.config.name, models);
        Ok(())
    }

    async fn poll(&mut self) -> Result<(), FetchError> {
        self.find_out().await;
        let figures = match self.upstream.kind() {
            Kind::Ollama => return self.loaded.poll().await,
            Kind::LlamaCpp => llama_cpp::figures(&self.upstream).await,
            Kind::Vllm => vllm::figures(&self.upstream).await,
            Kind::Auto | Kind::OpenAi | Kind::Anthropic => return Ok(()),
        };
        // Values that are no longer known must not stay on the page.
        self.engines.publish(&self.upstream.config.name, figures.as_ref().ok().cloned().unwrap_or_default());
        figures.map(drop)
    }

    fn outcome(&mut self, name: &str, of: &'static str, outcome: Result<(), FetchError>) {
        let Err(error) = outcome else {
            self.failing.remove(of);
            return;
        };
        self.upstream.metrics.poll_failed();
        if self.failing.insert(of) {
            tracing::warn!(upstream = %name, "polling {of} failed: {error}");
        }
    }
}

/// Names of models, from `/v1/models`.
#[derive(Deserialize)]
pub(crate) struct ModelList {
    pub(crate) data: Vec<ModelEntry>,
}

#[derive(Deserialize)]
pub(crate) struct ModelEntry {
    pub(crate) id: String,
    /// llama.cpp's router reports which of its models are loaded.
    pub(crate) status: Option<serde::de::IgnoredAny>,
}

async fn openai_models(upstream: &Arc<Upstream>) -> Result<BTreeSet<String>, FetchError> {
    let list: ModelList = serde_json::from_slice(&upstream.fetch_ok("/v1/models").await?)?;
    Ok(list.data.into_iter().map(|model| model.id).collect())
}

fn has_key(document: &[u8], key: &str) -> bool {
    serde_json::from_slice::<serde_json::Value>(document).is_ok_and(|document| document.get(key).is_some())
}

fn ticks(every: Option<Duration>) -> Option<Interval> {
    every.map(|every| {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    })
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}
