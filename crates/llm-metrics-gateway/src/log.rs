//! The log, on standard error.

use std::{
    env::{self, VarError},
    io::{self, IsTerminal, Write},
};

use tracing_subscriber::EnvFilter;

/// Logs as `RUST_LOG` says, by default from `info` on. Prints a warning, at any level, if `RUST_LOG` is probably a mistake.
pub(crate) fn start() {
    let wanted = match env::var(EnvFilter::DEFAULT_ENV) {
        Err(VarError::NotPresent) => None,
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some(text),
        Err(VarError::NotUnicode(text)) => Some(text.to_string_lossy().into_owned()),
    };
    let (filter, invalid) = match wanted.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new("info"), Some(error)),
        None => (EnvFilter::new("info"), None),
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    let Some(wanted) = wanted else { return };
    if let Some(error) = invalid {
        say(&format!("RUST_LOG={wanted:?} is invalid ({error}): using `info`"));
    } else if !logs_errors() && !wanted.contains("off") {
        // A mistyped level is taken as the name of a module.
        say(&format!("RUST_LOG={wanted:?} is neither a level nor a module of the gateway: the gateway logs nothing"));
    }
}

fn logs_errors() -> bool {
    tracing::enabled!(target: "llm_gateway", tracing::Level::ERROR)
        || tracing::enabled!(target: "llm_metrics_gateway", tracing::Level::ERROR)
}

fn say(line: &str) {
    let _ = writeln!(io::stderr(), "warning: {line}");
}
