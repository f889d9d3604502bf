//! Checks that an expression, as text, has only existing metrics and labels. It uses an independent parser.

use std::collections::{BTreeMap, BTreeSet};

use llm_metrics_monitoring::promql::Names;
use promql_parser::{
    parser::{Expr, VectorSelector, parse},
    util::{ExprVisitor, walk_expr},
};

use crate::series;

/// Every metric, with the labels of its series.
pub(crate) struct Known(BTreeMap<String, BTreeSet<String>>);

impl Known {
    pub(crate) fn new(names: &Names) -> Self {
        Self(series::known(names))
    }

    /// The problems of an expression.
    pub(crate) fn wrong_with(&self, text: &str) -> Vec<String> {
        let expr = match parse(text) {
            Ok(expr) => expr,
            Err(error) => return vec![format!("{text}: {error}")],
        };
        let mut visitor = Visitor { known: self, wrong: Vec::new() };
        walk_expr(&mut visitor, &expr).unwrap();
        visitor.wrong.into_iter().map(|wrong| format!("{text}: {wrong}")).collect()
    }
}

struct Visitor<'a> {
    known: &'a Known,
    wrong: Vec<String>,
}

impl Visitor<'_> {
    fn look_at(&mut self, selector: &VectorSelector) {
        let Some(name) = &selector.name else {
            // `{job="llm"}` counts all series of a job.
            return;
        };
        let Some(labels) = self.known.0.get(name) else {
            self.wrong.push(format!("there is no metric {name}"));
            return;
        };
        let asked = selector.matchers.matchers.iter().map(|matcher| &matcher.name);
        let missing = asked.filter(|label| !labels.contains(*label));
        self.wrong.extend(missing.map(|label| format!("{name} has no label {label}")));
    }
}

impl ExprVisitor for Visitor<'_> {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        match expr {
            Expr::VectorSelector(selector) => self.look_at(selector),
            Expr::MatrixSelector(range) => self.look_at(&range.vs),
            _ => {}
        }
        Ok(true)
    }
}
