//! The command `llm-metrics`: its exit status, its messages, and that it leaves no incomplete files.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_llm-metrics")).current_dir(folder).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn it_generates_into_a_folder_that_does_not_exist_and_finds_it_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &["generate", "--check", "--out", "new/monitoring"]).0, Some(1));
    assert!(!folder.path().join("new").exists());
    assert_eq!(run(folder.path(), &["generate", "--out", "new/monitoring"]).0, Some(0));
    assert_eq!(run(folder.path(), &["generate", "--check", "--out", "new/monitoring"]).0, Some(0));
    let hidden = fs::read_dir(folder.path().join("new/monitoring")).unwrap();
    assert!(hidden.flatten().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')));
}

#[test]
fn files_that_are_no_longer_generated_are_listed_and_other_files_are_not() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &["generate", "--out", "."]).0, Some(0));
    fs::write(folder.path().join("rules/mine.yml"), "groups: []\n").unwrap();
    assert_eq!(run(folder.path(), &["generate", "--check", "--out", "."]).0, Some(0));
    fs::copy(folder.path().join("rules/gpu.rules.yml"), folder.path().join("rules/old.rules.yml")).unwrap();
    let (status, message) = run(folder.path(), &["generate", "--check", "--out", "."]);
    assert_eq!(status, Some(1));
    assert!(message.contains("old.rules.yml") && !message.contains("mine.yml"), "{message}");
    assert!(
        message.contains("remove") && !message.contains("generate them again"),
        "generating leaves it there: {message}"
    );
}

#[test]
fn another_prefix_is_in_the_names() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), &["generate", "--prefix", "qwen", "--out", "."]).0, Some(0));
    assert_eq!(run(folder.path(), &["generate", "--prefix", "qwen", "--check", "--out", "."]).0, Some(0));
}

#[test]
fn a_finding_in_the_settings_ends_with_1_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("slo.yaml"), "objectives: {availability: 99.5}\n").unwrap();
    let (status, message) = run(folder.path(), &["generate", "--slo", "slo.yaml", "--out", "out"]);
    assert_eq!(status, Some(1), "{message}");
    assert!(message.contains("slo.yaml") && message.contains("objectives.availability"), "{message}");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn an_impossible_command_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for arguments in [
        &["generate"][..],
        &["generate", "--out", "out", "--slo", "missing.yaml"],
        &["generate", "--out", "out", "--prefix", "Qwen"],
        &["generate", "--out", "file"],
        &["draw"],
    ] {
        let (status, message) = run(folder.path(), arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {message}");
        assert!(!message.is_empty());
    }
    assert!(!folder.path().join("out").exists());
}

#[test]
fn an_obstacle_is_found_before_any_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("rules/gpu.rules.yml")).unwrap();
    let (status, message) = run(folder.path(), &["generate", "--out", "."]);
    assert_eq!(status, Some(2), "{message}");
    assert!(message.contains("gpu.rules.yml"), "{message}");
    assert!(!folder.path().join("alertmanager/alertmanager.yml").exists(), "nothing was written");
}

#[test]
fn it_finishes_even_if_its_output_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-metrics"));
    let status = command.current_dir(folder.path()).args(["generate", "--out", "."]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn objectives_are_exported_as_openslo() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("slo.yaml"), "service: {name: chat}\nobjectives: {availability: 0.99}\n").unwrap();
    let (status, text) = run(folder.path(), &["export", "--openslo", "--slo", "slo.yaml", "--prefix", "qwen"]);
    assert_eq!(status, Some(0), "{text}");
    for part in ["name: chat-availability", "target: 0.99", "qwen_requests_total", "kind: DataSource"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(run(folder.path(), &["export"]).0, Some(2), "it has to say as what");
}
