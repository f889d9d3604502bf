//! The subcommands that read results: `apply`, `compare` and `report`.

use std::path::{Path, PathBuf};

use clap::Args;
use llm_metrics_baseline::{
    Baseline,
    apply::{self, ApplyError, HeadRoom, Scope},
    compare::{self, ChangeKind, Sensitivity},
    report,
};

use super::files;
use crate::{Failure, read};

/// Derives objectives and alert thresholds from a run, and writes them to slo.yaml
#[derive(Args)]
pub(super) struct Apply {
    /// The results of the run (baseline.json)
    baseline: PathBuf,
    /// The slo.yaml to update or create; settings that the run did not measure are kept
    #[arg(long, value_name = "FILE")]
    slo: PathBuf,
    /// Set objectives to this multiple of the measurement, rounded up to the next bucket bound
    #[arg(long, default_value_t = 1.25, value_parser = at_least_one, value_name = "TIMES")]
    head_room: f64,
    /// Set alert thresholds to this multiple of the measurement, rounded up likewise
    #[arg(long, default_value_t = 1.5, value_parser = at_least_one, value_name = "TIMES")]
    alert_head_room: f64,
    /// Write an override for the measured model only (without replicas and GPUs, which are not per model)
    #[arg(long)]
    for_model: bool,
    /// Print the changes without writing them
    #[arg(long)]
    dry_run: bool,
}

impl Apply {
    pub(super) fn run(self) -> Result<(), Failure> {
        let baseline = read_baseline(&self.baseline)?;
        let text = if self.slo.exists() { read(&self.slo)? } else { String::new() };
        let scope = if self.for_model { Scope::Model } else { Scope::All };
        let mut room = HeadRoom::default();
        (room.objectives, room.alerts) = (self.head_room, self.alert_head_room);
        let applied = apply::apply(&baseline, &text, scope, &room).map_err(|error| {
            let path = if matches!(error, ApplyError::NothingHeld) { &self.baseline } else { &self.slo };
            Failure::Finding(Failure::of(path, error))
        })?;
        let lines = applied.proposals.iter().map(|proposal| {
            let was = if proposal.now == proposal.value { String::new() } else { format!(" (was {})", proposal.now) };
            format!("{}: {}{was}\n    {}\n", proposal.field, proposal.value, proposal.reason)
        });
        let lines = lines.collect::<String>();
        let findings = baseline.findings.iter().map(|finding| format!("! Finding of the run: {finding}\n"));
        files::print(&(lines + &findings.collect::<String>()));
        if !self.dry_run {
            files::write(&self.slo, &applied.text)?;
            files::print(&format!(
                "{0}; rules, alerts and dashboards follow with: llm-metrics generate --slo {0} --out DIR\n",
                self.slo.display()
            ));
        }
        Ok(())
    }
}

/// Compares two runs; exit status 1 if there is a regression
#[derive(Args)]
pub(super) struct Compare {
    /// The results of the earlier run
    old: PathBuf,
    /// The results of the later run
    new: PathBuf,
    /// Ignore changes up to this share
    #[arg(long, default_value_t = 0.075, value_parser = share, value_name = "SHARE")]
    tolerance: f64,
    /// The probability of reporting a change that is only random
    #[arg(long, default_value_t = 0.01, value_parser = share, value_name = "SHARE")]
    significance: f64,
}

impl Compare {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (old, new) = (read_baseline(&self.old)?, read_baseline(&self.new)?);
        let mut sensitivity = Sensitivity::default();
        (sensitivity.tolerance, sensitivity.significance) = (self.tolerance, self.significance);
        let report = compare::compare(&old, &new, &sensitivity).map_err(Failure::usage)?;
        let mut text = String::new();
        for change in &report.changes {
            let mark = match change.kind {
                ChangeKind::Regression => "worse  ",
                ChangeKind::Improvement => "better ",
                _ => "       ",
            };
            text += &format!("{mark}{change}\n");
        }
        text.extend(report.notes.iter().map(|note| format!("! {note}\n")));
        files::print(&text);
        if report.server_failed {
            return Err(Failure::Finding("the server failed in the new run and not in the old one".to_owned()));
        }
        match report.regressions().count() {
            0 => Ok(()),
            worse => Err(Failure::Finding(format!("{worse} of {} values are worse than before", report.changes.len()))),
        }
    }
}

/// Writes the HTML report of a baseline.json
#[derive(Args)]
pub(super) struct Report {
    /// The results of the run (baseline.json)
    baseline: PathBuf,
    /// The HTML file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Report {
    pub(super) fn run(self) -> Result<(), Failure> {
        files::write(&self.out, &report::html(&read_baseline(&self.baseline)?))
    }
}

fn read_baseline(path: &Path) -> Result<Baseline, Failure> {
    Baseline::parse(&read(path)?).map_err(|error| Failure::Usage(Failure::of(path, error)))
}

fn at_least_one(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| (1.0..=100.0).contains(value));
    value.ok_or_else(|| "give a number between 1 and 100".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|value| *value > 0.0 && *value < 1.0);
    value.ok_or_else(|| "give a number between 0 and 1, such as 0.05 for 5 %".to_owned())
}
