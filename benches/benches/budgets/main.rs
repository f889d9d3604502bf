//! All costs in units of one cached counter increment in the same run, compared with those of alternatives.
//!
//! `cargo bench -p llm-metrics-benches --bench budgets -- --check` fails when one is missed.

#![forbid(unsafe_code)]

mod cases;
mod peers;
mod protocols;
mod table;

use std::{error::Error, process::ExitCode};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    // As in criterion: `cargo test --benches` only checks that it runs.
    let rounds = if has("--bench") { 300 } else { 2 };
    let rows = cases::all(rounds)?;
    print!("{}", table::render(&rows));
    let missed = rows.iter().filter(|row| row.kept() == Some(false)).count();
    Ok(if has("--check") && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
