//! How sure a quantile of a series of requests is.

/// Enough for a standard error to two digits.
const RESAMPLES: usize = 300;

/// A quantile of both, and the standard error of the logarithm of their ratio, by a *circular block bootstrap*: requests that follow
/// each other wait in the same queue and are not independent, as the usual tests (Mann and Whitney's, too) presume; resampled are
/// therefore runs of them, as long as the square root of their number, the first following the last. (Politis and Romano, 1992.)
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
    fn what_depends_on_what_came_before_is_less_sure() {
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
        // That of the median of a uniform distribution is 1 / (2 sqrt n), of both sqrt 2 times that.
        let expected = 2f64.sqrt() * 0.5 / 30.0 / 1.5;
        let seen = ratio_of_quantiles(&independent, &independent, 0.5).1;
        assert!((seen / expected - 1.0).abs() < 0.6, "{seen} {expected}");
    }
}
