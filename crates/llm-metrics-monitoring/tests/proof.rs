//! Runs promtool and amtool on the generated files: they are accepted, every alert fires when it should and does not fire otherwise, and a threshold
//! that was changed by hand makes a test fail.

#![allow(missing_docs)]

mod tools;

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
};

use llm_metrics_monitoring::{generate, promql::Names, slo::Slo};
use tempfile::TempDir;
use tools::{said, tool};

fn generated(settings: &str, names: &Names) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    generate::write(&generate::files(&Slo::parse(settings).unwrap(), names).unwrap(), folder.path()).unwrap();
    folder
}

fn files(folder: &Path, suffix: &str) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(suffix)).collect();
    names.sort_unstable();
    assert!(!names.is_empty(), "{suffix}");
    names
}

/// The result of promtool for each test, run in parallel; empty without promtool.
fn test_rules(folder: &Path, tests: &[String]) -> Vec<(String, bool, String)> {
    let start = |test: &String| -> Option<Child> {
        let mut promtool = tool("promtool")?;
        let run = promtool.current_dir(folder).args(["test", "rules", test]);
        Some(run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let running: Vec<_> = tests.iter().filter_map(|test| Some((test.clone(), start(test)?))).collect();
    let end = |(test, child): (String, Child)| {
        let output = child.wait_with_output().unwrap();
        (test, output.status.success(), said(&output))
    };
    running.into_iter().map(end).collect()
}

fn all_hold(folder: &TempDir, suffix: &str) {
    let folder = folder.path().join("rules");
    for (test, held, said) in test_rules(&folder, &files(&folder, suffix)) {
        assert!(held, "{test}: {said}");
    }
}

#[test]
fn prometheus_accepts_every_rule() {
    let Some(mut promtool) = tool("promtool") else { return };
    let folder = generated("", &Names::new().prefix("qwen").unwrap()).keep();
    let rules = [files(&folder.join("rules"), ".rules.yml"), files(&folder.join("rules"), ".alerts.yml")].concat();
    let check = promtool.current_dir(folder.join("rules")).args(["check", "rules", "--lint=all", "--lint-fatal"]);
    let output = check.args(rules).output().unwrap();
    fs::remove_dir_all(folder).unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn every_alert_fires_when_it_should_and_does_not_fire_otherwise() {
    all_hold(&generated("", &Names::new()), ".test.yml");
}

/// Scenarios that are written by hand, with several models, instances and outcomes: the values of all rules, and the alerts from beginning to end.
#[test]
fn the_scenarios_pass_with_the_generated_rules() {
    let folder = generated("", &Names::new());
    let rules = folder.path().join("rules");
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    for file in files(&written, ".test.yml") {
        fs::copy(written.join(&file), rules.join(format!("scenario-{file}"))).unwrap();
    }
    for (test, held, said) in test_rules(
        &rules,
        &files(&rules, ".test.yml").into_iter().filter(|file| file.starts_with("scenario-")).collect::<Vec<_>>(),
    ) {
        assert!(held, "{test}: {said}");
    }
}

/// The value of every recorded rule was calculated by hand.
#[test]
fn every_recorded_rule_is_in_a_scenario() {
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let scenarios: String =
        files(&written, ".test.yml").iter().map(|file| fs::read_to_string(written.join(file)).unwrap()).collect();
    let recording = llm_metrics_monitoring::recording::Recording::new(&Slo::default());
    // These medians over a day are tested by the cases of their alerts.
    let elsewhere = ["job_model:llm_time_to_first_token_seconds:p95_rate5m_median1d"];
    let names = recording.all().map(|rule| rule.name(&Names::new()));
    let missing: Vec<_> =
        names.filter(|name| !scenarios.contains(name.as_str()) && !elsewhere.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Whole numbers, for which `le` has two spellings; several jobs; another prefix; other ratios; labels of targets and alerts; settings by model and
/// job.
#[test]
fn the_tests_pass_with_other_settings() {
    let settings = "\
service: {jobs: [qwen, qwen-canary], by: [cluster, namespace]}
objectives: {availability: 0.9, time_to_first_token: {seconds: 5, objective: 0.9}, inter_token_latency: {seconds: 1}, window_days: 28}
alerts: {duration_p95_seconds: 60, duration_p99_seconds: 300, error_ratio: 0.1, least_failures: 3, least_events: 50, requests_per_second_min: 0}
gpu: {memory_preallocated: true, stale_seconds: 120}
labels: {team: serving}
disable: [LlmSeriesOverflow]
overrides:
  - models: [qwen3-32b, qwen3-30b]
    objectives: {availability: 0.99, time_to_first_token: {seconds: 10}}
    alerts: {duration_p95_seconds: 120, kv_cache_ratio: 0.8}
    labels: {team: research}
  - name: batch
    jobs: [qwen-canary]
    gpu: {memory_preallocated: false, memory_ratio: 0.95}
    disable: [LlmTimeToFirstTokenBudgetBurn]
";
    let folder = generated(settings, &Names::new().prefix("qwen").unwrap().gpu_prefix("qwen_gpu").unwrap());
    let rules = folder.path().join("rules");
    let read = |file: &str| fs::read_to_string(rules.join(file)).unwrap();
    let streams = read("streams.rules.yml");
    assert!(streams.contains(r#"model!~"qwen3-30b|qwen3-32b",le=~"5|5\\.0"}"#), "{streams}");
    assert!(streams.contains("by (cluster, namespace, job, model)"), "{streams}");
    let tests = read("first-token.test.yml");
    assert!(tests.contains("le=\"5\"") && tests.contains("le=\"5.0\""), "both spellings are in the cases");
    let gpu = read("gpu.alerts.yml");
    assert!(gpu.contains("LlmGpuMemoryHigh") && gpu.contains("qwen_gpu_up"), "{gpu}");
    assert!(gpu.contains("job=\"qwen-canary\"} > 0.95"), "only where memory is not taken at the start: {gpu}");
    assert!(!read("targets.alerts.yml").contains("LlmSeriesOverflow"));
    let burns = read("first-token.alerts.yml");
    assert!(burns.contains("job!=\"qwen-canary\"") && !burns.contains("override: batch"), "{burns}");
    let all = ["first-token", "traffic", "quality", "gateway", "gpu", "targets", "outages"];
    for topic in all {
        all_hold(&folder, &format!("{topic}.test.yml"));
    }
    let Some(mut promtool) = tool("promtool") else { return };
    let files = [files(&rules, ".rules.yml"), files(&rules, ".alerts.yml")].concat();
    let check = promtool.current_dir(&rules).args(["check", "rules", "--lint=all", "--lint-fatal"]);
    let output = check.args(files).output().unwrap();
    assert!(output.status.success(), "several jobs and overrides are not duplicates: {}", said(&output));
}

/// An override for each job of the service, for all of them, or for another job leaves out what would match nothing.
#[test]
fn the_tests_pass_with_overrides_for_all_jobs_for_the_first_one_and_for_another_one() {
    let all = "\
service: {jobs: [llm]}
overrides:
  - {jobs: [llm], alerts: {queue_requests: 20}, labels: {team: serving}}
";
    let first = "\
service: {jobs: [llm, canary]}
overrides:
  - {jobs: [llm], alerts: {scrape_seconds: 1, queue_requests: 20}}
  - {jobs: [elsewhere], labels: {team: research}, gpu: {memory_ratio: 0.95}}
";
    let each = first.replace("elsewhere", "canary");
    for (settings, conditions) in [
        (all, [r#"up{job="llm"} == 0"#, r#"scrape_duration_seconds{job="llm"} > 2"#]),
        (
            first,
            [r#"up{job=~"llm|canary"} == 0"#, r#"scrape_duration_seconds{job=~"llm|canary",job!~"elsewhere|llm"} > 2"#],
        ),
        (
            &each,
            [
                r#"up{job=~"llm|canary",job="canary"} == 0"#,
                r#"scrape_duration_seconds{job=~"llm|canary",job="llm"} > 1"#,
            ],
        ),
    ] {
        let folder = generated(settings, &Names::new());
        let rules = fs::read_to_string(folder.path().join("rules/targets.alerts.yml")).unwrap();
        for condition in conditions {
            assert!(rules.contains(condition), "{condition}: {rules}");
        }
        all_hold(&folder, "targets.test.yml");
    }
}

/// Many events are needed before an alert fires, and limits are just below everything.
#[test]
fn the_cases_pass_with_the_lowest_and_highest_value_of_each_setting() {
    let settings = "\
objectives: {availability: 0.5, time_to_first_token: {objective: 0.5, count_tokenless: false}, inter_token_latency: {objective: 0.5}, window_days: 7}
alerts: {least_events: 20000, least_failures: 1, cut_ratio: 0.995, error_ratio: 0.995, kv_cache_ratio: 0.995, rejected_ratio: 0.95, cancelled_ratio: 0.95, queue_requests: 1}
gpu: {memory_ratio: 0.999, memory_headroom_ratio: 0.995, memory_forecast_hours: 48}
";
    let folder = generated(settings, &Names::new());
    for topic in ["availability", "traffic", "quality", "gpu"] {
        all_hold(&folder, &format!("{topic}.test.yml"));
    }
}

/// A test that cannot fail proves nothing.
#[test]
fn a_threshold_that_is_changed_by_hand_makes_a_test_fail() {
    let folder = generated("", &Names::new());
    let rules = folder.path().join("rules");
    for (file, before, after, test) in [
        ("gpu.alerts.yml", "gpu:gpu_memory_used:ratio > 0.9", "gpu:gpu_memory_used:ratio > 0.96", "gpu.test.yml"),
        ("gpu.alerts.yml", "for: 10m", "for: 20m", "gpu.test.yml"),
        ("gpu.alerts.yml", " < 300", " < 30", "gpu.test.yml"),
        ("gpu.rules.yml", "gpu_up == 1", "gpu_up >= 0", "gpu.test.yml"),
        ("quality.alerts.yml", "> 20", "> 18", "quality.test.yml"),
        ("quality.alerts.yml", "ratio_rate15m > 0.2", "ratio_rate15m > 0.21", "quality.test.yml"),
        ("targets.alerts.yml", "up{job=\"llm\"} == 0", "up == 0", "targets.test.yml"),
        ("targets.alerts.yml", "severity: critical", "severity: warning", "targets.test.yml"),
    ] {
        let text = fs::read_to_string(rules.join(file)).unwrap();
        assert!(text.contains(before), "{before:?} is not in {file}");
        fs::write(rules.join(file), text.replace(before, after)).unwrap();
        for (_, held, _) in test_rules(&rules, &[test.to_owned()]) {
            assert!(!held, "{before:?} became {after:?}, and no test noticed");
        }
        fs::write(rules.join(file), text).unwrap();
    }
}

#[test]
fn alertmanager_accepts_its_configuration_and_routes_by_severity() {
    let folder = generated("", &Names::new());
    let config = folder.path().join("alertmanager/alertmanager.yml");
    let Some(mut amtool) = tool("amtool") else { return };
    let output = amtool.arg("check-config").arg(&config).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    for (labels, receiver) in [
        (&["alertname=LlmStalled", "severity=critical"][..], "page"),
        (&["alertname=LlmGpuHot", "severity=warning"], "ticket"),
        (&["alertname=LlmRequestRateLow", "severity=info"], "log"),
        (&["alertname=LlmWatchdog", "severity=none"], "watchdog"),
        (&["alertname=SomebodyElses"], "ticket"),
    ] {
        let mut amtool = tool("amtool").unwrap();
        let test = amtool.args(["config", "routes", "test", "--config.file"]).arg(&config);
        let output = test.arg(format!("--verify.receivers={receiver}")).args(labels).output().unwrap();
        assert!(output.status.success(), "{labels:?}: {}", said(&output));
    }
}
