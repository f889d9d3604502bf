//! Other programs. If a program is missing, the tests that need it print that and pass, unless `LLM_METRICS_REQUIRE_TOOLS=1` is set.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program that was found.
#[derive(Clone, Debug)]
pub struct Tool(PathBuf);

impl Tool {
    /// A command that runs the program.
    #[must_use]
    pub fn command(&self) -> Command {
        Command::new(&self.0)
    }
}

/// Finds a program in `PATH`. Debian gives some programs other names than their authors do: any of the names is accepted.
///
/// # Panics
/// If it is missing and required.
#[must_use]
pub fn tool(name: &str) -> Option<Tool> {
    let (names, package): (&[&str], _) = match name {
        "alertmanager" => (&["alertmanager", "prometheus-alertmanager"], "prometheus-alertmanager"),
        "amtool" => (&["amtool"], "prometheus-alertmanager"),
        "node" => (&["node", "nodejs"], "nodejs"),
        "node_exporter" => (&["node_exporter", "prometheus-node-exporter"], "prometheus-node-exporter"),
        "pushgateway" => (&["pushgateway", "prometheus-pushgateway"], "prometheus-pushgateway"),
        "victoria-metrics" => (&["victoria-metrics", "victoria-metrics-prod"], "victoria-metrics"),
        _ => (&[name], "prometheus"),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = || std::env::split_paths(&path);
    let found =
        names.iter().flat_map(|name| folders().map(move |folder| folder.join(name))).find(|file| file.is_file());
    found.map(Tool).or_else(|| missing(&format!("{name} is not in PATH (Debian: apt-get install {package})")))
}

/// Finds a Python with PyPI's `prometheus_client`; see [`python_with`].
///
/// # Panics
/// If it is missing and required.
#[must_use]
pub fn python_with_client() -> Option<Tool> {
    python_with(&["prometheus_client"])
}

/// Finds a Python with these modules: the one in `LLM_METRICS_PYTHON`, otherwise `python3`.
///
/// # Panics
/// If it is missing and required.
#[must_use]
pub fn python_with(modules: &[&str]) -> Option<Tool> {
    let python = PathBuf::from(std::env::var_os("LLM_METRICS_PYTHON").unwrap_or_else(|| "python3".into()));
    let modules = modules.join(", ");
    let imports = Command::new(&python).args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
    if imports.is_ok_and(|status| status.success()) {
        return Some(Tool(python));
    }
    missing(&format!("no Python with {modules} (set LLM_METRICS_PYTHON to one that has it)"))
}

/// Finds Node.js, if the npm packages of that folder are installed.
///
/// # Panics
/// If one of them is missing and required.
#[must_use]
pub fn node_with_packages(folder: &Path) -> Option<Tool> {
    let node = tool("node")?;
    if folder.join("node_modules").is_dir() {
        return Some(node);
    }
    missing(&format!("the packages of {} are not installed (npm ci)", folder.display()))
}

fn missing<T>(what: &str) -> Option<T> {
    assert!(std::env::var_os("LLM_METRICS_REQUIRE_TOOLS").is_none_or(|value| value != "1"), "required: {what}");
    eprintln!("SKIPPED: {what}");
    None
}
