//! Expressions, and how they are combined.

use std::ops::{Add, Div, Mul, Sub};

use super::{Label, Window, select::Select};
use crate::{
    slo::Region,
    vocabulary::{JOB, MODEL},
};

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
    /// Without an argument: the evaluation time.
    Time,
    Vector,
    /// Copies the value of another label into a label.
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

/// How the series of the two sides are matched.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Join {
    /// The labels that must be equal; `None` for all labels.
    pub(crate) on: Option<Vec<Label>>,
    /// Matches many series on the left to one on the right, and takes these labels from the right.
    pub(crate) group_left: Option<Vec<Label>>,
}

impl Expr {
    /// The evaluation time, in Unix seconds.
    #[must_use]
    pub fn time() -> Self {
        Self(Node::Call { function: Function::Time, of: Box::new(Node::Number(0.0)) })
    }

    /// A series without labels with this constant value.
    #[must_use]
    pub fn vector(value: f64) -> Self {
        Self::call(Function::Vector, Node::Number(value))
    }

    /// The absolute value.
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

    /// Copies the value of the label `from` into the label `to`.
    #[must_use]
    pub fn copy_label(self, to: &'static str, from: &'static str) -> Self {
        Self::call(Function::CopyLabel { to, from }, self.0)
    }

    /// The sum by `labels`.
    #[must_use]
    pub fn sum_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Sum, labels)
    }

    /// The mean by `labels`.
    #[must_use]
    pub fn avg_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Avg, labels)
    }

    /// The minimum by `labels`.
    #[must_use]
    pub fn min_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Min, labels)
    }

    /// The maximum by `labels`.
    #[must_use]
    pub fn max_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Max, labels)
    }

    /// The number of series by `labels`.
    #[must_use]
    pub fn count_by(self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.aggregate(Aggregation::Count, labels)
    }

    /// The sum over all series.
    #[must_use]
    pub fn sum(self) -> Self {
        self.sum_by([""; 0])
    }

    /// The `k` largest series.
    #[must_use]
    pub fn topk(self, k: u32) -> Self {
        self.aggregate(Aggregation::TopK(k), [""; 0])
    }

    /// Only values greater than the other.
    #[must_use]
    pub fn gt(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Greater, other, Join::default())
    }

    /// Only values greater than or equal to the other.
    #[must_use]
    pub fn ge(self, other: impl Into<Self>) -> Self {
        self.binary(Op::GreaterOrEqual, other, Join::default())
    }

    /// Only values less than the other.
    #[must_use]
    pub fn lt(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Less, other, Join::default())
    }

    /// Only values less than or equal to the other.
    #[must_use]
    pub fn le(self, other: impl Into<Self>) -> Self {
        self.binary(Op::LessOrEqual, other, Join::default())
    }

    /// Only values equal to the other.
    #[must_use]
    pub fn equals(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Equal, other, Join::default())
    }

    /// Only values not equal to the other.
    #[must_use]
    pub fn differs(self, other: impl Into<Self>) -> Self {
        self.binary(Op::NotEqual, other, Join::default())
    }

    /// Only series that the other side has, too, with the same labels.
    #[must_use]
    pub fn and(self, other: impl Into<Self>) -> Self {
        self.binary(Op::And, other, Join::default())
    }

    /// Only series that the other side has, too, by the labels `on`.
    #[must_use]
    pub fn and_on(self, on: impl IntoIterator<Item = impl Into<Label>>, other: impl Into<Self>) -> Self {
        self.binary(Op::And, other, Join::on(on))
    }

    /// Only series that the other side does not have, with the same labels.
    #[must_use]
    pub fn unless(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Unless, other, Join::default())
    }

    /// Only series that the other side does not have, by the labels `on`.
    #[must_use]
    pub fn unless_on(self, on: impl IntoIterator<Item = impl Into<Label>>, other: impl Into<Self>) -> Self {
        self.binary(Op::Unless, other, Join::on(on))
    }

    /// These series, and the series that only the other side has.
    #[must_use]
    pub fn or(self, other: impl Into<Self>) -> Self {
        self.binary(Op::Or, other, Join::default())
    }

    /// The quotient of series with equal labels `on`. The result only has these labels.
    #[must_use]
    pub fn div_on(self, on: impl IntoIterator<Item = impl Into<Label>>, other: impl Into<Self>) -> Self {
        self.binary(Op::Div, other, Join::on(on))
    }

    /// The product of each series with the series of the other side that has the same labels `on`, with the labels `take` from there: to join an
    /// `_info` metric.
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

    /// Only series of these jobs and models, if the series have such labels.
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
