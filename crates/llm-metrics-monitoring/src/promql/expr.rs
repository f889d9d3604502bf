//! Expressions: what can be built, and how they are put together.

use std::ops::{Add, Div, Mul, Sub};

use llm_metrics::catalog::labels::MODEL;

use super::{Label, Window, select::Select};
use crate::{slo::Region, vocabulary::JOB};

/// An expression of PromQL.
///
/// It is built from [`Counter`](super::Counter), [`Gauge`](super::Gauge), [`Histogram`](super::Histogram) and numbers,
/// and rendered by [`Expr::render`], which checks it first.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr(pub(crate) Node);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Number(f64),
    Select(Select),
    Absent(Select),
    Over { function: Over, of: Select, window: Window },
    Quantile { quantile: f64, of: Box<Self> },
    Call { function: Function, of: Box<Self> },
    Aggregate { by: Aggregation, labels: Vec<Label>, of: Box<Self> },
    Binary { op: Op, left: Box<Self>, right: Box<Self>, join: Join },
}

/// Functions of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Over {
    Rate,
    Increase,
    Avg,
    Max,
    Min,
    Sum,
    Stddev,
    Quantile(f64),
    Count,
    Changes,
    Delta,
    Deriv,
    PredictLinear(Window),
}

/// Functions of an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    Abs,
    Ceil,
    ClampMin(f64),
    ClampMax(f64),
    /// Of nothing: the evaluation's time.
    Time,
    Vector,
    /// A label gets the value that another one has.
    CopyLabel {
        to: &'static str,
        from: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    TopK(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Mul,
    Div,
    Add,
    Sub,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    And,
    Unless,
    Or,
}

/// Which series of the two sides belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Join {
    /// The labels that have to be equal; all, where it is `None`.
    pub(crate) on: Option<Vec<Label>>,
    /// Many on the left to one on the right, from which these labels are taken.
    pub(crate) group_left: Option<Vec<Label>>,
}

impl Expr {
    /// The evaluation's time, in Unix seconds.
    #[must_use]
    pub fn time() -> Self {
        Self(Node::Call { function: Function::Time, of: Box::new(Node::Number(0.0)) })
    }

    /// A series without labels that always is `value`.
    #[must_use]
    pub fn vector(value: f64) -> Self {
        Self::call(Function::Vector, Node::Number(value))
    }

    /// Without its sign.
    #[must_use]
    pub fn abs(self) -> Self {
        Self::call(Function::Abs, self.0)
    }

    /// Rounded up.
    #[must_use]
    pub fn ceil(self) -> Self {
        Self::call(Function::Ceil, self.0)
    }

    /// At least `least`.
    #[must_use]
    pub fn clamp_min(self, least: f64) -> Self {
        Self::call(Function::ClampMin(least), self.0)
    }

    /// At most `most`.
    #[must_use]
    pub fn clamp_max(self, most: f64) -> Self {
        Self::call(Function::ClampMax(most), self.0)
    }

    /// The label `to` gets the value that `from` has.
    #[must_use]
    pub fn copy_label(self, to: &'static str, from: &'static str) -> Self {
        Self::call(Function::CopyLabel { to, from }, self.0)
    }

    /// The sum over all that is not in `labels`.
    #[must_use]
    pub fn sum_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Sum, labels)
    }

    /// The mean over all that is not in `labels`.
    #[must_use]
    pub fn avg_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Avg, labels)
    }

    /// The smallest of all that is not in `labels`.
    #[must_use]
    pub fn min_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Min, labels)
    }

    /// The largest of all that is not in `labels`.
    #[must_use]
    pub fn max_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Max, labels)
    }

    /// How many series there are for each set of `labels`.
    #[must_use]
    pub fn count_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Count, labels)
    }

    /// The sum over everything.
    #[must_use]
    pub fn sum(self) -> Self {
        self.sum_by([""; 0])
    }

    /// The `k` largest series.
    #[must_use]
    pub fn topk(self, k: u32) -> Self {
        self.aggregate(Aggregation::TopK(k), [""; 0])
    }

    /// Only what is greater.
    #[must_use]
    pub fn gt(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Greater, other, Join::default())
    }

    /// Only what is greater or equal.
    #[must_use]
    pub fn ge(self, other: impl Into<Self>) -> Self {
        self.binary(Op::GreaterOrEqual, other, Join::default())
    }

    /// Only what is less.
    #[must_use]
    pub fn lt(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Less, other, Join::default())
    }

    /// Only what is less or equal.
    #[must_use]
    pub fn le(self, other: impl Into<Self>) -> Self {
        self.binary(Op::LessOrEqual, other, Join::default())
    }

    /// Only what is equal.
    #[must_use]
    pub fn equals(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Equal, other, Join::default())
    }

    /// Only what is not equal.
    #[must_use]
    pub fn differs(self, other: impl Into<Self>) -> Self {
        self.binary(Op::NotEqual, other, Join::default())
    }

    /// Only series that the other has too, with the same labels.
    #[must_use]
    pub fn and(self, other: impl Into<Self>) -> Self {
        self.binary(Op::And, other, Join::default())
    }

    /// Only series that the other has too, by the labels `on`.
    #[must_use]
    pub fn and_on(self, on: impl IntoIterator<Item = impl Into<Label>>, other: impl Into<Self>) -> Self {
        self.binary(Op::And, other, Join::on(on))
    }

    /// Only series that the other has not, with the same labels.
    #[must_use]
    pub fn unless(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Unless, other, Join::default())
    }

    /// Only series that the other has not, by the labels `on`.
    #[must_use]
    pub fn unless_on(self, on: impl IntoIterator<Item = impl Into<Label>>, other: impl Into<Self>) -> Self {
        self.binary(Op::Unless, other, Join::on(on))
    }

    /// These series, and those that only the other has.
    #[must_use]
    pub fn or(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Or, other, Join::default())
    }

    /// The quotient of series that agree in the labels `on`, which are all that is left.
    #[must_use]
    pub fn div_on(self, on: impl IntoIterator<Item = impl Into<Label>>, other: impl Into<Self>) -> Self {
        self.binary(Op::Div, other, Join::on(on))
    }

    /// The product of each series with the one of the other that agrees in `on`, with the labels `take` from there: for
    /// joining an `_info` metric.
    #[must_use]
    pub fn with_labels_of(
        self,
        other: impl Into<Self>,
        on: impl IntoIterator<Item = impl Into<Label>>,
        take: impl IntoIterator<Item = impl Into<Label>>,
    ) -> Self {
        let join = Join { group_left: Some(take.into_iter().map(Into::into).collect()), ..Join::on(on) };
        self.binary(Op::Mul, other, join)
    }

    /// Only series of these jobs and models, where the series have such a label.
    pub(crate) fn within(mut self, region: &Region) -> Self {
        for (label, values) in [(JOB, &region.jobs), (MODEL, &region.models)] {
            if let Some(matcher) = values.matcher(label) {
                self.0.each_select_mut(&mut |select| {
                    if select.labels().contains(label) {
                        select.matchers.push(matcher.clone());
                    }
                });
            }
        }
        self
    }

    fn call(function: Function, of: Node) -> Self {
        Self(Node::Call { function, of: Box::new(of) })
    }

    fn aggregate(self, by: Aggregation, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        let labels = labels.into_iter().map(Into::into).collect();
        Self(Node::Aggregate { by, labels, of: Box::new(self.0) })
    }

    fn binary(self, op: Op, other: impl Into<Self>, join: Join) -> Self {
        Self(Node::Binary { op, left: Box::new(self.0), right: Box::new(other.into().0), join })
    }
}

impl Join {
    fn on(labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        Self { on: Some(labels.into_iter().map(Into::into).collect()), group_left: None }
    }
}

impl From<f64> for Expr {
    fn from(value: f64) -> Self {
        Self(Node::Number(value))
    }
}

macro_rules! arithmetic {
    ($($operation:ident, $method:ident;)+) => { $(
        impl<R: Into<Expr>> $operation<R> for Expr {
            type Output = Self;

            fn $method(self, other: R) -> Self {
                self.binary(Op::$operation, other, Join::default())
            }
        }

        impl $operation<Expr> for f64 {
            type Output = Expr;

            fn $method(self, other: Expr) -> Expr {
                Expr::from(self).binary(Op::$operation, other, Join::default())
            }
        }
    )+ };
}

arithmetic! {
    Add, add;
    Sub, sub;
    Mul, mul;
    Div, div;
}
