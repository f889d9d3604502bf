//! The settings of a run, and its limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Objective, Protocol, Workload};

/// The settings of a run. They are in `baseline.json`, so that the run can be repeated.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Settings {
    /// The server, such as `http://127.0.0.1:8080`.
    pub target: String,
    /// Its API.
    pub protocol: Protocol,
    /// The model to request. If empty, the only model that the server lists at `/v1/models`.
    pub model: String,
    /// Metrics endpoints: of the server, and of a GPU exporter. If empty, `/metrics` of the server.
    pub metrics: Vec<String>,
    /// The prefix of the server's metrics, if it is not `llm`.
    pub metrics_prefix: String,
    /// The prefix of the GPU metrics, if it is not `gpu`. DCGM exporter's names have none.
    #[serde(default = "default_gpu_metrics_prefix")]
    pub gpu_metrics_prefix: String,
    /// The rates.
    pub rates: Rates,
    /// The requests.
    pub workload: Workload,
    /// The objectives, evaluated per request.
    pub objectives: Vec<Objective>,
    /// The duration of a rate.
    pub step: StepLength,
    /// The limits of the run.
    pub limits: Limits,
    /// The seed of arrival times and random choices. The same seed sends the same requests at the same times.
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
            gpu_metrics_prefix: default_gpu_metrics_prefix(),
            rates: Rates::default(),
            workload: Workload::default(),
            objectives: Objective::defaults(),
            step: StepLength::default(),
            limits: Limits::default(),
            seed: 1,
        }
    }
}

/// That of a baseline from before this setting, too.
fn default_gpu_metrics_prefix() -> String {
    "gpu".to_owned()
}

/// The rates in requests per second.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rates {
    /// These rates, one after the other.
    Fixed(Vec<f64>),
    /// Starts at the first rate and multiplies by `factor` until the server saturates; then bisects between the last rate with which it kept up and
    /// the first with which it did not, until they are within `precision` of each other.
    Search {
        /// The first rate. `None`: half the rate of one sequential client.
        start: Option<f64>,
        /// The factor, above 1.
        factor: f64,
        /// A share, such as 0.05.
        precision: f64,
        /// The highest rate.
        most: f64,
    },
}

impl Default for Rates {
    fn default() -> Self {
        Self::Search { start: None, factor: 1.5, precision: 0.05, most: 1000.0 }
    }
}

/// The duration of a rate: until its 99th percentiles are stable, within these limits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct StepLength {
    /// The minimum warm-up in seconds, which is discarded. It lasts longer until requests have begun and ended.
    pub warm_up_seconds: f64,
    /// The minimum duration of the measurement in seconds.
    pub least_seconds: f64,
    /// The maximum duration of the measurement in seconds.
    pub most_seconds: f64,
    /// The minimum number of measured requests, if the maximum duration allows it.
    pub least_requests: u64,
    /// A 99th percentile is stable if its 95 % confidence interval is at most this share of it.
    pub stable: f64,
}

impl Default for StepLength {
    fn default() -> Self {
        Self { warm_up_seconds: 5.0, least_seconds: 20.0, most_seconds: 90.0, least_requests: 100, stable: 0.1 }
    }
}

/// The limits of a run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Limits {
    /// The total number of requests.
    pub requests: u64,
    /// The total time in seconds.
    pub seconds: f64,
    /// Requests in flight. A step ends when it reaches this limit, because the loop would no longer be open.
    pub in_flight: u64,
    /// The timeout of a request in seconds.
    pub request_seconds: f64,
    /// The timeout without data of a response in seconds.
    pub silence_seconds: f64,
    /// How long a step waits for its last responses, in seconds.
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

/// An invalid setting.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {value} is out of range: it must be {expected}")]
#[non_exhaustive]
pub struct InvalidSettings {
    what: &'static str,
    value: f64,
    expected: &'static str,
}

impl Settings {
    /// Checks the settings.
    ///
    /// # Errors
    /// If a number is out of its range.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let Self { rates, workload, step, limits, .. } = self;
        let rate =
            |what, value: f64| within(what, value, 0.001..=100_000.0, "between 0.001 and 100,000 requests per second");
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
    fn invalid_settings_are_errors() {
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
