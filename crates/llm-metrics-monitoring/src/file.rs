//! Generated files, and errors of the settings and of generating.

use std::{fmt::Display, io, path::PathBuf};

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

/// Why settings are invalid: all problems, each with its field and, where the YAML parser knows it, its line.
///
/// It has no [`source`](std::error::Error::source). The message contains everything that the error of the YAML parser says, and whoever prints a chain
/// of errors would print it twice. A message of several problems has no single source either.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct InvalidSlo {
    message: String,
}

impl InvalidSlo {
    pub(crate) fn new(message: String) -> Self {
        Self { message }
    }

    /// All problems of a report, with a prefix of their fields. `Ok` if there are none.
    pub(crate) fn of(prefix: &str, report: &garde::Report) -> Result<(), Self> {
        let lines: Vec<_> = report.iter().map(|(path, error)| format!("{prefix}{path}: {error}")).collect();
        if lines.is_empty() { Ok(()) } else { Err(Self { message: lines.join("\n") }) }
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
