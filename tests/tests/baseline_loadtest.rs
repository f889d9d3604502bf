//! The scripts for Locust and k6 work as their README says.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use llm_metrics_tests::{
    python_with,
    qwen_server::{QwenServer, TINY},
    tool,
};
use serde_json::Value;

fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/loadtest")
}

/// Requests and failures by name.
type Statistics = BTreeMap<String, (u64, u64)>;

fn locust(host: &str, settings: &[(&str, &str)]) -> Option<(bool, Statistics)> {
    let python = python_with(&["locust"])?;
    let folder = tempfile::tempdir().expect("a folder");
    let ran = python
        .command()
        .args(["-m", "locust", "--headless", "--only-summary", "--host", host, "--json-file"])
        .arg(folder.path().join("statistics"))
        .arg("-f")
        .arg(scripts().join("locustfile.py"))
        .envs(settings.iter().copied())
        .output()
        .expect("Locust runs");
    let text = fs::read_to_string(folder.path().join("statistics.json"));
    let rows: Vec<Value> = serde_json::from_str(&text.expect("statistics")).expect("JSON");
    let count = |row: &Value, key: &str| row[key].as_u64().expect("a count");
    let rows = rows.iter().map(|row| {
        let name = row["name"].as_str().expect("a name").to_owned();
        (name, (count(row, "num_requests"), count(row, "num_failures")))
    });
    Some((ran.status.success(), rows.collect()))
}

#[tokio::test]
async fn locust_times_streams_and_counts_what_the_server_counts() {
    let server = QwenServer::start(&[]).await;
    let host = format!("http://{}", server.api);
    let settings = [("THINKING", "both"), ("MAX_TOKENS", "16"), ("STEPS", "1x6,2x6")];
    let running = tokio::task::spawn_blocking(move || locust(&host, &settings));
    let Some((succeeded, statistics)) = running.await.expect("it ends") else { return };
    let row = |name: &str| *statistics.get(name).unwrap_or_else(|| panic!("no {name}: {statistics:?}"));
    let (asked, failed) = row("chat");
    assert!(succeeded && asked > 1 && failed == 0, "{statistics:?}");
    let both = |name: &str| row(&format!("{name}, thinking")).0 + row(&format!("{name}, not thinking")).0;
    assert_eq!((both("first token"), both("whole answer")), (asked, asked));

    // Requests that were in flight when Locust ended were cancelled, or answered without a client.
    let page = server.settled().await;
    let ended = |outcome| page.value("llm_requests_total", &[("model", TINY), ("outcome", outcome)]);
    let left = ended("cancelled") + ended("success") - asked as f64;
    assert!((0.0..=2.0).contains(&left) && ended("success") >= asked as f64, "{left}");
    assert_eq!(ended("error") + ended("rejected"), 0.0);
}

#[tokio::test]
async fn locust_reports_failures() {
    // There is no listener on this port.
    let settings = [("MODEL", "m"), ("STEPS", "1x2")];
    let running = tokio::task::spawn_blocking(move || locust("http://127.0.0.1:9", &settings));
    let Some((succeeded, statistics)) = running.await.expect("it ends") else { return };
    let (asked, failed) = statistics["chat"];
    assert!(!succeeded && asked > 0 && failed == asked, "{statistics:?}");
}

#[test]
fn the_script_of_k6_can_be_read() {
    let k6 = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("k6").is_file()));
    if k6 {
        let read = Command::new("k6").arg("inspect").arg(scripts().join("k6.js")).output().expect("k6 runs");
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        return;
    }
    // Without k6, only the syntax is checked: Node.js treats a file with this name as a module.
    let Some(node) = tool("node") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let script = fs::read_to_string(scripts().join("k6.js")).expect("the script");
    let check = |text: &str| {
        let path = folder.path().join("k6.mjs");
        fs::write(&path, text).expect("it can be written");
        node.command().arg("--check").arg(path).output().expect("Node.js runs").status.success()
    };
    assert!(check(&script));
    assert!(!check(&script.replacen("function read(body) {", "function read(body {", 1)), "it looks at the syntax");
}

#[test]
fn prompts_have_the_fields_that_the_scripts_read() {
    let text = fs::read_to_string(scripts().join("prompts.json")).expect("prompts");
    let prompts: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    assert!(prompts.iter().all(|prompt| prompt["prompt"].is_string()));
    assert!(
        prompts.iter().any(|prompt| prompt["json"] == true) && prompts.iter().any(|prompt| prompt["json"].is_null())
    );
}
