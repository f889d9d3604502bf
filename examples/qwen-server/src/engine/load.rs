//! Loading a model: from a directory, from the Hugging Face hub, or from a GGUF file.

use std::path::PathBuf;

use mistralrs::{
    GgufModelBuilder, ModelDType, PagedAttentionMetaBuilder, TextModelBuilder,
    core::{MistralRsBuilder, paged_attn_supported},
    model_builder_trait::{build_gguf_pipeline, build_text_pipeline},
};

use super::{Engine, Facts, length::LengthGuard, probe::ThinkTags};
use crate::telemetry::EngineMetrics;

/// The number of prefixes that the engine keeps for prompts with a common beginning.
const CACHED_PREFIXES: usize = 16;

/// The source of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The tiny Qwen3 that the server writes itself.
    Tiny,
    /// A directory with `config.json`, `tokenizer.json` and `*.safetensors`.
    Directory(PathBuf),
    /// A Hugging Face id; downloaded once, then read from the cache.
    HuggingFace(String),
    /// A GGUF file: its name, and its directory or Hugging Face id.
    Gguf { location: String, file: String },
}

/// The recommended number of running sequences. Without paged attention, only sequences of equal length run in one batch, and each time one ends,
/// 0.8.1 processes the whole text of the others again: with 30 clients of mixed lengths, the tiny model gave 131 tokens per second with 16 sequences,
/// 187 with 4 and 262 with one, while 16 prompts of equal length gain from running together.
pub(crate) fn default_max_seqs() -> usize {
    if paged_attn_supported() { 16 } else { 4 }
}

/// How to run it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Sequences that run together.
    pub(crate) max_seqs: usize,
    /// Sequences that may wait beside them.
    pub(crate) max_queue: usize,
    /// Whether prompts with a common beginning share work. Not on a CPU: 0.8.1 never evicts a prefix there
    /// (<https://github.com/EricLBuehler/mistral.rs/issues/1961>), so the memory would grow with every prompt.
    pub(crate) prefix_cache: bool,
}

/// Why a model did not load.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("the tiny model could not be written to {}", path.display())]
    Tiny { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Engine(String),
}

/// Loads the model. Blocks the thread meanwhile, so call it on a separate one.
pub(crate) async fn load(source: &Source, options: &Options, gauges: EngineMetrics) -> Result<Engine, LoadError> {
    let built = match source {
        Source::Tiny => {
            let path = crate::tiny::default_cache();
            let directory = crate::tiny::ensure_in(&path)
                .or_else(|_| crate::tiny::ensure_in(&std::env::temp_dir().join("qwen-server")))
                .map_err(|source| LoadError::Tiny { path, source })?;
            // On a CPU, half of the time would be spent converting F16.
            text_pipeline(&directory.to_string_lossy(), ModelDType::F32, options).await
        }
        Source::Directory(path) => text_pipeline(&path.to_string_lossy(), ModelDType::Auto, options).await,
        Source::HuggingFace(id) => text_pipeline(id, ModelDType::Auto, options).await,
        Source::Gguf { location, file } => {
            let mut builder = GgufModelBuilder::new(location, vec![file]).with_max_num_seqs(options.max_seqs);
            if let Some(paged) = paged_attention()? {
                builder = builder.with_paged_attn(paged);
            }
            build_gguf_pipeline(builder).await.map_err(|error| describe(&format!("{error:#}")))
        }
    };
    let (pipeline, scheduler, _) = built?;

    let (facts, on_cpu) = {
        let pipeline = pipeline.lock().await;
        let metadata = pipeline.get_metadata();
        let tokenizer = pipeline.tokenizer();
        let id = |tag: &str| tokenizer.as_ref().and_then(|tokenizer| tokenizer.token_to_id(tag));
        let facts = Facts {
            context_length: metadata.max_seq_len,
            has_chat_template: pipeline.get_chat_template().is_some_and(|template| template.has_chat_template()),
            defaults: pipeline.generation_defaults().unwrap_or_default(),
            ends: metadata.eos_tok.clone().into(),
            think_tags: id("<think>").zip(id("</think>")).map(|(open, close)| ThinkTags { open, close }),
            length: LengthGuard::new(move |text| {
                let encoding = tokenizer.as_ref().and_then(|tokenizer| tokenizer.encode_fast(text, false).ok());
                encoding.map_or(0, |encoding| encoding.len())
            }),
        };
        (facts, pipeline.device().is_cpu())
    };
    let runner = MistralRsBuilder::new(pipeline, scheduler, false, None)
        .with_no_prefix_cache(on_cpu || !options.prefix_cache)
        .with_prefix_cache_n(CACHED_PREFIXES)
        .build()
        .await;
    Ok(Engine::new(runner, facts, gauges, options))
}

async fn text_pipeline(model: &str, dtype: ModelDType, options: &Options) -> Result<Built, LoadError> {
    let mut builder = TextModelBuilder::new(model).with_dtype(dtype).with_max_num_seqs(options.max_seqs);
    if let Some(paged) = paged_attention()? {
        builder = builder.with_paged_attn(paged);
    }
    build_text_pipeline(builder).await.map_err(|error| describe(&format!("{error:#}")))
}

/// The result of mistral.rs: the pipeline, its scheduler's configuration, and parts that are not needed.
type Built = (
    std::sync::Arc<tokio::sync::Mutex<dyn mistralrs::core::Pipeline>>,
    mistralrs::SchedulerConfig,
    mistralrs::core::AddModelConfig,
);

/// Only on a GPU; there are no such kernels for CPUs.
fn paged_attention() -> Result<Option<mistralrs::PagedAttentionConfig>, LoadError> {
    paged_attn_supported()
        .then(|| PagedAttentionMetaBuilder::default().build())
        .transpose()
        .map_err(|error| describe(&format!("{error:#}")))
}

fn describe(message: &str) -> LoadError {
    LoadError::Engine(super::generation::summary(message))
}
