//! `llm-metrics`: generates what watches a service that llm-metrics measures.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use llm_metrics_monitoring::{generate, promql::Names, slo::Slo};

/// Recording rules, alerts with tests, Alertmanager routes and dashboards for llm-metrics.
#[derive(Parser)]
#[command(version, after_help = "Exit status: 0 done; 1 something was found; 2 the command cannot be carried out.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes everything below a folder
    Generate {
        /// Objectives and thresholds; without it, the defaults
        #[arg(long, value_name = "FILE")]
        slo: Option<PathBuf>,
        /// The first word of the server's metrics, where it is not `llm`
        #[arg(long, default_value = "llm", value_parser = prefix)]
        prefix: String,
        /// The first word of the GPU's metrics, where it is not `gpu`
        #[arg(long, default_value = "gpu", value_parser = prefix)]
        gpu_prefix: String,
        /// The folder, made if need be; files of the same names are replaced
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Write nothing: say which files would change
        #[arg(long)]
        check: bool,
    },
}

/// Why the command ends without having done it.
enum Failure {
    /// What was read is wrong.
    Finding(String),
    /// What was asked cannot be done.
    Usage(String),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
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

fn run(Command::Generate { slo, prefix, gpu_prefix, out, check }: Command) -> Result<(), Failure> {
    let usage = |error: &dyn ToString| Failure::Usage(error.to_string());
    let names = Names::new().prefix(prefix).and_then(|names| names.gpu_prefix(gpu_prefix));
    let names = names.map_err(|error| usage(&error))?;
    let slo = match slo {
        None => Slo::default(),
        Some(path) => {
            let text = fs::read_to_string(&path).map_err(|error| usage(&format!("{}: {error}", path.display())))?;
            Slo::parse(&text).map_err(|error| Failure::Finding(format!("{}: {error}", path.display())))?
        }
    };
    let files = generate::files(&slo, &names).map_err(|error| Failure::Finding(error.to_string()))?;
    if check {
        let (changed, stale): (Vec<_>, Vec<_>) =
            generate::drift(&files, &out).into_iter().partition(|path| files.iter().any(|file| file.path == *path));
        let told = [("out of date; generate them again:", changed), ("no longer generated; remove them:", stale)];
        let told = told.iter().filter(|(_, paths)| !paths.is_empty()).flat_map(|(what, paths)| {
            std::iter::once((*what).to_owned())
                .chain(paths.iter().map(|path| format!("  {}", out.join(path).display())))
        });
        let told: Vec<_> = told.collect();
        return if told.is_empty() { Ok(()) } else { Err(Failure::Finding(told.join("\n"))) };
    }
    generate::write(&files, &out).map_err(|error| usage(&error))?;
    // It is done, whether or not anybody reads this.
    let _ = writeln!(io::stdout(), "{} files below {}", files.len(), out.display());
    Ok(())
}

fn prefix(text: &str) -> Result<String, llm_metrics::catalog::InvalidPrefix> {
    llm_metrics::catalog::Naming::new().prefix(text).map(|_| text.to_owned())
}
