//! Checks a page that another exporter rendered, for histograms that rules and dashboards cannot use.

use super::{Hint, LlmMetrics};
use crate::catalog::{self, Kind, MetricDef};

/// A problem on a page; see [`LlmMetrics::check_page`]. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPage {
    /// The exporter made a summary of a histogram of the catalogue.
    #[error(
        "`{metric}` is a summary, which cannot be aggregated over instances, so rules and dashboards cannot use it: set its buckets on the exporter's builder, with \
         `prometheus::bind_buckets` or by the full names of `catalog::all`"
    )]
    Summary {
        /// Its name in the catalogue.
        metric: &'static str,
    },
    /// A histogram of the catalogue has other buckets than in the catalogue.
    #[error(
        "`{metric}` has other buckets than the catalogue's, perhaps because a matcher for other metrics matches it: set those of the catalogue by full name \
         (`prometheus::bind_buckets`). If these buckets are intended, set the same in `slo.yaml`"
    )]
    OtherBuckets {
        /// Its name in the catalogue.
        metric: &'static str,
    },
}

impl LlmMetrics {
    /// Checks a page that another exporter rendered: whether the histograms of the catalogue on it are histograms, and have their buckets. With the
    /// feature `tracing`, the first problem of each kind is logged once, at `WARN`. Pages of our own exporter need no such check.
    ///
    /// ```
    /// use llm_metrics::{FinishReason, LlmMetrics, Operation, InvalidPage};
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    ///
    /// let recorder = PrometheusBuilder::new().build_recorder(); // without our buckets
    /// let page = recorder.handle();
    /// let metrics = LlmMetrics::builder().recorder(recorder).build()?;
    /// metrics.start(Operation::Chat, "Qwen3-4B").finish(FinishReason::Stop);
    /// let faults = metrics.check_page(&page.render());
    /// assert_eq!(faults, [InvalidPage::Summary { metric: "llm_request_duration_seconds" }]);
    /// # Ok::<(), llm_metrics::BuildError>(())
    /// ```
    #[must_use]
    pub fn check_page(&self, page: &str) -> Vec<InvalidPage> {
        let histograms = catalog::all().filter(|row| row.kind == Kind::Histogram);
        let faults: Vec<_> = histograms.filter_map(|row| fault(row, &self.0.registrar.name(row), page)).collect();
        for fault in &faults {
            self.0.hint(match fault {
                InvalidPage::Summary { metric } => Hint::Summary { metric },
                InvalidPage::OtherBuckets { metric } => Hint::OtherBuckets { metric },
            });
        }
        faults
    }

    /// Does the same for the first page with a request on it.
    #[cfg(feature = "prometheus")]
    pub(crate) fn check_first_page(&self, page: &str) {
        if page.contains(&*self.0.registrar.name(&catalog::REQUEST_DURATION)) && self.0.hints.first_page() {
            let _ = self.check_page(page);
        }
    }
}

fn fault(row: &MetricDef, name: &str, page: &str) -> Option<InvalidPage> {
    let kind = page.lines().find_map(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' '))?;
    if kind == "summary" {
        return Some(InvalidPage::Summary { metric: row.name });
    }
    let buckets = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix("_bucket{"));
    let bounds = buckets.filter_map(|labels| labels.split_once("le=\"")?.1.split_once('"')?.0.parse().ok());
    let bounds: Vec<f64> = bounds.filter(|bound: &f64| bound.is_finite()).collect();
    let other = bounds.iter().any(|bound| !row.buckets.contains(bound))
        || row.buckets.iter().any(|bound| !bounds.contains(bound));
    other.then_some(InvalidPage::OtherBuckets { metric: row.name })
}
