//! The server's measurements of one step.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    exposition::{Buckets, Page},
    names::Names,
    scrape::Reading,
};

/// The server's measurements of a step, including warm-up, from its `/metrics` before and after.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ServerView {
    /// Requests that were answered.
    pub answered: Option<f64>,
    /// Requests that failed, as the server counts them.
    pub errors: BTreeMap<String, f64>,
    /// Prompt tokens.
    pub input_tokens: Option<f64>,
    /// Output tokens.
    pub output_tokens: Option<f64>,
    /// Its time to first token.
    pub time_to_first_token: Option<ServerLatency>,
    /// Its time per output token.
    pub time_per_output_token: Option<ServerLatency>,
    /// Its inter-token latency.
    pub inter_token_latency: Option<ServerLatency>,
    /// Its duration of successful requests.
    pub duration: Option<ServerLatency>,
    /// Time of requests in the engine's queue.
    pub queue: Option<ServerLatency>,
    /// The mean number of requests in flight, over the readings of the step.
    pub in_flight: Option<f64>,
    /// The maximum number of requests in flight.
    pub in_flight_max: Option<f64>,
    /// The maximum number of requests that waited for the engine.
    pub waiting_max: Option<f64>,
    /// The maximum used share of the KV cache.
    pub kv_cache_max: Option<f64>,
    /// The GPUs, if they are exported.
    pub gpu: Option<GpuView>,
}

/// The GPUs during a step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct GpuView {
    /// The maximum used memory of all GPUs.
    pub memory_max_bytes: Option<f64>,
    /// Their mean utilisation.
    pub utilization: Option<f64>,
    /// Their energy per output token that clients received. It includes all exported GPUs, whatever uses them.
    pub joules_per_output_token: Option<f64>,
}

/// A latency from the server's histogram.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct ServerLatency {
    /// The number of samples.
    pub count: f64,
    /// The mean, which is exact.
    pub mean: f64,
    /// The median.
    pub p50: BucketQuantile,
    /// The 95th percentile.
    pub p95: BucketQuantile,
    /// The 99th percentile.
    pub p99: BucketQuantile,
}

/// A quantile from buckets: the true value is between these bounds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct BucketQuantile {
    /// Prometheus's interpolation.
    pub value: f64,
    /// The lower bound of its bucket.
    pub low: f64,
    /// The upper bound; `null` for the last one, which has none.
    pub high: Option<f64>,
}

impl ServerLatency {
    fn of(buckets: &Buckets) -> Option<Self> {
        let at = |q| {
            let (value, low, high) = buckets.quantile(q)?;
            Some(BucketQuantile { value, low, high: high.is_finite().then_some(high) })
        };
        Some(Self {
            count: buckets.count,
            mean: buckets.sum / buckets.count,
            p50: at(0.5)?,
            p95: at(0.95)?,
            p99: at(0.99)?,
        })
    }
}

impl ServerView {
    /// Computes the view from the pages before and after a step, the readings during it, the energy of the GPUs in joules, and the number of tokens
    /// that clients received.
    pub(crate) fn new(
        names: &Names,
        model: Option<(&str, &str)>,
        [before, after]: [&Page; 2],
        readings: &[Reading],
        joules: Option<f64>,
        output_tokens: u64,
    ) -> Self {
        let model: Vec<_> = model.into_iter().collect();
        let since = |name: &str, labels: &[(&str, &str)]| {
            let labels = [model.as_slice(), labels].concat();
            let now = after.sum(name, &labels)?;
            Some(now - before.sum(name, &labels).unwrap_or(0.0)).filter(|since| *since >= 0.0)
        };
        let latency = |name: &str, labels: &[(&str, &str)]| {
            let labels = [model.as_slice(), labels].concat();
            ServerLatency::of(&after.buckets(name, &labels)?.since(before.buckets(name, &labels).as_ref())?)
        };
        let most = |read: fn(&Reading) -> Option<f64>| readings.iter().filter_map(read).reduce(f64::max);
        let mean = |read: fn(&Reading) -> Option<f64>| {
            let values: Vec<_> = readings.iter().filter_map(read).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let gpu = GpuView {
            memory_max_bytes: most(|reading| reading.gpu_bytes),
            utilization: mean(|reading| reading.gpu_utilization),
            joules_per_output_token: joules
                .filter(|joules| *joules > 0.0 && output_tokens > 0)
                .map(|joules| joules / output_tokens as f64),
        };
        Self {
            answered: since(&names.requests, names.answered),
            errors: names
                .errors
                .as_ref()
                .map_or_else(BTreeMap::new, |(name, label)| errors(name, label, &model, [before, after])),
            input_tokens: since(&names.input_tokens, &[]),
            output_tokens: since(&names.output_tokens, &[]),
            time_to_first_token: latency(&names.time_to_first_token, &[]),
            time_per_output_token: latency(&names.time_per_output_token, &[]),
            inter_token_latency: latency(&names.inter_token_latency, &[]),
            duration: latency(&names.duration, names.answered),
            queue: latency(&names.queue, &[]),
            in_flight: mean(|reading| reading.in_flight),
            in_flight_max: most(|reading| reading.in_flight),
            waiting_max: most(|reading| reading.waiting),
            kv_cache_max: most(|reading| reading.kv_cache),
            gpu: (gpu != GpuView::default()).then_some(gpu),
        }
    }
}

fn errors(name: &str, label: &str, model: &[(&str, &str)], [before, after]: [&Page; 2]) -> BTreeMap<String, f64> {
    let mut errors = BTreeMap::new();
    for (kind, count) in after.by(name, label, model) {
        *errors.entry(kind).or_default() += count;
    }
    for (kind, count) in before.by(name, label, model) {
        *errors.entry(kind).or_default() -= count;
    }
    errors.retain(|_, count| *count > 0.0);
    errors
}
