//! The most important results, in sentences.

use crate::{
    baseline::{Baseline, Ended, Step, StepEnded, Verdict},
    figure, search,
};

/// A load generator that is later than this distorts the measurements.
const LATE_SECONDS: f64 = 0.005;
const LATE_SHARE: f64 = 0.05;

pub(crate) fn of(baseline: &Baseline) -> Vec<String> {
    let mut findings = Vec::new();
    findings.extend(how_it_ended(baseline));
    findings.extend(failures(baseline));
    findings.extend(without_tokens(baseline));
    findings.extend(saturation(baseline));
    findings.extend(disagreements(baseline));
    findings.extend(lateness(baseline));
    findings
}

fn how_it_ended(baseline: &Baseline) -> Option<String> {
    let rest = "the results are those up to then";
    Some(match baseline.ended {
        Ended::Complete => return None,
        Ended::Interrupted => format!("The run was interrupted: {rest}."),
        Ended::RequestLimit => {
            format!("The limit of {} requests was reached: {rest}.", baseline.settings.limits.requests)
        }
        Ended::TimeLimit => format!("The limit of {} s was reached: {rest}.", baseline.settings.limits.seconds),
        Ended::ServerFailing => match baseline.steps.last() {
            Some(step) => format!(
                "At {} requests/s the server stopped answering, and answered none of the single requests afterwards: {rest}.",
                figure(step.rate)
            ),
            None => return None,
        },
    })
}

fn failures(baseline: &Baseline) -> Vec<String> {
    let failed = baseline.by_rate().into_iter().filter(|step| !step.client.errors.is_empty());
    failed
        .map(|step| {
            let kinds = step.client.errors.iter().map(|(kind, count)| format!("{} {count}", kind.word()));
            let all: u64 = step.client.errors.values().sum();
            format!(
                "At {} requests/s {all} of {} requests failed: {}.",
                figure(step.rate),
                step.client.requests,
                kinds.collect::<Vec<_>>().join(", ")
            )
        })
        .collect()
}

/// A stream without any token means that the server sends none.
fn without_tokens(baseline: &Baseline) -> Vec<String> {
    let is_empty = |step: &&Step| step.client.answered > 0 && step.client.time_to_first_token.is_none();
    let empty = baseline.by_rate().into_iter().filter(|_| baseline.settings.workload.stream).filter(is_empty);
    empty.map(|step| format!("At {} requests/s no answer had a token.", figure(step.rate))).collect()
}

fn saturation(baseline: &Baseline) -> Vec<String> {
    let mut findings = Vec::new();
    if baseline.steps.iter().any(|step| step.ended == StepEnded::InFlightLimit) {
        findings.push(format!(
            "The limit of {} requests in flight was reached: from then on the loop was not open any more, so latencies are too low.",
            baseline.settings.limits.in_flight
        ));
    }
    if let Some((rate, answered)) = search::contradicted(&baseline.steps) {
        findings.push(format!(
            "The server did not keep up with {} requests/s, and yet answered {} a second at another rate: something else slowed it down for a \
             while. Measure again when nothing else is going on.",
            figure(rate),
            figure(answered)
        ));
    }
    let count = |verdict: Verdict| baseline.steps.iter().filter(|step| step.verdict == verdict).count();
    let kept_up = count(Verdict::KeptUp);
    if baseline.knee.is_none() && !baseline.steps.is_empty() {
        let why = if baseline.steps.len() == count(Verdict::Unknown) {
            "no rate was measured for long enough"
        } else if count(Verdict::Failing) > 0 {
            "at the rates with which the server did not keep up, requests failed for reasons other than load"
        } else {
            "the server kept up with all rates"
        };
        findings.push(format!("No knee was found: {why}."));
    }
    if baseline.objectives_held.is_none() && kept_up > 0 {
        findings.push("At no rate were all objectives met.".to_owned());
    }
    findings
}

/// One sentence per value on which clients and server disagree: the number of rates, and the rate with the largest difference.
fn disagreements(baseline: &Baseline) -> Vec<String> {
    let mut worst: Vec<(&str, usize, f64, f64, f64)> = Vec::new();
    // If a step was cut off, the server has counted requests that the client has not.
    let complete = baseline.by_rate().into_iter().filter(|step| step.verdict != Verdict::Unknown);
    for step in complete {
        for seen in step.comparison.iter().filter(|seen| !seen.agree) {
            let apart = |client: f64, server: f64| (client - server).abs() / client.abs().max(f64::MIN_POSITIVE);
            match worst.iter_mut().find(|(figure, ..)| *figure == seen.figure) {
                Some((_, steps, rate, client, server)) => {
                    *steps += 1;
                    if apart(seen.client, seen.server) > apart(*client, *server) {
                        (*rate, *client, *server) = (step.rate, seen.client, seen.server);
                    }
                }
                None => worst.push((&seen.figure, 1, step.rate, seen.client, seen.server)),
            }
        }
    }
    let all = baseline.steps.len();
    let sentences = worst.into_iter().map(|(name, steps, rate, client, server)| {
        format!(
            "Clients and the server disagree about {name} at {steps} of {all} rates, most at {} requests/s: clients measured {}, the server {}.",
            figure(rate),
            figure(client),
            figure(server)
        )
    });
    sentences.collect()
}

fn lateness(baseline: &Baseline) -> Option<String> {
    let late = baseline.by_rate().into_iter().rev().find_map(|step| {
        let (late, duration) = (step.client.lateness.as_ref()?.p99.value, step.client.duration.as_ref()?.p50.value);
        (late > LATE_SECONDS.max(LATE_SHARE * duration)).then_some((step.rate, late))
    });
    let (rate, late) = late?;
    Some(format!(
        "The load generator was late: at {} requests/s by {} s (p99). This is included in the latencies. Use a machine with more free CPU time for the load generator.",
        figure(rate),
        figure(late)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{baseline, step};

    #[test]
    fn a_server_without_tokens_is_a_finding_and_a_step_that_was_cut_off_is_not_compared() {
        let found =
            |step: Step, start: &str| of(&baseline(vec![step])).iter().any(|finding| finding.starts_with(start));
        let empty = step(1.0, Verdict::KeptUp, 1.0);
        assert!(found(empty.clone(), "At 1 requests/s no answer had a token."));
        let mut unanswered = empty.clone();
        unanswered.client.answered = 0;
        assert!(!found(unanswered, "At 1 requests/s no answer"));
        let mut whole = baseline(vec![empty.clone()]);
        whole.settings.workload.stream = false;
        assert!(of(&whole).iter().all(|finding| !finding.contains("no answer had")));

        let mut apart = empty;
        let figure = "duration p50".to_owned();
        apart.comparison = vec![crate::Comparison { figure, client: 1.0, server: 2.0, tolerance: 0.05, agree: false }];
        assert!(found(apart.clone(), "Clients and the server disagree about duration p50 at 1 of 1 rates"));
        apart.verdict = Verdict::Unknown;
        assert!(!found(apart, "Clients and the server disagree"));
    }

    #[test]
    fn the_reason_for_a_missing_knee_is_a_finding() {
        use Verdict::{Failing, KeptUp, Saturated, Unknown};
        let why = |verdicts: &[Verdict]| {
            let steps = verdicts.iter().zip(1u32..).map(|(verdict, n)| step(f64::from(n), *verdict, f64::from(n)));
            of(&baseline(steps.collect()))
                .into_iter()
                .find(|finding| finding.starts_with("No knee"))
                .unwrap_or_default()
        };
        assert!(why(&[KeptUp, KeptUp]).contains("kept up with all"));
        assert!(why(&[KeptUp, Unknown]).contains("kept up with all"), "it was stopped, which is another finding");
        assert!(why(&[Unknown]).contains("long enough"));
        for failing in [&[KeptUp, Failing][..], &[Failing, Failing]] {
            assert!(why(failing).contains("failed for reasons other than load"), "{failing:?}");
        }
        assert_eq!(why(&[KeptUp, Saturated]), "");
    }
}
