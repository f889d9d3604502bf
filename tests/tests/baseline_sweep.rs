//! A short sweep of the Qwen server. The measurements agree with the server's metrics, and Prometheus accepts the derived rules.

use std::fs;

use llm_metrics_baseline::{
    Access, Baseline, Lengths, Objective, Rates, Settings, ThinkingSwitch, Verdict,
    apply::{HeadRoom, Scope, apply},
    report, run,
};
use llm_metrics_monitoring::{Names, generate, slo::Slo};
use llm_metrics_tests::{
    qwen_server::{QwenServer, TINY},
    tool,
};

/// Two rates that the tiny model keeps up with on a busy machine.
async fn sweep(server: &QwenServer) -> Baseline {
    let mut settings = Settings::default();
    settings.target = format!("http://{}", server.api);
    settings.metrics = vec![format!("http://{}/metrics", server.metrics)];
    settings.rates = Rates::Fixed(vec![1.0, 2.0]);
    settings.workload.output_tokens = Lengths::Fixed(16);
    settings.workload.thinking = ThinkingSwitch::Both;
    settings.objectives = ["ttft=20s@50%", "availability@50%"].map(|text| text.parse().expect("an objective")).to_vec();
    settings.step.warm_up_seconds = 2.0;
    settings.step.least_seconds = 8.0;
    settings.step.most_seconds = 8.0;
    settings.limits.seconds = 90.0;
    run(settings, Access::default(), std::future::pending(), &mut |_| {}).await.expect("it can be measured")
}

#[tokio::test]
async fn a_sweep_of_the_qwen_server_becomes_objectives_and_rules() {
    let server = QwenServer::start(&[]).await;
    let baseline = sweep(&server).await;
    assert_eq!(baseline.settings.model, TINY, "it is the only one that the server lists");
    assert_eq!(baseline.steps.len(), 2, "{:?}", baseline.findings);
    assert_eq!(baseline.server.metrics.as_deref(), Some("llm"));
    assert_eq!(baseline.server.model_info.get("engine").map(String::as_str), Some("mistral.rs"));
    for step in &baseline.steps {
        assert_eq!((step.verdict, step.client.errors.len()), (Verdict::KeptUp, 0), "{:?}", baseline.findings);
        assert!(step.client.answered > 3 && step.client.time_to_first_token.is_some());
        let counts: Vec<_> = step
            .comparison
            .iter()
            .filter(|seen| ["answered", "input_tokens", "output_tokens"].contains(&&*seen.figure))
            .collect();
        assert_eq!(counts.len(), 3);
        assert!(counts.iter().all(|seen| seen.client == seen.server), "{counts:#?}");
    }
    assert!(baseline.memory.iter().any(|point| point.resident_bytes.is_some()));
    let read = Baseline::parse(&baseline.to_json()).expect("it can be read");
    assert_eq!((read.settings, read.steps.len()), (baseline.settings.clone(), 2));
    assert!(report::html(&baseline).contains("Time to first token"));

    let applied = apply(&baseline, "", Scope::All, &HeadRoom::default()).expect("something held");
    let slo = Slo::parse(&applied.text).expect("a slo.yaml");
    assert_eq!(Objective::of(&slo).len(), 4);
    let folder = tempfile::tempdir().expect("a folder");
    let files = generate::files(&slo, &Names::new()).expect("rules");
    generate::write(&files, folder.path()).expect("they can be written");
    let Some(promtool) = tool("promtool") else { return };
    let mut checked = 0;
    for entry in fs::read_dir(folder.path().join("rules")).expect("rules").flatten() {
        // The tests of `llm-metrics-monitoring` show that alerts fire at any threshold. That takes minutes.
        if entry.file_name().to_string_lossy().ends_with(".test.yml") {
            continue;
        }
        let said = promtool.command().args(["check", "rules"]).arg(entry.path()).output().expect("promtool runs");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        checked += 1;
    }
    assert!(checked > 3, "{checked} files of rules");
}
