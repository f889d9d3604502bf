//! PromQL that is built instead of written.
//!
//! An expression starts with a row of a catalogue, not with a string. Some mistakes do not compile: the rate of a gauge, the quantile of a counter.
//! [`Expr::render`], which every use calls, finds others: a label that the row does not have, a value that the label never has, matchers of a label
//! that no value fits, a bound that is not a bucket bound, or sides of an operation that no label set has in common. [`InvalidExpression`] lists them.
//! It does not compute with numbers: that `x > 2 and x < 1` is always empty is not found.
//!
//! # For rules
//! ```
//! use llm_metrics::{Outcome, catalog::{self, labels}};
//! use llm_metrics_monitoring::{select_counter, promql::{Names, Reader, Window}};
//!
//! let window = Window::minutes(5);
//! let errors = select_counter!(catalog::REQUESTS).with(labels::OUTCOME, Outcome::Error.as_str());
//! let all = select_counter!(catalog::REQUESTS).with_any(labels::OUTCOME, ["success", "error"]);
//! let ratio = errors.rate(window).sum_by([labels::MODEL]) / all.rate(window).sum_by([labels::MODEL]);
//! assert_eq!(
//!     ratio.render(&Names::new(), Reader::Rules).unwrap(),
//!     r#"sum by (model) (rate(llm_requests_total{outcome="error"}[5m])) / sum by (model) (rate(llm_requests_total{outcome=~"success|error"}[5m]))"#
//! );
//! ```
//!
//! # For dashboards
//! The same expressions, with [`Window::RATE`], are rendered for a dashboard, whose variables are added to every selector that has the label. A
//! recording rule is a [`Rule`](crate::Rule), and [`Rule::gauge`](crate::Rule::gauge) reads it:
//!
//! ```
//! use llm_metrics::catalog::{self, labels};
//! use llm_metrics_monitoring::{select_histogram, promql::{Names, Reader, Window}};
//!
//! let variables = Reader::Dashboard(&[("job", "job"), ("instance", "instance"), ("model", "model")]);
//! let p95 = select_histogram!(catalog::TIME_TO_FIRST_TOKEN).quantile(0.95, Window::RATE, [labels::MODEL]);
//! assert_eq!(
//!     p95.render(&Names::new().prefix("qwen").unwrap(), variables).unwrap(),
//!     "histogram_quantile(0.95, sum by (model, le) (rate(qwen_time_to_first_token_seconds_bucket\
//!     {job=~\"$job\",instance=~\"$instance\",model=~\"$model\"}[$__rate_interval])))"
//! );
//! ```
//!
//! # What is rejected
//! ```
//! use llm_metrics::catalog::{self, labels};
//! use llm_metrics_monitoring::{select_counter, promql::{Names, Reader, Window}};
//!
//! let typo = select_counter!(catalog::REQUESTS).with(labels::OUTCOME, "failed").rate(Window::minutes(5));
//! let faults = typo.render(&Names::new(), Reader::Rules).unwrap_err();
//! assert_eq!(faults[0].to_string(), "the label `outcome` of llm_requests_total is never \"failed\"");
//! ```
//!
//! Metrics of other projects (node exporter, DCGM, `up`, the process) are rows, too: [`external`](crate::external).

mod check;
mod expr;
mod metric;
mod render;
pub(crate) mod select;
mod values;
mod window;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use check::InvalidExpression;
pub use expr::Expr;
pub use metric::{Counter, Gauge, Histogram};
pub(crate) use metric::{counter, gauge, histogram};
pub use render::{Names, Reader};
pub use window::Window;

/// The name of a label: of a label of a row, or a name from the configuration.
pub type Label = Cow<'static, str>;
