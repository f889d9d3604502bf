//! Catalogues as Markdown: `docs/METRICS.md` is written with it, and it is public so that a service can document its own catalogue in the same way.

use std::fmt::Write;

use super::{Dialect, Kind, LabelDef, MetricDef, Otel, Section};
use crate::vocabulary::ERROR_WORDS;

/// Renders sections as Markdown: one table per section, then the labels, then the buckets.
///
/// The output is deterministic, so that a test can compare a committed copy with it.
#[must_use]
pub fn markdown(sections: &[Section]) -> String {
    let mut page = String::new();
    let rows = || sections.iter().flat_map(|section| section.metrics);
    let others: Vec<_> = OTHERS.into_iter().filter(|(_, names)| rows().any(|row| !names(row).is_empty())).collect();
    for section in sections {
        write_section(&mut page, section, &others);
    }
    write_labels(&mut page, sections);
    write_buckets(&mut page, sections);
    page
}

/// A Markdown table of the error codes and types inside a response, with their `error_type`.
#[must_use]
pub fn error_words() -> String {
    let mut table = String::from("| `error_type` | code or type |\n| --- | --- |\n");
    for (meaning, words) in ERROR_WORDS {
        let words = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(table, "| `{}` | {words} |", meaning.as_str());
    }
    table
}

/// Other projects' names have a column if one of the rows has such a name.
fn write_section(page: &mut String, section: &Section, others: &[OtherNames]) {
    let _ = writeln!(page, "## {}\n", section.title);
    let titles: String = others.iter().map(|(title, _)| format!(" {title} |")).collect();
    let _ = writeln!(page, "| metric | type | unit | labels | meaning |{titles}");
    let _ = writeln!(page, "| --- | --- | --- | --- | --- |{}", " --- |".repeat(others.len()));
    for row in section.metrics {
        let labels = row.labels.iter().map(|label| label.name).collect::<Vec<_>>();
        let names: String = others.iter().map(|(_, names)| format!(" {} |", listed(&names(row)))).collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |{names}",
            row.name,
            row.kind,
            row.unit,
            listed(&labels),
            cell(row.help),
        );
    }
    page.push('\n');
}

/// A project, and its names for a row.
type OtherNames = (&'static str, fn(&MetricDef) -> Vec<&'static str>);

const OTHERS: [OtherNames; 3] = [
    ("OpenTelemetry", |row| opentelemetry(row, Otel::new(""))),
    ("OpenTelemetry 1.36", |row| opentelemetry(row, Otel::new("").semconv_1_36())),
    ("vLLM", |row| Dialect::Vllm.names_of(row)),
];

/// The names for servers and for clients.
fn opentelemetry(row: &MetricDef, otel: Otel) -> Vec<&'static str> {
    let mut names = Vec::new();
    for name in [otel.clone(), otel.client()].into_iter().flat_map(|otel| Dialect::Otel(otel).names_of(row)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A text in a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A label whose values depend on the metric has a line for each set of values, which begins with the metrics.
fn write_labels(page: &mut String, sections: &[Section]) {
    page.push_str("## Labels\n\n| label | meaning | values |\n| --- | --- | --- |\n");
    let mut labels: Vec<(&LabelDef, Vec<&str>)> = Vec::new();
    for row in sections.iter().flat_map(|section| section.metrics) {
        for label in row.labels {
            match labels.iter_mut().find(|(known, _)| *known == label) {
                Some((_, metrics)) => metrics.push(row.name),
                None => labels.push((label, vec![row.name])),
            }
        }
    }
    for (label, metrics) in &labels {
        let is_ambiguous = labels.iter().any(|(other, _)| other.name == label.name && other != label);
        let on = if is_ambiguous { format!("On {}: ", listed(metrics)) } else { String::new() };
        let _ = writeln!(page, "| `{}` | {on}{} | {} |", label.name, cell(label.help), listed(label.values));
    }
    page.push('\n');
}

fn write_buckets(page: &mut String, sections: &[Section]) {
    page.push_str("## Buckets\n\n| histogram | upper bounds, in addition to `+Inf` |\n| --- | --- |\n");
    let histograms = sections.iter().flat_map(|section| section.metrics).filter(|row| row.kind == Kind::Histogram);
    for row in histograms {
        let bounds = row.buckets.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
        let _ = writeln!(page, "| `{}` | {bounds} |", row.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Unit;

    #[test]
    fn texts_do_not_break_a_table() {
        const QUEUE: LabelDef = LabelDef::new("queue", "One of `a|b`.");
        const ROWS: &[MetricDef] =
            &[MetricDef::gauge("desk_open", Unit::Count, "Open, in\n    `a|b`.").with_labels(&[QUEUE])];
        let page = markdown(&[Section::new("Tickets", ROWS)]);
        assert!(page.contains("\n| `desk_open` | gauge | count | `queue` | Open, in `a\\|b`. |\n"), "{page}");
        assert!(page.contains("\n| `queue` | One of `a\\|b`. |  |\n"), "{page}");
    }
}
