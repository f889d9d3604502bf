//! Compares two baselines: which values are worse, and whether that can be random.

use crate::{
    Attainment,
    baseline::{Baseline, Knee, Step, Verdict},
    figure,
};

mod notes;
mod resample;
mod significance;

use notes::notes;
use resample::ratio_of_quantiles;
use significance::{Test, with_holm_correction};

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

#[cfg(test)]
mod tests;
