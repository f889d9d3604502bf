use std::time::Duration;

use super::histogram::Histogram;

/// Latencies of the last seconds: a ring with one slot per second. It allocates its memory at the first sample, and no more afterwards, whatever the
/// rate.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: Box<[Slot]>,
}

#[derive(Clone, Debug)]
struct Slot {
    /// The second of its samples.
    second: u32,
    samples: Histogram,
}

impl Window {
    /// Records a sample of `seconds`, taken in second `second`, in a window of `back` seconds.
    pub(super) fn record(&mut self, second: u32, back: u32, seconds: f64) {
        if self.slots.is_empty() {
            // One slot more than the window, because the current second is not over.
            self.slots = vec![Slot { second: 0, samples: Histogram::EMPTY }; back as usize + 1].into();
        }
        let slot = &mut self.slots[(second % (back + 1)) as usize];
        if slot.second < second {
            *slot = Slot { second, samples: Histogram::EMPTY };
        }
        // A thread that was descheduled for longer than the window has no sample for it.
        if slot.second == second {
            slot.samples.record(seconds);
        }
    }

    /// Whether there has been a sample.
    pub(super) fn is_used(&self) -> bool {
        !self.slots.is_empty()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// The samples since second `since`.
    pub(super) fn samples(&self, since: u32) -> Histogram {
        let mut all = Histogram::EMPTY;
        for slot in self.slots.iter().filter(|slot| slot.second >= since) {
            all.add(&slot.samples);
        }
        all
    }
}

/// The statistics of one latency of one model over the recent window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentLatency {
    /// The number of samples.
    pub count: u64,
    /// The median, with the accuracy of its bucket (a quarter of an octave).
    pub p50: Duration,
    /// The 95th percentile.
    pub p95: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The exact maximum.
    pub max: Duration,
}

impl RecentLatency {
    /// The statistics of the samples; `None` if there are none.
    pub(crate) fn of(samples: &Histogram) -> Option<Self> {
        let count = samples.count();
        (count > 0).then(|| Self {
            count,
            p50: Duration::from_secs_f64(samples.quantile(0.5)),
            p95: Duration::from_secs_f64(samples.quantile(0.95)),
            p99: Duration::from_secs_f64(samples.quantile(0.99)),
            max: Duration::from_secs_f64(samples.max()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK: u32 = 60;

    fn latency(window: &Window, since: u32) -> Option<RecentLatency> {
        RecentLatency::of(&window.samples(since))
    }

    #[test]
    fn a_sample_is_in_the_window_for_its_whole_length() {
        let mut window = Window::default();
        window.record(100, BACK, 2.0);
        assert_eq!(latency(&window, 160 - BACK).unwrap().max, Duration::from_secs(2));
        assert_eq!(latency(&window, 161 - BACK), None);
    }

    #[test]
    fn a_reused_slot_forgets_its_content() {
        let mut window = Window::default();
        window.record(7, BACK, 5.0);
        window.record(7 + BACK + 1, BACK, 1.0);
        let latency = latency(&window, 0).unwrap();
        assert_eq!((latency.count, latency.max), (1, Duration::from_secs(1)));
    }

    #[test]
    fn a_sample_that_comes_a_whole_window_late_changes_nothing() {
        let mut window = Window::default();
        window.record(7 + BACK + 1, BACK, 1.0);
        window.record(7, BACK, 5.0);
        let latency = latency(&window, 0).unwrap();
        assert_eq!((latency.count, latency.max), (1, Duration::from_secs(1)));
    }

    #[test]
    fn samples_of_the_very_first_second_count() {
        let mut window = Window::default();
        window.record(0, BACK, 1.0);
        assert_eq!(latency(&window, 0).unwrap().count, 1);
    }
}
