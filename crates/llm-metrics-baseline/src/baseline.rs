//! `baseline.json`: what was measured, of what, with what.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Attainment, ErrorKind, Interval, Latency, Settings, figure,
    server::{Comparison, ServerView},
};

/// The version of the schema that this crate writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// What a load test found. Times are seconds, sizes bytes, rates a second, shares between 0 and 1. What was not measured is `null` or
/// not there: never 0.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Baseline {
    /// The version of this schema: 1.
    pub schema_version: u32,
    /// The version of the tool that wrote it.
    pub tool_version: String,
    /// When it began, in UTC (RFC 3339).
    pub started_at: String,
    /// How long it took.
    pub seconds: f64,
    /// Why there are no more steps.
    pub ended: Ended,
    /// What somebody who reads nothing else should know.
    pub findings: Vec<String>,
    /// The machine that the load came from.
    pub machine: Machine,
    /// The server, as far as it told.
    pub server: Server,
    /// What was to be done.
    pub settings: Settings,
    /// The rate from which on more load brings no more answers; `null` where none was found.
    pub knee: Option<Knee>,
    /// The highest rate at which every objective held, with all below it; `null` where none was.
    pub objectives_held: Option<ObjectivesHeld>,
    /// Each rate, in the order in which they were tried.
    pub steps: Vec<Step>,
    /// Memory over the whole run.
    pub memory: Vec<MemoryPoint>,
}

/// Why there are no more steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ended {
    /// All was done.
    Complete,
    /// Somebody stopped it.
    Interrupted,
    /// The limit on requests was reached.
    RequestLimit,
    /// The limit on time was reached.
    TimeLimit,
    /// The server no longer answered.
    ServerFailing,
}

/// The machine that the load came from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Machine {
    /// Such as `linux`.
    pub os: String,
    /// Such as `x86_64`.
    pub architecture: String,
    /// How many threads it runs at once.
    pub cpus: u64,
    /// Its processor, where the system tells.
    pub cpu_model: Option<String>,
    /// Its memory, where the system tells.
    pub memory_bytes: Option<u64>,
}

/// The server, as far as it told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Server {
    /// The labels of `llm_model_info` (engine, version, quantization, context length), or of `vllm:cache_config_info`.
    pub model_info: BTreeMap<String, String>,
    /// Whose names its metrics have: `llm` or `vllm`; `null` where none were read.
    pub metrics: Option<String>,
    /// The labels of `gpu_info` of the first GPU.
    pub gpu_info: BTreeMap<String, String>,
    /// All memory of its GPUs.
    pub gpu_memory_bytes: Option<f64>,
    /// What one request took that had the server to itself.
    pub unloaded_duration_seconds: Option<f64>,
}

/// The rate from which on more load brings no more answers.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Knee {
    /// The most answers a second of any step: an overloaded server answers as many as it can.
    pub rate: f64,
    /// What the most answers a second that the server can truly give lie between with 95 %, by how evenly answers came in each step
    /// (batch means), that it is the highest of several taken into account. It does not know what differs from one run to the next.
    pub interval: Option<Interval>,
    /// The highest rate that the server kept up with.
    pub kept_up: Option<f64>,
    /// The lowest rate that it did not keep up with.
    pub saturated: f64,
    /// Requests in flight at `kept_up`, on average.
    pub in_flight: Option<f64>,
    /// The lowest rate at which the 99th percentile of durations is twice that of the lowest rate, or more: where P99 turns.
    pub p99_turns_at: Option<f64>,
}

/// The highest rate at which every objective held.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ObjectivesHeld {
    /// It.
    pub rate: f64,
    /// The next higher rate that was tried, at which one did not; `null` where all held.
    pub missed_at: Option<f64>,
    /// The highest rate up to which every objective held for sure: the lower end of each [interval](crate::Share::low) is as much as
    /// was asked. `null` where there were too few requests to tell that of any rate.
    pub low: Option<f64>,
    /// The lowest rate at which one was missed for sure, or that the server did not keep up with: the upper end is less than was asked.
    /// `null` where there was none.
    pub high: Option<f64>,
    /// Requests in flight at it, on average.
    pub in_flight: f64,
}

impl ObjectivesHeld {
    /// How sure it is, in words.
    #[must_use]
    pub fn certainty(&self) -> String {
        let held = match self.low {
            Some(low) => format!("for sure up to {}", figure(low)),
            None => "for sure at no rate, for want of requests".to_owned(),
        };
        self.high.map_or_else(|| held.clone(), |high| format!("{held}; missed for sure from {} on", figure(high)))
    }
}

/// One rate.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Step {
    /// Requests a second, as was meant.
    pub rate: f64,
    /// When it began, in seconds since the start of the run.
    pub started: f64,
    /// What was cut off at its beginning.
    pub warm_up_seconds: f64,
    /// What was measured.
    pub seconds: f64,
    /// Whether the server kept up.
    pub verdict: Verdict,
    /// Why it was not longer.
    pub ended: StepEnded,
    /// What clients saw of the requests that were due in the time measured.
    pub client: ClientView,
    /// What the server says of the step, warm-up included; `null` where no metrics were read.
    pub server: Option<ServerView>,
    /// Figures of both, over the whole step with its warm-up, and whether they agree.
    pub comparison: Vec<Comparison>,
    /// How objectives were kept.
    pub attainment: Vec<Attainment>,
    /// Latencies with and without thinking, where both were asked for.
    pub by_thinking: Vec<ByThinking>,
    /// Latencies of single requests, for comparisons.
    pub samples: Samples,
}

/// Whether the server kept up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It answered as many as came.
    KeptUp,
    /// More came than it answered, or it turned requests away because of their number.
    Saturated,
    /// Requests failed for other reasons: what was measured says little about load.
    Failing,
    /// Too little was measured to tell.
    Unknown,
}

/// Why a step was not longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepEnded {
    /// Its 99th percentiles were stable.
    Stable,
    /// Its time was up.
    Time,
    /// The server was so far behind that more time would have told nothing more.
    Behind,
    /// The limit on requests in flight was reached.
    InFlightLimit,
    /// Most requests failed.
    Failing,
    /// The run ended.
    RunEnded,
}

/// What clients saw.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ClientView {
    /// Requests that were due in the time measured.
    pub requests: u64,
    /// The same a second: what the Poisson process really brought.
    pub arrival_rate: f64,
    /// Of them, those that were answered.
    pub answered: u64,
    /// Of them, those whose client left, as was meant.
    pub hung_up: u64,
    /// Of them, those that had no answer when the step stopped waiting.
    pub unfinished: u64,
    /// Of them, those that failed, by why.
    pub errors: BTreeMap<ErrorKind, u64>,
    /// Requests that were due and not sent, because of the limit on those in flight.
    pub not_sent: u64,
    /// Requests a second that ended in the time measured with an answer, or because their client left.
    pub answer_rate: f64,
    /// What the true one lies between with 95 %, by how evenly they ended (batch means).
    pub answer_rate_interval: Option<Interval>,
    /// Tokens of prompts a second, where usage told.
    pub input_tokens_per_second: Option<f64>,
    /// Tokens of answers a second, where usage told, and else events.
    pub output_tokens_per_second: f64,
    /// Requests in flight, on average.
    pub in_flight: f64,
    /// The most of them.
    pub in_flight_max: u64,
    /// From when a request was due to its first token; streams only.
    pub time_to_first_token: Option<Latency>,
    /// To the first token that is no reasoning.
    pub time_to_first_answer_token: Option<Latency>,
    /// From the first token to the last, for each that came after the first, request by request.
    pub time_per_output_token: Option<Latency>,
    /// Gaps between events with tokens.
    pub inter_token_latency: Option<Latency>,
    /// From when a request was due to the end of its answer.
    pub duration: Option<Latency>,
    /// How late requests were sent: the load generator's own lag, which is part of the latencies above.
    pub lateness: Option<Latency>,
}

/// Latencies of requests that thought, or did not.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ByThinking {
    /// What was asked.
    pub thinking: bool,
    /// As in [`ClientView`].
    pub time_to_first_token: Option<Latency>,
    /// As in [`ClientView`].
    pub time_to_first_answer_token: Option<Latency>,
    /// As in [`ClientView`].
    pub duration: Option<Latency>,
    /// Tokens of one answer, on average.
    pub output_tokens: Option<f64>,
}

/// Latencies of single requests, in the order in which they were due. Where there were more than 1,000, every so manieth of them.
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
    /// Since the start of the run.
    pub seconds: f64,
    /// Used on all GPUs.
    pub gpu_bytes: Option<f64>,
    /// Of the server's process.
    pub resident_bytes: Option<f64>,
}

/// Why a `baseline.json` cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBaseline {
    /// It has another schema version.
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
    /// When it is something else, or of another version.
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

    /// Whether the server failed: it stopped answering, or requests failed at every rate for other reasons than their number.
    #[must_use]
    pub fn server_failed(&self) -> bool {
        let fails_always = !self.steps.is_empty() && self.steps.iter().all(|step| step.verdict == Verdict::Failing);
        self.ended == Ended::ServerFailing || fails_always
    }

    /// The steps by rising rate.
    #[must_use]
    pub fn by_rate(&self) -> Vec<&Step> {
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        steps
    }
}
