//! The values that a label can have: those of the catalogue, less those that matchers exclude.

use std::collections::BTreeSet;

use super::{
    Label,
    expr::{Function, Node, Op},
    select::{Compare, Matcher, Part, Select, What, spellings},
};

impl Matcher {
    /// Whether it selects series with this value. The values of a dashboard's variable are not known, so that could be any.
    fn selects(&self, value: &String) -> bool {
        match self.compare {
            Compare::Equal | Compare::OneOf => self.values.contains(value),
            Compare::NotEqual | Compare::NoneOf => !self.values.contains(value),
            Compare::Variable => true,
        }
    }
}

impl Select {
    /// The labels of which no value fits all matchers: then it selects nothing.
    pub(crate) fn without_a_value(&self) -> BTreeSet<&Label> {
        let labels: BTreeSet<_> = self.matchers.iter().map(|matcher| &matcher.label).collect();
        let is_empty = |label: &&Label| self.values_left(label).is_some_and(|values| values.is_empty());
        labels.into_iter().filter(is_empty).collect()
    }

    /// The values of the label that fit all matchers; `None` if that could be any.
    fn values_left(&self, label: &str) -> Option<BTreeSet<String>> {
        let matchers = || self.matchers.iter().filter(|matcher| matcher.label == label);
        let lists = |matcher: &&Matcher| matches!(matcher.compare, Compare::Equal | Compare::OneOf);
        let listed = || matchers().find(lists).map(|matcher| matcher.values.iter().cloned().collect());
        let mut values: BTreeSet<String> = self.values(label).or_else(listed)?;
        values.retain(|value| matchers().all(|matcher| matcher.selects(value)));
        Some(values)
    }

    /// All values that the label has before matchers; `None` if that could be any.
    pub(crate) fn values(&self, label: &str) -> Option<BTreeSet<String>> {
        match (&self.what, self.part) {
            (What::Row(_), Part::Bucket(Some(bound))) if label == "le" => Some(spellings(bound)),
            (What::Row(row), Part::Bucket(None)) if label == "le" => {
                let bounds = self.bounds.as_deref().unwrap_or(row.buckets);
                Some(bounds.iter().flat_map(|bound| spellings(*bound)).chain(["+Inf".to_owned()]).collect())
            }
            (What::Row(row), _) => {
                let values = row.label(label)?.values;
                (!values.is_empty()).then(|| values.iter().map(|value| (*value).to_owned()).collect())
            }
            (What::Rule(rule), _) => match rule.own_label() {
                Some((own, value)) if own == label => Some([value.to_owned()].into()),
                _ => rule.expr().0.values(label),
            },
        }
    }
}

impl Node {
    /// The values that the label has in the result; `None` if that could be any.
    pub(crate) fn values(&self, label: &str) -> Option<BTreeSet<String>> {
        match self {
            Self::Number(_) => None,
            Self::Select(select) | Self::Absent(select) | Self::Over { of: select, .. } => select.values_left(label),
            Self::Call { function: Function::CopyLabel { to, from }, of } if *to == label => of.values(from),
            Self::Quantile { of, .. } | Self::Call { of, .. } | Self::Aggregate { of, .. } => of.values(label),
            Self::Binary { op: Op::Or, left, right, .. } => Some(&left.values(label)? | &right.values(label)?),
            Self::Binary { left, right, join, .. } => {
                let from_right = join.group_left.iter().flatten().any(|taken| taken == label);
                if from_right || left.is_number() { right.values(label) } else { left.values(label) }
            }
        }
    }
}
