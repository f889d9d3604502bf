//! Quantiles of a histogram, recorded from its recorded buckets.

use llm_metrics::catalog::Unit;

use super::{SHORT, expressions::recorded};
use crate::{
    promql::Histogram,
    rule::{Level, Rule, RuleMetric},
};

/// Median, 95th and 99th percentile over five minutes.
///
/// Most exported series are buckets. They are read once, and the quantiles are computed from the recorded buckets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Quantiles {
    /// Observations per second at or below each bound.
    pub buckets: Rule,
    /// The median.
    pub p50: Rule,
    /// The 95th percentile.
    pub p95: Rule,
    /// The 99th percentile.
    pub p99: Rule,
}

impl Quantiles {
    pub(super) fn new([metric, of_buckets]: [RuleMetric; 2], histogram: &Histogram) -> Self {
        let level = Level::JobModelLe;
        let rates = histogram.clone().buckets().rate(SHORT).sum_by(level.labels());
        let buckets = Rule::new(level, of_buckets, "rate5m", Unit::Count, rates);
        let rule = |quantile: f64, operation: &str| {
            let expr = buckets.gauge().histogram_quantile(quantile);
            Rule::new(Level::JobModel, metric, operation, Unit::Seconds, recorded(expr))
        };
        let (p50, p95, p99) = (rule(0.5, "p50_rate5m"), rule(0.95, "p95_rate5m"), rule(0.99, "p99_rate5m"));
        Self { buckets, p50, p95, p99 }
    }

    pub(super) fn rules(&self) -> [&Rule; 4] {
        [&self.buckets, &self.p50, &self.p95, &self.p99]
    }
}
