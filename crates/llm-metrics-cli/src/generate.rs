//! `llm-metrics generate`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use llm_metrics_monitoring::{Names, generate, slo::Slo};

use crate::{Failure, prefix, read_slo};

/// Generates rules, alerts, dashboards, runbooks and Kubernetes manifests
#[derive(Args)]
pub(crate) struct Generate {
    /// Read the objectives and thresholds from this file [default: the built-in ones]
    #[arg(long, value_name = "FILE")]
    slo: Option<PathBuf>,
    /// The prefix of the names of the server's metrics
    #[arg(long, default_value = "llm", value_parser = prefix)]
    prefix: String,
    /// The prefix of the names of the GPU metrics
    #[arg(long, default_value = "gpu", value_parser = prefix)]
    gpu_prefix: String,
    /// The folder to write to, created if it does not exist; existing files of the same names are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write nothing; list the files that are out of date, with exit status 1
    #[arg(long)]
    check: bool,
}

impl Generate {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let names = Names::new().prefix(self.prefix).and_then(|names| names.gpu_prefix(self.gpu_prefix));
        let names = names.map_err(Failure::usage)?;
        let slo = self.slo.map_or_else(|| Ok(Slo::default()), |path| read_slo(&path))?;
        let files = generate::files(&slo, &names).map_err(Failure::finding)?;
        if self.check {
            return check(&files, &self.out);
        }
        generate::write(&files, &self.out).map_err(Failure::usage)?;
        // The files are written, even if nobody reads standard output.
        let _ = writeln!(io::stdout(), "{} files below {}", files.len(), self.out.display());
        Ok(())
    }
}

fn check(files: &[generate::File], out: &Path) -> Result<(), Failure> {
    let (changed, stale): (Vec<_>, Vec<_>) =
        generate::drift(files, out).into_iter().partition(|path| files.iter().any(|file| file.path == *path));
    let problems = [("out of date; generate them again:", changed), ("no longer generated; remove them:", stale)];
    let lines = problems.iter().filter(|(_, paths)| !paths.is_empty()).flat_map(|(what, paths)| {
        std::iter::once((*what).to_owned()).chain(paths.iter().map(|path| format!("  {}", out.join(path).display())))
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { Ok(()) } else { Err(Failure::Finding(lines.join("\n"))) }
}
