//! Metrics, with the operations that their type allows.
//!
//! A counter has a `rate`, a gauge does not; only a histogram has quantiles. The three types here exclude everything else, and the macros check a
//! row's kind at compile time.

use std::borrow::Cow;

use llm_metrics::catalog::{Kind, MetricDef};

use super::{
    Expr, Label, Window,
    expr::{Node, Over},
    select::{Compare, Matcher, Part, Select},
};

/// A counter of a catalogue row, checked at compile time.
///
/// ```
/// use llm_metrics::catalog;
/// use llm_metrics_monitoring::{select_counter, promql::Window};
///
/// let requests = select_counter!(catalog::REQUESTS).rate(Window::minutes(5));
/// ```
///
/// A gauge is rejected:
///
/// ```compile_fail
/// llm_metrics_monitoring::select_counter!(llm_metrics::catalog::REQUESTS_IN_FLIGHT);
/// ```
#[cfg_attr(feature = "unstable", macro_export)]
macro_rules! select_counter {
    ($row:expr) => {
        const { $crate::promql::Counter::of(&$row) }
    };
}

/// A gauge of a catalogue row, checked at compile time.
///
/// ```
/// use llm_metrics_gpu::catalog;
/// use llm_metrics_monitoring::{select_gauge, promql::Window};
///
/// let used = select_gauge!(catalog::MEMORY_USED).avg_over_time(Window::minutes(5));
/// ```
///
/// A gauge has no rate:
///
/// ```compile_fail
/// use llm_metrics_monitoring::{select_gauge, promql::Window};
///
/// select_gauge!(llm_metrics_gpu::catalog::MEMORY_USED).rate(Window::minutes(5));
/// ```
#[cfg_attr(feature = "unstable", macro_export)]
macro_rules! select_gauge {
    ($row:expr) => {
        const { $crate::promql::Gauge::of(&$row) }
    };
}

/// A histogram of a catalogue row, checked at compile time.
///
/// ```compile_fail
/// llm_metrics_monitoring::select_histogram!(llm_metrics::catalog::REQUESTS);
/// ```
#[cfg_attr(feature = "unstable", macro_export)]
macro_rules! select_histogram {
    ($row:expr) => {
        const { $crate::promql::Histogram::of(&$row) }
    };
}

pub(crate) use {select_counter as counter, select_gauge as gauge, select_histogram as histogram};

macro_rules! selecting {
    ($($kind:ident),+) => { $(
        impl $kind {
            /// Only series in which `label` is `value`.
            #[must_use]
            pub fn with(self, label: impl Into<Label>, value: impl Into<String>) -> Self {
                Self(self.0.matching(Matcher::new(label, Compare::Equal, [value])))
            }

            /// Only series in which `label` is not `value`.
            #[must_use]
            pub fn without(self, label: impl Into<Label>, value: impl Into<String>) -> Self {
                Self(self.0.matching(Matcher::new(label, Compare::NotEqual, [value])))
            }

            /// Only series in which `label` is one of `values`.
            #[must_use]
            pub fn with_any(
                self,
                label: impl Into<Label>,
                values: impl IntoIterator<Item = impl Into<String>>,
            ) -> Self {
                Self(self.0.matching(Matcher::new(label, Compare::OneOf, values)))
            }

            /// Only series in which `label` is none of `values`.
            #[must_use]
            pub fn without_any(
                self,
                label: impl Into<Label>,
                values: impl IntoIterator<Item = impl Into<String>>,
            ) -> Self {
                Self(self.0.matching(Matcher::new(label, Compare::NoneOf, values)))
            }

            /// Only series in which `label` matches the dashboard variable. Dashboards only.
            #[must_use]
            pub fn of_variable(self, label: impl Into<Label>, variable: &'static str) -> Self {
                Self(self.0.matching(Matcher::new(label, Compare::Variable, [variable])))
            }

            /// Declares that the targets have this label, too, in addition to `job` and `instance`: from the scrape configuration.
            #[must_use]
            pub fn on_target(self, label: impl Into<Label>) -> Self {
                let mut select = self.0;
                select.target_labels.push(label.into());
                Self(select)
            }

            /// The values at an earlier time.
            #[must_use]
            pub fn offset(self, window: Window) -> Self {
                Self(Select { offset: Some(window), ..self.0 })
            }

            /// 1 if there is no such series, otherwise empty. It has the labels set by [`Self::with`].
            #[must_use]
            pub fn absent(self) -> Expr {
                Expr(Node::Absent(self.0))
            }

            #[allow(dead_code, reason = "each kind uses some of them")]
            fn over(self, function: Over, window: Window) -> Expr {
                Expr(Node::Over { function, of: self.0, window })
            }
        }
    )+ };
}

/// Only rises, until the process restarts.
#[derive(Clone, Debug, PartialEq)]
pub struct Counter(pub(crate) Select);

/// Rises and falls.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge(pub(crate) Select);

/// Observations, counted in buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram(pub(crate) Select);

selecting!(Counter, Gauge, Histogram);

impl Counter {
    #[doc(hidden)]
    #[must_use]
    pub const fn of(row: &'static MetricDef) -> Self {
        assert!(matches!(row.kind, Kind::Counter), "this row is not a counter");
        Self(Select::row(row))
    }

    /// Its value: everything since the process started. Usually only its rate is meaningful.
    #[must_use]
    pub fn total(self) -> Expr {
        Expr(Node::Select(self.0))
    }

    /// Its rate per second. Aggregate after this, never before: otherwise a restart would look like a decrease.
    #[must_use]
    pub fn rate(self, window: Window) -> Expr {
        self.over(Over::Rate, window)
    }

    /// Its increase. 0 for a series that began in the window, whatever its value.
    #[must_use]
    pub fn increase(self, window: Window) -> Expr {
        self.over(Over::Increase, window)
    }
}

impl Gauge {
    #[doc(hidden)]
    #[must_use]
    pub const fn of(row: &'static MetricDef) -> Self {
        assert!(matches!(row.kind, Kind::Gauge), "this row is not a gauge");
        Self(Select::row(row))
    }

    /// Its value.
    #[must_use]
    pub fn now(self) -> Expr {
        Expr(Node::Select(self.0))
    }

    /// Its mean.
    #[must_use]
    pub fn avg_over_time(self, window: Window) -> Expr {
        self.over(Over::Avg, window)
    }

    /// Its largest value.
    #[must_use]
    pub fn max_over_time(self, window: Window) -> Expr {
        self.over(Over::Max, window)
    }

    /// Its smallest value.
    #[must_use]
    pub fn min_over_time(self, window: Window) -> Expr {
        self.over(Over::Min, window)
    }

    /// The sum of its samples.
    #[must_use]
    pub fn sum_over_time(self, window: Window) -> Expr {
        self.over(Over::Sum, window)
    }

    /// Its standard deviation.
    #[must_use]
    pub fn stddev_over_time(self, window: Window) -> Expr {
        self.over(Over::Stddev, window)
    }

    /// A quantile of its values over time.
    #[must_use]
    pub fn quantile_over_time(self, quantile: f64, window: Window) -> Expr {
        self.over(Over::Quantile(quantile), window)
    }

    /// A quantile of the observations in its buckets, by the label `le`: for recorded rates of a histogram's buckets.
    #[must_use]
    pub fn histogram_quantile(self, quantile: f64) -> Expr {
        Expr(Node::Quantile { quantile, of: Box::new(self.now().0) })
    }

    /// The number of samples.
    #[must_use]
    pub fn count_over_time(self, window: Window) -> Expr {
        self.over(Over::Count, window)
    }

    /// The number of changes.
    #[must_use]
    pub fn changes(self, window: Window) -> Expr {
        self.over(Over::Changes, window)
    }

    /// The difference to an earlier value.
    #[must_use]
    pub fn delta(self, window: Window) -> Expr {
        self.over(Over::Delta, window)
    }

    /// Its slope per second, by linear regression.
    #[must_use]
    pub fn deriv(self, window: Window) -> Expr {
        self.over(Over::Deriv, window)
    }

    /// The value in `ahead`, extrapolated from `window`.
    #[must_use]
    pub fn predict_linear(self, window: Window, ahead: Window) -> Expr {
        self.over(Over::PredictLinear(ahead), window)
    }
}

impl Histogram {
    #[doc(hidden)]
    #[must_use]
    pub const fn of(row: &'static MetricDef) -> Self {
        assert!(matches!(row.kind, Kind::Histogram), "this row is not a histogram");
        Self(Select::row(row))
    }

    /// The same with the bucket bounds that the service has set.
    #[must_use]
    pub fn with_bounds(self, bounds: &[f64]) -> Self {
        Self(Select { bounds: Some(bounds.into()), ..self.0 })
    }

    /// A quantile, aggregated by `by`. Above the last bucket bound, the result is that bound.
    #[must_use]
    pub fn quantile(self, quantile: f64, window: Window, by: impl IntoIterator<Item = impl Into<Label>>) -> Expr {
        let by = by.into_iter().map(Into::into).chain([Cow::Borrowed("le")]).collect::<Vec<Label>>();
        Expr(Node::Quantile { quantile, of: Box::new(self.buckets().rate(window).sum_by(by).0) })
    }

    /// The mean, aggregated by `by`.
    #[must_use]
    pub fn mean(self, window: Window, by: impl IntoIterator<Item = impl Into<Label>>) -> Expr {
        let by = by.into_iter().map(Into::into).collect::<Vec<Label>>();
        self.clone().sum().rate(window).sum_by(by.clone()) / self.count().rate(window).sum_by(by)
    }

    /// The share of observations at or below `bound`, which must be a bucket bound.
    #[must_use]
    pub fn share_within(self, bound: f64, window: Window, by: impl IntoIterator<Item = impl Into<Label>>) -> Expr {
        let by = by.into_iter().map(Into::into).collect::<Vec<Label>>();
        self.clone().within(bound).rate(window).sum_by(by.clone()) / self.count().rate(window).sum_by(by)
    }

    /// The number of observations at or below `bound`, which must be a bucket bound.
    #[must_use]
    pub fn within(self, bound: f64) -> Counter {
        Counter(Select { part: Part::Bucket(Some(bound)), ..self.0 })
    }

    /// The counts of all buckets, with the label `le`: for heat maps.
    #[must_use]
    pub fn buckets(self) -> Counter {
        Counter(Select { part: Part::Bucket(None), ..self.0 })
    }

    /// The number of observations.
    #[must_use]
    pub fn count(self) -> Counter {
        Counter(Select { part: Part::Count, ..self.0 })
    }

    /// The sum of all observations.
    #[must_use]
    pub fn sum(self) -> Counter {
        Counter(Select { part: Part::Sum, ..self.0 })
    }
}

impl From<Gauge> for Expr {
    fn from(gauge: Gauge) -> Self {
        gauge.now()
    }
}
