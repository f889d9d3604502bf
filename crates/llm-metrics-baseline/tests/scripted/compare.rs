//! A real regression is found, and ordinary differences between runs are not reported.

use std::time::Duration;

use llm_metrics_baseline::{
    Rates,
    compare::{Change, Sensitivity, compare},
};

use crate::server::{Script, Scripted, measure};

/// Runs two servers at the same time, so that other load on this machine affects both. All times of the second server are those of the first
/// multiplied by `times`, and each answer's times vary at random by up to 5 %.
async fn regressions(times: f64) -> Vec<String> {
    let script = |times: f64| Script {
        slots: 64,
        first_token: Duration::from_millis(400).mul_f64(times),
        gap: Duration::from_millis(40).mul_f64(times),
        tokens: 16,
        jitter: 0.05,
        ..Script::default()
    };
    let run = |times: f64| {
        let mut settings = Scripted::start(script(times)).settings(Rates::Fixed(vec![12.0]));
        settings.step.least_seconds = 12.0;
        settings.step.most_seconds = 12.0;
        measure(settings)
    };
    let (old, new) = tokio::join!(run(1.0), run(times));
    let report = compare(&old, &new, &Sensitivity::default()).expect("the rate is in both");
    assert_eq!(report.changes.iter().filter(|change| change.figure.ends_with("p50")).count(), 3);
    report.regressions().map(Change::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_regression_of_fifteen_percent_is_found() {
    let found = regressions(1.15).await;
    for figure in ["duration p50", "time_to_first_token p50", "time_per_output_token p50"] {
        assert!(found.iter().any(|found| found.starts_with(figure)), "{figure}: {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_of_five_percent_is_not_a_regression() {
    assert_eq!(regressions(1.0).await, [""; 0]);
}
