//! What is to be done, and how much of it at most.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Objective, Protocol, Workload};

/// What is to be done. All of it stands in `baseline.json`, so that it can be done again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Settings {
    /// The server, such as `http://127.0.0.1:8080`.
    pub target: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// The model that is asked for. Empty: the one that the server has, as `/v1/models` says.
    pub model: String,
    /// Where metrics are read: the server's, a GPU exporter's. Empty: `/metrics` of the server, if it has that.
    pub metrics: Vec<String>,
    /// The first word of the server's metrics, where it is not `llm`.
    pub metrics_prefix: String,
    /// The rates that are tried.
    pub rates: Rates,
    /// What is asked.
    pub workload: Workload,
    /// What is to hold, request by request.
    pub objectives: Vec<Objective>,
    /// How long one rate is held.
    pub step: StepLength,
    /// What is not exceeded.
    pub limits: Limits,
    /// What the arrivals and the draws begin with. The same seed sends the same requests at the same times.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target: "http://127.0.0.1:8080".to_owned(),
            protocol: Protocol::default(),
            model: String::new(),
            metrics: Vec::new(),
            metrics_prefix: "llm".to_owned(),
            rates: Rates::default(),
            workload: Workload::default(),
            objectives: Objective::defaults(),
            step: StepLength::default(),
            limits: Limits::default(),
            seed: 1,
        }
    }
}

/// Requests a second.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rates {
    /// These, one after the other.
    Fixed(Vec<f64>),
    /// From the first one on each `factor` times the one before, until the server saturates; then between the last that it kept up
    /// with and the first that it did not, until they are within `precision` of each other.
    Search {
        /// The first rate. None: a half of what one request at a time would make.
        start: Option<f64>,
        /// Above 1.
        factor: f64,
        /// A share, such as 0.05.
        precision: f64,
        /// The highest rate that is tried.
        most: f64,
    },
}

impl Default for Rates {
    fn default() -> Self {
        Self::Search { start: None, factor: 1.5, precision: 0.05, most: 1000.0 }
    }
}

/// How long one rate is held: until its 99th percentiles are stable, within these limits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct StepLength {
    /// Seconds that are cut off at least. More are, until requests have come and gone.
    pub warm_up_seconds: f64,
    /// Seconds that are measured at least.
    pub least_seconds: f64,
    /// Seconds that are measured at most.
    pub most_seconds: f64,
    /// Requests that are measured at least, time permitting.
    pub least_requests: u64,
    /// A 99th percentile is stable when its interval of 95 % is this share of it, or less.
    pub stable: f64,
}

impl Default for StepLength {
    fn default() -> Self {
        Self { warm_up_seconds: 5.0, least_seconds: 20.0, most_seconds: 90.0, least_requests: 100, stable: 0.1 }
    }
}

/// What is not exceeded, whatever happens.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Limits {
    /// Requests in all.
    pub requests: u64,
    /// Seconds in all.
    pub seconds: f64,
    /// Requests in flight. A step that reaches it is over: with a limit the loop is no longer open.
    pub in_flight: u64,
    /// Seconds for one request.
    pub request_seconds: f64,
    /// Seconds without a byte of an answer.
    pub silence_seconds: f64,
    /// Seconds that a step waits for its last answers.
    pub drain_seconds: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 50_000,
            seconds: 1800.0,
            in_flight: 256,
            request_seconds: 120.0,
            silence_seconds: 30.0,
            drain_seconds: 60.0,
        }
    }
}

/// What cannot be done.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {value} is out of range: it has to be {expected}")]
#[non_exhaustive]
pub struct InvalidSettings {
    what: &'static str,
    value: f64,
    expected: &'static str,
}

impl Settings {
    /// Whether all of it can be done.
    ///
    /// # Errors
    /// Where a number is out of its range.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let Self { rates, workload, step, limits, .. } = self;
        let rate =
            |what, value: f64| within(what, value, 0.001..=100_000.0, "between 0.001 and 100,000 requests a second");
        match rates {
            Rates::Fixed(rates) => {
                within("rates (--rates)", rates.len() as f64, 1.0..=1000.0, "at least one")?;
                rates.iter().try_for_each(|value| rate("rate (--rates)", *value))?;
            }
            Rates::Search { start, factor, precision, most } => {
                start.map_or(Ok(()), |start| rate("first rate (--start)", start))?;
                within("factor (--factor)", *factor, 1.05..=10.0, "between 1.05 and 10")?;
                within("precision (--precision)", *precision, 0.01..=0.5, "between 0.01 and 0.5")?;
                rate("highest rate (--max-rate)", *most)?;
            }
        }
        within("share of hang-ups (--hang-ups)", workload.hang_ups, 0.0..=0.95, "a share between 0 and 0.95")?;
        within(
            "longest step (--max-step)",
            step.most_seconds,
            step.least_seconds..=86_400.0,
            "at least as long as the shortest one (--min-step), and at most 86,400 seconds",
        )?;
        within("shortest step (--min-step)", step.least_seconds, 1.0..=86_400.0, "between 1 and 86,400 seconds")?;
        within("warm-up (--warm-up)", step.warm_up_seconds, 0.0..=3600.0, "between 0 and 3600 seconds")?;
        within("stable", step.stable, 0.01..=1.0, "between 0.01 and 1")?;
        within("requests (--max-requests)", limits.requests as f64, 1.0..=10_000_000.0, "between 1 and 10,000,000")?;
        within("time in all (--max-time)", limits.seconds, 1.0..=604_800.0, "between 1 and 604,800 seconds")?;
        within(
            "requests in flight (--max-in-flight)",
            limits.in_flight as f64,
            1.0..=20_000.0,
            "between 1 and 20,000",
        )?;
        within(
            "time for a request (--timeout)",
            limits.request_seconds,
            0.01..=86_400.0,
            "between 0.01 and 86,400 seconds",
        )?;
        within(
            "silence of an answer (--silence)",
            limits.silence_seconds,
            0.01..=86_400.0,
            "between 0.01 and 86,400 seconds",
        )?;
        within("time to drain", limits.drain_seconds, 0.0..=86_400.0, "between 0 and 86,400 seconds")
    }
}

fn within(
    what: &'static str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
    expected: &'static str,
) -> Result<(), InvalidSettings> {
    // Nor is a NaN.
    if range.contains(&value) { Ok(()) } else { Err(InvalidSettings { what, value, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_told() {
        assert!(Settings::default().check().is_ok());
        let wrong = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(wrong(|s| s.rates = Rates::Fixed(vec![])).starts_with("rates (--rates): 0 is out"));
        assert!(wrong(|s| s.rates = Rates::Fixed(vec![1.0, f64::NAN])).starts_with("rate (--rates): NaN"));
        assert!(wrong(|s| s.workload.hang_ups = 1.5).contains("hang-ups"));
        assert!(wrong(|s| s.step.most_seconds = 3.0).contains("--max-step"));
        assert!(wrong(|s| s.limits.in_flight = 0).contains("--max-in-flight"));
        assert!(
            wrong(|s| s.rates = Rates::Search { start: None, factor: 1.0, precision: 0.1, most: 5.0 })
                .contains("factor")
        );
    }
}
