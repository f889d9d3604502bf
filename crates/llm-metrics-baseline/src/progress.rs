//! What is told while it runs.

use crate::baseline::Step;

/// What is told while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A step begins, at so many requests a second.
    Started {
        /// Requests a second.
        rate: f64,
        /// Which one it is, from 1.
        number: usize,
    },
    /// A step is on its way; four times a second.
    Running(Running),
    /// A step is over.
    Ended(&'a Step),
}

/// A step on its way.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Running {
    /// Requests a second.
    pub rate: f64,
    /// Whether its warm-up is over.
    pub warm: bool,
    /// How much of its longest time is over, between 0 and 1.
    pub share: f64,
    /// Requests that ended.
    pub ended: u64,
    /// Of them, those that failed.
    pub failed: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Of the last 1,000 requests, seconds.
    pub time_to_first_token_p50: Option<f64>,
    /// Of the last 1,000 requests, seconds.
    pub duration_p99: Option<f64>,
}
