//! The standard error of a quantile of a series of requests.

/// This many are enough for two digits of the standard error.
const RESAMPLES: usize = 300;

/// The quantile of both series, and the standard error of the logarithm of their ratio, by a *circular block bootstrap*. Consecutive requests wait in
/// the same queue, so they are not independent, although the usual tests (also Mann and Whitney's) assume it. Therefore blocks of consecutive requests
/// are resampled; the length of a block is the square root of the number of requests, and after the last request follows the first. (Politis and
/// Romano, 1992.)
pub(super) fn ratio_of_quantiles(old: &[f64], new: &[f64], q: f64) -> ([f64; 2], f64) {
    let mut random = fastrand::Rng::with_seed(1);
    let errors = [old, new].map(|samples| {
        let mut room = Vec::with_capacity(samples.len());
        let logarithms: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                resample(samples, &mut random, &mut room);
                quantile(&mut room, q).max(f64::MIN_POSITIVE).ln()
            })
            .collect();
        deviation(&logarithms)
    });
    let value = |samples: &[f64]| quantile(&mut samples.to_vec(), q);
    ([value(old), value(new)], errors[0].hypot(errors[1]))
}

fn resample(samples: &[f64], random: &mut fastrand::Rng, room: &mut Vec<f64>) {
    let length = (samples.len() as f64).sqrt().ceil() as usize;
    room.clear();
    while room.len() < samples.len() {
        let start = random.usize(..samples.len());
        let wanted = length.min(samples.len() - room.len());
        room.extend(samples.iter().cycle().skip(start).take(wanted));
    }
}

fn quantile(samples: &mut [f64], q: f64) -> f64 {
    let rank = ((q * samples.len() as f64).ceil() as usize).clamp(1, samples.len()) - 1;
    *samples.select_nth_unstable_by(rank, f64::total_cmp).1
}

fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlated_samples_have_a_larger_standard_error() {
        let mut random = fastrand::Rng::with_seed(5);
        let independent: Vec<f64> = (0..900).map(|_| 1.0 + random.f64()).collect();
        let mut level = 1.5;
        let queued: Vec<f64> = (0..900)
            .map(|_| {
                level = 0.95 * level + 0.05 * (1.0 + random.f64()) + 0.1 * (random.f64() - 0.5);
                level
            })
            .collect();
        let error = |samples: &[f64]| ratio_of_quantiles(samples, samples, 0.5).1 / deviation(samples);
        let (queued, alone) = (error(&queued), error(&independent));
        assert!(queued > 1.4 * alone, "{queued} {alone}");
        // The standard error of the median of a uniform distribution is 1 / (2 sqrt n); that of the difference of two medians is sqrt 2 times that.
        let expected = 2f64.sqrt() * 0.5 / 30.0 / 1.5;
        let seen = ratio_of_quantiles(&independent, &independent, 0.5).1;
        assert!((seen / expected - 1.0).abs() < 0.6, "{seen} {expected}");
    }
}
