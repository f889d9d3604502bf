//! For the tests of a service: isolated metrics, and a page whose values are read by row and labels. Requires the feature `test-util`.
//!
//! ```
//! use axum::{Json, Router, body::Body, http::Request, routing::post};
//! use llm_metrics::{catalog, testing};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let (metrics, page) = testing::metrics();
//! let answer = serde_json::json!({
//!     "model": "Qwen3-4B", "choices": [{"index": 0, "message": {"content": "Yes."}, "finish_reason": "stop"}],
//!     "usage": {"prompt_tokens": 9, "completion_tokens": 2},
//! });
//! let chat = async |Json(_): Json<serde_json::Value>| Json(answer);
//! let app: Router = Router::new().route("/v1/chat/completions", post(chat)).layer(metrics.layer());
//!
//! let question = Request::post("/v1/chat/completions")
//!     .header("content-type", "application/json")
//!     .body(Body::from(r#"{"model": "Qwen3-4B"}"#))
//!     .unwrap();
//! let response = app.oneshot(question).await.unwrap();
//! // A request is recorded when its body has ended or was dropped.
//! axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
//!
//! assert_eq!(page.value(&catalog::OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(2.0));
//! assert_eq!(page.value(&catalog::REQUESTS, &[("outcome", "success")]), Some(1.0));
//! assert_eq!(page.value(&catalog::REQUEST_DURATION, &[]), Some(1.0), "of a histogram, the number of samples");
//! # }
//! ```
//!
//! [`LlmMetrics::recent_requests`] returns the measurements and the [request labels](crate::RecentRequest::label) of each of the last
//! requests, which is often all that a test needs.
//!
//! The layer reads the model from the request body while the handler reads it. If the handler does not, the model is that of the response, or `unknown`.

use crate::{
    Builder, LlmMetrics,
    catalog::{self, Kind, MetricDef, Naming},
    prometheus::Exporter,
};

/// Metrics with their own exporter, and its page. Nothing is installed globally, so tests can run in parallel.
///
/// # Panics
/// If the exporter's thread cannot be spawned.
#[must_use]
pub fn metrics() -> (LlmMetrics, Page) {
    metrics_with(|builder| builder)
}

/// Does the same with other settings. The page uses the names of [`Builder::naming`].
///
/// # Panics
/// If the settings are invalid, or the exporter's thread cannot be spawned.
#[must_use]
pub fn metrics_with(set_up: impl FnOnce(Builder) -> Builder) -> (LlmMetrics, Page) {
    let builder = set_up(LlmMetrics::builder());
    let naming = builder.naming.clone();
    let exporter = Exporter::builder().process_metrics(false).naming(naming.clone()).build();
    let (_, exporter) = exporter.unwrap_or_else(|error| panic!("no exporter: {error}"));
    let metrics = builder.exporter(&exporter).build();
    let metrics = metrics.unwrap_or_else(|error| panic!("the settings are invalid: {error}"));
    (metrics, Page { exporter, naming })
}

/// The current values of the metrics.
#[derive(Debug)]
pub struct Page {
    exporter: Exporter,
    naming: Naming,
}

impl Page {
    /// The value of a counter or gauge, or the number of samples of a histogram, summed over the series with these labels; `None` if there are no
    /// such series.
    ///
    /// # Panics
    /// If the metric is not one of llm-metrics, has no such label, or if the label never has this value, because the result would always be `None`.
    #[must_use]
    #[track_caller]
    pub fn value(&self, metric: &MetricDef, labels: &[(&str, &str)]) -> Option<f64> {
        assert!(catalog::all().any(|row| row == metric), "{} is not a metric of llm-metrics: read `text`", metric.name);
        let name = self.naming.name(metric);
        let name = if metric.kind == Kind::Histogram { format!("{name}_count") } else { name.into_owned() };
        let text = self.text();
        let series: Vec<_> = text.lines().filter_map(|line| Series::parse(line, &name)).collect();
        for (label, value) in labels {
            if let Some(declared) = metric.label(label) {
                let allowed = declared.values;
                assert!(
                    declared.allows(value),
                    "the label {label:?} of {name} is never {value:?}: use one of {allowed:?}"
                );
            } else {
                let own: Vec<_> = metric.labels.iter().map(|label| label.name).collect();
                let is_additional = series.iter().any(|series| series.label(label).is_some());
                assert!(is_additional, "{name} has no label {label:?}: it has {own:?}");
            }
        }
        let asked = |series: &&Series| labels.iter().all(|(name, value)| series.label(name) == Some(value));
        series.iter().filter(asked).map(|series| series.value).reduce(|sum, value| sum + value)
    }

    /// The whole page, as Prometheus would scrape it.
    #[must_use]
    pub fn text(&self) -> String {
        self.exporter.render()
    }
}

struct Series {
    labels: Vec<(String, String)>,
    value: f64,
}

impl Series {
    /// A line of this metric.
    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut rest = line.strip_prefix(name)?;
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while let Some((label, after)) = rest.split_once("=\"") {
                let (value, after) = unescape(after)?;
                labels.push((label.trim_start_matches(',').to_owned(), value));
                rest = after;
                if rest.starts_with('}') {
                    break;
                }
            }
            rest = rest.strip_prefix('}')?;
        }
        Some(Self { labels, value: rest.strip_prefix(' ')?.parse().ok()? })
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| &**value)
    }
}

/// The text up to its closing quote, and what follows that.
fn unescape(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FinishReason, LabelPolicy, Operation, catalog::Unit};

    fn ask(metrics: &LlmMetrics, model: &str) {
        let mut inference = metrics.start(Operation::Chat, model);
        inference.tokens(3);
        inference.finish(FinishReason::Stop);
    }

    #[test]
    fn a_page_is_read_by_row_and_labels() {
        let odd = "a\"b,c=\"d\"} 7";
        let (metrics, page) = metrics_with(|builder| builder.models([odd, "other one"]));
        ask(&metrics, odd);
        ask(&metrics, odd);
        ask(&metrics, "other one");
        assert_eq!(page.value(&catalog::REQUESTS, &[("outcome", "success"), ("model", odd)]), Some(2.0));
        assert_eq!(page.value(&catalog::REQUESTS, &[("outcome", "success")]), Some(3.0), "summed");
        assert_eq!(page.value(&catalog::OUTPUT_TOKENS, &[("model", "other one")]), Some(3.0));
        assert_eq!(page.value(&catalog::REQUEST_DURATION, &[("model", odd)]), Some(2.0));
        assert_eq!(page.value(&catalog::REQUESTS, &[("model", "nobody")]), None);
        assert!(page.text().contains("# TYPE llm_requests_total counter"));
    }

    #[test]
    #[should_panic(expected = "llm_requests_total has no label \"kind\": it has [\"")]
    fn a_label_that_the_row_does_not_have_panics() {
        let (_metrics, page) = metrics();
        let _ = page.value(&catalog::REQUESTS, &[("kind", "a")]);
    }

    #[test]
    #[should_panic(expected = "desk_open is not a metric of llm-metrics")]
    fn a_row_of_another_catalogue_panics() {
        let (_metrics, page) = metrics();
        let _ = page.value(&MetricDef::gauge("desk_open", Unit::Count, ""), &[]);
    }

    #[test]
    #[should_panic(
        expected = "the label \"outcome\" of llm_requests_total is never \"failed\": use one of [\"success\""
    )]
    fn a_value_that_the_label_never_has_panics() {
        let (_metrics, page) = metrics();
        let _ = page.value(&catalog::REQUESTS, &[("outcome", "failed")]);
    }

    #[test]
    fn names_of_the_service_are_known() {
        let naming = Naming::new().prefix("qwen").unwrap();
        let (metrics, page) = metrics_with(|builder| builder.naming(naming));
        ask(&metrics, "m");
        assert_eq!(page.value(&catalog::OUTPUT_TOKENS, &[("model", "m")]), Some(3.0));
        assert!(page.text().contains("qwen_request_duration_seconds_bucket{"), "{}", page.text());
    }

    #[test]
    fn labels_of_the_service_are_known() {
        let (metrics, page) = metrics_with(|builder| {
            builder.request_label("tenant", LabelPolicy::first_accepted(3), |_| Some("a".to_owned()))
        });
        ask(&metrics, "m");
        assert_eq!(page.value(&catalog::REQUESTS, &[("tenant", "unknown"), ("outcome", "success")]), Some(1.0));
    }
}
