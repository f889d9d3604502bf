//! The recorded metrics under the names of other dialects.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
};

use metrics::Key;
use metrics_exporter_prometheus::formatting::{sanitize_label_key, sanitize_label_value};

use super::{
    counter::{CounterSeries, Counters},
    families::{Families, Series},
    gauge::{GaugeSeries, Gauges, Number},
    histogram::{HistogramSeries, HistogramTotal, Histograms},
};
use crate::catalog::{
    Kind, Naming,
    dialect::{Family, Source, Value},
};

/// How names with dots are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// With underscores, for every scraper.
    Underscores,
    /// Unchanged, in quotes, for scrapers that ask for UTF-8 names.
    Dots,
}

/// The families of the other dialects on the page.
#[derive(Debug, Default)]
pub(super) struct Views(Vec<View>);

#[derive(Debug)]
struct View {
    family: Family,
    /// The names under which the rows of its sources are recorded.
    counted: Vec<String>,
}

impl Views {
    /// Adds a family. If one of that name exists, its labels are merged: the versions of OpenTelemetry share some names.
    pub(super) fn add(&mut self, family: Family, naming: &Naming) {
        if let Some(known) = self.0.iter_mut().find(|known| known.family.name == family.name) {
            for (known, more) in known.family.sources.iter_mut().zip(family.sources) {
                for constant in more.constant {
                    if !known.constant.contains(&constant) {
                        known.constant.push(constant);
                    }
                }
            }
            return;
        }
        let counted = family.sources.iter().map(|source| naming.name(&source.row).into_owned()).collect();
        self.0.push(View { family, counted });
    }

    /// The names of the labels of these families.
    pub(super) fn labels(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().flat_map(|view| view.family.labels())
    }

    /// Whether a page for scrapers that ask for UTF-8 names differs from a page for others.
    pub(super) fn have_dots(&self) -> bool {
        self.0.iter().any(|view| view.family.name.contains('.'))
    }

    pub(super) fn render_counters(&self, counters: &Counters, spelling: Spelling, page: &mut String) {
        self.render::<CounterSeries>(Kind::Counter, counters, page, spelling, |view, sample| {
            let total = *sample.total;
            view.line(sample, "", "", &total);
        });
    }

    pub(super) fn render_gauges(&self, gauges: &Gauges, spelling: Spelling, page: &mut String) {
        self.render::<GaugeSeries>(Kind::Gauge, gauges, page, spelling, |view, sample| {
            let total = *sample.total;
            view.line(sample, "", "", &Number(total));
        });
    }

    pub(super) fn render_histograms(&self, histograms: &Histograms, spelling: Spelling, page: &mut String) {
        self.render::<HistogramSeries>(Kind::Histogram, histograms, page, spelling, |view, sample| {
            let mut buckets = Vec::with_capacity(view.family.buckets.len());
            let total: &HistogramTotal = sample.total;
            let count = total.cumulated(view.family.buckets, |bound, count| buckets.push((bound, count)));
            let sum = total.sum();
            for (bound, count) in buckets {
                let bound = if view.family.python_floats { python(bound) } else { bound.to_string() };
                view.line(sample, "_bucket", &bound, &count);
            }
            view.line(sample, "_bucket", "+Inf", &count);
            view.line(sample, "_sum", "", &sum);
            view.line(sample, "_count", "", &count);
        });
    }

    fn render<S: Series>(
        &self,
        kind: Kind,
        families: &Families<S>,
        page: &mut String,
        spelling: Spelling,
        write: impl Fn(&View, &mut Sample<'_, S::Total>),
    ) {
        for view in self.0.iter().filter(|view| view.family.kind == kind) {
            let mut totals: BTreeMap<String, S::Total> = BTreeMap::new();
            for (source, counted) in view.family.sources.iter().zip(&view.counted) {
                for (key, series) in families.series(counted) {
                    if let Some(labels) = labels(source, &key, spelling) {
                        series.add_to(totals.entry(labels).or_default());
                    }
                }
            }
            if totals.is_empty() {
                continue;
            }
            let name = name(view.family.name, spelling);
            let quote = if quoted(&name) { "\"" } else { "" };
            let help = view.family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(page, "# HELP {quote}{name}{quote} {help}\n# TYPE {quote}{name}{quote} {}", S::TYPE);
            for (labels, total) in &totals {
                write(view, &mut Sample { page, name: &name, labels, total });
            }
            page.push('\n');
        }
    }
}

struct Sample<'a, T> {
    page: &'a mut String,
    name: &'a str,
    labels: &'a str,
    total: &'a T,
}

impl View {
    fn line<T>(&self, sample: &mut Sample<'_, T>, suffix: &str, le: &str, value: &dyn Display) {
        let Sample { page, name, labels, .. } = sample;
        let quoted_name = if quoted(name) { format!("\"{name}{suffix}\"") } else { String::new() };
        let le = if le.is_empty() { String::new() } else { format!("le=\"{le}\"") };
        let inside: Vec<&str> = [&quoted_name, *labels, &le].into_iter().filter(|part| !part.is_empty()).collect();
        if quoted_name.is_empty() {
            let _ = write!(page, "{name}{suffix}");
        }
        let _ = match inside.is_empty() {
            true => writeln!(page, " {value}"),
            false => writeln!(page, "{{{}}} {value}", inside.join(",")),
        };
    }
}

/// The labels of a series in a dialect; `None` if the series is absent there.
///
/// A label that is not one of the row (a constant label, a request label) is kept. Its name is none of the dialect's: exporter and metrics reject such
/// names. Only code that records with the exporter's recorder and without `Builder::exporter` can use one, and the dialect's label wins.
fn labels(source: &Source, key: &Key, spelling: Spelling) -> Option<String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut add = |to: &str, value: &str| {
        let to = name(to, spelling);
        if !pairs.iter().any(|(known, _)| *known == to) {
            pairs.push((to, sanitize_label_value(value)));
        }
    };
    for mapping in source.labels {
        let value = key.labels().find(|label| label.key() == mapping.from.name).map_or("", |label| label.value());
        match (mapping.value)(value) {
            Value::Is(value) => add(mapping.to, value),
            Value::NoLabel => {}
            Value::NoSeries => return None,
        }
    }
    for (to, value) in &source.constant {
        add(to, value);
    }
    for label in key.labels().filter(|label| source.row.label(label.key()).is_none()) {
        add(&sanitize_label_key(label.key()), label.value());
    }
    let pair = |(name, value): &(String, String)| {
        if quoted(name) { format!("\"{name}\"=\"{value}\"") } else { format!("{name}=\"{value}\"") }
    };
    Some(pairs.iter().map(pair).collect::<Vec<_>>().join(","))
}

fn name(name: &str, spelling: Spelling) -> String {
    match spelling {
        Spelling::Underscores => name.replace('.', "_"),
        Spelling::Dots => name.to_owned(),
    }
}

fn quoted(name: &str) -> bool {
    name.contains('.')
}

/// A bound as Python's `prometheus_client` writes it: with a decimal point, and from a million on with an exponent.
fn python(bound: f64) -> String {
    if bound < 1e6 {
        return format!("{bound:?}");
    }
    let (mantissa, exponent) =
        format!("{bound:e}").split_once('e').map(|(m, e)| (m.to_owned(), e.to_owned())).unwrap_or_default();
    format!("{mantissa}e+{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_spelled_as_prometheus_client_spells_them() {
        let bounds = [0.001, 0.025, 0.1, 1.0, 7.5, 60.0, 2560.0, 100_000.0, 1_000_000.0, 1_048_576.0];
        let texts = ["0.001", "0.025", "0.1", "1.0", "7.5", "60.0", "2560.0", "100000.0", "1e+06", "1.048576e+06"];
        assert_eq!(bounds.map(python), texts);
    }
}
