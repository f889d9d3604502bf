//! `llm-metrics baseline`.

mod files;
mod options;
mod progress;
mod results;
mod summary;

use clap::{Args, Subcommand};

use crate::Failure;
use options::Options;

/// Load-tests an LLM server, finds the highest rate it sustains, and writes the results
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Baseline {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    Apply(results::Apply),
    Compare(results::Compare),
    Report(results::Report),
    /// Prints the JSON schema of baseline.json
    Schema,
}

impl Baseline {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            None => self.options.run(),
            Some(Command::Apply(apply)) => apply.run(),
            Some(Command::Compare(compare)) => compare.run(),
            Some(Command::Report(report)) => report.run(),
            Some(Command::Schema) => {
                files::print(&llm_metrics_baseline::Baseline::json_schema());
                Ok(())
            }
        }
    }
}
