//! How names of rows are spelled on `/metrics`.

use std::borrow::Cow;

use metrics::KeyName;

use super::MetricDef;

/// How names of the rows of a catalogue are spelled. At present, only the prefix can change.
///
/// Pass the same naming to [`LlmMetrics`](crate::LlmMetrics) and to the exporter, because buckets are set by full name. Metrics that are built with
/// an exporter of this crate use its naming.
///
/// ```
/// use llm_metrics::catalog::{self, Naming};
///
/// let naming = Naming::new().prefix("qwen")?;
/// assert_eq!(naming.name(&catalog::REQUESTS), "qwen_requests_total");
/// # Ok::<(), llm_metrics::catalog::InvalidPrefix>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    prefix: Option<String>,
}

impl Naming {
    /// The names as written in the catalogue.
    #[must_use]
    pub const fn new() -> Self {
        Self { prefix: None }
    }

    /// Replaces the first word of every name: with `qwen`, `llm_requests_total` becomes `qwen_requests_total`. A name without an underscore, such as
    /// `tickets`, has no prefix, and stays as it is.
    ///
    /// # Errors
    /// If the prefix is not made of lower-case ASCII letters, digits and single underscores, or does not begin with a letter.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Result<Self, InvalidPrefix> {
        let prefix = prefix.into();
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !prefix.starts_with(|first: char| first.is_ascii_lowercase()) || !prefix.split('_').all(word) {
            return Err(InvalidPrefix { prefix });
        }
        self.prefix = Some(prefix);
        Ok(self)
    }

    /// The full name of a row.
    #[must_use]
    pub fn name(&self, row: &MetricDef) -> Cow<'static, str> {
        match (&self.prefix, row.name.split_once('_')) {
            (Some(prefix), Some((_, stem))) => format!("{prefix}_{stem}").into(),
            _ => row.name.into(),
        }
    }

    pub(crate) fn key_name(&self, row: &MetricDef) -> KeyName {
        match self.name(row) {
            Cow::Borrowed(name) => KeyName::from_const_str(name),
            Cow::Owned(name) => KeyName::from(name),
        }
    }
}

/// A prefix that would make invalid metric names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{prefix:?} is not a valid metric prefix: use lower-case letters, digits and single underscores, and begin with a letter"
)]
#[non_exhaustive]
pub struct InvalidPrefix {
    /// The given prefix.
    pub prefix: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    #[test]
    fn a_prefix_replaces_the_first_word_only() {
        let naming = Naming::new().prefix("my_llm2").unwrap();
        assert_eq!(naming.name(&catalog::BUILD_INFO), "my_llm2_metrics_build_info");
    }

    #[test]
    fn a_prefix_that_would_make_invalid_names_is_rejected() {
        for prefix in ["", "Qwen", "2b", "a__b", "a_", "_a", "a-b", "vllm:"] {
            assert!(Naming::new().prefix(prefix).is_err(), "{prefix:?}");
        }
    }
}
