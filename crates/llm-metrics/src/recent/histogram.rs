//! Counts of durations in buckets that are the same for every latency, from time per token to request duration.

/// Buckets per octave, as a power of two: four, so that a bucket is 14 to 25 % wide.
const STEPS: u32 = 2;
/// The lowest bound is 2⁻¹⁴ s, 61 µs. Lower values are in the first bucket.
const LOWEST: i32 = -14;
/// The highest is 2¹¹ s, 34 minutes. Higher values are in the last bucket.
const HIGHEST: i32 = 11;

pub(super) const BUCKETS: usize = ((HIGHEST - LOWEST) as usize) << STEPS;

/// The bucket number is the value's `f64` representation without its lower bits: the exponent, and as many bits of the mantissa as there are steps in
/// an octave.
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - STEPS;
const FIRST: u64 = ((1023 + LOWEST) as u64) << STEPS;

/// Samples in a fixed number of bytes, whatever their number. The largest sample is stored exactly.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: [u32; BUCKETS],
    max: f64,
}

impl Histogram {
    pub(crate) const EMPTY: Self = Self { counts: [0; BUCKETS], max: 0.0 };

    /// Counts a sample, which must not be negative.
    pub(super) fn record(&mut self, seconds: f64) {
        let bucket = (seconds.to_bits() >> SHIFT).saturating_sub(FIRST).min(BUCKETS as u64 - 1);
        let count = &mut self.counts[bucket as usize];
        *count = count.saturating_add(1);
        self.max = self.max.max(seconds);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.max = self.max.max(other.max);
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    pub(super) fn max(&self) -> f64 {
        self.max
    }

    /// The quantile `q` of the samples, with the accuracy of its bucket, and never above the largest sample.
    pub(super) fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.count() as f64).ceil().max(1.0);
        let mut below = 0.0;
        for (bucket, count) in self.counts.iter().enumerate() {
            let count = f64::from(*count);
            if below + count >= rank {
                let (lower, upper) = (bound(bucket), bound(bucket + 1));
                return (lower + (upper - lower) * (rank - below) / count).min(self.max);
            }
            below += count;
        }
        self.max
    }
}

/// The lower bound of a bucket.
fn bound(bucket: usize) -> f64 {
    f64::from_bits((FIRST + bucket as u64) << SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: impl IntoIterator<Item = f64>) -> Histogram {
        let mut histogram = Histogram::EMPTY;
        samples.into_iter().for_each(|seconds| histogram.record(seconds));
        histogram
    }

    #[test]
    fn bounds_rise_by_a_quarter_of_an_octave_and_meet_the_ends() {
        assert_eq!((bound(0), bound(BUCKETS)), (2_f64.powi(LOWEST), 2_f64.powi(HIGHEST)));
        for bucket in 0..BUCKETS {
            let (lower, upper) = (bound(bucket), bound(bucket + 1));
            assert!(lower < upper && upper <= lower * 1.25, "{lower} to {upper}");
            // A bound belongs to the bucket above it.
            assert_eq!(of([lower]).counts[bucket], 1);
            assert_eq!(of([f64::from_bits(upper.to_bits() - 1)]).counts[bucket], 1);
        }
    }

    #[test]
    fn quantiles_are_right_to_the_width_of_a_bucket() {
        let histogram = of((1..=1000).map(|ms| f64::from(ms) / 1000.0));
        for (q, exact) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99)] {
            let found = histogram.quantile(q);
            assert!((found / exact - 1.0).abs() < 0.03, "{q}: {found}");
        }
        assert_eq!(histogram.max(), 1.0);
    }

    #[test]
    fn a_quantile_is_never_above_the_largest_sample_nor_below_a_smaller_one() {
        let one = of([0.3]);
        assert_eq!([0.5, 0.95, 0.99].map(|q| one.quantile(q)), [0.3; 3], "one sample is known exactly");
        let spread = of([0.02, 0.4, 0.4, 7.0]);
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|q| spread.quantile(q));
        assert!(p50 <= p95 && p95 <= p99 && p99 <= 7.0, "{p50} {p95} {p99}");
    }

    #[test]
    fn samples_outside_the_bounds_are_counted_at_the_ends_and_kept_as_the_largest() {
        assert_eq!(of([0.0, f64::MIN_POSITIVE, 1e-6]).counts[0], 3);
        let long = of([1e6]);
        assert_eq!((long.counts[BUCKETS - 1], long.max()), (1, 1e6));
        assert!(long.quantile(0.5) <= 1e6);
    }
}
