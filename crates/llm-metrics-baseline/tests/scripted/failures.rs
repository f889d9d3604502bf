//! Servers that die, send garbage or stall, and a user who stops the run: each time there is a report that says so.

use std::time::{Duration, Instant};

use crate::server::{Answer, Script, Scripted, measure};
use llm_metrics_baseline::{
    Access, Ended, ErrorKind, Prompts, Protocol, Rates, RunError, ThinkingSwitch, Verdict, run,
};

fn says(findings: &[String], what: &[&str]) -> bool {
    findings.iter().any(|finding| what.iter().all(|what| finding.contains(what)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_ends_the_run_with_the_results_so_far() {
    let server = Scripted::start(Script { slots: 64, ..Script::default() });
    let dying = server.clone();
    tokio::spawn(async move {
        // In the middle of the second step.
        tokio::time::sleep(Duration::from_secs(10)).await;
        dying.die();
    });
    let baseline = measure(server.settings(Rates::Fixed(vec![10.0, 12.0, 14.0]))).await;
    assert_eq!((baseline.ended, baseline.steps.len()), (Ended::ServerFailing, 2));
    assert_eq!(baseline.steps[0].verdict, Verdict::KeptUp);
    assert_eq!(baseline.steps[1].verdict, Verdict::Failing);
    assert!(baseline.steps[1].client.errors.contains_key(&ErrorKind::Unreachable));
    assert!(says(&baseline.findings, &["At 12 requests/s", "stopped answering"]), "{:?}", baseline.findings);
    assert!(says(&baseline.findings, &["At 12 requests/s", "failed", "unreachable"]), "{:?}", baseline.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_garbled_answer_is_reported_and_nothing_more_is_sent() {
    let server = Scripted::start(Script { answer: Answer::Garbage, ..Script::default() });
    let baseline = measure(server.settings(Rates::Fixed(vec![10.0]))).await;
    assert_eq!((baseline.ended, baseline.steps.len()), (Ended::ServerFailing, 0));
    assert!(says(&baseline.findings, &["malformed"]), "{:?}", baseline.findings);
    assert_eq!(server.asked.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_http_and_a_missing_server_are_reported() {
    let raw = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = raw.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = raw.accept().await {
            stream.writable().await.unwrap();
            let _ = stream.try_write(b"\x00\xffSSH-2.0 what is it that you want of me\r\n\r\n");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut settings = Scripted::start(Script::default()).settings(Rates::Fixed(vec![10.0]));
    settings.target = format!("http://{address}");
    let baseline = measure(settings.clone()).await;
    assert!(says(&baseline.findings, &["malformed"]), "{:?}", baseline.findings);
    task.abort();
    let _ = task.await;
    let baseline = measure(settings).await;
    assert!(says(&baseline.findings, &["unreachable"]), "{:?}", baseline.findings);
    assert!(says(&baseline.findings, &["No metrics were read"]), "{:?}", baseline.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stalls_in_the_middle_is_not_waited_for() {
    let server = Scripted::start(Script { answer: Answer::StallsInTheMiddle, slots: 64, ..Script::default() });
    let mut settings = server.settings(Rates::Fixed(vec![10.0]));
    settings.limits.silence_seconds = 0.5;
    let started = Instant::now();
    let baseline = measure(settings).await;
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(baseline.ended, Ended::ServerFailing);
    assert!(says(&baseline.findings, &["stalled"]), "{:?}", baseline.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_falls_silent_under_load_has_no_knee_there() {
    let server = Scripted::start(Script { answer: Answer::StallsAfter(40), slots: 256, ..Script::default() });
    let mut settings = server.settings(Rates::Fixed(vec![20.0]));
    settings.limits.silence_seconds = 1.0;
    let baseline = measure(settings).await;
    assert_eq!((baseline.steps[0].verdict, &baseline.knee), (Verdict::Failing, &None));
    assert_eq!(baseline.ended, Ended::ServerFailing);
    assert!(says(&baseline.findings, &["At 20 requests/s", "stalled"]), "{:?}", baseline.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_still_answers_some_is_not_called_dead() {
    let server = Scripted::start(Script { answer: Answer::BreaksOffAfter(10), slots: 64, ..Script::default() });
    let baseline = measure(server.settings(Rates::Fixed(vec![10.0, 12.0]))).await;
    assert_eq!((baseline.ended, baseline.steps.len()), (Ended::Complete, 2), "{:?}", baseline.findings);
    assert!(says(&baseline.findings, &["At 10 requests/s", "stream_truncated"]), "{:?}", baseline.findings);
    assert!(says(&baseline.findings, &["No knee was found", "reasons other than load"]), "{:?}", baseline.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_a_server_that_also_rejects_requests_are_measured() {
    let server = Scripted::start(Script { answer: Answer::TurnsAway, ..Script::default() });
    let baseline = measure(server.settings(Rates::Fixed(vec![80.0]))).await;
    let step = &baseline.steps[0];
    assert_eq!((step.verdict, baseline.ended), (Verdict::Saturated, Ended::Complete), "{:?}", baseline.findings);
    assert!(step.seconds > 4.5 && step.client.errors[&ErrorKind::Overloaded] > step.client.answered, "{step:?}");
    let (knee, capacity) = (baseline.knee.expect("there is one").rate, server.capacity());
    assert!((knee / capacity - 1.0).abs() < 0.15, "a slot is free for a while until somebody comes: {knee} {capacity}");
    assert!(says(&baseline.findings, &["overloaded (status 503: all slots are taken)"]), "{:?}", baseline.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_a_run_returns_the_results_so_far() {
    let server = Scripted::start(Script { slots: 64, ..Script::default() });
    let mut settings = server.settings(Rates::Fixed(vec![10.0, 20.0]));
    settings.step.least_seconds = 4.0;
    settings.step.most_seconds = 4.0;
    let stop = tokio::time::sleep(Duration::from_secs(12));
    let started = Instant::now();
    settings.rates = Rates::Fixed(vec![10.0; 100]);
    let baseline = run(settings, Access::default(), stop, &mut |_| {}).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20), "it does not wait for answers");
    assert_eq!(baseline.ended, Ended::Interrupted);
    assert!(baseline.steps[0].verdict == Verdict::KeptUp && !baseline.steps.is_empty());
    assert!(says(&baseline.findings, &["The run was interrupted"]), "{:?}", baseline.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_kept() {
    let server = Scripted::start(Script { slots: 4, ..Script::default() });
    let mut settings = server.settings(Rates::Fixed(vec![40.0, 40.0, 40.0]));
    settings.limits.in_flight = 12;
    settings.limits.requests = 200;
    let baseline = measure(settings).await;
    assert_eq!(baseline.ended, Ended::RequestLimit);
    assert_eq!(server.asked.load(std::sync::atomic::Ordering::Relaxed), 200);
    assert!(baseline.steps.iter().all(|step| step.client.in_flight_max <= 12));
    assert_eq!(baseline.steps[0].verdict, Verdict::Saturated);
    assert!(baseline.steps[0].client.not_sent > 0);
    assert!(says(&baseline.findings, &["limit of 12 requests in flight"]), "{:?}", baseline.findings);

    let mut settings = server.settings(Rates::Fixed(vec![5.0; 100]));
    settings.limits.seconds = 8.0;
    let started = Instant::now();
    assert_eq!(measure(settings).await.ended, Ended::TimeLimit);
    assert!(started.elapsed() < Duration::from_secs(12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_reached_before_the_first_measurement_is_not_a_failure_of_the_server() {
    let server = Scripted::start(Script::default());
    let mut settings = server.settings(Rates::Fixed(vec![1.0]));
    settings.limits.requests = 2;
    let baseline = measure(settings).await;
    assert_eq!((baseline.ended, baseline.steps.len(), baseline.server_failed()), (Ended::RequestLimit, 0, false));
    let told = ["over before the first requests", "limit of 2 requests"];
    assert!(told.iter().all(|told| says(&baseline.findings, &[told])), "{:?}", baseline.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hang_ups_reasoning_and_other_protocols_are_distinguished() {
    for (answer, protocol) in [
        (Answer::OpenAi, Protocol::OpenAi),
        (Answer::Anthropic, Protocol::Anthropic),
        (Answer::Ollama, Protocol::Ollama),
    ] {
        let server = Scripted::start(Script { slots: 64, answer, ..Script::default() });
        let mut settings = server.settings(Rates::Fixed(vec![30.0]));
        settings.protocol = protocol;
        settings.workload.hang_ups = 0.3;
        settings.workload.thinking = ThinkingSwitch::Both;
        settings.step.least_seconds = 3.0;
        settings.step.most_seconds = 3.0;
        let baseline = measure(settings).await;
        let step = &baseline.steps[0];
        assert_eq!((step.verdict, step.client.errors.len()), (Verdict::KeptUp, 0), "{protocol:?}");
        let left = step.client.hung_up as f64 / step.client.requests as f64;
        assert!((0.1..0.5).contains(&left), "{protocol:?} {left}");
        assert_eq!(step.client.answered + step.client.hung_up, step.client.requests);
        let tokens = step.client.output_tokens_per_second;
        assert!((300.0..900.0).contains(&tokens), "{protocol:?} {tokens}");
        assert_eq!(step.by_thinking.len(), 2, "{protocol:?}");
        let (asked, thought) = (
            server.asked.load(std::sync::atomic::Ordering::Relaxed),
            server.thinking.load(std::sync::atomic::Ordering::Relaxed),
        );
        if protocol != Protocol::Anthropic {
            assert!(thought.abs_diff(asked / 2) <= 1, "{thought} of {asked}");
        }
    }
}

#[tokio::test]
async fn an_impossible_request_is_an_error_at_once() {
    let server = Scripted::start(Script::default());
    let settings = server.settings(Rates::Fixed(vec![1.0]));
    let error = async |change: fn(&mut llm_metrics_baseline::Settings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        run(settings, Access::default(), std::future::pending(), &mut |_| {}).await.unwrap_err()
    };
    assert!(matches!(error(|s| s.target = "http://192.0.2.1".to_owned()).await, RunError::Target(_)));
    assert!(matches!(error(|s| s.metrics = vec!["http://192.0.2.1".to_owned()]).await, RunError::Target(_)));
    assert!(matches!(error(|s| s.metrics_prefix = "A B".to_owned()).await, RunError::Prefix(_)));
    assert!(matches!(error(|s| s.gpu_metrics_prefix = "A B".to_owned()).await, RunError::Prefix(_)));
    assert!(matches!(error(|s| s.workload.prompts = Prompts::File("/no/such".into())).await, RunError::Prompts(_)));
    assert!(matches!(error(|s| s.limits.in_flight = 0).await, RunError::Settings(_)));
    assert!(matches!(error(|s| s.model = String::new()).await, RunError::NoModel { .. }));
    assert_eq!(server.asked.load(std::sync::atomic::Ordering::Relaxed), 0);
}
