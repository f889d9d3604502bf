//! `llm-metrics export`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use llm_metrics_monitoring::{Names, openslo, slo::Slo};

use crate::{Failure, prefix, read_slo};

/// Prints the objectives in the format of another tool
#[derive(Args)]
pub(crate) struct Export {
    /// OpenSLO documents (openslo/v1)
    #[arg(long, required = true)]
    openslo: bool,
    /// Read the objectives and thresholds from this file [default: the built-in ones]
    #[arg(long, value_name = "FILE")]
    slo: Option<PathBuf>,
    /// The prefix of the names of the server's metrics
    #[arg(long, default_value = "llm", value_parser = prefix)]
    prefix: String,
}

impl Export {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let names = Names::new().prefix(self.prefix).map_err(Failure::usage)?;
        let slo = self.slo.map_or_else(|| Ok(Slo::default()), |path| read_slo(&path))?;
        let text = openslo::documents(&slo, &names).map_err(Failure::finding)?;
        io::stdout().write_all(text.as_bytes()).map_err(Failure::usage)
    }
}
