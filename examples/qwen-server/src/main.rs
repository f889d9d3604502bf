//! A server for Qwen models: mistral.rs inside, the APIs of OpenAI, Anthropic and Ollama outside, llm-metrics around it.
//!
//! `cargo run -p qwen-server` serves a tiny model without any download. See the README beside this crate.

#![forbid(unsafe_code)]

mod api;
mod cli;
mod debug;
mod demo;
mod engine;
mod health;
mod run;
mod server;
mod slo;
mod spans;
mod telemetry;
mod tiny;

use std::{error::Error, io::IsTerminal, iter::successors, process::ExitCode};

use clap::Parser;
use spans::Spans;
use tracing_subscriber::{EnvFilter, layer::Layer, prelude::*};

fn main() -> ExitCode {
    let args = cli::Args::parse();
    let filter = filter();
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter);
    let spans = Spans::start(args.otlp_endpoint.as_deref());
    let exported = spans.as_ref().ok().and_then(Option::as_ref).map(Spans::layer);
    tracing_subscriber::registry().with(exported).with(log).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("this should not have happened: {panic}")));

    let spans = match spans {
        Ok(spans) => spans,
        Err(error) => {
            return failed(&with_sources(&error));
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(&format!("the runtime could not be started: {error}"));
        }
    };
    let outcome = runtime.block_on(run::run(args, spans.is_some()));
    // Loading a model cannot be interrupted, and must not delay the exit.
    runtime.shutdown_background();
    drop(spans);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&with_sources(&error)),
    }
}

/// The log filter: `RUST_LOG`, unless that is invalid.
fn filter() -> EnvFilter {
    let usual = || EnvFilter::new("info,mistralrs_core=warn,mistralrs_quant=warn,llm_metrics::spans=off");
    let Some(wanted) = std::env::var_os(EnvFilter::DEFAULT_ENV).filter(|wanted| !wanted.is_empty()) else {
        return usual();
    };
    let wanted = wanted.to_string_lossy();
    EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
        eprintln!("warning: RUST_LOG={wanted:?} is invalid ({error}): the usual is logged");
        usual()
    })
}

/// Prints why it does not run. Not through the log, which may be off.
fn failed(reason: &str) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::FAILURE
}

/// An error with its sources, in one line.
fn with_sources(error: &dyn Error) -> String {
    successors(Some(error), |&error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
