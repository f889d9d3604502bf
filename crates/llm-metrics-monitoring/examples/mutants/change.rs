//! Small changes of rules.

use std::time::Duration;

use promql_parser::{
    label::{MatchOp, Matcher},
    parser::{self, Expr, LabelModifier, Offset},
};
use serde_json::{Value, json};

use crate::rules::{Rule, Rules};

/// A rule with one change.
pub(crate) struct Mutant {
    /// The index of the rule.
    pub(crate) rule: usize,
    /// The kind of change.
    pub(crate) kind: &'static str,
    /// A description of the change.
    pub(crate) what: String,
    pub(crate) changed: Value,
}

/// The kind of a change, its description, and the changed value.
type Change<T> = (&'static str, String, T);

/// Every small change of the rules that satisfy a condition.
pub(crate) fn mutants(rules: &Rules, wanted: impl Fn(&Rule) -> bool) -> Vec<Mutant> {
    let wanted = rules.0.iter().enumerate().filter(|(_, rule)| wanted(rule));
    let of_rule = |(index, rule): (usize, &Rule)| {
        let mutant = move |(kind, what, changed)| Mutant { rule: index, kind, what, changed };
        of_fields(&rule.value).into_iter().chain(of_expr(&rule.value)).map(mutant).collect::<Vec<_>>()
    };
    wanted.flat_map(of_rule).collect()
}

/// Changes of the duration of an alert's condition, and of its severity.
fn of_fields(rule: &Value) -> Vec<Change<Value>> {
    let mut all = Vec::new();
    let mut change = |kind: &'static str, field: &str, value: Value| {
        let mut changed = rule.clone();
        changed[field] = value;
        all.push((kind, format!("{field} {} -> {}", rule[field], changed[field]), changed));
    };
    if let Some(hold) = rule["for"].as_str() {
        change("for", "for", json!("0s"));
        change("for", "for", json!(if hold == "1h" || hold == "3h" { "12h" } else { "55m" }));
    }
    if rule["keep_firing_for"].is_string() {
        change("keep_firing_for", "keep_firing_for", json!("0s"));
    }
    if let Some(severity) = rule["labels"]["severity"].as_str().filter(|severity| *severity != "none") {
        let mut labels = rule["labels"].clone();
        labels["severity"] = json!(if severity == "critical" { "warning" } else { "critical" });
        change("severity", "labels", labels);
    }
    all
}

fn of_expr(rule: &Value) -> Vec<Change<Value>> {
    let text = rule["expr"].as_str().unwrap_or_default();
    let Ok(expr) = parser::parse(text) else { return Vec::new() };
    let with = |(kind, what, changed): Change<Expr>| {
        let mut rule = rule.clone();
        rule["expr"] = json!(changed.to_string());
        (kind, what, rule)
    };
    changes(&expr).into_iter().map(with).collect()
}

/// The expression with each of its parts changed.
fn changes(expr: &Expr) -> Vec<Change<Expr>> {
    let mut all = here(expr);
    let mut inside = |child: &Expr, put: &dyn Fn(Expr) -> Expr| {
        all.extend(changes(child).into_iter().map(|(kind, what, changed)| (kind, what, put(changed))));
    };
    match expr {
        Expr::Aggregate(node) => inside(&node.expr, &|child| {
            let mut node = node.clone();
            node.expr = Box::new(child);
            Expr::Aggregate(node)
        }),
        Expr::Paren(node) => inside(&node.expr, &|child| {
            let mut node = node.clone();
            node.expr = Box::new(child);
            Expr::Paren(node)
        }),
        Expr::Unary(node) => inside(&node.expr, &|child| {
            let mut node = node.clone();
            node.expr = Box::new(child);
            Expr::Unary(node)
        }),
        Expr::Binary(node) => {
            inside(&node.lhs, &|child| {
                let mut node = node.clone();
                node.lhs = Box::new(child);
                Expr::Binary(node)
            });
            inside(&node.rhs, &|child| {
                let mut node = node.clone();
                node.rhs = Box::new(child);
                Expr::Binary(node)
            });
        }
        Expr::Call(node) => {
            for (index, argument) in node.args.args.iter().enumerate() {
                inside(argument, &|child| {
                    let mut node = node.clone();
                    *node.args.args[index] = child;
                    Expr::Call(node)
                });
            }
        }
        _ => {}
    }
    all
}

/// The changes at the root of an expression.
fn here(expr: &Expr) -> Vec<Change<Expr>> {
    match expr {
        Expr::NumberLiteral(number) if number.val.is_finite() && number.val != 0.0 => [1.25, 0.8]
            .map(|factor| {
                let mut changed = number.clone();
                changed.val *= factor;
                ("number", format!("{} -> {}", number.val, changed.val), Expr::NumberLiteral(changed))
            })
            .into(),
        Expr::Binary(node) => {
            let op = node.op.to_string();
            let (comparison, clause, arithmetic) = ("comparison", "clause", "arithmetic");
            let other = |kind: &'static str, to: &str| {
                // The operator comes from a small expression that has it.
                let Ok(Expr::Binary(small)) = parser::parse(&format!("a {to} b")) else { return None };
                let mut changed = node.clone();
                changed.op = small.op;
                Some((kind, format!("{op} -> {to}"), Expr::Binary(changed)))
            };
            let left = || Some((clause, format!("without `{op}` and its right side"), (*node.lhs).clone()));
            let right = || Some((clause, format!("without `{op}` and its left side"), (*node.rhs).clone()));
            let all = match op.as_str() {
                ">" | ">=" => vec![other(comparison, "<")],
                "<" | "<=" => vec![other(comparison, ">")],
                "==" => vec![other(comparison, "!=")],
                "and" => vec![left(), other(clause, "unless")],
                "unless" => vec![left(), other(clause, "and")],
                "or" => vec![left(), right()],
                "+" => vec![other(arithmetic, "-")],
                "-" => vec![other(arithmetic, "+")],
                "*" => vec![other(arithmetic, "/")],
                "/" => vec![other(arithmetic, "*")],
                _ => vec![],
            };
            // `>= 0` and `>= -Inf` only drop NaN.
            let drops_nan = matches!(&*node.rhs, Expr::NumberLiteral(number) if op == ">=" && number.val <= 0.0);
            if drops_nan { Vec::new() } else { all.into_iter().flatten().collect() }
        }
        Expr::Aggregate(node) => {
            let op = node.op.to_string();
            let to = match op.as_str() {
                "sum" => "max",
                "max" | "avg" => "sum",
                _ => "max",
            };
            let mut all = Vec::new();
            if let Ok(Expr::Aggregate(small)) = parser::parse(&format!("{to}(a)")) {
                let mut changed = node.clone();
                changed.op = small.op;
                all.push(("aggregation", format!("{op} -> {to}"), Expr::Aggregate(changed)));
            }
            if let Some(LabelModifier::Include(labels)) = &node.modifier {
                for label in labels.labels.iter().filter(|label| *label != "le") {
                    let mut fewer = labels.clone();
                    fewer.labels.retain(|other| other != label);
                    let mut changed = node.clone();
                    changed.modifier = Some(LabelModifier::Include(fewer));
                    all.push(("grouping", format!("not by {label}"), Expr::Aggregate(changed)));
                }
            }
            all
        }
        Expr::Call(node) => {
            let to = match node.func.name {
                "rate" => "increase",
                "increase" => "rate",
                "min_over_time" => "max_over_time",
                "max_over_time" => "min_over_time",
                "avg_over_time" => "sum_over_time",
                "sum_over_time" => "avg_over_time",
                "ceil" => "floor",
                "changes" => "count_over_time",
                _ => return Vec::new(),
            };
            let mut changed = node.clone();
            changed.func.name = to;
            vec![("function", format!("{} -> {to}", node.func.name), Expr::Call(changed))]
        }
        Expr::MatrixSelector(node) => {
            let range = [(3.0, "longer"), (1.0 / 3.0, "shorter")].map(|(factor, how)| {
                let mut changed = node.clone();
                changed.range = Duration::from_secs((node.range.as_secs_f64() * factor) as u64);
                ("window", format!("[{:?}] {how}", node.range), Expr::MatrixSelector(changed))
            });
            let selectors = of_selector(&node.vs).into_iter().map(|(kind, what, vs)| {
                let mut changed = node.clone();
                changed.vs = vs;
                (kind, what, Expr::MatrixSelector(changed))
            });
            range.into_iter().chain(selectors).collect()
        }
        Expr::VectorSelector(node) => {
            of_selector(node).into_iter().map(|(kind, what, vs)| (kind, what, Expr::VectorSelector(vs))).collect()
        }
        _ => Vec::new(),
    }
}

fn of_selector(selector: &parser::VectorSelector) -> Vec<Change<parser::VectorSelector>> {
    let mut all = Vec::new();
    for (index, matcher) in selector.matchers.matchers.iter().enumerate() {
        let mut without = selector.clone();
        without.matchers.matchers.remove(index);
        all.push(("matcher", format!("without {matcher}"), without));
        let values: Vec<_> = matcher.value.split('|').collect();
        // The spellings of a bucket bound are one value.
        if values.len() > 1 && matcher.name != "le" {
            for value in &values {
                let rest: Vec<_> = values.iter().filter(|other| *other != value).copied().collect();
                let mut fewer = selector.clone();
                if let Some(changed) = like(&matcher.op, &matcher.name, &rest.join("|")) {
                    fewer.matchers.matchers[index] = changed;
                }
                all.push(("matcher", format!("{matcher} without {value}"), fewer));
            }
        }
        if matcher.name == "outcome" && matches!(matcher.op, MatchOp::Equal) {
            let other = if matcher.value == "cancelled" { "rejected" } else { "cancelled" };
            let mut more = selector.clone();
            if let Some(both) = regex("outcome", &format!("{}|{other}", matcher.value)) {
                more.matchers.matchers[index] = both;
                all.push(("matcher", format!("{matcher} or {other}"), more));
            }
        }
    }
    if let Some(Offset::Pos(offset)) = &selector.offset {
        let mut now = selector.clone();
        now.offset = None;
        all.push(("offset", format!("without offset {offset:?}"), now));
    }
    all
}

fn like(op: &MatchOp, name: &str, value: &str) -> Option<Matcher> {
    match op {
        MatchOp::NotRe(_) => of_text(&format!("x{{{name}!~{value:?}}}")),
        _ => regex(name, value),
    }
}

fn regex(name: &str, value: &str) -> Option<Matcher> {
    of_text(&format!("x{{{name}=~{value:?}}}"))
}

fn of_text(text: &str) -> Option<Matcher> {
    match parser::parse(text) {
        Ok(Expr::VectorSelector(selector)) => selector.matchers.matchers.first().cloned(),
        _ => None,
    }
}
