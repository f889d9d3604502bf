//! Whether an expression, as text, speaks only of metrics and labels that there are. It reads it with a parser that is not
//! ours.

use std::collections::{BTreeMap, BTreeSet};

use llm_metrics::catalog::{self, Kind, MetricDef};
use llm_metrics_monitoring::{external, promql::Names, recording::Recording, slo::Slo};
use promql_parser::{
    parser::{Expr, VectorSelector, parse},
    util::{ExprVisitor, walk_expr},
};

/// Every metric, with the labels that its series have.
pub(crate) struct Known(BTreeMap<String, BTreeSet<String>>);

impl Known {
    pub(crate) fn new(names: &Names) -> Self {
        let mut known = BTreeMap::new();
        let rows = catalog::all().chain(llm_metrics_gpu::catalog::all()).chain(external::all());
        for row in rows {
            let name = names.row(row);
            let suffixes: &[&str] = if row.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
            for suffix in suffixes {
                known.insert(format!("{name}{suffix}"), labels(row, suffix));
            }
        }
        let recording = Recording::new(&Slo::default());
        for rule in recording.all() {
            known.insert(rule.name(names), rule.labels().iter().map(ToString::to_string).collect());
        }
        Self(known)
    }

    /// What is wrong with an expression; nothing where all is well.
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

fn labels(row: &MetricDef, suffix: &str) -> BTreeSet<String> {
    let le = (suffix == "_bucket").then_some("le");
    row.labels.iter().copied().chain(["job", "instance"]).chain(le).map(str::to_owned).collect()
}

struct Visitor<'a> {
    known: &'a Known,
    wrong: Vec<String>,
}

impl Visitor<'_> {
    fn look_at(&mut self, selector: &VectorSelector) {
        let Some(name) = &selector.name else {
            // `{job="llm"}` is for counting all that there is.
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
