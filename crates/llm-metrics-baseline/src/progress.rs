//! Progress of a run.

use crate::baseline::Step;

/// An event of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A step begins.
    Started {
        /// Requests a second.
        rate: f64,
        /// Its number, from 1.
        number: usize,
    },
    /// The state of a running step; four times per second.
    Running(Running),
    /// A step has ended.
    Ended(&'a Step),
}

/// The state of a running step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Running {
    /// Requests a second.
    pub rate: f64,
    /// Whether its warm-up is over.
    pub warm: bool,
    /// The elapsed share of its maximum duration, between 0 and 1.
    pub share: f64,
    /// Requests that ended.
    pub ended: u64,
    /// Those that failed.
    pub failed: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Median of the last 1,000 requests, in seconds.
    pub time_to_first_token_p50: Option<f64>,
    /// 99th percentile of the last 1,000 requests, in seconds.
    pub duration_p99: Option<f64>,
}
