//! Selectors: a row or a recording rule, and which of its series.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use llm_metrics::catalog::MetricDef;

use super::{InvalidExpression, Label, Names, Window};
use crate::{rule::Rule, vocabulary::TARGET_LABELS};

/// A selector: the operand of all expressions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Select {
    pub(crate) what: What,
    pub(crate) part: Part,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) target_labels: Vec<Label>,
    pub(crate) offset: Option<Window>,
    /// The bucket bounds, if they differ from the row's.
    pub(crate) bounds: Option<Arc<[f64]>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Row(&'static MetricDef),
    Rule(Rule),
}

/// The series of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Whole,
    /// All buckets, or the one with this bound.
    Bucket(Option<f64>),
    Count,
    Sum,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matcher {
    pub(crate) label: Label,
    pub(crate) compare: Compare,
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    OneOf,
    NoneOf,
    /// The value of a dashboard variable.
    Variable,
}

impl Matcher {
    pub(crate) fn new(
        label: impl Into<Label>,
        compare: Compare,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self { label: label.into(), compare, values: values.into_iter().map(Into::into).collect() }
    }

    fn render(&self) -> String {
        if self.compare == Compare::Variable {
            return format!("{}=~\"${}\"", self.label, self.values.concat());
        }
        let text = match (self.compare, &self.values[..]) {
            (Compare::Equal | Compare::NotEqual, [value]) => value.clone(),
            (_, values) => values.iter().map(|value| escape_regex(value)).collect::<Vec<_>>().join("|"),
        };
        let compare = match self.compare {
            Compare::Equal => "=",
            Compare::NotEqual => "!=",
            Compare::OneOf | Compare::Variable => "=~",
            Compare::NoneOf => "!~",
        };
        format!("{}{compare}{}", self.label, quote(&text))
    }
}

impl Select {
    pub(crate) const fn row(row: &'static MetricDef) -> Self {
        Self {
            what: What::Row(row),
            part: Part::Whole,
            matchers: Vec::new(),
            target_labels: Vec::new(),
            offset: None,
            bounds: None,
        }
    }

    pub(crate) const fn rule(rule: Rule) -> Self {
        Self {
            what: What::Rule(rule),
            part: Part::Whole,
            matchers: Vec::new(),
            target_labels: Vec::new(),
            offset: None,
            bounds: None,
        }
    }

    pub(crate) fn matching(mut self, matcher: Matcher) -> Self {
        self.matchers.push(matcher);
        self
    }

    /// The labels of its series.
    pub(crate) fn labels(&self) -> BTreeSet<Label> {
        let mut labels: BTreeSet<Label> = match &self.what {
            What::Row(row) => {
                let own = row.labels.iter().map(|label| label.name).chain(TARGET_LABELS).map(Cow::Borrowed);
                own.chain(self.target_labels.iter().cloned()).collect()
            }
            What::Rule(rule) => rule.labels(),
        };
        if matches!(self.part, Part::Bucket(_)) {
            labels.insert(Cow::Borrowed("le"));
        }
        labels
    }

    pub(crate) fn check(&self, faults: &mut Vec<InvalidExpression>) {
        let (labels, before) = (self.labels(), faults.len());
        for Matcher { label, values, compare } in &self.matchers {
            if !labels.contains(label) {
                faults.push(InvalidExpression::NoSuchLabel { label: label.clone(), of: self.rendered() });
            }
            // A variable is a name, and Grafana fills in its values.
            let known = self.values(label).filter(|_| *compare != Compare::Variable);
            let unknown = values.iter().filter(|value| known.as_ref().is_some_and(|known| !known.contains(*value)));
            faults.extend(unknown.map(|value| InvalidExpression::NoSuchValue {
                label: label.clone(),
                value: value.clone(),
                of: self.rendered(),
            }));
            if values.is_empty() && matches!(compare, Compare::OneOf | Compare::NoneOf) {
                faults.push(InvalidExpression::NoValues { label: label.clone(), of: self.rendered() });
            }
        }
        // Of matchers that are valid on their own.
        if faults.len() == before {
            let emptied = self.without_a_value().into_iter();
            faults.extend(
                emptied.map(|label| InvalidExpression::NoValueLeft { label: label.clone(), of: self.rendered() }),
            );
        }
        match (self.part, &self.what) {
            (Part::Bucket(Some(bound)), What::Row(row))
                if !self.bounds.as_deref().unwrap_or(row.buckets).contains(&bound) =>
            {
                faults.push(InvalidExpression::NoSuchBucket { bound, of: row.name });
            }
            _ => {}
        }
        if let What::Rule(rule) = &self.what {
            faults.extend(rule.faults());
        }
    }

    fn rendered(&self) -> String {
        self.name(&Names::default())
    }

    pub(crate) fn name(&self, names: &Names) -> String {
        let name = match &self.what {
            What::Row(row) => names.row(row).into_owned(),
            What::Rule(rule) => rule.name(names),
        };
        let suffix = match self.part {
            Part::Whole => "",
            Part::Bucket(_) => "_bucket",
            Part::Count => "_count",
            Part::Sum => "_sum",
        };
        name + suffix
    }

    /// Renders it, with `variables` (label, variable) matched if the series have the label and no other matcher for it.
    pub(crate) fn render(&self, names: &Names, variables: &[(&str, &str)], window: Option<Window>) -> String {
        let mut labels = self.labels();
        names.extend_by(&mut labels);
        let free = |label: &str| labels.contains(label) && !self.matchers.iter().any(|matcher| matcher.label == label);
        let by_variable = variables.iter().filter(|(label, _)| free(label));
        let mut matchers: Vec<_> = by_variable.map(|(label, variable)| format!("{label}=~\"${variable}\"")).collect();
        matchers.extend(self.matchers.iter().map(Matcher::render));
        if let Part::Bucket(Some(bound)) = self.part {
            matchers.push(bucket_matcher(bound).render());
        }
        let mut text = self.name(names);
        if !matchers.is_empty() {
            text += &format!("{{{}}}", matchers.join(","));
        }
        if let Some(window) = window {
            text += &format!("[{window}]");
        }
        if let Some(offset) = self.offset {
            text += &format!(" offset {offset}");
        }
        text
    }
}

/// When Prometheus 3 scrapes, it changes `le="5"` to `le="5.0"`; Prometheus 2 does not. If they differ, both are matched.
fn bucket_matcher(bound: f64) -> Matcher {
    let spellings = spellings(bound);
    let compare = if spellings.len() == 1 { Compare::Equal } else { Compare::OneOf };
    Matcher::new("le", compare, spellings)
}

/// The spellings of a bucket bound in Prometheus 2 and 3.
pub(crate) fn spellings(bound: f64) -> BTreeSet<String> {
    [bound.to_string(), open_metrics_float(bound)].into()
}

/// A number as Prometheus 3 spells it: Go's `%g`, with `.0` after a whole number.
pub(crate) fn open_metrics_float(value: f64) -> String {
    let exponent = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    if (-4..21).contains(&exponent) && !(6..).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let scientific = format!("{value:e}");
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{digits}e{sign}{power:0>2}")
}

fn escape_regex(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, char| {
        if r"\.+*?()|[]{}^$".contains(char) {
            escaped.push('\\');
        }
        escaped.push(char);
        escaped
    })
}

/// A string literal of PromQL.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_matched_in_the_spelling_of_prometheus_2_and_3() {
        assert_eq!(bucket_matcher(2.5).render(), r#"le="2.5""#);
        assert_eq!(bucket_matcher(5.0).render(), r#"le=~"5|5\\.0""#);
        assert_eq!(bucket_matcher(1_048_576.0).render(), r#"le=~"1\\.048576e\\+06|1048576""#);
        assert_eq!(bucket_matcher(0.001).render(), r#"le="0.001""#);
        assert_eq!(bucket_matcher(0.00005).render(), r#"le=~"0\\.00005|5e-05""#);
        assert_eq!(bucket_matcher(131_072.0).render(), r#"le=~"131072|131072\\.0""#);
    }
}
