//! The command line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;
use llm_metrics::{Objective, QualityChecks};

use crate::{
    engine::{Options, Source, default_max_seqs},
    server::Limits,
};

/// Serves a Qwen with mistral.rs, and truthful Prometheus metrics with llm-metrics.
///
/// Without --model it serves a tiny Qwen3 that it writes itself, so that nothing needs to be downloaded.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// A model directory (config.json, tokenizer.json, *.safetensors) or a Hugging Face id [default: a tiny Qwen3]
    #[arg(long, value_name = "DIRECTORY|ID", env = "QWEN_MODEL")]
    model: Option<String>,

    /// A GGUF file; with --model, the file's name inside that directory or Hugging Face repository
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,

    /// The name that requests use and metrics have [default: from the model]
    #[arg(long, value_name = "NAME")]
    served_model_name: Option<String>,

    /// The address of the API; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", env = "QWEN_LISTEN")]
    pub(crate) listen: SocketAddr,

    /// Serves /metrics and /debug/requests on a separate address, and not with the API
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_addr: Option<SocketAddr>,

    /// Counts requests that meet an objective, such as chat:ttft=500ms,tpot=50ms,duration=10s; may be given several times
    #[arg(long, value_name = "NAME:LIMITS", value_parser = crate::slo::parse)]
    slo: Vec<Objective>,

    /// Sends a span per request to an OpenTelemetry collector at this URL, by OTLP over HTTP: http://localhost:4318. OTEL_EXPORTER_OTLP_ENDPOINT
    /// works, too, and the other OTEL_ variables apply
    #[arg(long, value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,

    /// The timeout of a request including its stream, such as 30s, 500ms or 5m; 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    request_timeout: Duration,

    /// How long requests may continue after Ctrl-C or SIGTERM
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,

    /// The maximum number of running sequences [default: 16 with paged attention, which needs a GPU, else 4]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_seqs: Option<usize>,

    /// The maximum number of waiting sequences; further requests get a 503
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_queue: usize,

    /// The maximum number of tokens of a choice [default: what fits the context]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_tokens: Option<usize>,

    /// The maximum size of a request body, such as 512k or 2m; a larger one gets a 413
    #[arg(long, value_name = "SIZE", default_value = "2m", value_parser = size)]
    body_limit: usize,

    /// Answers a message that begins with `/demo NAME` with a demonstration of this name in the README, each with one kind of error: to see the
    /// metrics of output quality, not for production
    #[arg(long)]
    pub(crate) demo: bool,

    /// Does not look for GPUs; by default, their metrics exist as soon as a driver is available
    #[arg(long)]
    no_gpu: bool,

    /// Does not reuse the KV cache for prompts with a common beginning; on a CPU it is never reused, because it would grow without limit
    #[arg(long)]
    no_prefix_cache: bool,
}

/// What to serve, and under which name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) source: Source,
    pub(crate) name: String,
    pub(crate) quantization: String,
}

/// Why the model's options are invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ModelError {
    #[error("--model {0}: there is no such directory, and it is not a Hugging Face id like Qwen/Qwen3-0.6B")]
    NotFound(String),
    #[error("--model {directory}: there is no {file} in it")]
    Incomplete { directory: String, file: &'static str },
    #[error("--gguf {0}: there is no such file")]
    NoSuchFile(String),
    #[error("--gguf {0}: this is not a GGUF file")]
    NotGguf(String),
}

impl Args {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            request_timeout: Some(self.request_timeout).filter(|limit| !limit.is_zero()),
            max_tokens: self.max_tokens,
            body: self.body_limit,
        }
    }

    pub(crate) fn objectives(&self) -> &[Objective] {
        &self.slo
    }

    pub(crate) fn watches_gpus(&self) -> bool {
        !self.no_gpu
    }

    /// The engine enforces schemas, so there is nothing to check; demonstrations do not.
    pub(crate) fn checks(&self) -> QualityChecks {
        QualityChecks::all().json_schema(self.demo)
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            max_seqs: self.max_seqs.unwrap_or_else(default_max_seqs),
            max_queue: self.max_queue,
            prefix_cache: !self.no_prefix_cache,
        }
    }

    /// Interprets `--model` and `--gguf`, without loading anything.
    pub(crate) fn model(&self) -> Result<Model, ModelError> {
        let (source, name, quantization) = match (&self.model, &self.gguf) {
            (None, None) => (Source::Tiny, crate::tiny::NAME.to_owned(), "none".to_owned()),
            (None, Some(path)) => {
                let (location, file) = gguf_file(path)?;
                (Source::Gguf { location, file }, last_part(path), gguf_quantization(path))
            }
            (Some(model), Some(file)) => {
                let path = Path::new(model).join(file);
                let source = match directory_or_id(model)? {
                    Source::HuggingFace(location) => Source::Gguf { location, file: file.display().to_string() },
                    _ => gguf_file(&path).map(|(location, file)| Source::Gguf { location, file })?,
                };
                (source, last_part(&path), gguf_quantization(file))
            }
            (Some(model), None) => match directory_or_id(model)? {
                Source::Directory(path) => {
                    complete(&path)?;
                    let quantization = quantization_method(&path);
                    let name = last_part(&path);
                    (Source::Directory(path), name, quantization)
                }
                other => (other, model.clone(), "unknown".to_owned()),
            },
        };
        Ok(Model { source, name: self.served_model_name.clone().unwrap_or(name), quantization })
    }
}

fn directory_or_id(model: &str) -> Result<Source, ModelError> {
    if Path::new(model).is_dir() {
        return Ok(Source::Directory(PathBuf::from(model)));
    }
    let allowed = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match model.split_once('/') {
        Some((owner, name)) if allowed(owner) && allowed(name) => Ok(Source::HuggingFace(model.to_owned())),
        _ => Err(ModelError::NotFound(model.to_owned())),
    }
}

fn complete(directory: &Path) -> Result<(), ModelError> {
    let missing = |file| ModelError::Incomplete { directory: directory.display().to_string(), file };
    for file in ["config.json", "tokenizer.json"] {
        if !directory.join(file).is_file() {
            return Err(missing(file));
        }
    }
    let mut entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let weights = entries.any(|entry| entry.path().extension().is_some_and(|extension| extension == "safetensors"));
    if weights { Ok(()) } else { Err(missing("*.safetensors file")) }
}

/// The directory and the name of a file with a GGUF header.
fn gguf_file(path: &Path) -> Result<(String, String), ModelError> {
    let shown = path.display().to_string();
    let mut magic = [0; 4];
    let mut file = std::fs::File::open(path).map_err(|_| ModelError::NoSuchFile(shown.clone()))?;
    let begins = std::io::Read::read_exact(&mut file, &mut magic);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ModelError::NoSuchFile(shown));
    };
    if begins.is_err() || &magic != b"GGUF" {
        return Err(ModelError::NotGguf(shown));
    }
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    Ok((directory.display().to_string(), name.to_string_lossy().into_owned()))
}

/// The name of a directory, or of a file without its extension.
fn last_part(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// `Q4_K_M` of `Qwen3-4B-Q4_K_M.gguf`.
fn gguf_quantization(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let part = stem.rsplit(['-', '.']).next().unwrap_or_default();
    let looks_right =
        part.starts_with(['Q', 'q', 'I', 'i', 'F', 'f', 'B', 'b']) && part.contains(|c: char| c.is_ascii_digit());
    if looks_right { part.to_owned() } else { "gguf".to_owned() }
}

/// `quantization_config.quant_method` of `config.json`.
fn quantization_method(directory: &Path) -> String {
    let config = std::fs::read(directory.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    config["quantization_config"]["quant_method"].as_str().unwrap_or("none").to_owned()
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a number of at least 1".to_owned())
}

/// `500ms`, `30s`, `5m`, `1h`, or plain seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("must be a time like 500ms, 30s or 5m".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "must be a time like 500ms, 30s or 5m".to_owned())?;
    // A year is practically unlimited, and far from the limits of an `Instant`.
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|time| *time <= Duration::from_secs(365 * 24 * 3600))
        .ok_or_else(|| "must be at most a year".to_owned())
}

/// `4096`, `512k`, `2m`.
fn size(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let (number, factor) = match (lower.strip_suffix('k'), lower.strip_suffix('m')) {
        (Some(number), _) => (number, 1 << 10),
        (_, Some(number)) => (number, 1 << 20),
        _ => (lower.as_str(), 1),
    };
    let number: Option<usize> = number.parse().ok().filter(|n| *n > 0);
    number.and_then(|n| n.checked_mul(factor)).ok_or_else(|| "must be a size like 4096, 512k or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(arguments: &[&str]) -> Result<Model, ModelError> {
        Args::try_parse_from([&["qwen-server"], arguments].concat()).unwrap().model()
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_arguments_serve_the_tiny_model() {
        let model = model(&[]).unwrap();
        assert_eq!((model.source, model.name.as_str()), (Source::Tiny, "Qwen3-tiny"));
    }

    #[test]
    fn an_id_is_served_under_its_name_by_default() {
        let id = "Qwen/Qwen3-4B-Instruct-2507";
        assert_eq!(model(&["--model", id]).unwrap().name, id);
        assert_eq!(model(&["--model", id, "--served-model-name", "qwen"]).unwrap().name, "qwen");
    }

    #[test]
    fn a_name_that_is_neither_a_directory_nor_an_id_is_rejected() {
        for wrong in ["qwen", "./qwen", "/no/such/dir", "a/b/c", "../x", "Qwen/"] {
            assert_eq!(model(&["--model", wrong]), Err(ModelError::NotFound(wrong.into())));
        }
    }

    #[test]
    fn an_incomplete_directory_names_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let missing = |file| Err(ModelError::Incomplete { directory: path.into(), file });
        assert_eq!(model(&["--model", path]), missing("config.json"));
        std::fs::write(directory.path().join("config.json"), "{}").unwrap();
        assert_eq!(model(&["--model", path]), missing("tokenizer.json"));
        std::fs::write(directory.path().join("tokenizer.json"), "{}").unwrap();
        assert_eq!(model(&["--model", path]), missing("*.safetensors file"));
    }

    #[test]
    fn a_gguf_file_must_be_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Qwen3-4B-Q4_K_M.gguf");
        let shown = path.display().to_string();
        assert_eq!(model(&["--gguf", &shown]), Err(ModelError::NoSuchFile(shown.clone())));
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(model(&["--gguf", &shown]), Err(ModelError::NotGguf(shown.clone())));
        std::fs::write(&path, "GGUF....").unwrap();
        let model = model(&["--gguf", &shown]).unwrap();
        assert_eq!((model.name.as_str(), model.quantization.as_str()), ("Qwen3-4B-Q4_K_M", "Q4_K_M"));
    }

    #[test]
    fn times_and_sizes_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(size("2M"), Ok(2 << 20));
        for wrong in ["", "s", "-1s", "5 minutes", "1e99", "9999999h"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "0", "k", "-1", "2g", "99999999999999999999m"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }
}
