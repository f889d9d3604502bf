//! The sections of `slo.yaml`, each in two forms: as it holds, with a default for everything, and as an override says it, where
//! every field may be left out.

use llm_metrics::catalog;
use serde::{Deserialize, Serialize};

use super::check::{
    self, Findings, Section, above_zero, at_least, bound, bound_below_last, label, not_negative, number_within, ratio,
    whole_within,
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

        #[doc = concat!("What an override says of [`", stringify!($section), "`]: what is `None` stays as it is.")]
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
                $(self.$field.is_none() &&)+ true
            }

            pub(crate) fn apply(&self, to: &mut $section) {
                $(if let Some(value) = &self.$field { to.$field = value.clone(); })+
            }
        }
    };
}

/// What is promised. The rest is the error budget, and alerts watch how fast it goes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Objectives {
    /// The share of requests that succeed, of those that succeed or fail through the server's fault.
    pub availability: f64,
    /// The first token.
    pub time_to_first_token: TimeToFirstToken,
    /// The gaps between tokens.
    pub inter_token_latency: InterTokenLatency,
    /// The share of requests that meet each objective that the server itself was given (`llm_slo_requests_total`).
    pub attainment: f64,
    /// Days over which the objectives hold: the period of the error budgets.
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

/// What an override says of [`Objectives`]: what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PartialObjectives {
    /// The share of requests that succeed, of those that succeed or fail through the server's fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<f64>,
    /// The first token.
    #[serde(skip_serializing_if = "PartialTimeToFirstToken::is_empty")]
    pub time_to_first_token: PartialTimeToFirstToken,
    /// The gaps between tokens.
    #[serde(skip_serializing_if = "PartialInterTokenLatency::is_empty")]
    pub inter_token_latency: PartialInterTokenLatency,
    /// The share of requests that meet each objective that the server itself was given (`llm_slo_requests_total`).
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
    /// The share of streams that have their first token in time.
    TimeToFirstToken / PartialTimeToFirstToken {
        /// In time: seconds, a bucket bound of `llm_time_to_first_token_seconds`.
        seconds: f64 = 2.5, bound(&catalog::TIME_TO_FIRST_TOKEN);
        /// The share of streams.
        objective: f64 = 0.95, check::objective;
        /// Whether a stream that ended without any token counts as late, whoever ended it. `false` where clients often give up at
        /// once, as a search box does that asks with every letter.
        count_tokenless: bool = true, check::anything;
    }
}

section! {
    /// The share of gaps between tokens that are short enough.
    InterTokenLatency / PartialInterTokenLatency {
        /// Short enough: seconds, a bucket bound of `llm_inter_token_latency_seconds`.
        seconds: f64 = 0.2, bound(&catalog::INTER_TOKEN_LATENCY);
        /// The share of gaps.
        objective: f64 = 0.95, check::objective;
    }
}

section! {
    /// Alert thresholds, beside the objectives.
    Alerts / PartialAlerts {
        /// Events that a share or a quantile needs in its window to say something: requests for a share of requests, streams
        /// for a share of streams.
        least_events: f64 = 20.0, number_within(1.0, 1_000_000.0);
        /// Bad events that an alert on a share needs in the window that decides: a single failure pages nobody.
        least_failures: f64 = 5.0, number_within(1.0, 1_000_000.0);
        /// Seconds that the 95th percentile of the durations of successful requests may take.
        duration_p95_seconds: f64 = 10.0, bound_below_last(&catalog::REQUEST_DURATION);
        /// Seconds that the 99th percentile of the durations of successful requests may take.
        duration_p99_seconds: f64 = 10.0, bound_below_last(&catalog::REQUEST_DURATION),
            not_below duration_p95_seconds;
        /// Share of requests that may fail through the server's fault.
        error_ratio: f64 = 0.05, ratio;
        /// Share of requests that may be given up by their clients.
        cancelled_ratio: f64 = 0.5, ratio;
        /// Share of requests that may be rejected.
        rejected_ratio: f64 = 0.5, ratio;
        /// Requests a second of a model that are too few, at an hour at which there were more the day before. 0 for none.
        requests_per_second_min: f64 = 0.05, not_negative;
        /// Requests a second of a model that are too many.
        requests_per_second_max: f64 = 100.0, above_zero,
            not_below requests_per_second_min;
        /// Requests that may wait at a target for ten minutes on end.
        queue_requests: f64 = 16.0, number_within(1.0, 1_000_000.0);
        /// Share of answers that may be cut at the limit on tokens.
        cut_ratio: f64 = 0.2, ratio;
        /// Share of the engine's KV cache that may be used.
        kv_cache_ratio: f64 = 0.95, ratio;
        /// Seconds that a scrape may take: below the time-out of the scrape, at which there is no answer at all.
        scrape_seconds: f64 = 2.0, number_within(0.01, 60.0);
    }
}

section! {
    /// What is particular to the GPUs.
    Gpu / PartialGpu {
        /// The engine takes the memory when it starts (vLLM, SGLang): a full memory is no news, and there are no alerts on it.
        memory_preallocated: bool = false, check::anything;
        /// Share of the memory that may be used, before the warning about headroom.
        memory_headroom_ratio: f64 = 0.8, ratio;
        /// Share of the memory that may be used at all.
        memory_ratio: f64 = 0.9, ratio, not_below memory_headroom_ratio;
        /// Alert when the memory will be full within so many hours.
        memory_forecast_hours: f64 = 4.0, number_within(1.0, 168.0);
        /// Seconds that the collector's readings may be old.
        stale_seconds: f64 = 60.0, number_within(5.0, 3600.0);
        /// The label by which a server and its GPUs belong together, for joules per token. `instance` where one process exports
        /// both; otherwise one that the scrape configuration gives to both, such as `node`.
        join_label: String = "instance".to_owned(), label;
    }
}

section! {
    /// How many replicas are wanted.
    Scaling / PartialScaling {
        /// Requests that one replica can have in flight and still keep the objectives: what a load test says.
        requests_per_replica: f64 = 8.0, number_within(1.0, 100_000.0);
        /// The Deployment that KEDA scales. Jobs with the same one are scaled by the sum of what they want.
        deployment: String = "llm-server".to_owned(), check::service_name;
        /// Replicas that there always are.
        replicas_min: u32 = 1, whole_within(0, 10_000);
        /// Replicas that there are at most.
        replicas_max: u32 = 8, whole_within(1, 10_000), not_below replicas_min;
    }
}
