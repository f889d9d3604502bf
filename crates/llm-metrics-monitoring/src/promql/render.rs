//! Renders expressions as text.

use std::{borrow::Cow, collections::BTreeSet};

use llm_metrics::catalog::{self, InvalidPrefix, MetricDef, Naming, Section};

use super::{
    Expr, InvalidExpression, Label,
    expr::{Aggregation, Function, Join, Node, Op, Over},
    select::quote,
};
use crate::{rule::RuleMetric, vocabulary::JOB};

/// How rows are spelled: those of each catalogue with its [`Naming`], all others unchanged.
///
/// ```
/// use llm_metrics::catalog::Naming;
/// use llm_metrics_monitoring::promql::Names;
///
/// mod desk {
///     llm_metrics::catalogue! {
///         "Tickets" {
///             /// Tickets that were closed.
///             TICKETS_CLOSED = counter("desk_tickets_closed_total", Count)[];
///         }
///     }
/// }
///
/// let names = Names::new().prefix("qwen")?.catalogue(desk::SECTIONS, Naming::new().prefix("support")?);
/// assert_eq!(names.row(&llm_metrics::catalog::REQUESTS), "qwen_requests_total");
/// assert_eq!(names.row(&llm_metrics_gpu::catalog::UP), "gpu_up");
/// assert_eq!(names.row(&desk::TICKETS_CLOSED), "support_tickets_closed_total");
/// # Ok::<(), llm_metrics::catalog::InvalidPrefix>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Names {
    core: Naming,
    gpu: Naming,
    catalogues: Vec<(&'static [Section], Naming)>,
    by: Vec<Label>,
}

impl Names {
    /// The names in the catalogues.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the prefix of the names of the core and of the gateway.
    ///
    /// # Errors
    /// As [`Naming::prefix`].
    pub fn prefix(mut self, prefix: impl Into<String>) -> Result<Self, InvalidPrefix> {
        self.core = self.core.prefix(prefix)?;
        Ok(self)
    }

    /// Replaces the prefix of the GPU's names.
    ///
    /// # Errors
    /// As [`Naming::prefix`].
    pub fn gpu_prefix(mut self, prefix: impl Into<String>) -> Result<Self, InvalidPrefix> {
        self.gpu = self.gpu.prefix(prefix)?;
        Ok(self)
    }

    /// Spells the names of another catalogue with `naming`: that of its [`Registrar`](llm_metrics::catalog::Registrar). For PromQL that is built from its
    /// rows (feature `unstable`); the generated files have no such rows. The catalogues of llm-metrics keep the names that [`prefix`](Self::prefix) and
    /// [`gpu_prefix`](Self::gpu_prefix) give them, and of two namings for one catalogue the first is used.
    #[must_use]
    pub fn catalogue(mut self, sections: &'static [Section], naming: Naming) -> Self {
        self.catalogues.push((sections, naming));
        self
    }

    /// Labels that the targets have in addition to `job` and `instance`. Everything that is aggregated or joined by `job` is also aggregated or
    /// joined by them.
    #[must_use]
    pub fn by(mut self, labels: impl IntoIterator<Item = impl Into<Label>>) -> Self {
        self.by = labels.into_iter().map(Into::into).collect();
        self
    }

    /// These labels, and those that are used together with `job`.
    pub(crate) fn with_by<'a>(&'a self, labels: &'a [Label]) -> Vec<&'a str> {
        let more = if labels.iter().any(|label| label == JOB) { &self.by[..] } else { &[] };
        more.iter().chain(labels).map(|label| &**label).collect()
    }

    pub(crate) fn extend_by(&self, labels: &mut BTreeSet<Label>) {
        if labels.contains(JOB) {
            labels.extend(self.by.iter().cloned());
        }
    }

    /// The labels that are used together with `job`.
    pub(crate) fn by_labels(&self) -> &[Label] {
        &self.by
    }

    /// The name of a row.
    #[must_use]
    pub fn row(&self, row: &MetricDef) -> Cow<'static, str> {
        let ours: [(&[Section], _); 3] = [
            (catalog::SECTIONS, &self.core),
            (llm_metrics_gateway::catalog::SECTIONS, &self.core),
            (llm_metrics_gpu::catalog::SECTIONS, &self.gpu),
        ];
        let theirs = self.catalogues.iter().map(|(sections, naming)| (*sections, naming));
        let has_row = |sections: &[Section]| sections.iter().flat_map(|section| section.metrics).any(|own| own == row);
        let found = ours.into_iter().chain(theirs).find(|(sections, _)| has_row(sections));
        found.map_or(Cow::Borrowed(row.name), |(_, naming)| naming.name(row))
    }

    /// The middle part of a recording rule's name.
    pub(crate) fn rule_metric(&self, metric: RuleMetric) -> String {
        match metric {
            RuleMetric::Core(name) => format!("{}_{name}", prefix(&self.core, &catalog::REQUESTS)),
            RuleMetric::Gpu(name) => format!("{}_{name}", prefix(&self.gpu, &llm_metrics_gpu::catalog::UP)),
            RuleMetric::Plain(name) => name.to_owned(),
        }
    }

    /// Replaces `{llm}` and `{gpu}` in a text by the prefixes of metrics and rules.
    pub(crate) fn with_prefixes(&self, text: &str) -> String {
        let core = prefix(&self.core, &catalog::REQUESTS);
        text.replace("{llm}", &core).replace("{gpu}", &prefix(&self.gpu, &llm_metrics_gpu::catalog::UP))
    }
}

/// The prefix that `naming` gives to the names of a catalogue, of which `row` is one.
fn prefix(naming: &Naming, row: &MetricDef) -> String {
    let without_prefix = row.name.find('_').map_or("", |at| &row.name[at..]);
    naming.name(row).strip_suffix(without_prefix).unwrap_or_default().to_owned()
}

/// The reader of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reader<'a> {
    /// Prometheus: windows must be fixed.
    Rules,
    /// Grafana. Each pair is a label and a variable: if a series has the label and the expression does not match it, `label=~"$variable"` is added.
    Dashboard(&'a [(&'a str, &'a str)]),
}

impl Expr {
    /// Renders it on one line.
    ///
    /// # Errors
    /// All problems of it.
    pub fn render(&self, names: &Names, reader: Reader<'_>) -> Result<String, Vec<InvalidExpression>> {
        self.checked(reader)?;
        Ok(Writer { names, reader, width: usize::MAX }.write(&self.0, 0))
    }

    /// Renders it, over several lines if it is long.
    ///
    /// # Errors
    /// All problems of it.
    pub fn render_lines(&self, names: &Names, reader: Reader<'_>) -> Result<String, Vec<InvalidExpression>> {
        self.checked(reader)?;
        Ok(Writer { names, reader, width: 100 }.write(&self.0, 0))
    }

    fn checked(&self, reader: Reader<'_>) -> Result<(), Vec<InvalidExpression>> {
        let mut faults = self.faults();
        if reader == Reader::Rules {
            faults.extend(self.variables());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

impl Node {
    /// For messages.
    pub(crate) fn rendered(&self) -> String {
        Writer { names: &Names::default(), reader: Reader::Rules, width: usize::MAX }.write(self, 0)
    }
}

struct Writer<'a> {
    names: &'a Names,
    reader: Reader<'a>,
    width: usize,
}

impl Writer<'_> {
    fn write(&self, node: &Node, indent: usize) -> String {
        let line = self.line(node);
        match node {
            Node::Binary { op, left: left_side, right: right_side, join } if indent + line.len() > self.width => {
                let [left, right] = [(left_side, false), (right_side, true)].map(|(side, is_right)| {
                    if !op.needs_parentheses(side, is_right) {
                        return self.write(side, indent);
                    }
                    let inner = self.write(side, indent + 2);
                    if inner.contains('\n') {
                        let pad = " ".repeat(indent);
                        format!("(\n{pad}  {inner}\n{pad})")
                    } else {
                        format!("({inner})")
                    }
                });
                let (pad, op, join) = (" ".repeat(indent), op.symbol(), self.join(join));
                match (&**left_side, &**right_side) {
                    (Node::Number(_), _) | (_, Node::Number(_)) => format!("{left} {op}{join} {right}"),
                    _ => format!("{left}\n{pad}{op}{join}\n{pad}{right}"),
                }
            }
            Node::Aggregate { by, labels, of } if indent + line.len() > self.width => {
                let (head, pad) = (self.aggregation(*by, labels), " ".repeat(indent));
                format!("{head}\n{pad}  {}\n{pad})", self.write(of, indent + 2))
            }
            _ => line,
        }
    }

    fn aggregation(&self, by: Aggregation, labels: &[Label]) -> String {
        match by {
            Aggregation::TopK(k) => format!("topk({k}, "),
            _ if labels.is_empty() => format!("{}(", by.name()),
            _ => format!("{} by ({}) (", by.name(), self.names.with_by(labels).join(", ")),
        }
    }

    fn join(&self, join: &Join) -> String {
        let on = join.on.iter().map(|labels| format!(" on ({})", self.names.with_by(labels).join(", ")));
        on.chain(join.group_left.iter().map(|labels| format!(" group_left ({})", labels.join(", ")))).collect()
    }

    fn line(&self, node: &Node) -> String {
        let variables = match self.reader {
            Reader::Rules => &[],
            Reader::Dashboard(variables) => variables,
        };
        match node {
            Node::Number(value) => number(*value),
            Node::Select(select) => select.render(self.names, variables, None),
            Node::Absent(select) => format!("absent({})", select.render(self.names, variables, None)),
            Node::Over { function, of, window } => function.call(&of.render(self.names, variables, Some(*window))),
            Node::Quantile { quantile, of } => format!("histogram_quantile({}, {})", number(*quantile), self.line(of)),
            Node::Call { function, of } => function.call(&self.line(of)),
            Node::Aggregate { by, labels, of } => format!("{}{})", self.aggregation(*by, labels), self.line(of)),
            Node::Binary { op, left, right, join } => {
                let [left, right] = [(left, false), (right, true)].map(|(side, is_right)| {
                    let text = self.line(side);
                    if op.needs_parentheses(side, is_right) { format!("({text})") } else { text }
                });
                format!("{left} {}{} {right}", op.symbol(), self.join(join))
            }
        }
    }
}

/// A number literal of PromQL.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

impl Over {
    fn call(self, range: &str) -> String {
        match self {
            Self::Rate => format!("rate({range})"),
            Self::Increase => format!("increase({range})"),
            Self::Avg => format!("avg_over_time({range})"),
            Self::Max => format!("max_over_time({range})"),
            Self::Min => format!("min_over_time({range})"),
            Self::Sum => format!("sum_over_time({range})"),
            Self::Stddev => format!("stddev_over_time({range})"),
            Self::Quantile(quantile) => format!("quantile_over_time({}, {range})", number(quantile)),
            Self::Count => format!("count_over_time({range})"),
            Self::Changes => format!("changes({range})"),
            Self::Delta => format!("delta({range})"),
            Self::Deriv => format!("deriv({range})"),
            Self::PredictLinear(ahead) => {
                let seconds = ahead.as_seconds().map_or_else(|| quote(&ahead.to_string()), |s| s.to_string());
                format!("predict_linear({range}, {seconds})")
            }
        }
    }
}

impl Function {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Abs => "abs",
            Self::Ceil => "ceil",
            Self::ClampMin(_) => "clamp_min",
            Self::ClampMax(_) => "clamp_max",
            Self::Time => "time",
            Self::Vector => "vector",
            Self::CopyLabel { .. } => "label_replace",
        }
    }

    fn call(self, of: &str) -> String {
        match self {
            Self::Time => "time()".to_owned(),
            Self::CopyLabel { to, from } => {
                format!("label_replace({of}, {}, \"$1\", {}, \"(.*)\")", quote(to), quote(from))
            }
            Self::ClampMin(limit) | Self::ClampMax(limit) => format!("{}({of}, {})", self.name(), number(limit)),
            _ => format!("{}({of})", self.name()),
        }
    }
}

impl Aggregation {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::TopK(_) => "topk",
        }
    }
}

impl Op {
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Self::Mul => "*",
            Self::Div => "/",
            Self::Add => "+",
            Self::Sub => "-",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Or => "or",
        }
    }

    pub(crate) const fn compares(self) -> bool {
        matches!(self.strength(), 3)
    }

    const fn strength(self) -> u8 {
        match self {
            Self::Mul | Self::Div => 5,
            Self::Add | Self::Sub => 4,
            Self::And | Self::Unless => 2,
            Self::Or => 1,
            _ => 3,
        }
    }

    /// Whether an operand needs parentheses. All operators are left-associative.
    fn needs_parentheses(self, operand: &Node, is_right: bool) -> bool {
        match operand {
            Node::Binary { op, .. } => {
                op.strength() < self.strength() || (is_right && op.strength() == self.strength())
            }
            // Prometheus accepts `2 ^ -1` and `a - -1`, but they are hard to read.
            Node::Number(value) => *value < 0.0 && is_right && self.strength() > 3,
            _ => false,
        }
    }
}
