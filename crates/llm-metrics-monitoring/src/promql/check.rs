//! Checks expressions: labels that do not exist, joins that never match.

use std::collections::BTreeSet;

use super::{
    Expr, Label, Window,
    expr::{Aggregation, Function, Join, Node, Op, Over},
    select::{Compare, Select, What},
};
use crate::rule::Rule;

/// Why an expression is invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidExpression {
    /// The series have no such label.
    #[error("{of} has no label `{label}`")]
    NoSuchLabel {
        /// The label.
        label: Label,
        /// The selected series.
        of: String,
    },
    /// The label never has that value.
    #[error("the label `{label}` of {of} is never {value:?}")]
    NoSuchValue {
        /// The label.
        label: Label,
        /// The value.
        value: String,
        /// The selected series.
        of: String,
    },
    /// A matcher without values selects nothing.
    #[error("the matcher of `{label}` on {of} has no values")]
    NoValues {
        /// The label.
        label: Label,
        /// The selected series.
        of: String,
    },
    /// No value of the label fits all its matchers, so they select nothing.
    #[error("the matchers of `{label}` on {of} select nothing: no value of the label fits all of them; remove one")]
    NoValueLeft {
        /// The label.
        label: Label,
        /// The selected series.
        of: String,
    },
    /// The histogram has no bucket with that bound.
    #[error("{of} has no bucket with the bound {bound}")]
    NoSuchBucket {
        /// The bound.
        bound: f64,
        /// The histogram.
        of: &'static str,
    },
    /// Both sides of an operation have different labels, so nothing would ever match.
    #[error(
        "nothing would match: the left side has the labels {left:?}, the right side {right:?}; join on the labels that both have"
    )]
    NeverMatches {
        /// The labels on the left.
        left: BTreeSet<Label>,
        /// The labels on the right.
        right: BTreeSet<Label>,
    },
    /// A label by which series are matched never has the same value on both sides.
    #[error(
        "nothing would match: `{label}` is {left:?} on the left side and {right:?} on the right side; aggregate without it first"
    )]
    NeverEqual {
        /// The label.
        label: Label,
        /// Its values on the left.
        left: BTreeSet<String>,
        /// Its values on the right.
        right: BTreeSet<String>,
    },
    /// A comparison, `and`, `or` or `unless` between numbers.
    #[error("{op} needs series on both sides")]
    NoSeries {
        /// The operation.
        op: &'static str,
    },
    /// A number where series are needed, or the other way round.
    #[error("{function} needs {needs}")]
    WrongOperand {
        /// The function.
        function: &'static str,
        /// What the function needs.
        needs: &'static str,
    },
    /// A quantile is not between 0 and 1.
    #[error("the quantile {quantile} is not between 0 and 1")]
    NoQuantile {
        /// The quantile.
        quantile: f64,
    },
    /// A dashboard variable in a rule.
    #[error("{window} is a dashboard's variable; a rule needs a fixed window")]
    VariableInRule {
        /// The window.
        window: Window,
    },
    /// A matcher with a dashboard variable in a rule.
    #[error("`{label}` is matched with {variable}, a dashboard's variable; a rule needs fixed values")]
    VariableMatcherInRule {
        /// The label.
        label: Label,
        /// The variable.
        variable: String,
    },
    /// A window or offset is empty.
    #[error("the window or offset is empty")]
    EmptyWindow,
    /// The labels of a rule differ from those that its level promises.
    #[error("the rule {rule} has the labels {found:?}, but its level says {promised:?}")]
    WrongLevel {
        /// The rule.
        rule: String,
        /// Its labels.
        found: BTreeSet<Label>,
        /// The labels of its level.
        promised: BTreeSet<Label>,
    },
}

impl Expr {
    /// The labels of the resulting series, without the name.
    #[must_use]
    pub fn labels(&self) -> BTreeSet<Label> {
        self.0.labels()
    }

    /// All problems of the expression.
    #[must_use]
    pub fn faults(&self) -> Vec<InvalidExpression> {
        let mut faults = Vec::new();
        self.0.check(&mut faults);
        faults
    }

    /// The recorded rules that it reads.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        self.0.each_select(&mut |select, _| {
            if let What::Rule(rule) = &select.what {
                rules.push(rule.clone());
            }
        });
        rules
    }

    /// Whether it has a condition.
    pub(crate) fn has_condition(&self) -> bool {
        self.0.has_condition()
    }

    /// Whether a selector of it selects nothing.
    pub(crate) fn selects_nothing(&self) -> bool {
        let mut nothing = false;
        self.0.each_select(&mut |select, _| nothing |= !select.without_a_value().is_empty());
        nothing
    }

    /// Whether it uses `absent`.
    pub(crate) fn is_absence(&self) -> bool {
        self.0.is_absence()
    }

    /// The dashboard variables in its windows and matchers, none of which a rule can have.
    pub(crate) fn variables(&self) -> Vec<InvalidExpression> {
        let mut variables = Vec::new();
        self.0.each_select(&mut |select, window| {
            let windows = window.into_iter().chain(select.offset).filter(|window| window.is_variable());
            variables.extend(windows.map(|window| InvalidExpression::VariableInRule { window }));
            let matchers = select.matchers.iter().filter(|matcher| matcher.compare == Compare::Variable);
            variables.extend(matchers.map(|matcher| InvalidExpression::VariableMatcherInRule {
                label: matcher.label.clone(),
                variable: format!("${}", matcher.values.concat()),
            }));
        });
        variables
    }
}

impl Node {
    fn is_absence(&self) -> bool {
        match self {
            Self::Absent(_) => true,
            Self::Binary { op: Op::Or, left, right, .. } => left.is_absence() && right.is_absence(),
            _ => false,
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        match self {
            Self::Number(_) | Self::Call { function: Function::Time, .. } => true,
            Self::Binary { left, right, .. } => left.is_number() && right.is_number(),
            _ => false,
        }
    }

    pub(crate) fn labels(&self) -> BTreeSet<Label> {
        match self {
            Self::Number(_) => BTreeSet::new(),
            Self::Select(select) | Self::Over { of: select, .. } => select.labels(),
            Self::Absent(select) => {
                let given = select.matchers.iter().filter(|matcher| matcher.compare == Compare::Equal);
                given.map(|matcher| matcher.label.clone()).collect()
            }
            Self::Quantile { of, .. } => {
                let mut labels = of.labels();
                labels.remove("le");
                labels
            }
            Self::Call { function: Function::CopyLabel { to, .. }, of } => {
                let mut labels = of.labels();
                labels.insert((*to).into());
                labels
            }
            Self::Call { of, .. } => of.labels(),
            Self::Aggregate { by: Aggregation::TopK(_), of, .. } => of.labels(),
            Self::Aggregate { labels, .. } => labels.iter().cloned().collect(),
            Self::Binary { op, left, right, join } => binary_labels(*op, left, right, join),
        }
    }

    fn check(&self, faults: &mut Vec<InvalidExpression>) {
        match self {
            Self::Number(_) => {}
            Self::Select(select) | Self::Absent(select) => select.check(faults),
            Self::Over { function, of, window } => {
                of.check(faults);
                check_window(*window, faults);
                match function {
                    Over::Quantile(quantile) => check_quantile(*quantile, faults),
                    Over::PredictLinear(ahead) => check_window(*ahead, faults),
                    _ => {}
                }
            }
            Self::Quantile { quantile, of } => {
                of.check(faults);
                check_quantile(*quantile, faults);
            }
            Self::Call { function, of } => {
                of.check(faults);
                let needs_number = matches!(function, Function::Vector | Function::Time);
                if let Function::CopyLabel { from, .. } = function
                    && !of.labels().contains(*from)
                {
                    faults.push(InvalidExpression::NoSuchLabel { label: (*from).into(), of: of.rendered() });
                }
                if of.is_number() != needs_number {
                    let needs = if needs_number { "a number" } else { "series" };
                    faults.push(InvalidExpression::WrongOperand { function: function.name(), needs });
                }
            }
            Self::Aggregate { by, labels, of } => {
                of.check(faults);
                if of.is_number() {
                    faults.push(InvalidExpression::WrongOperand { function: by.name(), needs: "series" });
                }
                let there = of.labels();
                let missing = labels.iter().filter(|label| !there.contains(*label));
                faults.extend(
                    missing.map(|label| InvalidExpression::NoSuchLabel { label: label.clone(), of: of.rendered() }),
                );
            }
            Self::Binary { op, left, right, join } => {
                left.check(faults);
                right.check(faults);
                check_join(*op, left, right, join, faults);
            }
        }
    }

    fn has_condition(&self) -> bool {
        match self {
            Self::Absent(_) => true,
            Self::Binary { op, left, right, .. } => match op {
                Op::And => left.has_condition() || right.has_condition(),
                Op::Or => left.has_condition() && right.has_condition(),
                Op::Unless => true,
                _ => op.compares(),
            },
            Self::Aggregate { of, .. } | Self::Call { of, .. } => of.has_condition(),
            _ => false,
        }
    }

    pub(crate) fn each_select_mut(&mut self, visit: &mut impl FnMut(&mut Select)) {
        match self {
            Self::Number(_) => {}
            Self::Select(select) | Self::Absent(select) | Self::Over { of: select, .. } => visit(select),
            Self::Quantile { of, .. } | Self::Call { of, .. } | Self::Aggregate { of, .. } => of.each_select_mut(visit),
            Self::Binary { left, right, .. } => {
                left.each_select_mut(visit);
                right.each_select_mut(visit);
            }
        }
    }

    pub(crate) fn each_select(&self, visit: &mut impl FnMut(&Select, Option<Window>)) {
        match self {
            Self::Number(_) => {}
            Self::Select(select) | Self::Absent(select) => visit(select, None),
            Self::Over { of, window, .. } => visit(of, Some(*window)),
            Self::Quantile { of, .. } | Self::Call { of, .. } | Self::Aggregate { of, .. } => of.each_select(visit),
            Self::Binary { left, right, .. } => {
                left.each_select(visit);
                right.each_select(visit);
            }
        }
    }
}

fn binary_labels(op: Op, left: &Node, right: &Node, join: &Join) -> BTreeSet<Label> {
    if left.is_number() {
        return right.labels();
    }
    match (op, &join.group_left, &join.on) {
        (_, Some(taken), _) => left.labels().into_iter().chain(taken.iter().cloned()).collect(),
        (Op::And | Op::Or | Op::Unless, ..) | (.., None) => left.labels(),
        (.., Some(on)) => on.iter().cloned().collect(),
    }
}

fn check_join(op: Op, left: &Node, right: &Node, join: &Join, faults: &mut Vec<InvalidExpression>) {
    if left.is_number() || right.is_number() {
        let of_sets = matches!(op, Op::And | Op::Or | Op::Unless);
        let compares_numbers = left.is_number() && right.is_number() && op.compares();
        if of_sets || compares_numbers {
            faults.push(InvalidExpression::NoSeries { op: op.symbol() });
        }
        return;
    }
    let (left_labels, right_labels) = (left.labels(), right.labels());
    let Some(on) = &join.on else {
        if left_labels == right_labels {
            check_values(op, left, right, left_labels.iter(), faults);
        } else {
            faults.push(InvalidExpression::NeverMatches { left: left_labels, right: right_labels });
        }
        return;
    };
    check_values(op, left, right, on.iter(), faults);
    for (side, labels, wanted) in [(left, &left_labels, &on[..]), (right, &right_labels, &on[..])] {
        let missing = wanted.iter().filter(|label| !labels.contains(*label));
        faults
            .extend(missing.map(|label| InvalidExpression::NoSuchLabel { label: label.clone(), of: side.rendered() }));
    }
    let taken = join.group_left.iter().flatten().filter(|label| !right_labels.contains(*label));
    faults.extend(taken.map(|label| InvalidExpression::NoSuchLabel { label: label.clone(), of: right.rendered() }));
}

/// `or` does not need a match.
fn check_values<'a>(
    op: Op,
    left: &Node,
    right: &Node,
    on: impl Iterator<Item = &'a Label>,
    faults: &mut Vec<InvalidExpression>,
) {
    faults.extend(on.filter(|_| op != Op::Or).filter_map(|label| {
        let (left, right) = (left.values(label)?, right.values(label)?);
        // A side that is empty has its own fault.
        let differ = left.is_disjoint(&right) && !left.is_empty() && !right.is_empty();
        differ.then(|| InvalidExpression::NeverEqual { label: label.clone(), left, right })
    }));
}

fn check_quantile(quantile: f64, faults: &mut Vec<InvalidExpression>) {
    if !(0.0..=1.0).contains(&quantile) {
        faults.push(InvalidExpression::NoQuantile { quantile });
    }
}

fn check_window(window: Window, faults: &mut Vec<InvalidExpression>) {
    if window.as_seconds() == Some(0) {
        faults.push(InvalidExpression::EmptyWindow);
    }
}
