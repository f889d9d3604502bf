//! Other programs. If a program is missing, the tests that need it print that and pass, unless `LLM_METRICS_REQUIRE_TOOLS=1` is set.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// A command that runs the program, if it is installed.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found: Option<PathBuf> =
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let required = std::env::var_os("LLM_METRICS_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!required, "required: {name} is not in PATH (.ci/install-tools installs it)");
        eprintln!("SKIPPED: {name} is not in PATH (.ci/install-tools installs it)");
    }
    found.map(Command::new)
}

/// The output of a program: standard output and standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
