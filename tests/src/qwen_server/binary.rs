//! Finds or builds the binary of the server.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// The binary of the server: the path in `LLM_METRICS_QWEN_SERVER`, or the result of `cargo build -p qwen-server` in the target directory and with
/// the cargo of this test. Cargo is called once per process. A second process that calls it at the same time waits for cargo's own lock.
///
/// With `LLM_METRICS_REQUIRE_TOOLS=1`, the server must already be built: mistral.rs has about 640 crates, and if this build shared none of them with
/// the previous one, every run would compile them twice.
///
/// # Panics
/// If it cannot be built, or if crates of the registry had to be compiled although they should already be compiled.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("LLM_METRICS_QWEN_SERVER") {
        Some(binary) => binary.into(),
        None => {
            let has_to_be_built = std::env::var_os("LLM_METRICS_REQUIRE_TOOLS").is_some_and(|v| v == "1");
            read(&build("qwen-server"), "qwen-server", has_to_be_built)
        }
    })
}

/// The library of the simulated GPU driver, for `NVML_LIB_PATH`.
///
/// # Panics
/// If it cannot be built.
pub fn made_up_driver() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| read(&build("fake-nvml"), "fake_nvml", false))
}

/// Builds a package, and returns cargo's messages.
fn build(package: &str) -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "-p", package, "--message-format=json-render-diagnostics"]).current_dir(workspace);
    if let Some(target) = target_directory() {
        cargo.arg("--target-dir").arg(target);
    }
    for (variable, _) in std::env::vars_os().filter(|(name, _)| is_about_this_crate(name)) {
        cargo.env_remove(variable);
    }
    let built = cargo.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(built.status.success(), "cargo build -p {package} failed; its messages are above");
    String::from_utf8_lossy(&built.stdout).into_owned()
}

/// Variables that cargo sets for tests of this crate, but not for a build from the command line.
fn is_about_this_crate(variable: &OsString) -> bool {
    let name = variable.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| name.starts_with(start))
        || ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"].contains(&&*name)
}

/// The outermost directory above this test that cargo has marked as a target directory; with `--target`, it contains another one. Cargo marks only
/// directories that it creates. Otherwise it is the directory above `debug/deps`.
fn target_directory() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let marked = test.ancestors().filter(|folder| folder.join("CACHEDIR.TAG").is_file()).last();
    marked.or_else(|| test.ancestors().nth(3)).map(Path::to_owned)
}

/// The executable or library of a target, according to cargo's messages about artifacts.
fn read(messages: &str, target: &str, nothing_new: bool) -> PathBuf {
    let (mut made, mut compiled) = (None, Vec::new());
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let package = message["package_id"].as_str().unwrap_or_default();
        if message["fresh"] == false && package.starts_with("registry+") {
            compiled.push(package.rsplit('/').next().unwrap_or(package).to_owned());
        }
        if message["target"]["name"] == target && message["target"]["kind"][0] != "custom-build" {
            made = message["executable"].as_str().or_else(|| message["filenames"][0].as_str()).map(PathBuf::from);
        }
    }
    assert!(
        compiled.is_empty() || !nothing_new,
        "the server was to be built already, and {} crates were compiled again: {compiled:?}",
        compiled.len()
    );
    made.expect("cargo names the file")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = concat!(
        r#"{"reason":"compiler-artifact","package_id":"registry+https://example.org/index#half@2.4.1","target":{"name":"half"},"fresh":FRESH,"executable":null}"#,
        "\n",
        r#"{"reason":"compiler-artifact","package_id":"path+file:///x#qwen-server@0.1.0","target":{"name":"qwen-server","kind":["bin"]},"fresh":false,"executable":"/x/qwen-server"}"#,
        "\n",
        r#"{"reason":"build-finished","success":true}"#,
    );

    #[test]
    fn a_crate_of_the_registry_that_was_compiled_again_is_a_failure_only_if_tools_are_required() {
        let (fresh, compiled) = (MESSAGES.replace("FRESH", "true"), MESSAGES.replace("FRESH", "false"));
        let read = |messages: &str, nothing_new| read(messages, "qwen-server", nothing_new);
        assert_eq!(read(&fresh, true), Path::new("/x/qwen-server"));
        assert_eq!(read(&compiled, false), Path::new("/x/qwen-server"));
        let panic = std::panic::catch_unwind(|| read(&compiled, true)).expect_err("half was compiled");
        assert!(panic.downcast_ref::<String>().is_some_and(|message| message.contains("half@2.4.1")));
    }

    #[test]
    fn tests_run_in_a_target_directory() {
        let target = target_directory().expect("cargo marks its directories");
        assert!(std::env::current_exe().expect("a test").starts_with(target));
    }
}
