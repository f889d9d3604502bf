//! Bucket bounds, and the check that bounds are valid. They are public so that a service can use them for its own histograms, or change them.

/// Seconds that a whole request takes: from an embedding to half an hour of reasoning.
///
/// From 0.1 s on, each bound except the last is at most about 1.5 times the bound before it. This limits the error of quantiles, which are
/// interpolated within a bucket.
pub const DURATION: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 180.0, 300.0, 450.0, 600.0, 900.0, 1800.0,
];

/// Seconds until the first token or event: vLLM's bounds up to 640 s, with more bounds between them.
pub const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0,
    4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 160.0, 320.0, 640.0,
];

/// Seconds per token: from speculative decoding on a large GPU to a small CPU.
pub const PER_TOKEN: &[f64] = &[
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0,
    20.0,
];

/// Token counts: powers of two up to a million.
pub const TOKENS: &[f64] = &[
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
    32.0,
    64.0,
    128.0,
    256.0,
    512.0,
    1024.0,
    2048.0,
    4096.0,
    8192.0,
    16384.0,
    32768.0,
    65536.0,
    131_072.0,
    262_144.0,
    524_288.0,
    1_048_576.0,
];

/// Requests in one step of an engine: powers of two up to 1,024, and the midpoints between the larger ones.
pub const BATCH: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0, 768.0, 1024.0];

/// Seconds without an event inside a stream.
pub const GAP: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Why a list of bucket bounds is invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBuckets {
    /// No bound was given.
    #[error("a histogram needs at least one bucket bound")]
    Empty,
    /// A bound is infinite or not a number. `+Inf` is always added; leave it out.
    #[error("bucket bound {bound} is not finite; leave out +Inf, which is always added")]
    NotFinite {
        /// The bound.
        bound: f64,
    },
    /// A bound is not greater than the one before it.
    #[error("bucket bound {bound} comes after {before}: list each bound once, in ascending order")]
    NotRising {
        /// The bound.
        bound: f64,
        /// The bound before it.
        before: f64,
    },
}

/// Checks that `bounds` are valid bucket bounds of a histogram.
///
/// # Errors
/// If the list is empty, has a bound that is not finite, or is not in ascending order.
pub fn validate(bounds: &[f64]) -> Result<(), InvalidBuckets> {
    if bounds.is_empty() {
        return Err(InvalidBuckets::Empty);
    }
    if let Some(&bound) = bounds.iter().find(|bound| !bound.is_finite()) {
        return Err(InvalidBuckets::NotFinite { bound });
    }
    match bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(InvalidBuckets::NotRising { bound: pair[1], before: pair[0] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_bounds_are_rejected_with_the_reason() {
        assert_eq!(validate(&[]), Err(InvalidBuckets::Empty));
        assert!(matches!(validate(&[1.0, f64::NAN]), Err(InvalidBuckets::NotFinite { .. })));
        assert_eq!(validate(&[1.0, f64::INFINITY]), Err(InvalidBuckets::NotFinite { bound: f64::INFINITY }));
        assert_eq!(validate(&[1.0, 1.0]), Err(InvalidBuckets::NotRising { bound: 1.0, before: 1.0 }));
        assert_eq!(validate(&[0.5, 1.0]), Ok(()));
    }
}
