//! The definition of a label.

use std::{borrow::Cow, fmt};

use metrics::{Label, SharedString};

/// Declares labels, each with its values. The documentation of a label is its help text.
///
/// ```
/// llm_metrics::labels! {
///     /// The queue of the ticket.
///     QUEUE = "queue";
///     /// How the ticket was closed.
///     RESULT = "result": &["solved", "given_up"];
/// }
///
/// assert_eq!((QUEUE.name, QUEUE.help), ("queue", "The queue of the ticket."));
/// assert!(QUEUE.allows("any name"));
/// assert!(RESULT.allows("solved") && !RESULT.allows("lost"));
/// ```
#[macro_export]
macro_rules! labels {
    ($($(#[doc = $help:literal])+ $label:ident = $name:literal $(: $values:expr)?;)+) => {
        $($(#[doc = $help])+
        pub const $label: $crate::catalog::LabelDef =
            $crate::catalog::LabelDef::new($name, concat!($($help),+).trim_ascii())$(.with_values($values))?;)+
    };
    ($($labels:tt)*) => {
        compile_error!(
            "labels are declared as\n\
             /// The help text.\n\
             QUEUE = \"queue\";\n\
             or with all values, `RESULT = \"result\": &[\"solved\", \"given_up\"];` with a help text, too"
        );
    };
}

/// A label of a row: its name, and its values if they are a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelDef {
    /// Its name.
    pub name: &'static str,
    /// The meaning of its values.
    pub help: &'static str,
    /// All possible values; empty if a label policy, the embedder or a device decides.
    pub values: &'static [&'static str],
}

impl LabelDef {
    /// A label that can have any value.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, values: &[] }
    }

    /// Sets all possible values.
    ///
    /// # Panics
    /// If there are none. In the definition of a constant, that is an error of the compiler.
    #[must_use]
    pub const fn with_values(mut self, values: &'static [&'static str]) -> Self {
        assert!(!values.is_empty(), "a label needs at least one value; leave out the list if any value is possible");
        self.values = values;
        self
    }

    /// Whether the label can have this value.
    #[must_use]
    pub fn allows(&self, value: &str) -> bool {
        self.values.is_empty() || self.values.contains(&value)
    }

    /// The label with this value, for a series.
    #[must_use]
    pub fn label(self, value: impl Into<SharedString>) -> Label {
        Label::new(SharedString::const_str(self.name), value)
    }
}

/// Formats the name.
impl fmt::Display for LabelDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

/// The name.
impl From<LabelDef> for Cow<'static, str> {
    fn from(label: LabelDef) -> Self {
        Cow::Borrowed(label.name)
    }
}
