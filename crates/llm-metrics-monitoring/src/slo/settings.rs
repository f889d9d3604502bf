//! The sections of `slo.yaml`, each in two forms: the settings, with a default for every field, and the partial form of an override, in which every
//! field is optional.

use llm_metrics::catalog;
use serde::{Deserialize, Serialize};

use super::check::{
    self, Findings, Section, above_zero, at_least, bound, bound_below_last, join_label, not_negative, number_within,
    ratio, whole_within,
};

/// Declares a section and its partial form. A field's check is a function of its value.
macro_rules! section {
    ($(#[$about:meta])* $section:ident / $partial:ident {
        $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr, $check:expr $(, not_below $other:ident)?;)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $section {
            $($(#[$doc])* pub $field: $type,)+
        }

        impl Section for $section {
            fn check(&self, findings: &mut Findings<'_>) {
                $(
                    findings.field(stringify!($field), $check(&self.$field, findings.bounds));
                    $(
                        let least = at_least(stringify!($other), self.$other);
                        findings.field(stringify!($field), least(&self.$field, findings.bounds));
                    )?
                )+
            }
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        #[doc = concat!("The fields of an override for [`", stringify!($section), "`]. `None` keeps the general value.")]
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        #[non_exhaustive]
        pub struct $partial {
            $(
                $(#[$doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )+
        }

        impl Section for $partial {
            fn check(&self, findings: &mut Findings<'_>) {
                $(
                    if let Some(value) = &self.$field {
                        findings.field(stringify!($field), $check(value, findings.bounds));
                    }
                )+
            }
        }

        impl $partial {
            pub(crate) fn is_empty(&self) -> bool {
                self.fields().next().is_none()
            }

            /// The names of the fields that are set.
            pub(crate) fn fields(&self) -> impl Iterator<Item = &'static str> + use<> {
                [$(self.$field.is_some().then_some(stringify!($field))),+].into_iter().flatten()
            }

            pub(crate) fn apply(&self, to: &mut $section) {
                $(if let Some(value) = &self.$field { to.$field = value.clone(); })+
            }
        }
    };
}

/// The objectives. The rest is the error budget, and alerts watch its burn rate.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Objectives {
    /// Successful requests divided by successful and failed requests. Errors of callers do not count.
    pub availability: f64,
    /// The first token.
    pub time_to_first_token: TimeToFirstToken,
    /// The gaps between tokens.
    pub inter_token_latency: InterTokenLatency,
    /// The share of requests that meet each objective that is configured in the server (`llm_slo_requests_total`).
    pub attainment: f64,
    /// The period of the error budgets, in days.
    pub window_days: u32,
}

impl Section for Objectives {
    fn check(&self, findings: &mut Findings<'_>) {
        let Self { availability, time_to_first_token, inter_token_latency, attainment, window_days } = self;
        findings.field("availability", check::objective(availability, findings.bounds));
        findings.section("time_to_first_token", time_to_first_token);
        findings.section("inter_token_latency", inter_token_latency);
        findings.field("attainment", check::objective(attainment, findings.bounds));
        findings.field("window_days", whole_within(7, 90)(window_days, findings.bounds));
    }
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            availability: 0.995,
            time_to_first_token: TimeToFirstToken::default(),
            inter_token_latency: InterTokenLatency::default(),
            attainment: 0.9,
            window_days: 30,
        }
    }
}

/// The fields of an override for [`Objectives`]. `None` keeps the general value.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PartialObjectives {
    /// Successful requests divided by successful and failed requests. Errors of callers do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<f64>,
    /// The first token.
    #[serde(skip_serializing_if = "PartialTimeToFirstToken::is_empty")]
    pub time_to_first_token: PartialTimeToFirstToken,
    /// The gaps between tokens.
    #[serde(skip_serializing_if = "PartialInterTokenLatency::is_empty")]
    pub inter_token_latency: PartialInterTokenLatency,
    /// The share of requests that meet each objective that is configured in the server (`llm_slo_requests_total`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attainment: Option<f64>,
}

impl Section for PartialObjectives {
    fn check(&self, findings: &mut Findings<'_>) {
        let Self { availability, time_to_first_token, inter_token_latency, attainment } = self;
        if let Some(availability) = availability {
            findings.field("availability", check::objective(availability, findings.bounds));
        }
        findings.section("time_to_first_token", time_to_first_token);
        findings.section("inter_token_latency", inter_token_latency);
        if let Some(attainment) = attainment {
            findings.field("attainment", check::objective(attainment, findings.bounds));
        }
    }
}

impl PartialObjectives {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn apply(&self, to: &mut Objectives) {
        to.availability = self.availability.unwrap_or(to.availability);
        to.attainment = self.attainment.unwrap_or(to.attainment);
        self.time_to_first_token.apply(&mut to.time_to_first_token);
        self.inter_token_latency.apply(&mut to.inter_token_latency);
    }
}

section! {
    /// The share of streams with their first token in time.
    TimeToFirstToken / PartialTimeToFirstToken {
        /// The limit in seconds, a bucket bound of `llm_time_to_first_token_seconds`.
        seconds: f64 = 2.5, bound(&catalog::TIME_TO_FIRST_TOKEN);
        /// The objective: a share of streams.
        objective: f64 = 0.95, check::objective;
        /// Whether a stream that ended without any token counts as late, even if its client ended it. Set `false` if clients often disconnect early,
        /// such as a search box that sends a request for each letter.
        count_tokenless: bool = true, check::anything;
    }
}

section! {
    /// The share of gaps between tokens that are short enough.
    InterTokenLatency / PartialInterTokenLatency {
        /// The limit in seconds, a bucket bound of `llm_inter_token_latency_seconds`.
        seconds: f64 = 0.2, bound(&catalog::INTER_TOKEN_LATENCY);
        /// The objective: a share of gaps.
        objective: f64 = 0.95, check::objective;
    }
}

section! {
    /// Thresholds of the other alerts.
    Alerts / PartialAlerts {
        /// The least number of events in a window for a share or a quantile: requests for a share of requests, streams for a share of streams.
        least_events: f64 = 20.0, number_within(1.0, 1_000_000.0);
        /// The least number of bad events in the window of an alert on a share, so that a single failure causes no page.
        least_failures: f64 = 5.0, number_within(1.0, 1_000_000.0);
        /// The limit in seconds for the 95th percentile of the duration of successful requests.
        duration_p95_seconds: f64 = 10.0, bound_below_last(&catalog::REQUEST_DURATION);
        /// The limit in seconds for the 99th percentile of the duration of successful requests.
        duration_p99_seconds: f64 = 10.0, bound_below_last(&catalog::REQUEST_DURATION),
            not_below duration_p95_seconds;
        /// The limit for the share of failed requests. Errors of callers do not count.
        error_ratio: f64 = 0.05, ratio;
        /// The limit for the share of cancelled requests.
        cancelled_ratio: f64 = 0.5, ratio;
        /// The limit for the share of rejected requests.
        rejected_ratio: f64 = 0.5, ratio;
        /// The lower limit of a model's requests per second, at an hour with more traffic on the day before. 0 for no limit.
        requests_per_second_min: f64 = 0.05, not_negative;
        /// The upper limit of a model's requests per second.
        requests_per_second_max: f64 = 100.0, above_zero,
            not_below requests_per_second_min;
        /// The limit for requests that wait at a target during ten minutes.
        queue_requests: f64 = 16.0, number_within(1.0, 1_000_000.0);
        /// The limit for the share of answers that are cut at the token limit.
        cut_ratio: f64 = 0.2, ratio;
        /// The limit for the used share of the engine's KV cache.
        kv_cache_ratio: f64 = 0.95, ratio;
        /// The limit for the duration of a scrape in seconds: less than the scrape timeout, because a scrape that times out has no duration.
        scrape_seconds: f64 = 2.0, number_within(0.01, 60.0);
    }
}

section! {
    /// Settings for GPUs.
    Gpu / PartialGpu {
        /// Whether the engine allocates all memory when it starts (vLLM, SGLang). Then memory is always full, and there are no alerts on it.
        memory_preallocated: bool = false, check::anything;
        /// The used share of memory above which a warning about headroom fires.
        memory_headroom_ratio: f64 = 0.8, ratio;
        /// The limit for the used share of memory.
        memory_ratio: f64 = 0.9, ratio, not_below memory_headroom_ratio;
        /// Alert if the memory will be full within this many hours.
        memory_forecast_hours: f64 = 4.0, number_within(1.0, 168.0);
        /// The limit for the age of the collector's readings in seconds.
        stale_seconds: f64 = 60.0, number_within(5.0, 3600.0);
        /// The label that joins a server and its GPUs, for joules per token: `instance` if one process exports both; otherwise a label that the
        /// scrape configuration sets on both, such as `node`.
        join_label: String = "instance".to_owned(), join_label;
    }
}

section! {
    /// Settings for autoscaling.
    Scaling / PartialScaling {
        /// Requests in flight with which one replica still meets the objectives. A load test measures this.
        requests_per_replica: f64 = 8.0, number_within(1.0, 100_000.0);
        /// The Deployment that KEDA scales. If several jobs share one, it gets the sum of their replicas.
        deployment: String = "llm-server".to_owned(), check::service_name;
        /// The minimum number of replicas.
        replicas_min: u32 = 1, whole_within(0, 10_000);
        /// The maximum number of replicas.
        replicas_max: u32 = 8, whole_within(1, 10_000), not_below replicas_min;
    }
}
