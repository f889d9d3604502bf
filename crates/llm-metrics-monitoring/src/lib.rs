//! What watches a service that [`llm_metrics`] measures: recording rules, alerts with tests, Alertmanager routes, dashboards
//! and runbooks, all from one typed source over the catalogue's rows.
//!
//! - [`promql`] builds expressions from rows; a name, label or value that is not in the catalogue is refused.
//! - [`Rule`] is a recorded rule as a value: what refers to it holds it.
//! - [`recording`] holds all recorded rules.
//! - [`alerts`] holds all alerts, each with the cases that prove it.
//! - [`runbook`] makes the factual part of an alert's runbook.
//! - [`dashboard`] holds Grafana's dashboards.
//! - [`slo`] holds the objectives and thresholds that everything is generated from.
//! - [`generate`] makes files of it, as does the command `llm-metrics`:
//!
//! ```console
//! $ cargo run -p llm-metrics-monitoring -- generate --slo slo.yaml --out monitoring
//! ```

#![forbid(unsafe_code)]

mod alertmanager;
pub mod alerts;
pub mod dashboard;
pub mod external;
pub mod generate;
mod kubernetes;
pub mod promql;
pub mod recording;
mod rule;
mod rule_file;
pub mod runbook;
pub mod slo;
pub mod vocabulary;

pub use rule::{Level, Rule};
