//! Monitoring for services that use [`llm_metrics`]: recording rules, alerts with tests, Alertmanager routes, Grafana dashboards and runbooks, all
//! generated from the rows of the catalogue and one file of objectives.
//!
//! - [`slo`] reads that file, `slo.yaml`.
//! - [`generate`] makes the files, as does the command `llm-metrics generate` (crate `llm-metrics-cli`).
//! - [`Names`] sets the prefixes of a service that does not use the default ones.
//! - [`openslo`] writes the objectives as OpenSLO documents.
//!
//! ```
//! use llm_metrics_monitoring::{Names, generate, slo::Slo};
//!
//! let files = generate::files(&Slo::default(), &Names::new())?;
//! assert!(files.iter().any(|file| file.path.ends_with("outages.alerts.yml")));
//! # Ok::<(), generate::GenerateError>(())
//! ```
//!
//! # Feature `unstable`
//! With this feature, the types from which the files are generated are public: PromQL expressions made of rows of a catalogue (`promql`), recording
//! rules (`Rule`, `recording`), alerts with their test cases (`alerts`), dashboards (`dashboard`) and runbooks (`runbook`). They may change in any
//! release, also incompatibly.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "unstable"),
    allow(dead_code, unreachable_pub, unused_imports, reason = "it is public with the feature")
)]

mod alertmanager;
mod file;
pub mod generate;
mod instructions;
mod kubernetes;
pub mod openslo;
mod rule;
mod rule_file;
pub mod slo;

#[cfg(not(feature = "unstable"))]
mod alerts;
#[cfg(feature = "unstable")]
pub mod alerts;
#[cfg(not(feature = "unstable"))]
mod dashboard;
#[cfg(feature = "unstable")]
pub mod dashboard;
#[cfg(not(feature = "unstable"))]
mod external;
#[cfg(feature = "unstable")]
pub mod external;
#[cfg(not(feature = "unstable"))]
mod promql;
#[cfg(feature = "unstable")]
pub mod promql;
#[cfg(not(feature = "unstable"))]
mod recording;
#[cfg(feature = "unstable")]
pub mod recording;
#[cfg(not(feature = "unstable"))]
mod runbook;
#[cfg(feature = "unstable")]
pub mod runbook;
#[cfg(not(feature = "unstable"))]
mod vocabulary;
#[cfg(feature = "unstable")]
pub mod vocabulary;

pub use promql::Names;
pub(crate) use promql::{counter, gauge, histogram};
#[cfg(feature = "unstable")]
pub use rule::{Level, Rule, RuleMetric};
