use std::ops::Range;

/// Why a configuration is invalid, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{message}", Place(*line, *column), Field(field))]
#[non_exhaustive]
pub struct InvalidConfig {
    /// The line, from 1; `None` if something is missing.
    pub line: Option<usize>,
    /// The column, from 1.
    pub column: Option<usize>,
    /// The field, such as `upstreams.ollama.url`; empty if the file is not TOML.
    pub field: String,
    /// The problem, and what to do.
    pub message: String,
}

impl InvalidConfig {
    pub(super) fn at(
        text: &str,
        span: Option<Range<usize>>,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let place = span.map(|span| place(text, span.start));
        Self {
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            field: field.into(),
            message: message.into(),
        }
    }
}

struct Place(Option<usize>, Option<usize>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0, self.1) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: "),
            _ => Ok(()),
        }
    }
}

struct Field<'a>(&'a str);

impl std::fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
