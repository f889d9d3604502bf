//! The metric catalogue: every metric, once.
//!
//! A row holds the name, kind, unit, HELP text, labels and buckets. All code that describes metrics to a recorder, sets buckets in an exporter, shows
//! metrics under the names of another [`Dialect`], or writes `docs/METRICS.md` reads these rows, so all of them agree.
//!
//! ```
//! use llm_metrics::catalog;
//!
//! let row = catalog::TIME_TO_FIRST_TOKEN;
//! assert_eq!(row.name, "llm_time_to_first_token_seconds");
//! assert!(row.buckets.is_sorted());
//! assert!(catalog::all().any(|other| other.name == row.name));
//! ```
//!
//! # Rules that every row keeps
//! - base units, with the unit as a suffix, and `_total` on counters;
//! - no histogram ends in `_count`, `_sum` or `_bucket` (the exporter would break the family);
//! - every histogram has explicit buckets: without them, an exporter makes a summary of it, which cannot be aggregated;
//! - every label value is from a closed set or has passed a bounded policy.

pub mod buckets;
pub mod dialect;
pub mod document;
mod label;
pub mod labels;
mod naming;
mod registrar;
mod table;
pub(crate) mod valid;

pub use dialect::{Dialect, Otel};
pub use label::LabelDef;
pub use labels::InvalidLabel;
pub use naming::{InvalidPrefix, Naming};
pub use registrar::Registrar;
pub use table::*;
pub(crate) use valid::LabelValueRule;
pub use valid::{InvalidRow, lint};

use metrics::{Recorder, SharedString};

use crate::vocabulary::words;

/// Declares the rows of a catalogue, its `SECTIONS`, and `all()`, which iterates over the rows. The documentation of a row is its HELP text.
///
/// Declare your own metrics in the same way. The same rows then provide their handles ([`Registrar`](crate::catalog::Registrar)), their documentation
/// ([`document`](crate::catalog::document)), their buckets (`ExporterBuilder::catalogue`), and the checks of PromQL that reads them
/// (`llm-metrics-monitoring`).
///
/// ```
/// use llm_metrics::catalog::{Kind, Naming};
///
/// const WAITS: &[f64] = &[0.1, 1.0, 10.0];
///
/// llm_metrics::labels! {
///     /// The queue of the ticket.
///     QUEUE = "queue";
///     /// How the ticket was closed.
///     RESULT = "result": &["solved", "given_up"];
/// }
///
/// llm_metrics::catalogue! {
///     "Tickets" {
///         /// Tickets that were closed.
///         TICKETS_CLOSED = counter("desk_tickets_closed_total", Count)[QUEUE, RESULT];
///         /// Time that a ticket waited for its first answer.
///         WAIT = histogram("desk_wait_seconds", Seconds, WAITS)[QUEUE];
///     }
/// }
///
/// # fn main() {
/// assert_eq!((TICKETS_CLOSED.kind, TICKETS_CLOSED.help), (Kind::Counter, "Tickets that were closed."));
/// assert_eq!(TICKETS_CLOSED.labels, [QUEUE, RESULT]);
/// assert_eq!(WAIT.buckets, WAITS);
/// assert_eq!(all().count(), 2);
/// # }
/// ```
///
/// A row is `NAME = kind("name", Unit)[labels];`. The kind is one of [`Kind`](crate::catalog::Kind) in lower case, and the unit a variant of
/// [`Unit`](crate::catalog::Unit). A histogram has its buckets as a third argument. Each label is a [`LabelDef`](crate::catalog::LabelDef), which
/// [`labels!`](crate::labels) declares. A module has one catalogue, because `SECTIONS` and `all` are items of it.
#[macro_export]
macro_rules! catalogue {
    ($($title:literal {
        $($(#[doc = $help:literal])+ $row:ident = $kind:ident($name:literal, $unit:ident $(, $buckets:expr)?)
            [$($label:expr),* $(,)?];)+
    })+) => {
        $($($(#[doc = $help])+
        pub const $row: $crate::catalog::MetricDef = $crate::catalog::MetricDef::$kind(
            $name,
            $crate::catalog::Unit::$unit,
            concat!($($help),+).trim_ascii()
            $(, $buckets)?
        )
        .with_labels(&[$($label),*]);)+)+

        /// The rows in their sections.
        pub const SECTIONS: &[$crate::catalog::Section] = &[$($crate::catalog::Section::new($title, &[$($row),+])),+];

        /// Every row of this catalogue.
        pub fn all() -> impl Iterator<Item = &'static $crate::catalog::MetricDef> {
            SECTIONS.iter().flat_map(|section| section.metrics)
        }
    };
    ($($rows:tt)*) => {
        compile_error!(
            "a catalogue consists of sections, `\"Title\" { … }`, with rows such as\n\
             /// The HELP text.\n\
             TICKETS_CLOSED = counter(\"desk_tickets_closed_total\", Count)[QUEUE, RESULT];\n\
             WAIT = histogram(\"desk_wait_seconds\", Seconds, BUCKETS)[]; // with a HELP text, too"
        );
    };
}

words! {
    /// The kind of a metric, with the names of `# TYPE` lines.
    pub enum Kind {
        /// Only rises, until the process restarts.
        Counter = "counter",
        /// Rises and falls.
        Gauge = "gauge",
        /// Counts observations in buckets.
        Histogram = "histogram",
    }
}

words! {
    /// The unit of a metric's values, in words. All are base units: seconds, not milliseconds.
    pub enum Unit {
        /// Counted items: requests, errors, choices.
        Count = "count",
        /// Seconds.
        Seconds = "seconds",
        /// Tokens, counted by the model's own tokenizer.
        Tokens = "tokens",
        /// Bytes.
        Bytes = "bytes",
        /// Bytes per second.
        BytesPerSecond = "bytes per second",
        /// A ratio, from 0 to 1.
        Ratio = "ratio",
        /// Watts.
        Watts = "watts",
        /// Joules.
        Joules = "joules",
        /// Hertz.
        Hertz = "hertz",
        /// Degrees Celsius.
        Celsius = "degrees Celsius",
        /// Seconds since 1970-01-01 UTC.
        UnixSeconds = "Unix seconds",
    }
}

impl Unit {
    const fn facade(self) -> Option<metrics::Unit> {
        match self {
            Self::Count | Self::Tokens => Some(metrics::Unit::Count),
            Self::Seconds | Self::UnixSeconds => Some(metrics::Unit::Seconds),
            Self::Bytes => Some(metrics::Unit::Bytes),
            _ => None,
        }
    }
}

/// One row of a catalogue.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MetricDef {
    /// The name in our own dialect. [`Naming`] can replace its prefix, the first word.
    pub name: &'static str,
    /// The kind of the metric.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// The HELP text: what is measured, from which moment to which.
    pub help: &'static str,
    /// The labels of every series.
    pub labels: &'static [LabelDef],
    /// The upper bounds of its buckets; empty unless it is a histogram.
    pub buckets: &'static [f64],
}

impl MetricDef {
    /// A counter without labels.
    #[must_use]
    pub const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self::new(name, Kind::Counter, unit, help)
    }

    /// A gauge without labels.
    #[must_use]
    pub const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self::new(name, Kind::Gauge, unit, help)
    }

    /// A histogram without labels.
    #[must_use]
    pub const fn histogram(name: &'static str, unit: Unit, help: &'static str, buckets: &'static [f64]) -> Self {
        let mut row = Self::new(name, Kind::Histogram, unit, help);
        row.buckets = buckets;
        row
    }

    const fn new(name: &'static str, kind: Kind, unit: Unit, help: &'static str) -> Self {
        Self { name, kind, unit, help, labels: &[], buckets: &[] }
    }

    /// Sets the labels.
    #[must_use]
    pub const fn with_labels(mut self, labels: &'static [LabelDef]) -> Self {
        self.labels = labels;
        self
    }

    /// The label of this name, if the row has it.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&'static LabelDef> {
        self.labels.iter().find(|label| label.name == name)
    }

    /// Describes the row to `recorder`: name, unit and HELP text.
    pub fn describe(&self, naming: &Naming, recorder: &dyn Recorder) {
        let name = naming.key_name(self);
        let (unit, help) = (self.unit.facade(), SharedString::const_str(self.help));
        match self.kind {
            Kind::Counter => recorder.describe_counter(name, unit, help),
            Kind::Gauge => recorder.describe_gauge(name, unit, help),
            Kind::Histogram => recorder.describe_histogram(name, unit, help),
        }
    }
}

/// A group of rows in a catalogue.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Section {
    /// The heading in the documentation.
    pub title: &'static str,
    /// Its rows.
    pub metrics: &'static [MetricDef],
}

impl Section {
    /// A section of the given rows.
    #[must_use]
    pub const fn new(title: &'static str, metrics: &'static [MetricDef]) -> Self {
        Self { title, metrics }
    }
}
