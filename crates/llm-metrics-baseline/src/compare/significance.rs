//! Whether a change can be random.

use super::{Change, ChangeKind, FEW, Unit};

/// A value, before the correction for the number of values.
pub(super) struct Test {
    change: Change,
    worse: bool,
    matters: bool,
}

impl Test {
    /// Tests the ratio of two values; `error` is the standard error of its logarithm.
    pub(super) fn ratio(
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
    pub(super) fn share(
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

/// Holm's correction: the smallest of m probabilities counts m times, the next one m − 1 times …
pub(super) fn with_holm_correction(mut tests: Vec<Test>, significance: f64) -> Vec<Change> {
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

    #[test]
    fn the_normal_distribution_is_known() {
        for (z, p) in [(0.0, 1.0), (1.0, 0.3173), (-1.96, 0.05), (2.5758, 0.01)] {
            assert!((two_sided(z) - p).abs() < 1e-4, "{z} {}", two_sided(z));
        }
    }
}
