//! The rules of Prometheus for rows and labels.

use super::{Kind, MetricDef};

/// Whether Prometheus accepts this name of a label.
pub(crate) fn is_label_name(name: &str) -> bool {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && !name.starts_with("__");
    begins && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether the exporter or Prometheus itself adds a label of this name.
pub(crate) fn is_reserved(name: &str) -> bool {
    ["le", "quantile"].contains(&name)
}

/// Why the row cannot be exported. Characters that Prometheus rejects are not a reason, because exporters replace them.
#[cfg_attr(not(feature = "prometheus"), allow(dead_code, reason = "only the exporter asks"))]
pub(crate) fn fault(row: &MetricDef) -> Option<&'static str> {
    let name = row.name;
    let is_duplicate = |at: usize| row.labels[..at].iter().any(|before| before.name == row.labels[at].name);
    if row.kind == Kind::Histogram && ["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)) {
        Some("the name of a histogram must not end in `_count`, `_sum` or `_bucket`")
    } else if row.labels.iter().any(|label| is_reserved(label.name)) {
        Some("the labels `le` and `quantile` are those of buckets and summaries")
    } else if (0..row.labels.len()).any(is_duplicate) {
        Some("it has a label twice")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{LabelDef, Unit, all};

    const A: LabelDef = LabelDef::new("a", "");

    #[test]
    fn every_row_of_ours_is_valid() {
        for row in all() {
            assert_eq!(fault(row), None, "{}", row.name);
        }
    }

    #[test]
    fn a_row_that_prometheus_would_reject_or_misread_has_a_fault() {
        const LE: &[LabelDef] = &[LabelDef::new("le", "")];
        let gauge = |name| MetricDef::gauge(name, Unit::Count, "");
        let cases = [
            (MetricDef::histogram("desk_x_count", Unit::Count, "", &[1.0]), "the name of a histogram"),
            (gauge("desk_x").with_labels(LE), "the labels `le`"),
            (gauge("desk_x").with_labels(&[A, A]), "it has a label twice"),
        ];
        for (row, reason) in cases {
            assert!(fault(&row).is_some_and(|fault| fault.starts_with(reason)), "{} {:?}", row.name, fault(&row));
        }
        assert_eq!(fault(&gauge("desk_x").with_labels(&[A])), None);
    }
}
