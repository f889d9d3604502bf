//! Rules for rows and labels: those of Prometheus, which the exporter enforces, and the naming conventions, which a test can check.

use std::{collections::HashSet, fmt};

use super::{Kind, LabelDef, MetricDef, Section, Unit, buckets};
use crate::vocabulary::MAX_NAME_BYTES;

/// A row of a catalogue that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metric {metric:?} is invalid: {reason}")]
#[non_exhaustive]
pub struct InvalidRow {
    /// The name of the metric. In an error of the exporter, its full name.
    pub metric: String,
    /// The rule that it breaks.
    pub reason: String,
}

impl InvalidRow {
    pub(crate) fn new(metric: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { metric: metric.into(), reason: reason.into() }
    }
}

/// Checks a catalogue in a test: whether each row can be exported, and follows the [naming conventions of Prometheus][1]. Returns each rule that a row
/// breaks.
///
/// - The name consists of letters, digits, underscores and colons, and no other row has it.
/// - It ends with the unit, such as `_seconds`, and on a counter with `_total` after that; no other name ends in `_total`.
/// - A histogram has valid [bucket bounds](buckets::validate), and its name does not end in `_count`, `_sum` or `_bucket`.
/// - There is a HELP text, on one line.
/// - The names of the labels are valid, differ from each other, and are neither `le` nor `quantile`. Each label has a help text, and the values of a
///   closed set are [label values](crate::LabelPolicy::is_label_value) that differ from each other.
///
/// ```
/// llm_metrics::catalogue! {
///     "Tickets" {
///         /// Time that a ticket waited for its first answer.
///         WAIT = gauge("desk_wait", Seconds)[];
///     }
/// }
///
/// # fn main() {
/// let invalid = llm_metrics::catalog::lint(SECTIONS);
/// assert_eq!(invalid[0].to_string(), "the metric \"desk_wait\" is invalid: the name of a metric in seconds ends in `_seconds`");
/// # }
/// ```
///
/// [1]: https://prometheus.io/docs/practices/naming/
#[must_use]
pub fn lint(sections: &[Section]) -> Vec<InvalidRow> {
    let mut names = HashSet::new();
    let mut invalid = Vec::new();
    for row in sections.iter().flat_map(|section| section.metrics) {
        let taken = (!names.insert(row.name)).then(|| "another row has this name".to_owned());
        let fault = fault(row).map(str::to_owned);
        let reasons = [taken, fault, breach_of_convention(row)].into_iter().flatten();
        invalid.extend(reasons.map(|reason| InvalidRow::new(row.name, reason)));
    }
    invalid
}

/// Whether Prometheus accepts this name of a label.
pub(crate) fn is_label_name(name: &str) -> bool {
    is_word(name) && !name.starts_with("__")
}

fn is_word(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a text can be the value of a label.
pub(crate) fn is_label_value(text: &str) -> bool {
    // The exporter escapes an escaped character only once, so values that differ in a backslash could become the same on the page.
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(|c| c.is_control() || c == '\\')
}

/// The rule of [`is_label_value`], for error messages.
pub(crate) struct LabelValueRule;

impl fmt::Display for LabelValueRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "use 1 to {MAX_NAME_BYTES} bytes, without control characters and backslashes")
    }
}

/// Whether the exporter or Prometheus itself adds a label of this name.
pub(crate) fn is_reserved(name: &str) -> bool {
    ["le", "quantile"].contains(&name)
}

/// Why the row cannot be exported.
pub(crate) fn fault(row: &MetricDef) -> Option<&'static str> {
    let is_duplicate = |at: usize| row.labels[..at].iter().any(|before| before.name == row.labels[at].name);
    if !is_word(&row.name.replace(':', "_")) {
        Some(
            "the name of a metric consists of letters, digits, underscores and colons, and does not begin with a digit",
        )
    } else if row.labels.iter().any(|label| !is_label_name(label.name)) {
        Some(
            "the name of a label consists of letters, digits and underscores, and begins with a letter or one underscore",
        )
    } else if row.kind == Kind::Histogram && ["_count", "_sum", "_bucket"].iter().any(|end| row.name.ends_with(end)) {
        Some("the name of a histogram must not end in `_count`, `_sum` or `_bucket`")
    } else if row.labels.iter().any(|label| is_reserved(label.name)) {
        Some("the labels `le` and `quantile` are those of buckets and summaries")
    } else if (0..row.labels.len()).any(is_duplicate) {
        Some("it has a label twice")
    } else if row.help.contains('\n') {
        Some("its HELP text has a line break: write it with `///`, not with `/** */`")
    } else {
        None
    }
}

/// Why the row can be exported, but not as users expect it.
fn breach_of_convention(row: &MetricDef) -> Option<String> {
    let is_counter = row.kind == Kind::Counter;
    let stem = if is_counter { row.name.strip_suffix("_total").unwrap_or(row.name) } else { row.name };
    let unit = suffix(row.unit);
    if is_counter != row.name.ends_with("_total") {
        Some("names of counters end in `_total`, and no others".into())
    } else if !stem.ends_with(unit) {
        Some(format!("the name of a metric in {} ends in `{unit}`", row.unit))
    } else if row.help.is_empty() {
        Some("it has no HELP text".into())
    } else if row.kind == Kind::Histogram {
        buckets::validate(row.buckets).err().map(|error| error.to_string())
    } else {
        row.labels.iter().find_map(fault_of_label)
    }
}

fn fault_of_label(label: &LabelDef) -> Option<String> {
    let is_duplicate = |at: &usize| label.values[..*at].contains(&label.values[*at]);
    if label.help.is_empty() {
        Some(format!("its label `{label}` has no help text"))
    } else if let Some(value) = label.values.iter().find(|value| !is_label_value(value)) {
        Some(format!("its label `{label}` has the value {value:?}: {LabelValueRule}"))
    } else {
        let duplicate = (0..label.values.len()).find(is_duplicate)?;
        Some(format!("its label `{label}` has the value {:?} twice", label.values[duplicate]))
    }
}

const fn suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "",
        Unit::Seconds => "_seconds",
        Unit::Tokens => "_tokens",
        Unit::Bytes => "_bytes",
        Unit::BytesPerSecond => "_bytes_per_second",
        Unit::Ratio => "_ratio",
        Unit::Watts => "_watts",
        Unit::Joules => "_joules",
        Unit::Hertz => "_hertz",
        Unit::Celsius => "_celsius",
        Unit::UnixSeconds => "_timestamp_seconds",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{LabelDef, SECTIONS};

    const A: LabelDef = LabelDef::new("a", "x");

    fn reasons(rows: &'static [MetricDef]) -> Vec<String> {
        lint(&[Section::new("", rows)]).into_iter().map(|invalid| invalid.reason).collect()
    }

    #[test]
    fn every_row_of_this_crate_follows_the_rules() {
        assert_eq!(lint(SECTIONS), []);
        for row in crate::catalog::all() {
            assert!(row.name.starts_with("llm_") && row.help.ends_with('.'), "{}", row.name);
            assert!(!["_count", "_sum", "_bucket"].iter().any(|end| row.name.ends_with(end)), "{}", row.name);
        }
    }

    #[test]
    fn a_row_that_breaks_a_rule_is_reported_with_the_rule() {
        const fn gauge(name: &'static str, unit: Unit) -> MetricDef {
            MetricDef::gauge(name, unit, "x")
        }
        const fn counter(name: &'static str, unit: Unit) -> MetricDef {
            MetricDef::counter(name, unit, "x")
        }
        const fn histogram(name: &'static str, buckets: &'static [f64]) -> MetricDef {
            MetricDef::histogram(name, Unit::Count, "x", buckets)
        }
        const LE: LabelDef = LabelDef::new("le", "x");
        const INVALID: LabelDef = LabelDef::new("a-b", "x");
        const NO_HELP: LabelDef = LabelDef::new("a", "");
        const VALID: &[MetricDef] = &[
            gauge("a", Unit::Count).with_labels(&[A]),
            gauge("b", Unit::Count).with_labels(&[A.with_values(&["a", "b"])]),
            counter("a_total", Unit::Count),
            counter("a_watts_total", Unit::Watts),
            histogram("_a", &[1.0]),
        ];
        const CASES: &[(MetricDef, &str)] = &[
            (histogram("a_count", &[1.0]), "the name of a histogram must not end in"),
            (histogram("a_sum", &[1.0]), "the name of a histogram must not end in"),
            (histogram("a_bucket", &[1.0]), "the name of a histogram must not end in"),
            (histogram("a", &[]), "a histogram needs at least one bucket bound"),
            (gauge("a", Unit::Count).with_labels(&[LE]), "the labels `le` and `quantile`"),
            (gauge("a", Unit::Count).with_labels(&[A, A]), "it has a label twice"),
            (gauge("a", Unit::Count).with_labels(&[INVALID]), "the name of a label consists of"),
            (gauge("a-b", Unit::Count), "the name of a metric consists of"),
            (gauge("1a", Unit::Count), "the name of a metric consists of"),
            (gauge("", Unit::Count), "the name of a metric consists of"),
            (gauge("a_total", Unit::Count), "names of counters end in `_total`, and no others"),
            (counter("a", Unit::Count), "names of counters end in `_total`, and no others"),
            (gauge("a", Unit::Seconds), "the name of a metric in seconds ends in `_seconds`"),
            (counter("a_total", Unit::Bytes), "the name of a metric in bytes ends in `_bytes`"),
            (
                gauge("a_seconds", Unit::UnixSeconds),
                "the name of a metric in Unix seconds ends in `_timestamp_seconds`",
            ),
            (gauge("a", Unit::Count).with_labels(&[NO_HELP]), "its label `a` has no help text"),
            (
                gauge("a", Unit::Count).with_labels(&[A.with_values(&["b", ""])]),
                "its label `a` has the value \"\": use 1",
            ),
            (gauge("a", Unit::Count).with_labels(&[A.with_values(&["b", "c\\"])]), "its label `a` has the value \"c"),
            (
                gauge("a", Unit::Count).with_labels(&[A.with_values(&["b", "c", "b"])]),
                "its label `a` has the value \"b\" twice",
            ),
            (MetricDef::gauge("a", Unit::Count, ""), "it has no HELP text"),
            (MetricDef::gauge("a", Unit::Count, "Two\nlines."), "its HELP text has a line break"),
        ];
        assert_eq!(reasons(VALID), [""; 0]);
        for (row, reason) in CASES {
            let found = reasons(std::slice::from_ref(row));
            assert!(matches!(&found[..], [one] if one.starts_with(reason)), "{}: {found:?}", row.name);
        }
        const TWICE: &[MetricDef] = &[VALID[0], VALID[0]];
        assert_eq!(reasons(TWICE), ["another row has this name"]);
    }
}
