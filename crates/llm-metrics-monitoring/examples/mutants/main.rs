//! Changes rules one by one, and checks whether a test notices. A part of a rule that no test notices could be wrong.
//!
//! ```console
//! $ cargo run -p llm-metrics-monitoring --example mutants                          # every rule
//! $ cargo run -p llm-metrics-monitoring --example mutants -- --changed-since main  # only rules that are not as they are there
//! $ cargo run -p llm-metrics-monitoring --example mutants -- --file gpu.alerts.yml --at-most 100
//! ```
//!
//! Rules and cases are generated from the source, so a case changes together with a constant in the source. The scenarios in `tests/scenarios/` are
//! written by hand, and do not change with it. The exit status is 1 if less than [`ENOUGH`] percent of the changes are noticed. Changes in
//! `equivalent.yml`, which has the reason why no test can notice them, do not count. `promtool` is needed.

mod change;
mod equivalent;
mod rules;
mod run;

use std::{collections::BTreeMap, process::ExitCode};

use change::Mutant;
use equivalent::Equivalents;
use run::{Bench, Noticed};

/// The minimum percentage of changes that tests must notice.
const ENOUGH: f64 = 95.0;

#[derive(Default)]
struct Options {
    changed_since: Option<String>,
    file: Option<String>,
    at_most: Option<usize>,
    verbose: bool,
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).and_then(|options| look(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// Tries the changes. Returns whether enough are noticed, and whether `equivalent.yml` is up to date.
fn look(options: &Options) -> Result<bool, String> {
    let bench = Bench::new()?;
    let equivalents = Equivalents::read()?;
    let changed = options.changed_since.as_deref().map(|revision| bench.rules.changed_since(revision)).transpose()?;
    let of_file = |rule: &rules::Rule| options.file.as_ref().is_none_or(|file| rule.file == *file);
    let mut mutants = change::mutants(&bench.rules, of_file);
    mutants.retain(|mutant| changed.as_ref().is_none_or(|changed| changed.contains(&mutant.rule)));
    let all = mutants.len();
    let whole = options.at_most.is_none_or(|most| all <= most);
    if let Some(most) = options.at_most.filter(|_| !whole) {
        // Evenly spread.
        let mut index = 0;
        mutants.retain(|_| {
            index += 1;
            index * most / all != (index - 1) * most / all
        });
    }
    println!("{all} changes of rules; {} of them are tried", mutants.len());
    let noticed = bench.run(&mutants)?;
    let passes = report(&bench, &mutants, &noticed, &equivalents, options.verbose);
    let stale = if whole && changed.is_none() && options.file.is_none() {
        equivalents.stale(&bench.rules, &mutants, &noticed)
    } else {
        Vec::new()
    };
    for entry in &stale {
        println!("in equivalent.yml, but tests notice this change, or it does not exist: {entry}");
    }
    Ok(passes && stale.is_empty())
}

fn report(bench: &Bench, mutants: &[Mutant], noticed: &Noticed, equivalents: &Equivalents, verbose: bool) -> bool {
    /// Noticed, equivalent, not noticed.
    type Counts = [u32; 3];
    let (mut kinds, mut total): (BTreeMap<&str, Counts>, Counts) = (BTreeMap::new(), [0; 3]);
    for (index, mutant) in mutants.iter().enumerate() {
        let rule = &bench.rules.0[mutant.rule];
        let said = format!("{} {}: {}", rule.file, rule.name, mutant.what);
        let which = match (noticed.get(&index), equivalents.reason(rule, mutant)) {
            (Some(test), _) => {
                if verbose {
                    println!("noticed     {said} ({test})");
                }
                0
            }
            (None, Some(_)) => 1,
            (None, None) => {
                println!("UNNOTICED   {said}\n            {}", mutant.changed["expr"].as_str().unwrap_or_default());
                2
            }
        };
        kinds.entry(mutant.kind).or_default()[which] += 1;
        total[which] += 1;
    }
    println!("\n{:<16} {:>8} {:>10} {:>9}", "change", "noticed", "equivalent", "unnoticed");
    for (kind, [noticed, equivalent, missed]) in
        kinds.iter().map(|(kind, counts)| (*kind, *counts)).chain([("all", total)])
    {
        println!("{kind:<16} {noticed:>8} {equivalent:>10} {missed:>9}");
    }
    let [noticed, _, missed] = total;
    let viable = noticed + missed;
    let share = if viable == 0 { 100.0 } else { f64::from(noticed) * 100.0 / f64::from(viable) };
    println!(
        "{noticed} of {viable} changes that make a difference are noticed: {share:.1} % ({ENOUGH} % are required)"
    );
    share >= ENOUGH
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--changed-since" => options.changed_since = Some(value()?),
            "--file" => options.file = Some(value()?),
            "--at-most" => {
                let most = value()?;
                let most = most.parse().map_err(|_| format!("--at-most {most}: not a number"))?;
                options.at_most = Some(most);
            }
            "--verbose" => options.verbose = true,
            _ => {
                return Err(format!(
                    "{argument}: unknown option; the options are --changed-since REVISION, --file FILE, --at-most N, --verbose"
                ));
            }
        }
    }
    Ok(options)
}
