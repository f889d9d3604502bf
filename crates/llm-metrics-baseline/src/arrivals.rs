//! When requests are due: a Poisson process, independent of earlier requests. A *closed* loop (a number of clients, each of which waits for its
//! response before the next request) slows down with the server, and so hides the queue that it should measure.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The longest sleep, so that a step can end soon.
const NAP: Duration = Duration::from_millis(50);

/// Sends the time at which each request is due, from a separate thread, because the runtime's timers are only accurate to a millisecond. It ends when
/// the receiver is dropped.
pub(crate) fn start(rate: f64, seed: u64, epoch: Instant) -> UnboundedReceiver<Instant> {
    let (due, receiver) = unbounded_channel();
    thread::spawn(move || {
        for offset in poisson(rate, seed) {
            let at = epoch + offset;
            while let Some(left) = at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if due.is_closed() {
                    return;
                }
                thread::sleep(left.min(NAP));
            }
            if due.send(at).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The times of a Poisson process with this many events per second.
fn poisson(rate: f64, seed: u64) -> impl Iterator<Item = Duration> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut at = 0.0;
    std::iter::repeat_with(move || {
        at += -(1.0 - random.f64()).ln() / rate;
        Duration::from_secs_f64(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_exponential_and_the_same_for_one_seed() {
        let times: Vec<f64> = poisson(50.0, 3).take(20_000).map(|at| at.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean * 50.0 - 1.0).abs() < 0.03, "{mean}");
        // The median of an exponential distribution is ln 2 of its mean; its deviation is its mean.
        let below = gaps.iter().filter(|gap| **gap < mean * 2f64.ln()).count() as f64 / gaps.len() as f64;
        assert!((below - 0.5).abs() < 0.02, "{below}");
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((deviation / mean - 1.0).abs() < 0.05, "{deviation}");
        assert!(poisson(50.0, 3).take(100).eq(poisson(50.0, 3).take(100)));
        assert!(!poisson(50.0, 3).take(100).eq(poisson(50.0, 4).take(100)));
    }
}
