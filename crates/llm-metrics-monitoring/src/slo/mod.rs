//! `slo.yaml`: what is promised, and from when on somebody is told.
//!
//! Every line is optional. What is given is checked as a whole: a threshold on a histogram has to be the bound of one of its
//! buckets, because between two bounds Prometheus guesses, and above the last one it cannot see.
//!
//! ```
//! use llm_metrics_monitoring::slo::Slo;
//!
//! let slo = Slo::parse("objectives:\n  availability: 0.999\n")?;
//! assert_eq!(slo.objectives.availability, 0.999);
//! assert_eq!(slo.objectives.time_to_first_token.seconds, 2.5);
//!
//! let error = Slo::parse("objectives:\n  time_to_first_token:\n    seconds: 3\n").unwrap_err();
//! assert!(error.to_string().contains("the nearest are 2.5 and 5"));
//! # Ok::<(), llm_metrics_monitoring::slo::InvalidSlo>(())
//! ```

mod check;

use garde::Validate;
use llm_metrics::catalog;
use serde::{Deserialize, Serialize};
use serde_saphyr::UserMessageFormatter;

use check::{at_least, bound, bound_below_last, distinct, job, label, not_negative, number_within, ratio};

/// The settings, with a default for everything.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Slo {
    /// Where the metrics come from.
    #[garde(dive)]
    pub service: Service,
    /// What is promised.
    #[garde(dive)]
    pub objectives: Objectives,
    /// From when on somebody is told, beside the objectives.
    #[garde(dive)]
    pub alerts: Alerts,
    /// What is particular to the GPUs.
    #[garde(dive)]
    pub gpu: Gpu,
    /// How many replicas are wanted.
    #[garde(dive)]
    pub scaling: Scaling,
}

/// Where the metrics come from.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Service {
    /// The scrape jobs of the servers. Alerts about missing targets look at these.
    #[garde(length(min = 1), custom(distinct), inner(custom(job)))]
    pub jobs: Vec<String>,
    /// What the links to runbooks begin with: a folder, or the address of one.
    #[garde(custom(check::runbooks))]
    pub runbooks: String,
}

impl Default for Service {
    fn default() -> Self {
        Self { jobs: vec!["llm".to_owned()], runbooks: "docs/runbooks".to_owned() }
    }
}

/// What is promised. The rest is the error budget, and alerts watch how fast it goes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Objectives {
    /// The share of requests that succeed, of those that succeed or fail by our fault.
    #[garde(custom(check::objective))]
    pub availability: f64,
    /// The first token.
    #[garde(dive)]
    pub time_to_first_token: TimeToFirstToken,
    /// The gaps between tokens.
    #[garde(dive)]
    pub inter_token_latency: InterTokenLatency,
    /// The share of requests that meet each objective that the server itself was given (`llm_slo_requests_total`).
    #[garde(custom(check::objective))]
    pub attainment: f64,
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            availability: 0.995,
            time_to_first_token: TimeToFirstToken::default(),
            inter_token_latency: InterTokenLatency::default(),
            attainment: 0.9,
        }
    }
}

/// So many streams have their first token in time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TimeToFirstToken {
    /// In time: seconds, a bucket bound of `llm_time_to_first_token_seconds`.
    #[garde(custom(bound(&catalog::TIME_TO_FIRST_TOKEN)))]
    pub seconds: f64,
    /// The share of streams.
    #[garde(custom(check::objective))]
    pub objective: f64,
}

impl Default for TimeToFirstToken {
    fn default() -> Self {
        Self { seconds: 2.5, objective: 0.95 }
    }
}

/// So many gaps between tokens are short enough.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InterTokenLatency {
    /// Short enough: seconds, a bucket bound of `llm_inter_token_latency_seconds`.
    #[garde(custom(bound(&catalog::INTER_TOKEN_LATENCY)))]
    pub seconds: f64,
    /// The share of gaps.
    #[garde(custom(check::objective))]
    pub objective: f64,
}

impl Default for InterTokenLatency {
    fn default() -> Self {
        Self { seconds: 0.2, objective: 0.95 }
    }
}

/// From when on somebody is told, beside the objectives.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Alerts {
    /// Requests a second of a model below which ratios and quantiles say nothing.
    #[garde(custom(not_negative))]
    pub least_traffic: f64,
    /// Seconds that the 95th percentile of request durations may take.
    #[garde(custom(bound_below_last(&catalog::REQUEST_DURATION)))]
    pub duration_p95_seconds: f64,
    /// Seconds that the 99th percentile of request durations may take.
    #[garde(custom(bound_below_last(&catalog::REQUEST_DURATION)), custom(at_least("duration_p95_seconds", self.duration_p95_seconds)))]
    pub duration_p99_seconds: f64,
    /// Share of requests that may fail by our fault.
    #[garde(custom(ratio))]
    pub error_ratio: f64,
    /// Requests a second of a model that are too few, where there used to be more.
    #[garde(custom(not_negative))]
    pub requests_per_second_min: f64,
    /// Requests a second of a model that are too many.
    #[garde(custom(not_negative), custom(at_least("requests_per_second_min", self.requests_per_second_min)))]
    pub requests_per_second_max: f64,
    /// Share of answers that may be cut at the limit on tokens.
    #[garde(custom(ratio))]
    pub cut_ratio: f64,
    /// Share of the engine's KV cache that may be used.
    #[garde(custom(ratio))]
    pub kv_cache_ratio: f64,
    /// Seconds that a scrape may take.
    #[garde(custom(not_negative))]
    pub scrape_seconds: f64,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            least_traffic: 0.02,
            duration_p95_seconds: 10.0,
            duration_p99_seconds: 20.0,
            error_ratio: 0.05,
            requests_per_second_min: 0.05,
            requests_per_second_max: 100.0,
            cut_ratio: 0.2,
            kv_cache_ratio: 0.95,
            scrape_seconds: 2.0,
        }
    }
}

/// What is particular to the GPUs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Gpu {
    /// The engine takes the memory when it starts (vLLM, SGLang): a full memory is no news, and there are no alerts on it.
    #[garde(skip)]
    pub memory_preallocated: bool,
    /// Share of the memory that may be used, before the warning about headroom.
    #[garde(custom(ratio))]
    pub memory_headroom_ratio: f64,
    /// Share of the memory that may be used at all.
    #[garde(custom(ratio), custom(at_least("memory_headroom_ratio", self.memory_headroom_ratio)))]
    pub memory_ratio: f64,
    /// Hours before the memory will be full, at which somebody is told.
    #[garde(custom(number_within(1.0, 168.0)))]
    pub memory_forecast_hours: f64,
    /// Seconds that the collector's readings may be old.
    #[garde(custom(number_within(5.0, 3600.0)))]
    pub stale_seconds: f64,
    /// The label by which a server and its GPUs belong together, for joules per token. `instance` where one process exports
    /// both; otherwise one that the scrape configuration gives to both, such as `node`.
    #[garde(custom(label))]
    pub join_label: String,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            memory_preallocated: false,
            memory_headroom_ratio: 0.8,
            memory_ratio: 0.9,
            memory_forecast_hours: 4.0,
            stale_seconds: 60.0,
            join_label: "instance".to_owned(),
        }
    }
}

/// How many replicas are wanted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Scaling {
    /// Requests that one replica can have in flight and still keep the objectives: what a load test says.
    #[garde(custom(number_within(1.0, 100_000.0)))]
    pub requests_per_replica: f64,
}

impl Default for Scaling {
    fn default() -> Self {
        Self { requests_per_replica: 8.0 }
    }
}

/// What is wrong with a `slo.yaml`, with the line and the field.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct InvalidSlo {
    message: String,
}

impl Slo {
    /// Reads the text of a `slo.yaml` and checks it.
    ///
    /// # Errors
    /// When it is no YAML, has a field that is not known, or a value that cannot be.
    pub fn parse(text: &str) -> Result<Self, InvalidSlo> {
        // A file of comments alone is a document of nothing.
        match serde_saphyr::from_str_with_options_valid::<Option<Self>>(text, options()) {
            Ok(slo) => Ok(slo.unwrap_or_default()),
            Err(error) => {
                let message = error.render_with_formatter(&UserMessageFormatter);
                let field = stopped_at(text).map(|field| format!("{field}: "));
                Err(InvalidSlo { message: field.unwrap_or_default() + &message })
            }
        }
    }

    /// The text of a `slo.yaml` with these settings.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).unwrap_or_default()
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { with_snippet: false }
}

/// The field that cannot be read. Those that can be read and are wrong are in the message already.
fn stopped_at(text: &str) -> Option<String> {
    let mut field = None;
    let _ = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        serde_path_to_error::deserialize::<_, Option<Slo>>(yaml).map_err(|error| {
            // It ends so where it is the key that cannot be read.
            field = Some(error.path().to_string().trim_end_matches(".?").to_owned());
            error.into_inner()
        })
    });
    field.filter(|field| field != "." && field != "?")
}
