//! Tests of comparisons.

use llm_metrics_gpu::catalog::labels;

use super::*;
use crate::{
    Ended,
    settings::Rates,
    testing::{baseline, step},
};

/// A run at 10 and 20 requests per second. Durations are log-normal, with this median and noise.
fn run(seconds: f64, noise: f64, seed: u64) -> Baseline {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut draw = |scale: f64| {
        let normal: f64 = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        scale * (noise * normal).exp()
    };
    let mut steps = vec![step(10.0, Verdict::KeptUp, 10.0), step(20.0, Verdict::KeptUp, 20.0)];
    for step in &mut steps {
        step.samples.duration = (0..200).map(|_| draw(seconds)).collect();
        step.samples.time_to_first_token = (0..200).map(|_| draw(seconds / 4.0)).collect();
        step.samples.time_per_output_token = (0..200).map(|_| draw(seconds / 40.0)).collect();
    }
    baseline(steps)
}

fn regressions(old: &Baseline, new: &Baseline) -> Vec<String> {
    let report = compare(old, new, &Sensitivity::default()).unwrap();
    report.regressions().map(Change::to_string).collect()
}

#[test]
fn fifteen_percent_are_found_and_five_are_not() {
    for seed in 0..6 {
        let old = run(1.0, 0.15, seed);
        assert_eq!(regressions(&old, &run(1.0, 0.15, 100 + seed)), [""; 0], "the same again");
        assert_eq!(regressions(&old, &run(1.05, 0.15, 100 + seed)), [""; 0], "five percent");
        let found = regressions(&old, &run(1.15, 0.15, 100 + seed));
        assert!(found.iter().any(|found| found.contains(" p50 at ")), "{found:?}");
        assert_eq!(regressions(&old, &run(0.8, 0.15, 100 + seed)), [""; 0], "better is not a regression");
    }
}

#[test]
fn a_lower_latency_is_an_improvement() {
    let report = compare(&run(1.0, 0.1, 1), &run(0.7, 0.1, 2), &Sensitivity::default()).unwrap();
    assert!(report.changes.iter().any(|change| change.kind == ChangeKind::Improvement));
}

#[test]
fn noise_is_not_a_regression() {
    let found = (0..8).filter(|seed| !regressions(&run(1.0, 1.0, *seed), &run(1.0, 1.0, 100 + seed)).is_empty());
    assert!(found.count() <= 1, "once in a hundred");
}

#[test]
fn samples_without_variation_do_not_panic() {
    let mut old = run(1.0, 0.0, 1);
    assert_eq!(regressions(&old, &old), [""; 0]);
    assert!(!regressions(&old, &run(1.2, 0.0, 1)).is_empty());
    old.steps[0].samples.duration = vec![0.0; 200];
    assert!(!regressions(&old, &run(1.2, 0.0, 1)).is_empty(), "a ratio to nothing is passed over");
}

#[test]
fn failures_and_missed_objectives_are_regressions() {
    let (old, mut new) = (run(1.0, 0.1, 1), run(1.0, 0.1, 2));
    new.steps[0].client.errors.insert(crate::ErrorKind::StreamError, 30);
    new.steps[0].attainment[0].kept = crate::Share::of(60, 100).unwrap();
    new.steps[0].attainment[0].held = false;
    let found = regressions(&old, &new);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("share of failed requests at 10/s: 0 % → 30 % (+30.0 %"), "{found:?}");
    assert!(found[1].starts_with("share of availability@90% at 10/s: 99 % → 60 %"), "{found:?}");
}

#[test]
fn times_have_their_unit() {
    let found = regressions(&run(0.5, 0.0, 1), &run(1.2, 0.0, 1));
    assert!(found.iter().any(|found| found.starts_with("duration p50 at 10/s: 500 ms → 1.2 s (+140.0 %")), "{found:?}");
}

#[test]
fn a_share_is_relative_to_the_requests_that_were_evaluated() {
    let (old, mut new) = (run(1.0, 0.1, 1), run(1.0, 0.1, 2));
    let kept = &mut new.steps[0].attainment[0];
    (kept.kept, kept.held) = (crate::Share::of(80, 100).unwrap(), false);
    assert_eq!(regressions(&old, &new).len(), 1);
    new.steps[0].attainment[0].requests = Some(10);
    assert_eq!(regressions(&old, &new), [""; 0], "ten requests are too few");
}

#[test]
fn a_lower_knee_is_a_regression() {
    let with_knee = |rate: f64| {
        let mut steps = vec![step(8.0, Verdict::KeptUp, 8.0), step(40.0, Verdict::Saturated, rate)];
        steps[1].seconds = 30.0;
        baseline(steps)
    };
    let found = regressions(&with_knee(20.0), &with_knee(15.0));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("answers a second at 40/s: 20/s → 15/s (-25.0 %"), "{found:?}");
    assert!(found[1].starts_with("knee: 20/s → 15/s (-25.0 %"), "{found:?}");
    assert_eq!(regressions(&with_knee(20.0), &with_knee(19.0)), [""; 0]);
    assert_eq!(regressions(&with_knee(15.0), &with_knee(20.0)), [""; 0]);
}

#[test]
fn the_interval_of_a_knee_determines_its_significance() {
    let with_interval = |rate: f64, half_width: f64| {
        let mut baseline = baseline(vec![step(40.0, Verdict::Saturated, rate)]);
        baseline.steps[0].rate = rate;
        let interval = crate::Interval { low: rate - half_width, high: rate + half_width };
        baseline.knee.as_mut().unwrap().interval = Some(interval);
        baseline
    };
    assert_eq!(regressions(&with_interval(20.0, 0.5), &with_interval(16.0, 0.5)).len(), 1);
    assert_eq!(regressions(&with_interval(20.0, 4.0), &with_interval(16.0, 4.0)), [""; 0]);
}

#[test]
fn a_rate_that_the_server_no_longer_keeps_up_with_is_a_regression() {
    let run = |verdict: Verdict, answer_rate: f64| {
        baseline(vec![step(10.0, Verdict::KeptUp, 10.0), step(40.0, verdict, answer_rate)])
    };
    let (old, new) = (run(Verdict::KeptUp, 40.0), run(Verdict::Saturated, 30.0));
    let found = regressions(&old, &new);
    assert!(found.len() == 1 && found[0].starts_with("answers a second at 40/s: 40/s → 30/s"), "{found:?}");
    assert_eq!(regressions(&new, &old), [""; 0]);
    assert_eq!(regressions(&old, &run(Verdict::Saturated, 39.0)), [""; 0], "hardly less");
}

#[test]
fn a_step_that_was_cut_off_is_not_compared_and_of_two_tries_the_last_one_is() {
    let (old, mut new) = (run(1.0, 0.1, 1), run(1.0, 0.1, 2));
    new.steps[0].client.unfinished = 60;
    assert!(!regressions(&old, &new).is_empty());
    new.steps[0].verdict = Verdict::Unknown;
    assert_eq!(regressions(&old, &new), [""; 0]);

    let mut again = run(1.0, 0.1, 2);
    let mut disturbed = again.steps[0].clone();
    disturbed.client.errors.insert(crate::ErrorKind::StreamError, 50);
    again.steps.insert(0, disturbed);
    assert_eq!(regressions(&old, &again), [""; 0]);
}

#[test]
fn a_server_that_fails_in_the_new_run_is_reported_even_if_nothing_was_measured() {
    let (old, mut new) = (run(1.0, 0.1, 1), baseline(vec![]));
    assert!(compare(&old, &new, &Sensitivity::default()).is_err());
    new.ended = Ended::ServerFailing;
    assert!(compare(&old, &new, &Sensitivity::default()).unwrap().server_failed);
    assert!(compare(&new, &new, &Sensitivity::default()).is_err(), "it did before");
    assert!(!compare(&old, &old, &Sensitivity::default()).unwrap().server_failed);
}

#[test]
fn a_server_that_fails_at_every_rate_has_failed() {
    let failing = || baseline(vec![step(10.0, Verdict::Failing, 8.0)]);
    let healthy = || baseline(vec![step(10.0, Verdict::KeptUp, 10.0)]);
    let failed = |old: &Baseline, new: &Baseline| compare(old, new, &Sensitivity::default()).unwrap().server_failed;
    assert!(failed(&healthy(), &failing()));
    assert!(!failed(&failing(), &failing()), "it did before");
    let at_one = baseline(vec![step(10.0, Verdict::KeptUp, 10.0), step(20.0, Verdict::Failing, 8.0)]);
    assert!(!failed(&healthy(), &at_one));
}

#[test]
fn a_rate_that_the_new_run_does_not_have_is_noted() {
    let (mut old, mut new) = (run(1.0, 0.1, 1), run(1.0, 0.1, 2));
    old.settings.rates = Rates::Fixed(vec![10.0, 20.0]);
    let notes = |new: &Baseline| {
        let notes = compare(&old, new, &Sensitivity::default()).unwrap().notes;
        notes.into_iter().filter(|note| note.contains("nothing was compared")).collect::<Vec<_>>()
    };
    assert_eq!(notes(&new), [""; 0]);
    new.steps[1].verdict = Verdict::Unknown;
    assert_eq!(notes(&new), ["At 20 requests/s nothing was compared: the new run does not have it."]);
    new.steps.pop();
    assert_eq!(notes(&new).len(), 1);
}

#[test]
fn what_differs_between_the_runs_is_noted() {
    let (old, same) = (run(1.0, 0.1, 1), run(1.0, 0.1, 2));
    let notes = |new: &Baseline| compare(&old, new, &Sensitivity::default()).unwrap().notes;
    assert_eq!(notes(&same), [""; 0]);
    let differ = |what: &str, change: fn(&mut Baseline)| {
        let mut new = same.clone();
        change(&mut new);
        assert_eq!(notes(&new), [format!("The two runs differ in {what}: a change may come from that.")]);
    };
    differ("what was asked (workload)", |new| new.settings.workload.hang_ups = 0.5);
    differ("the model's name", |new| new.settings.model = "another".to_owned());
    differ("the protocol", |new| new.settings.protocol = crate::Protocol::Anthropic);
    differ("the machine that the load came from", |new| new.machine.cpus += 1);
    differ("the GPU", |new| {
        new.server.gpu_info.insert(labels::NAME.name.to_owned(), "NVIDIA L4".to_owned());
    });
}

#[test]
fn findings_of_both_runs_are_noted() {
    let (mut old, mut new) = (run(1.0, 0.1, 1), run(1.0, 0.1, 2));
    old.findings.push("The client was late.".to_owned());
    new.findings.push("The server was restarted.".to_owned());
    let notes = compare(&old, &new, &Sensitivity::default()).unwrap().notes;
    assert_eq!(notes, ["The old run says: The client was late.", "The new run says: The server was restarted."]);
}

#[test]
fn runs_without_common_values_are_an_error() {
    let (old, mut new) = (run(1.0, 0.1, 1), run(1.0, 0.1, 2));
    for step in &mut new.steps {
        step.rate *= 1.1;
    }
    assert!(compare(&old, &new, &Sensitivity::default()).is_err());
}
