//! Latencies: quantiles with confidence intervals.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The statistics of one latency, in seconds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Latency {
    /// The number of samples.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The median.
    pub p50: Quantile,
    /// The 95th percentile.
    pub p95: Quantile,
    /// The 99th percentile.
    pub p99: Quantile,
    /// The maximum.
    pub max: f64,
}

/// A quantile with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Quantile {
    /// The sample at the nearest rank.
    pub value: f64,
    /// The lower end of the interval; `null` if there are too few samples.
    pub low: Option<f64>,
    /// The upper end; `null` if there are too few samples.
    pub high: Option<f64>,
}

impl Quantile {
    /// The width of the interval as a share of the value; `None` without an interval.
    pub(crate) fn spread(&self) -> Option<f64> {
        Some((self.high? - self.low?) / self.value.max(f64::MIN_POSITIVE))
    }
}

impl Latency {
    /// `None` without samples: absent is not zero.
    pub(crate) fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let max = *samples.last()?;
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        let at = |q| quantile(samples.len() as u64, q, |rank| samples[rank as usize - 1]);
        Some(Self { count: samples.len() as u64, mean, p50: at(0.5), p95: at(0.95), p99: at(0.99), max })
    }

    /// The statistics of a histogram of microseconds.
    pub(crate) fn of_histogram(micros: &Histogram<u64>) -> Option<Self> {
        if micros.is_empty() {
            return None;
        }
        let seconds = |micros: u64| micros as f64 / 1e6;
        let count = micros.len();
        let at = |q| {
            // Half a rank lower, so that rounding does not select the next rank.
            quantile(count, q, |rank| seconds(micros.value_at_quantile((rank as f64 - 0.5) / count as f64)))
        };
        Some(Self {
            count,
            mean: micros.mean() / 1e6,
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: seconds(micros.max()),
        })
    }
}

/// The sample at the nearest rank of `q`, and the samples between which the true quantile is with 95 % confidence. The number of samples below the true
/// quantile is binomial for any distribution. (Conover, Practical Nonparametric Statistics, 3.2; by the normal approximation.)
fn quantile(count: u64, q: f64, at_rank: impl Fn(u64) -> f64) -> Quantile {
    let n = count as f64;
    let rank = ((q * n).ceil() as u64).clamp(1, count);
    let half_width = 1.96 * (n * q * (1.0 - q)).sqrt();
    let (low, high) = ((q * n - half_width).floor(), (q * n + half_width).ceil() + 1.0);
    Quantile {
        value: at_rank(rank),
        low: (low >= 1.0).then(|| at_rank(low as u64)),
        high: (high <= n).then(|| at_rank(high as u64)),
    }
}

/// A share of requests with its 95 % confidence interval: Wilson's, which is valid for few requests and for shares near 1, too.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Share {
    /// Between 0 and 1.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

impl Share {
    pub(crate) fn of(part: u64, whole: u64) -> Option<Self> {
        if whole == 0 {
            return None;
        }
        let (n, value, z2) = (whole as f64, part as f64 / whole as f64, 1.96f64 * 1.96);
        let middle = (value + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half_width = 1.96 / (1.0 + z2 / n) * (value * (1.0 - value) / n + z2 / (4.0 * n * n)).sqrt();
        Some(Self { value, low: (middle - half_width).max(0.0), high: (middle + half_width).min(1.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_at_the_nearest_rank() {
        let latency = Latency::of((1..=1000).rev().map(f64::from).collect()).unwrap();
        assert_eq!((latency.count, latency.mean, latency.max), (1000, 500.5, 1000.0));
        assert_eq!((latency.p50.value, latency.p95.value, latency.p99.value), (500.0, 950.0, 990.0));
        assert_eq!((latency.p50.low, latency.p50.high), (Some(469.0), Some(532.0)));
        assert_eq!(latency.p99.high, Some(998.0));
        assert!(Latency::of(vec![]).is_none());
    }

    #[test]
    fn too_few_samples_have_no_end_of_the_interval() {
        let latency = Latency::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((latency.p50.value, latency.p99.value), (2.0, 3.0));
        assert_eq!((latency.p50.low, latency.p99.high, latency.p99.spread()), (None, None, None));
    }

    #[test]
    fn intervals_contain_the_true_quantile_in_95_percent_of_runs() {
        let mut random = fastrand::Rng::with_seed(7);
        let held = (0..1000).filter(|_| {
            let latency = Latency::of((0..500).map(|_| random.f64()).collect()).unwrap();
            latency.p95.low.unwrap() <= 0.95 && 0.95 <= latency.p95.high.unwrap()
        });
        let held = held.count();
        assert!((930..=985).contains(&held), "{held} of 1000");
    }

    #[test]
    fn a_histogram_gives_the_same_statistics_to_three_digits() {
        let mut micros = Histogram::new(3).unwrap();
        for value in 1..=1000 {
            micros.record(value * 1000).unwrap();
        }
        let (histogram, exact) = (
            Latency::of_histogram(&micros).unwrap(),
            Latency::of((1..=1000).map(|value| f64::from(value) / 1e3).collect()).unwrap(),
        );
        for (one, other) in [
            (histogram.p50.value, exact.p50.value),
            (histogram.p99.value, exact.p99.value),
            (histogram.p95.high.unwrap(), exact.p95.high.unwrap()),
            (histogram.mean, exact.mean),
        ] {
            assert!((one / other - 1.0).abs() < 2e-3, "{one} {other}");
        }
    }

    #[test]
    fn wilsons_interval() {
        let share = Share::of(95, 100).unwrap();
        assert!((share.low - 0.8883).abs() < 1e-3 && (share.high - 0.9785).abs() < 1e-3, "{share:?}");
        assert_eq!(Share::of(20, 20).unwrap().high, 1.0);
        assert!(Share::of(0, 0).is_none());
    }
}
