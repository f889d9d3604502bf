//! `baseline.json`: the measurements, with the target and the settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Attainment, ErrorKind, Interval, Latency, Settings, figure,
    server::{Comparison, ServerView},
};

/// The version of the schema that this crate writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// The results of a load test. Times are in seconds, sizes in bytes, rates per second, shares between 0 and 1. A value that was not measured is
/// `null` or absent, never 0.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Baseline {
    /// The version of this schema: 1.
    pub schema_version: u32,
    /// The version of the tool that wrote it.
    pub tool_version: String,
    /// When the run began, in UTC (RFC 3339).
    pub started_at: String,
    /// The duration of the run in seconds.
    pub seconds: f64,
    /// Why the run ended.
    pub ended: Ended,
    /// The most important results, in sentences.
    pub findings: Vec<String>,
    /// The machine that generated the load.
    pub machine: Machine,
    /// The server, as far as it reported itself.
    pub server: Server,
    /// The settings of the run.
    pub settings: Settings,
    /// The rate beyond which more load gets no more responses; `null` if it was not found.
    pub knee: Option<Knee>,
    /// The highest rate at which every objective was met, there and at all lower rates; `null` if there was none.
    pub objectives_held: Option<ObjectivesHeld>,
    /// Each rate, in the order in which they were tried.
    pub steps: Vec<Step>,
    /// Memory over the whole run.
    pub memory: Vec<MemoryPoint>,
}

/// Why the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ended {
    /// All steps were done.
    Complete,
    /// It was interrupted.
    Interrupted,
    /// The limit of requests was reached.
    RequestLimit,
    /// The limit of time was reached.
    TimeLimit,
    /// The server did not answer any more.
    ServerFailing,
}

/// The machine that generated the load.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Machine {
    /// Such as `linux`.
    pub os: String,
    /// Such as `x86_64`.
    pub architecture: String,
    /// The number of threads that it runs in parallel.
    pub cpus: u64,
    /// Its processor, if the system reports it.
    pub cpu_model: Option<String>,
    /// Its memory, if the system reports it.
    pub memory_bytes: Option<u64>,
}

/// The server, as far as it reported itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Server {
    /// The labels of `llm_model_info` (engine, version, quantization, context length), or of `vllm:cache_config_info`.
    pub model_info: BTreeMap<String, String>,
    /// The naming of its metrics: `llm` or `vllm`; `null` if no metrics were read.
    pub metrics: Option<String>,
    /// The labels of `gpu_info` of the first GPU.
    pub gpu_info: BTreeMap<String, String>,
    /// The total memory of its GPUs.
    pub gpu_memory_bytes: Option<f64>,
    /// The latency of a single request without other load.
    pub unloaded_duration_seconds: Option<f64>,
}

/// The rate beyond which more load gets no more responses.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Knee {
    /// The highest number of responses per second in any step: an overloaded server answers as many requests as it can.
    pub rate: f64,
    /// The 95 % confidence interval of that number, from the variation within each step (batch means), corrected for being the highest of several. It
    /// does not include differences between runs.
    pub interval: Option<Interval>,
    /// The highest rate that the server kept up with.
    pub kept_up: Option<f64>,
    /// The lowest rate with which it did not keep up.
    pub saturated: f64,
    /// The mean number of requests in flight at `kept_up`.
    pub in_flight: Option<f64>,
    /// The lowest rate at which the 99th percentile of durations is at least twice that of the lowest rate: where P99 begins to rise.
    pub p99_turns_at: Option<f64>,
}

/// The highest rate at which every objective was met.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ObjectivesHeld {
    /// The rate.
    pub rate: f64,
    /// The next higher rate that was tried, at which an objective was missed; `null` if all were met.
    pub missed_at: Option<f64>,
    /// The highest rate up to which every objective was certainly met: the lower end of each [interval](crate::Share::low) reaches the objective.
    /// `null` if there were too few requests for that at any rate.
    pub low: Option<f64>,
    /// The lowest rate at which an objective was certainly missed, or with which the server did not keep up: the upper end of the interval is below
    /// the objective. `null` if there was none.
    pub high: Option<f64>,
    /// The mean number of requests in flight at that rate.
    pub in_flight: f64,
}

impl ObjectivesHeld {
    /// The certainty, in words.
    #[must_use]
    pub fn certainty(&self) -> String {
        let held = match self.low {
            Some(low) => format!("certain up to {}", figure(low)),
            None => "certain at no rate, because there were too few requests".to_owned(),
        };
        self.high.map_or_else(|| held.clone(), |high| format!("{held}; certainly missed from {} on", figure(high)))
    }
}

/// One rate.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Step {
    /// The intended requests per second.
    pub rate: f64,
    /// When it began, in seconds since the start of the run.
    pub started: f64,
    /// The warm-up that was discarded, in seconds.
    pub warm_up_seconds: f64,
    /// The duration of the measurement in seconds.
    pub seconds: f64,
    /// Whether the server kept up.
    pub verdict: Verdict,
    /// Why the step ended.
    pub ended: StepEnded,
    /// The clients' measurements, for requests that were due during the measurement.
    pub client: ClientView,
    /// The server's measurements of the step, including warm-up; `null` if no metrics were read.
    pub server: Option<ServerView>,
    /// Values from both, over the whole step including warm-up, and whether they agree.
    pub comparison: Vec<Comparison>,
    /// The results for the objectives.
    pub attainment: Vec<Attainment>,
    /// Latencies with and without thinking, if both were requested.
    pub by_thinking: Vec<ByThinking>,
    /// Latencies of single requests, for comparisons.
    pub samples: Samples,
}

/// Whether the server kept up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It answered all requests.
    KeptUp,
    /// It answered fewer requests than arrived, or rejected requests because of overload.
    Saturated,
    /// Requests failed for other reasons, so the step says little about load.
    Failing,
    /// There were too few measurements.
    Unknown,
}

/// Why a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepEnded {
    /// Its 99th percentiles were stable.
    Stable,
    /// Its maximum duration was reached.
    Time,
    /// The server was so far behind that further measurement would add nothing.
    Behind,
    /// The limit on requests in flight was reached.
    InFlightLimit,
    /// Most requests failed.
    Failing,
    /// The run ended.
    RunEnded,
}

/// The clients' measurements.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ClientView {
    /// Requests that were due during the measurement.
    pub requests: u64,
    /// The same per second: the actual rate of the Poisson process.
    pub arrival_rate: f64,
    /// Those that were answered.
    pub answered: u64,
    /// Those whose client disconnected on purpose.
    pub hung_up: u64,
    /// Those without a complete response when the step stopped waiting.
    pub unfinished: u64,
    /// Those that failed, by reason.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Requests that were due but not sent, because of the limit of requests in flight.
    pub not_sent: u64,
    /// Requests per second that ended during the measurement with a response, or with a disconnect on purpose.
    pub answer_rate: f64,
    /// Its 95 % confidence interval, from the variation within the step (batch means).
    pub answer_rate_interval: Option<Interval>,
    /// Prompt tokens per second, from usage.
    pub input_tokens_per_second: Option<f64>,
    /// Output tokens per second, from usage, otherwise the number of events.
    pub output_tokens_per_second: f64,
    /// The mean number of requests in flight.
    pub in_flight: f64,
    /// The maximum number of requests in flight.
    pub in_flight_max: u64,
    /// From the time when a request was due to its first token; streams only.
    pub time_to_first_token: Option<Latency>,
    /// To the first token that is not reasoning.
    pub time_to_first_answer_token: Option<Latency>,
    /// The mean time per token after the first, per request.
    pub time_per_output_token: Option<Latency>,
    /// Gaps between events with tokens.
    pub inter_token_latency: Option<Latency>,
    /// From the time when a request was due to the end of its response.
    pub duration: Option<Latency>,
    /// The delay of the load generator itself, which is part of the latencies above.
    pub lateness: Option<Latency>,
}

/// Latencies of requests with or without thinking.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ByThinking {
    /// The requested mode.
    pub thinking: bool,
    /// As in [`ClientView`].
    pub time_to_first_token: Option<Latency>,
    /// As in [`ClientView`].
    pub time_to_first_answer_token: Option<Latency>,
    /// As in [`ClientView`].
    pub duration: Option<Latency>,
    /// The mean number of output tokens.
    pub output_tokens: Option<f64>,
}

/// Latencies of single requests, in the order in which they were due. Of more than 1,000 requests, an evenly spaced sample.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Samples {
    /// Seconds.
    pub time_to_first_token: Vec<f64>,
    /// Seconds.
    pub time_per_output_token: Vec<f64>,
    /// Seconds.
    pub duration: Vec<f64>,
}

/// Memory at one time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct MemoryPoint {
    /// Seconds since the start of the run.
    pub seconds: f64,
    /// Used memory of all GPUs.
    pub gpu_bytes: Option<f64>,
    /// Resident memory of the server's process.
    pub resident_bytes: Option<f64>,
}

/// Why a `baseline.json` cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBaseline {
    /// It has another version of the schema.
    #[error(
        "this baseline.json has schema_version {0}, and this program reads {SCHEMA_VERSION}: use the program that wrote it, or measure again"
    )]
    Version(u64),
    /// It is not a `baseline.json`.
    #[error("this is not a baseline.json")]
    Unreadable(#[from] serde_json::Error),
}

impl Baseline {
    /// Reads the text of a `baseline.json`.
    ///
    /// # Errors
    /// If it is not one, or has another version.
    pub fn parse(text: &str) -> Result<Self, InvalidBaseline> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value["schema_version"].as_u64() {
            Some(version) if version != u64::from(SCHEMA_VERSION) => Err(InvalidBaseline::Version(version)),
            _ => Ok(serde_json::from_value(value)?),
        }
    }

    /// The text of a `baseline.json`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The JSON schema of `baseline.json`.
    #[must_use]
    pub fn json_schema() -> String {
        let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Self)).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Whether the server failed: it stopped answering, or requests failed at every rate for reasons other than overload.
    #[must_use]
    pub fn server_failed(&self) -> bool {
        let fails_always = !self.steps.is_empty() && self.steps.iter().all(|step| step.verdict == Verdict::Failing);
        self.ended == Ended::ServerFailing || fails_always
    }

    /// The steps in ascending order of rates.
    #[must_use]
    pub fn by_rate(&self) -> Vec<&Step> {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        steps
    }
}
