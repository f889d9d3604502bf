//! Generated files, and errors of generating them.

use std::{fmt::Display, io, path::PathBuf};

use crate::slo::InvalidSlo;

/// A generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct File {
    /// Its path, relative to the folder that is generated.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

impl File {
    pub(crate) fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

/// Why generating failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A value of the settings is invalid.
    #[error(transparent)]
    Settings(InvalidSlo),
    /// An expression is invalid with these settings.
    #[error("{place}: {}", reasons.join("; "))]
    Expression {
        /// The rule, alert or panel.
        place: String,
        /// The problems.
        reasons: Vec<String>,
    },
    /// An alert is invalid, or lacks a case in which it fires or does not fire.
    #[error("{alert}: {}", reasons.join("; "))]
    Alert {
        /// The alert.
        alert: &'static str,
        /// The problems.
        reasons: Vec<String>,
    },
    /// A file could not be serialised as YAML.
    #[error("a rule file could not be serialised as YAML")]
    Yaml(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be serialised as JSON.
    #[error("a dashboard could not be serialised as JSON")]
    Json(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file or folder could not be written.
    #[error("{} could not be written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl GenerateError {
    pub(crate) fn expression(place: impl Into<String>, reasons: impl IntoIterator<Item = impl Display>) -> Self {
        Self::Expression {
            place: place.into(),
            reasons: reasons.into_iter().map(|reason| reason.to_string()).collect(),
        }
    }

    pub(crate) fn alert(alert: &'static str, reasons: impl IntoIterator<Item = impl Display>) -> Self {
        Self::Alert { alert, reasons: reasons.into_iter().map(|reason| reason.to_string()).collect() }
    }
}
