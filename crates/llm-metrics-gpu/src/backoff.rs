//! How long to wait before a failed operation is tried again.

use std::time::{Duration, Instant};

/// Pauses that double each time, up to a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    due: Option<Instant>,
}

impl Backoff {
    /// For calls to a driver: the pause doubles from one second to one minute.
    pub(crate) const fn of_drivers() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first, due: None }
    }

    /// How long to wait now.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.most);
        self.next = pause.saturating_mul(2);
        pause
    }

    /// Sets the time at which to try again, and returns it.
    pub(crate) fn postpone(&mut self, now: Instant) -> Instant {
        let due = now + self.pause();
        self.due = Some(due);
        due
    }

    /// Whether a time is set.
    pub(crate) const fn is_set(&self) -> bool {
        self.due.is_some()
    }

    /// Whether that time is reached.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// It worked: the next pause is the first one again.
    pub(crate) const fn reset(&mut self) {
        *self = Self::new(self.first, self.most);
    }

    /// How long to wait now, after it worked for this long. If that is longer than the longest pause, the failure counts as a new one.
    pub(crate) fn pause_after(&mut self, worked: Duration) -> Duration {
        if worked > self.most {
            self.reset();
        }
        self.pause()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_limit() {
        let mut backoff = Backoff::new(SECOND, SECOND * 5);
        let pauses: Vec<_> = (0..5).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.pause(), SECOND);
        assert_eq!(Backoff::new(SECOND * 9, SECOND).pause(), SECOND, "never above it");
        let mut endless = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!((endless.pause(), endless.pause()), (Duration::MAX, Duration::MAX));
    }

    #[test]
    fn it_is_due_when_the_pause_is_over_and_not_before() {
        let (mut backoff, now) = (Backoff::new(SECOND, SECOND * 60), Instant::now());
        assert!(!backoff.is_set() && !backoff.is_due(now + SECOND * 1000), "nothing to wait for");
        assert_eq!(backoff.postpone(now), now + SECOND);
        assert!(backoff.is_set() && !backoff.is_due(now + SECOND / 2) && backoff.is_due(now + SECOND));
        assert_eq!(backoff.postpone(now), now + SECOND * 2);
        backoff.reset();
        assert!(!backoff.is_set());
        assert_eq!(backoff.postpone(now), now + SECOND);
    }

    #[test]
    fn after_working_longer_than_the_longest_pause_it_starts_with_the_first_pause_again() {
        let mut backoff = Backoff::new(SECOND, SECOND * 60);
        for _ in 0..3 {
            backoff.pause();
        }
        assert_eq!(backoff.pause_after(SECOND * 60), SECOND * 8);
        assert_eq!(backoff.pause_after(SECOND * 61), SECOND);
        assert_eq!(backoff.pause_after(Duration::ZERO), SECOND * 2);
    }
}
