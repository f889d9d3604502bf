//! `llm-metrics`: load tests of LLM servers, and the rules, alerts and dashboards generated for them.

#![forbid(unsafe_code)]

mod baseline;
mod export;
mod generate;

use std::{error::Error, fs, iter, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};
use llm_metrics_monitoring::slo::Slo;

/// Load tests of LLM servers; recording rules, alerts with tests, Alertmanager routes and dashboards for llm-metrics.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 success; 1 a check failed or a file has errors; 2 the command could not run."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Generate(generate::Generate),
    Baseline(Box<baseline::Baseline>),
    Export(export::Export),
}

/// Why the command failed.
#[derive(Debug)]
enum Failure {
    /// A file has errors, or a check failed: exit status 1.
    Finding(String),
    /// The command could not run: exit status 2.
    Usage(String),
}

impl Failure {
    fn usage(error: impl Error + 'static) -> Self {
        Self::Usage(with_causes(&error))
    }

    fn finding(error: impl Error + 'static) -> Self {
        Self::Finding(with_causes(&error))
    }

    fn of(path: &Path, error: impl Error + 'static) -> String {
        format!("{}: {}", path.display(), with_causes(&error))
    }
}

/// Messages do not contain their sources.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    iter::successors(Some(error), |error| (**error).source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Generate(generate) => generate.run(),
        Command::Baseline(baseline) => baseline.run(),
        Command::Export(export) => export.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Finding(message)) => {
            eprintln!("{message}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn prefix(text: &str) -> Result<String, llm_metrics::catalog::InvalidPrefix> {
    llm_metrics::catalog::Naming::new().prefix(text).map(|_| text.to_owned())
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::Usage(Failure::of(path, error)))
}

fn read_slo(path: &Path) -> Result<Slo, Failure> {
    Slo::parse(&read(path)?).map_err(|error| Failure::Finding(Failure::of(path, error)))
}
