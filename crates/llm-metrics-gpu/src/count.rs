//! Converts a driver's count, which may decrease, to a counter.

use std::time::Instant;

use llm_metrics::catalog::Unit;

/// The sum of the increases of a driver's count.
///
/// It starts with the driver's own value, so a restart of this process is not a jump, and counts over a device's lifetime are kept. A reading that is
/// lower than the last one, or higher than a device can count, may be wrong: the following readings decide.
#[derive(Debug, Default)]
pub(crate) struct RisingCount {
    /// The highest reading since the count last started, and its time.
    last: Option<(u64, Instant)>,
    total: u64,
    /// The device was away: its count may have started again, at any value.
    interrupted: bool,
    suspect: Option<Suspect>,
}

/// A reading that is only accepted if the next one confirms it.
#[derive(Clone, Copy, Debug)]
enum Suspect {
    /// The count started again.
    Restart,
    /// The count is at this value, which is higher than possible.
    Jump(u64, Instant),
}

impl RisingCount {
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// The device was away.
    pub(crate) const fn interrupt(&mut self) {
        self.interrupted = true;
    }

    /// Adds a reading of a count that increases by at most `most` per second. Returns whether it is plausible.
    pub(crate) fn apply(&mut self, now: Instant, count: u64, most: f64) -> bool {
        let possible = |from: u64, at: Instant| {
            let seconds = now.saturating_duration_since(at).as_secs_f64();
            count >= from && (count - from) as f64 <= most * (seconds + 1.0)
        };
        let Some((last, at)) = self.last else { return self.accept(now, count, count) };
        if count < last {
            return if !self.can_have_restarted(count, last) {
                // A lower reading (ROCm/amdsmi#115): nothing is counted until it is above the previous value.
                self.suspect = None;
                true
            } else if matches!(self.suspect, Some(Suspect::Restart)) {
                self.accept(now, count, count)
            } else {
                self.suspect = Some(Suspect::Restart);
                true
            };
        }
        let borne_out = matches!(self.suspect, Some(Suspect::Jump(from, at)) if possible(from, at));
        if possible(last, at) || borne_out {
            return self.accept(now, count, count - last);
        }
        self.suspect = Some(Suspect::Jump(count, now));
        false
    }

    /// A count starts again at 0. While the device is present, this only happens when it is cleared: soon after that it is far lower than before.
    const fn can_have_restarted(&self, count: u64, last: u64) -> bool {
        self.interrupted || count < last.div_ceil(2)
    }

    fn accept(&mut self, now: Instant, count: u64, risen: u64) -> bool {
        (self.last, self.suspect, self.interrupted) = (Some((count, now)), None, false);
        self.total = self.total.saturating_add(risen);
        true
    }
}

/// The highest plausible rate of a count, by unit.
pub(crate) const fn most_per_second(unit: Unit) -> f64 {
    match unit {
        Unit::Joules => 100_000.0,
        Unit::Bytes => 1e14,
        // Time passes at one second per second.
        Unit::Seconds => 1.01,
        _ => 1e9,
    }
}

/// Drivers use the largest integers for "unknown".
pub(crate) const fn plausible_count(count: u64) -> bool {
    count != u32::MAX as u64 && count < 1 << 62
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The total after readings that are ten seconds apart, and how many of them were refused.
    fn counted(readings: &[u64], most: f64) -> (u64, usize) {
        let (mut count, start) = (RisingCount::default(), Instant::now());
        let at = |n: u64| start + Duration::from_secs(10 * n);
        let refused = readings.iter().zip(0..).filter(|&(&reading, n)| !count.apply(at(n), reading, most)).count();
        (count.total(), refused)
    }

    #[test]
    fn a_count_that_falls_back_goes_on_rising() {
        assert_eq!(counted(&[1000, 5000, 200, 300, 700], 1e9), (5000 + 700, 0));
    }

    #[test]
    fn a_count_that_dips_once_is_not_counted_twice() {
        assert_eq!(counted(&[1000, 5000, 0, 5100], 1e9), (5100, 0));
    }

    #[test]
    fn a_count_that_jumps_once_is_ignored() {
        assert_eq!(counted(&[1000, 5000, 1 << 60, 5100], 1000.0), (5100, 1));
        assert_eq!(counted(&[1000, 5000, 1 << 60, 1 << 50, 5100], 1000.0), (5100, 2));
    }

    #[test]
    fn a_count_that_stays_at_its_new_level_after_a_jump_is_used() {
        assert_eq!(counted(&[1000, 1_000_000, 1_000_500], 1000.0), (1_000_500, 1));
    }

    #[test]
    fn a_count_that_goes_back_a_little_is_not_counted_before_it_is_where_it_was() {
        // Less than half is a beginning; half is not.
        assert_eq!(counted(&[1000, 5000, 4985, 4985, 4990, 5100], 1e9), (5100, 0));
        assert_eq!(counted(&[5000, 2500, 2500, 2600], 1e9), (5000, 0));
        assert_eq!(counted(&[5000, 2499, 2499, 2600], 1e9), (7600, 0));
        // An administrator clears a small count: one error, then none, then the next.
        assert_eq!(counted(&[1, 0, 0, 1], 1e9), (2, 0));
    }

    #[test]
    fn a_dip_cancels_the_assumption_that_the_count_started_again() {
        assert_eq!(counted(&[1000, 100, 900, 100, 900, 1001], 1e9), (1001, 0));
    }

    #[test]
    fn a_count_that_was_interrupted_starts_again_at_any_value() {
        let (mut count, start) = (RisingCount::default(), Instant::now());
        let at = |n: u64| start + Duration::from_secs(10 * n);
        assert!(count.apply(at(0), 1000, 1e9));
        count.interrupt();
        assert!(count.apply(at(1), 900, 1e9) && count.apply(at(2), 950, 1e9));
        assert_eq!(count.total(), 1950);
        assert!(count.apply(at(3), 900, 1e9) && count.apply(at(4), 900, 1e9));
        assert_eq!(count.total(), 1950, "that was the one interruption");
        count.interrupt();
        assert!(count.apply(at(5), 960, 1e9) && count.apply(at(6), 900, 1e9) && count.apply(at(7), 900, 1e9));
        assert_eq!(count.total(), 1960, "it had gone on");
    }

    #[test]
    fn a_count_with_the_same_value_after_an_interruption_has_not_started_again() {
        let (mut count, start) = (RisingCount::default(), Instant::now());
        assert!(count.apply(start, 1000, 1e9));
        count.interrupt();
        assert!((1..4).all(|n| count.apply(start + Duration::from_secs(10 * n), 1000, 1e9)));
        assert_eq!(count.total(), 1000);
    }

    #[test]
    fn a_count_may_rise_by_the_elapsed_time_plus_one_second() {
        // Ten seconds apart, and one for the clocks.
        assert_eq!(counted(&[0, 1100], 100.0), (1100, 0));
        assert_eq!(counted(&[0, 1101], 100.0), (0, 1));
        // A plausible next reading confirms a jump; another jump does not.
        assert_eq!(counted(&[0, 5000, 6100], 100.0), (6100, 1));
        assert_eq!(counted(&[0, 5000, 6101, 20_000], 100.0), (0, 3));
        assert_eq!(counted(&[0, 5000, 4000, 4500], 100.0), (4500, 2), "nor by less than it");
    }

    #[test]
    fn each_unit_has_its_own_limit() {
        let limits = [Unit::Joules, Unit::Bytes, Unit::Seconds, Unit::Count].map(most_per_second);
        assert_eq!(limits, [1e5, 1e14, 1.01, 1e9]);
    }

    #[test]
    fn the_largest_integers_are_not_counts() {
        for (count, plausible) in [
            (0, true),
            (u64::from(u32::MAX) - 1, true),
            (u64::from(u32::MAX), false),
            (u64::from(u32::MAX) + 1, true),
            ((1 << 62) - 1, true),
            (1 << 62, false),
            (9_223_372_036_854_775_794, false),
            (u64::MAX, false),
        ] {
            assert_eq!(plausible_count(count), plausible, "{count}");
        }
    }
}
