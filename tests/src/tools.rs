//! Programs that are not ours. A test that needs one that is not there says so and passes, unless
//! `LLM_METRICS_REQUIRE_TOOLS=1` says that it has to be.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// A program that was found.
#[derive(Clone, Debug)]
pub struct Tool(PathBuf);

impl Tool {
    /// A command that runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        Command::new(&self.0)
    }
}

/// Finds a program in `PATH`. Some are called otherwise by Debian than by their makers: any of the names will do.
///
/// # Panics
/// When it is not there and has to be.
#[must_use]
pub fn tool(name: &str) -> Option<Tool> {
    let (names, package): (&[&str], _) = match name {
        "alertmanager" => (&["alertmanager", "prometheus-alertmanager"], "prometheus-alertmanager"),
        "amtool" => (&["amtool"], "prometheus-alertmanager"),
        "node_exporter" => (&["node_exporter", "prometheus-node-exporter"], "prometheus-node-exporter"),
        "victoria-metrics" => (&["victoria-metrics", "victoria-metrics-prod"], "victoria-metrics"),
        _ => (&[name], "prometheus"),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = || std::env::split_paths(&path);
    let found =
        names.iter().flat_map(|name| folders().map(move |folder| folder.join(name))).find(|file| file.is_file());
    found.map(Tool).or_else(|| missing(&format!("{name} is not in PATH (Debian: apt-get install {package})")))
}

/// Finds a Python that has PyPI's `prometheus_client`: the one that `LLM_METRICS_PYTHON` names, else `python3`.
///
/// # Panics
/// When it is not there and has to be.
#[must_use]
pub fn python_with_client() -> Option<Tool> {
    let python = PathBuf::from(std::env::var_os("LLM_METRICS_PYTHON").unwrap_or_else(|| "python3".into()));
    let imports = Command::new(&python).args(["-c", "import prometheus_client"]).stderr(Stdio::null()).status();
    if imports.is_ok_and(|status| status.success()) {
        return Some(Tool(python));
    }
    missing("no Python with prometheus_client (set LLM_METRICS_PYTHON to one that has it)")
}

fn missing<T>(what: &str) -> Option<T> {
    assert!(std::env::var_os("LLM_METRICS_REQUIRE_TOOLS").is_none_or(|value| value != "1"), "required: {what}");
    eprintln!("SKIPPED: {what}");
    None
}
