//! A server with known capacity, time to first token and gaps: the knee and the quantiles are found.

use crate::server::{Script, Scripted, measure};
use llm_metrics_baseline::{Ended, Rates, StepEnded, Verdict};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_knee_is_found_within_ten_percent() {
    let server = Scripted::start(Script::default());
    let rates = Rates::Search { start: Some(9.0), factor: 1.5, precision: 0.1, most: 200.0 };
    let baseline = measure(server.settings(rates)).await;
    assert_eq!(baseline.ended, Ended::Complete);
    let knee = baseline.knee.as_ref().expect("there is one");
    let capacity = server.capacity();
    assert!((knee.rate / capacity - 1.0).abs() < 0.1, "the server answers {capacity} a second: {knee:?}");
    let interval = knee.interval.expect("there were answers");
    assert!(interval.low <= knee.rate && knee.rate <= interval.high, "{knee:?}");
    // With a small margin: the capacity itself is not known exactly, and one run in twenty is outside of the interval.
    assert!(interval.low < 1.05 * capacity && capacity < 1.05 * interval.high, "{capacity}: {knee:?}");
    assert!(knee.kept_up.is_some_and(|rate| rate < 1.2 * capacity) && knee.saturated > 0.85 * capacity, "{knee:?}");
    assert!(baseline.steps.iter().any(|step| step.verdict == Verdict::Saturated));
    assert!(baseline.steps.iter().all(|step| step.verdict != Verdict::Failing), "{:?}", baseline.findings);

    // The queue of an overloaded server is visible, because latencies are measured from when requests were due.
    let steps = baseline.by_rate();
    let p99 = |index: usize| steps[index].client.duration.as_ref().unwrap().p99.value;
    assert!(p99(steps.len() - 1) > 1.5 * p99(0), "{} {}", p99(0), p99(steps.len() - 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quantiles_are_those_of_the_script_and_of_the_server() {
    let script = Script { slots: 64, ..Script::default() };
    let server = Scripted::start(script);
    let baseline = measure(server.settings(Rates::Fixed(vec![10.0, 20.0]))).await;
    for step in &baseline.steps {
        assert_eq!((step.verdict, step.ended), (Verdict::KeptUp, StepEnded::Time));
        let (client, server) = (&step.client, step.server.as_ref().expect("metrics were read"));
        for (seen, script, own) in [
            (&client.time_to_first_token, script.first_token.as_secs_f64(), &server.time_to_first_token),
            (&client.time_per_output_token, script.gap.as_secs_f64(), &server.time_per_output_token),
            (&client.duration, script.service(), &server.duration),
        ] {
            let (seen, own) = (seen.as_ref().unwrap(), own.as_ref().unwrap());
            let near = |seconds: f64| 0.005f64.max(0.05 * seconds);
            // Sleeps are never too short, and sometimes too long on a busy machine, which does not change the median.
            let error = seen.p50.value - script;
            assert!(-1e-3 < error && error < near(script), "{} against {script}", seen.p50.value);
            // However long the sleeps were, both must have measured the same, within the bounds of the server's buckets.
            for (seen, own) in [(seen.p50, own.p50), (seen.p95, own.p95)] {
                let (low, high) = (own.low - near(seen.value), own.high.unwrap() + near(seen.value));
                assert!(low <= seen.value && seen.value <= high, "{seen:?} {own:?}");
            }
        }
        assert_eq!(client.answered, client.requests);
        let counts: Vec<_> = step
            .comparison
            .iter()
            .filter(|seen| ["answered", "input_tokens", "output_tokens"].contains(&&*seen.figure))
            .collect();
        assert_eq!(counts.len(), 3);
        assert!(counts.iter().all(|seen| seen.agree && seen.client == seen.server), "{counts:?}");
        assert!(step.comparison.iter().any(|seen| seen.figure == "time_to_first_token p99"));
        let in_flight = step.rate * script.service();
        assert!((client.in_flight / in_flight - 1.0).abs() < 0.5, "Little's law: {} {in_flight}", client.in_flight);
    }
    assert_eq!(baseline.knee, None);
    assert!(
        baseline.findings.iter().any(|finding| finding.starts_with("No knee was found")),
        "{:?}",
        baseline.findings
    );
    assert_eq!(baseline.server.metrics.as_deref(), Some("llm"));
    assert_eq!(baseline.objectives_held.as_ref().map(|held| (held.rate, held.missed_at)), Some((20.0, None)));
}
