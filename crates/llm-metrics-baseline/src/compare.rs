//! Compares two baselines: which values are worse, and whether that can be random.

use llm_metrics_gpu::catalog::labels;

use crate::{
    Attainment,
    baseline::{Baseline, Knee, Step, Verdict},
    figure,
    settings::Rates,
};

mod resample;

use resample::ratio_of_quantiles;

/// What counts as a change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sensitivity {
    /// The tolerance: a change up to this share does not matter; 0.075 is 7.5 %. It covers differences between runs without a cause. A larger change
    /// must be statistically significant.
    pub tolerance: f64,
    /// The probability of any false finding in the whole comparison: 0.01 is one in a hundred.
    pub significance: f64,
}

impl Default for Sensitivity {
    fn default() -> Self {
        Self { tolerance: 0.075, significance: 0.01 }
    }
}

/// A value that both baselines have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// Such as `duration p95`.
    pub figure: String,
    /// The unit of both.
    pub unit: Unit,
    /// The requests per second; `None` for the knee.
    pub rate: Option<f64>,
    /// The old value.
    pub old: f64,
    /// The new value.
    pub new: f64,
    /// `new / old`; for a share, `new − old`.
    pub change: f64,
    /// The 95 % confidence interval of the change.
    pub interval: (f64, f64),
    /// The probability of such a measurement if the true change is not larger than the [tolerance](Sensitivity::tolerance), corrected for the number
    /// of compared values (Holm).
    pub p_value: f64,
    /// The result.
    pub kind: ChangeKind,
}

/// The unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Requests a second.
    RequestsPerSecond,
    /// A share, between 0 and 1.
    Share,
}

/// The result for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// Worse by more than the tolerance, and significant.
    Regression,
    /// Better by more than the tolerance, and significant.
    Improvement,
    /// Within the tolerance, or not significant.
    Unchanged,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// All values that both have.
    pub changes: Vec<Change>,
    /// Reasons why the comparison may be misleading.
    pub notes: Vec<String>,
    /// The server failed in the new run, and not in the old one. This is the worst result, whatever the values are.
    pub server_failed: bool,
}

/// There is nothing to compare.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is nothing to compare: the runs have no knee and no common rate that the server kept up with. Use the same list of rates \
     for both (--rates)"
)]
#[non_exhaustive]
pub struct NothingInCommon;

/// Rates that differ by less than this are equal.
const SAME_RATE: f64 = 0.02;
/// The least number of samples for a quantile.
const FEW: usize = 20;

/// Compares the values that both have: latencies at the same rates, shares of requests that fail or miss an objective, and the knee.
///
/// # Errors
/// If there is nothing to compare.
pub fn compare(old: &Baseline, new: &Baseline, sensitivity: &Sensitivity) -> Result<Report, NothingInCommon> {
    let mut tests = Vec::new();
    let old_steps = last_tries(old);
    for new_step in last_tries(new) {
        let apart = |step: &Step| (new_step.rate / step.rate - 1.0).abs();
        let same = old_steps.iter().filter(|step| apart(step) < SAME_RATE);
        if let Some(old_step) = same.min_by(|a, b| apart(a).total_cmp(&apart(b))) {
            steps(old_step, new_step, sensitivity, &mut tests);
        }
    }
    knees(old, new, sensitivity, &mut tests);
    let server_failed = new.server_failed() && !old.server_failed();
    if tests.is_empty() && !server_failed {
        return Err(NothingInCommon);
    }
    Ok(Report { changes: with_holm_correction(tests, sensitivity.significance), notes: notes(old, new), server_failed })
}

/// The steps in ascending order of rates. If a rate was repeated, the last one counts.
fn last_tries(baseline: &Baseline) -> Vec<&Step> {
    let mut steps: Vec<&Step> = Vec::new();
    for step in baseline.by_rate() {
        if steps.last().is_some_and(|last| last.rate == step.rate) {
            steps.pop();
        }
        steps.push(step);
    }
    steps
}

impl Report {
    /// The values that are worse.
    pub fn regressions(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.kind == ChangeKind::Regression)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let points = if self.unit == Unit::Share { 0.0 } else { 1.0 };
        let percent = |change: f64| format!("{:+.1} %", (change - points) * 100.0);
        write!(f, "{}", self.figure)?;
        if let Some(rate) = self.rate {
            write!(f, " at {}/s", figure(rate))?;
        }
        write!(
            f,
            ": {} → {} ({}, between {} and {}; p = {})",
            self.unit.show(self.old),
            self.unit.show(self.new),
            percent(self.change),
            percent(self.interval.0),
            percent(self.interval.1),
            if self.p_value < 1e-4 { "< 0.0001".to_owned() } else { format!("{:.4}", self.p_value) }
        )
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 1.0 => format!("{} ms", figure(value * 1e3)),
            Self::Seconds => format!("{} s", figure(value)),
            Self::RequestsPerSecond => format!("{}/s", figure(value)),
            Self::Share => format!("{} %", figure(value * 100.0)),
        }
    }
}

/// A value, before the correction for the number of values.
struct Test {
    change: Change,
    worse: bool,
    matters: bool,
}

impl Test {
    /// Tests the ratio of two values; `error` is the standard error of its logarithm.
    fn ratio(
        (figure, unit): (String, Unit),
        rate: Option<f64>,
        [old, new]: [f64; 2],
        error: f64,
        more_is_worse: bool,
        tolerance: f64,
    ) -> Option<Self> {
        let change = new / old;
        if !(change.is_finite() && change > 0.0) {
            return None;
        }
        // Without any variation the standard error is 0: then any change is significant.
        let error = error.max(1e-6);
        let interval = (change * (-1.96 * error).exp(), change * (1.96 * error).exp());
        // A difference above zero is not enough: with enough requests, any two runs differ significantly.
        let beyond = (change.ln().abs() - (1.0 + tolerance).ln()).max(0.0);
        let p_value = two_sided(beyond / error);
        let kind = ChangeKind::Unchanged;
        let change = Change { figure, unit, rate, old, new, change, interval, p_value, kind };
        Some(Self { worse: (change.change > 1.0) == more_is_worse, matters: true, change })
    }

    /// Tests the difference of two shares, by the usual test of proportions.
    fn share(
        figure: String,
        rate: f64,
        old: (u64, u64),
        new: (u64, u64),
        matters: bool,
        more_is_worse: bool,
    ) -> Option<Self> {
        if old.1 < FEW as u64 || new.1 < FEW as u64 {
            return None;
        }
        let of = |(part, whole): (u64, u64)| part as f64 / whole as f64;
        let (old_share, new_share) = (of(old), of(new));
        let together = (old.0 + new.0) as f64 / (old.1 + new.1) as f64;
        let spread = |share: f64, count: u64| share * (1.0 - share) / count as f64;
        let error = (spread(together, old.1) + spread(together, new.1)).sqrt();
        let apart = (spread(old_share, old.1) + spread(new_share, new.1)).sqrt();
        let change = new_share - old_share;
        let p_value = if error > 0.0 { two_sided(change / error) } else { 1.0 };
        let interval = (change - 1.96 * apart, change + 1.96 * apart);
        let kind = ChangeKind::Unchanged;
        let (rate, unit) = (Some(rate), Unit::Share);
        let change = Change { figure, unit, rate, old: old_share, new: new_share, change, interval, p_value, kind };
        Some(Self { worse: (change.change > 0.0) == more_is_worse, matters, change })
    }
}

fn steps(old: &Step, new: &Step, sensitivity: &Sensitivity, tests: &mut Vec<Test>) {
    // Requests in flight when the run was interrupted have not failed.
    if [old, new].iter().any(|step| step.verdict == Verdict::Unknown) {
        return;
    }
    let requests = |step: &Step| step.client.requests - step.client.hung_up;
    let failed = |step: &Step| (step.client.errors.values().sum::<u64>() + step.client.unfinished, requests(step));
    let share = |(part, whole): (u64, u64)| part as f64 / whole.max(1) as f64;
    // One percentage point more.
    let matters = (share(failed(new)) - share(failed(old))).abs() >= 0.01;
    tests.extend(Test::share("share of failed requests".to_owned(), new.rate, failed(old), failed(new), matters, true));

    for new_kept in &new.attainment {
        if let Some(old_kept) = old.attainment.iter().find(|kept| kept.objective == new_kept.objective) {
            let count = |attainment: &Attainment, step: &Step| {
                let evaluated = attainment.requests.unwrap_or_else(|| requests(step));
                ((attainment.kept.value * evaluated as f64).round() as u64, evaluated)
            };
            tests.extend(Test::share(
                format!("share of {}", new_kept.objective),
                new.rate,
                count(old_kept, old),
                count(new_kept, new),
                // Differences that stay within the objective do not matter.
                old_kept.held != new_kept.held,
                false,
            ));
        }
    }
    // If a queue grows, latencies only depend on the duration of the step.
    if [old, new].iter().any(|step| step.verdict != Verdict::KeptUp) {
        let rates = [old, new].map(|step| step.client.answer_rate);
        let error = answer_error(old).hypot(answer_error(new));
        let figure = ("answers a second".to_owned(), Unit::RequestsPerSecond);
        tests.extend(Test::ratio(figure, Some(new.rate), rates, error, false, sensitivity.tolerance));
        return;
    }
    for (name, old_samples, new_samples) in [
        ("time_to_first_token", &old.samples.time_to_first_token, &new.samples.time_to_first_token),
        ("time_per_output_token", &old.samples.time_per_output_token, &new.samples.time_per_output_token),
        ("duration", &old.samples.duration, &new.samples.duration),
    ] {
        if old_samples.len() < FEW || new_samples.len() < FEW {
            continue;
        }
        for (quantile, q) in [("p50", 0.5), ("p95", 0.95)] {
            let (values, error) = ratio_of_quantiles(old_samples, new_samples, q);
            let figure = (format!("{name} {quantile}"), Unit::Seconds);
            tests.extend(Test::ratio(figure, Some(new.rate), values, error, true, sensitivity.tolerance));
        }
    }
}

fn knees(old: &Baseline, new: &Baseline, sensitivity: &Sensitivity, tests: &mut Vec<Test>) {
    let Some((old_knee, new_knee)) = old.knee.as_ref().zip(new.knee.as_ref()) else { return };
    let error = |baseline: &Baseline, knee: &Knee| match knee.interval {
        Some(interval) => interval.relative_error(knee.rate),
        None => {
            let most = baseline.steps.iter().max_by(|a, b| a.client.answer_rate.total_cmp(&b.client.answer_rate));
            most.map_or(f64::INFINITY, answer_error)
        }
    };
    let rates = [old_knee.rate, new_knee.rate];
    let error = error(old, old_knee).hypot(error(new, new_knee));
    tests.extend(Test::ratio(
        ("knee".to_owned(), Unit::RequestsPerSecond),
        None,
        rates,
        error,
        false,
        sensitivity.tolerance,
    ));
}

/// The relative standard error of the answer rate.
fn answer_error(step: &Step) -> f64 {
    let rate = step.client.answer_rate;
    match step.client.answer_rate_interval {
        Some(interval) => interval.relative_error(rate),
        // The responses of an overloaded server are more regular than a Poisson process, so this is an upper bound.
        None => 1.0 / (rate * step.seconds).sqrt(),
    }
}

/// Holm's correction: the smallest of m probabilities counts m times, the next one m − 1 times …
fn with_holm_correction(mut tests: Vec<Test>, significance: f64) -> Vec<Change> {
    let mut order: Vec<_> = (0..tests.len()).collect();
    order.sort_by(|a, b| tests[*a].change.p_value.total_cmp(&tests[*b].change.p_value));
    let (mut left, mut largest) = (tests.len(), 0.0f64);
    for index in order {
        largest = largest.max((tests[index].change.p_value * left as f64).min(1.0));
        tests[index].change.p_value = largest;
        left -= 1;
    }
    let changes = tests.into_iter().map(|Test { mut change, worse, matters }| {
        change.kind = match change.p_value < significance && matters {
            true if worse => ChangeKind::Regression,
            true => ChangeKind::Improvement,
            false => ChangeKind::Unchanged,
        };
        change
    });
    changes.collect()
}

fn notes(old: &Baseline, new: &Baseline) -> Vec<String> {
    let mut notes = Vec::new();
    let (a, b) = (&old.settings, &new.settings);
    let mut differ = |what: &str, differ: bool| {
        if differ {
            notes.push(format!("The two runs differ in {what}: a change may come from that."));
        }
    };
    differ("what was asked (workload)", a.workload != b.workload);
    differ("the model's name", a.model != b.model);
    differ("the protocol", a.protocol != b.protocol);
    differ("the machine that the load came from", old.machine != new.machine);
    let gpu = labels::NAME.name;
    differ("the GPU", old.server.gpu_info.get(gpu) != new.server.gpu_info.get(gpu));
    let has_rate = |baseline: &Baseline, rate: f64| {
        let mut steps = last_tries(baseline).into_iter().filter(|step| step.verdict != Verdict::Unknown);
        steps.any(|step| (step.rate / rate - 1.0).abs() < SAME_RATE)
    };
    if let Rates::Fixed(rates) = &old.settings.rates {
        let missing = rates.iter().filter(|rate| has_rate(old, **rate) && !has_rate(new, **rate));
        notes.extend(missing.map(|rate| {
            format!("At {} requests/s nothing was compared: the new run does not have it.", figure(*rate))
        }));
    }
    for (which, baseline) in [("old", old), ("new", new)] {
        notes.extend(baseline.findings.iter().map(|finding| format!("The {which} run says: {finding}")));
    }
    notes
}

/// The two-sided p-value of a standard normal variable. (Abramowitz and Stegun, 7.1.26.)
fn two_sided(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let polynomial =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    (polynomial * (-x * x).exp()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Ended,
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
        assert!(
            found.iter().any(|found| found.starts_with("duration p50 at 10/s: 500 ms → 1.2 s (+140.0 %")),
            "{found:?}"
        );
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

    #[test]
    fn the_normal_distribution_is_known() {
        for (z, p) in [(0.0, 1.0), (1.0, 0.3173), (-1.96, 0.05), (2.5758, 0.01)] {
            assert!((two_sided(z) - p).abs() < 1e-4, "{z} {}", two_sided(z));
        }
    }
}
