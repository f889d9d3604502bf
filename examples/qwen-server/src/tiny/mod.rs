//! A tiny but complete Qwen3, generated at the start, so that the server runs without a download.
//!
//! It is a real `Qwen3ForCausalLM` directory in the Hugging Face layout (two layers, hidden size 256, 2 MB) that mistral.rs loads like any other:
//! tokenizer, chat template with thinking and tools, KV cache, stop tokens. Its weights are neither trained nor random: they contain the word
//! statistics of [`corpus`], so it generates readable English, and the answer of greedy decoding is known.

mod chain;
mod corpus;
mod safetensors;
mod tokenizer;
mod weights;

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::json;
use tokenizer::Vocabulary;

/// The name under which the tiny model is served.
pub(crate) const NAME: &str = "Qwen3-tiny";

/// The model's dimensions.
mod shape {
    pub(super) const LAYERS: usize = 2;
    pub(super) const HIDDEN: usize = 256;
    pub(super) const INTERMEDIATE: usize = 256;
    pub(super) const HEADS: usize = 4;
    pub(super) const KV_HEADS: usize = 2;
    pub(super) const HEAD_DIM: usize = 32;
    pub(super) const CONTEXT: usize = 2048;
}

/// A file of the model directory.
struct File {
    name: &'static str,
    contents: Vec<u8>,
}

/// Makes sure that the model exists in its own directory under `cache`, and returns that directory.
///
/// The directory's name contains a hash of its contents, and each file is written atomically, so several processes may do this at the same time.
pub(crate) fn ensure_in(cache: &Path) -> io::Result<PathBuf> {
    let files = files();
    let directory = cache.join(format!("qwen3-tiny-{:016x}", fingerprint(&files)));
    std::fs::create_dir_all(&directory)?;
    for file in &files {
        ensure_file(&directory.join(file.name), &file.contents)?;
    }
    Ok(directory)
}

/// The user's cache directory, or the system's temporary one.
pub(crate) fn default_cache() -> PathBuf {
    let user = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .filter(|path| path.is_absolute());
    user.unwrap_or_else(std::env::temp_dir).join("qwen-server")
}

/// Writes to a temporary file and renames it: a reader sees the whole file or none.
fn ensure_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == contents.len() as u64) {
        return Ok(());
    }
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let partial = path.with_extension(format!("{}-{write}.partial", std::process::id()));
    std::fs::write(&partial, contents)?;
    std::fs::rename(&partial, path)
}

fn vocabulary() -> Vocabulary {
    let markup = ["system", "user", "assistant", "\n\n"];
    Vocabulary::train(corpus::ANSWERS.lines().chain(corpus::THOUGHTS.lines()), &markup)
}

fn files() -> Vec<File> {
    let vocabulary = vocabulary();
    let id = |token: &str| vocabulary.id(token).expect("a special token or a corpus word");
    let chain = chain::Chain::over(&vocabulary).expect("the vocabulary was trained on the chain's corpus");
    let (end_of_text, end_of_turn) = (id("<|endoftext|>"), id("<|im_end|>"));
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16",
        "vocab_size": vocabulary.rows(), "hidden_size": shape::HIDDEN, "intermediate_size": shape::INTERMEDIATE,
        "num_hidden_layers": shape::LAYERS, "num_attention_heads": shape::HEADS,
        "num_key_value_heads": shape::KV_HEADS, "head_dim": shape::HEAD_DIM, "hidden_act": "silu",
        "max_position_embeddings": shape::CONTEXT, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_scaling": null,
        "sliding_window": null, "use_sliding_window": false, "max_window_layers": shape::LAYERS,
        "attention_bias": false, "attention_dropout": 0.0, "tie_word_embeddings": false, "use_cache": true,
        "initializer_range": 0.02, "bos_token_id": end_of_text, "eos_token_id": end_of_turn,
    });
    let generation_config = json!({
        "bos_token_id": end_of_text, "pad_token_id": end_of_text, "eos_token_id": [end_of_turn, end_of_text],
        "do_sample": true, "temperature": 1.0, "top_p": 0.95, "top_k": 20,
    });
    let tokenizer_config = json!({
        "tokenizer_class": "Qwen2Tokenizer", "model_max_length": shape::CONTEXT, "add_bos_token": false,
        "add_prefix_space": false, "bos_token": null, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "unk_token": null, "clean_up_tokenization_spaces": false, "errors": "replace", "split_special_tokens": false,
        "chat_template": include_str!("chat_template.jinja"),
    });
    let text = |name, json: serde_json::Value| File { name, contents: json.to_string().into_bytes() };
    vec![
        text("config.json", config),
        text("generation_config.json", generation_config),
        text("tokenizer.json", vocabulary.to_json()),
        text("tokenizer_config.json", tokenizer_config),
        File { name: "model.safetensors", contents: safetensors::encode(&weights::tensors(&chain, vocabulary.rows())) },
    ]
}

/// FNV-1a, 64 bits.
fn fingerprint(files: &[File]) -> u64 {
    files
        .iter()
        .flat_map(|file| file.name.bytes().chain(file.contents.iter().copied()))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What greedy decoding generates: the reasoning, and the answer.
#[cfg(test)]
pub(crate) fn greedy() -> (String, String) {
    (corpus::GREEDY_THOUGHT.trim_end_matches('.').to_owned(), format!("\n\n{}", corpus::GREEDY_ANSWER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_the_same_every_time() {
        assert_eq!(fingerprint(&files()), fingerprint(&files()));
    }

    #[test]
    fn every_state_has_its_own_direction() {
        let states = chain::Chain::over(&vocabulary()).unwrap().states();
        assert!(states.len() <= shape::HIDDEN, "{} states do not fit", states.len());
    }

    #[test]
    fn processes_that_start_together_do_not_disturb_each_other() {
        let cache = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4).map(|_| scope.spawn(|| ensure_in(cache.path()).unwrap())).collect();
            for writer in writers {
                let directory = writer.join().unwrap();
                for file in files() {
                    assert_eq!(std::fs::read(directory.join(file.name)).unwrap(), file.contents);
                }
            }
        });
    }

    #[test]
    fn a_truncated_file_is_written_again() {
        let cache = tempfile::tempdir().unwrap();
        let path = ensure_in(cache.path()).unwrap().join("model.safetensors");
        let whole = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, b"short").unwrap();
        ensure_in(cache.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
    }
}
