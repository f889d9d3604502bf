//! Detects requests that are cancelled at the same age again and again: a sign of a time limit outside the layer, or of the clients.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many cancelled requests in a row must have the same age.
///
/// If ages are random (exponentially distributed, with the least favourable mean), less than 2 % of them lie in any interval as wide as the tolerance. The
/// probability that eight in a row do is below 10⁻¹¹.
pub(super) const IN_A_ROW: u8 = 8;

/// Shorter ages are ignored: time limits for language models are longer, and timers are not precise enough.
const SHORTEST: Duration = Duration::from_millis(100);

/// How much ages may differ and still count as the same. A busy server notices a time limit a few milliseconds late.
fn tolerance(age: Duration) -> Duration {
    (age / 100).max(Duration::from_millis(5))
}

/// The last cancelled requests in a row that have the same age.
#[derive(Debug, Default)]
pub(super) struct CancelledAges(Mutex<SameAges>);

#[derive(Debug, Default)]
struct SameAges {
    shortest: Duration,
    longest: Duration,
    requests: u8,
    /// When the last of them ended.
    ended: Option<Instant>,
}

impl CancelledAges {
    /// Call it for each cancelled request. Returns the age if enough requests in a row had it.
    pub(super) fn cancelled(&self, now: Instant, age: Duration) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cancelled(now, age)
    }
}

impl SameAges {
    fn cancelled(&mut self, now: Instant, age: Duration) -> Option<Duration> {
        let (shortest, longest) = (self.shortest.min(age), self.longest.max(age));
        let tolerance = tolerance(shortest);
        let same = longest - shortest <= tolerance;
        let Some(ended) = self.ended.filter(|_| same) else {
            let ended = (age >= SHORTEST).then_some(now);
            *self = Self { shortest: age, longest: age, requests: 1, ended };
            return None;
        };
        // Requests that began together and end together count as one: their client has left, or the server stops.
        if now.saturating_duration_since(ended) <= tolerance {
            return None;
        }
        *self = Self { shortest, longest, requests: self.requests.saturating_add(1), ended: Some(now) };
        (self.requests >= IN_A_ROW).then_some(age)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The age that is recognised when requests of these ages end one after another, with this pause in between. All in milliseconds.
    fn recognised(pause: f64, ages: impl IntoIterator<Item = f64>) -> Option<Duration> {
        let (mut ages_of, mut now) = (SameAges::default(), Instant::now());
        ages.into_iter().find_map(|age| {
            now += Duration::from_secs_f64(pause / 1e3);
            ages_of.cancelled(now, Duration::from_secs_f64(age / 1e3))
        })
    }

    #[test]
    fn a_time_limit_is_recognised_at_the_eighth_request() {
        let late = [0.2, 1.4, 0.0, 3.9, 1.1, 0.6, 2.2, 1.7];
        for limit in [100.0, 1_000.0, 30_000.0, 600_000.0] {
            let pause = limit / 50.0 + 10.0;
            let ages = late.map(|late| limit + late);
            assert_eq!(recognised(pause, ages).map(|age| age.as_secs_f64().round()), Some((limit / 1e3_f64).round()));
            assert_eq!(recognised(pause, ages[1..].to_vec()), None, "seven may be chance");
        }
    }

    #[test]
    fn one_of_another_age_in_between_makes_the_count_begin_again() {
        let limit = [1_000.0; 7];
        assert_eq!(recognised(500.0, [&limit[..], &[980.0], &limit[..]].concat()), None);
        assert!(recognised(500.0, [&limit[..], &[980.0], &limit[..], &[1_000.0]].concat()).is_some());
        assert_eq!(recognised(500.0, (0..40).map(|step| 1_000.0 + 2.0 * f64::from(step))), None, "they drift away");
    }

    #[test]
    fn requests_that_end_together_count_as_one() {
        assert_eq!(recognised(0.1, [30_000.0; 1_000]), None, "a client with a thousand streams has left");
        assert!(recognised(1.0, [30_000.0; 10_000]).is_some(), "a busy server has a time limit");
    }

    #[test]
    fn ages_below_a_tenth_of_a_second_are_ignored() {
        assert_eq!(recognised(50.0, [99.0; 100]), None);
    }

    proptest! {
        #[test]
        fn random_ages_are_not_taken_for_a_time_limit(
            mean in 20.0..100_000.0f64,
            spread in prop::sample::select(vec!["exponential", "even", "by magnitude"]),
            random in prop::collection::vec(0.0..1.0f64, 2_000),
        ) {
            let ages = random.into_iter().map(|random| match spread {
                "exponential" => -mean * (1.0 - random).ln(),
                "even" => mean * (0.5 + random),
                _ => mean * 10.0f64.powf(2.0 * random - 1.0),
            });
            prop_assert_eq!(recognised(3_000.0, ages), None);
        }
    }
}
