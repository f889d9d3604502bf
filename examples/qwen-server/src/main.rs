//! A server for Qwen models: mistral.rs inside, the OpenAI API outside, llm-metrics around it.
//!
//! `cargo run -p qwen-server` serves a tiny model without any download. See the README beside this crate.

#![forbid(unsafe_code)]

mod api;
mod cli;
mod debug;
mod engine;
mod health;
mod run;
mod server;
mod slo;
mod telemetry;
mod tiny;

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,mistralrs_core=warn,mistralrs_quant=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("this should not have happened: {panic}")));

    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run::run(args));
    // A model that is still loading cannot be interrupted, and must not hold up the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
