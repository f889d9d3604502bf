//! Recording rules as values: an expression that uses a rule holds it, so it cannot refer to a rule that does not exist.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use llm_metrics::catalog::Unit;

use crate::{
    promql::{Expr, Gauge, InvalidExpression, Label, Names, Reader, select::Select},
    vocabulary::{GPU, GPU_UUID, INSTANCE, JOB, MODEL, OUTCOME},
};

/// The aggregation level of a rule: the first word of its name, and the exact labels of its series.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// All instances of a job together.
    Job,
    /// A model over all instances of a job.
    JobModel,
    /// One bucket of a model's histogram.
    JobModelLe,
    /// One outcome of a model's requests.
    JobModelOutcome,
    /// One objective of a model.
    JobModelSlo,
    /// One objective of a model, in the naming of Sloth: `slo:…`.
    Slo,
    /// One target.
    Instance,
    /// A model at one target.
    InstanceModel,
    /// One GPU.
    Gpu,
    /// The first of these labels, which the configuration names, joins servers and GPUs; the others are those of `service.by`.
    Joined(Vec<String>),
}

impl Level {
    /// The labels.
    #[must_use]
    pub fn labels(&self) -> Vec<Label> {
        let labels: &[&'static str] = match self {
            Self::Job => &[JOB],
            Self::JobModel => &[JOB, MODEL],
            Self::JobModelLe => &[JOB, MODEL, "le"],
            Self::JobModelOutcome => &[JOB, MODEL, OUTCOME],
            Self::JobModelSlo | Self::Slo => &[JOB, MODEL, "slo"],
            Self::Instance => &[JOB, INSTANCE],
            Self::InstanceModel => &[JOB, INSTANCE, MODEL],
            Self::Gpu => &[JOB, INSTANCE, GPU, GPU_UUID],
            Self::Joined(labels) => return labels.iter().cloned().map(Cow::Owned).collect(),
        };
        labels.iter().map(|label| Cow::Borrowed(*label)).collect()
    }

    fn word(&self) -> &str {
        match self {
            Self::Job => "job",
            Self::JobModel => "job_model",
            Self::JobModelLe => "job_model_le",
            Self::JobModelOutcome => "job_model_outcome",
            Self::JobModelSlo => "job_model_slo",
            Self::Slo => "slo",
            Self::Instance => "instance",
            Self::InstanceModel => "instance_model",
            Self::Gpu => "gpu",
            Self::Joined(labels) => labels.first().map_or("all", String::as_str),
        }
    }
}

/// The middle part of a rule's name: the metric that it is made from, without its prefix and without `_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleMetric {
    /// A metric of the core, `requests` for `llm_requests_total`.
    Core(&'static str),
    /// A metric of the GPU crate, `memory_used` for `gpu_memory_used_bytes`.
    Gpu(&'static str),
    /// A name without a prefix.
    Plain(&'static str),
}

/// A recording rule, named `level:metric:operation`.
///
/// Cloning it is cheap. Its value is a gauge, whatever it was made from, so it has no rate.
///
/// ```
/// use llm_metrics::catalog::{self, Unit};
/// use llm_metrics_monitoring::{Level, Rule, RuleMetric, select_counter, promql::{Names, Reader, Window}};
///
/// let expr = select_counter!(catalog::REQUESTS).rate(Window::minutes(5)).sum_by(Level::JobModel.labels());
/// let rate = Rule::new(Level::JobModel, RuleMetric::Core("requests"), "rate5m", Unit::Count, expr);
/// let busy = rate.gauge().now().gt(10.0);
/// let names = Names::new().prefix("qwen").unwrap();
/// assert_eq!(busy.render(&names, Reader::Rules).unwrap(), "job_model:qwen_requests:rate5m > 10");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rule(Arc<Definition>);

#[derive(Debug, PartialEq)]
struct Definition {
    level: Level,
    metric: RuleMetric,
    operation: String,
    unit: Unit,
    expr: Expr,
    labels: Option<(&'static str, &'static str)>,
}

impl Rule {
    /// A rule.
    #[must_use]
    pub fn new(level: Level, metric: RuleMetric, operation: impl Into<String>, unit: Unit, expr: Expr) -> Self {
        Self(Arc::new(Definition { level, metric, operation: operation.into(), unit, expr, labels: None }))
    }

    /// A rule whose series get an additional label.
    #[must_use]
    pub fn labelled(
        level: Level,
        metric: RuleMetric,
        operation: impl Into<String>,
        unit: Unit,
        expr: Expr,
        label: (&'static str, &'static str),
    ) -> Self {
        Self(Arc::new(Definition { level, metric, operation: operation.into(), unit, expr, labels: Some(label) }))
    }

    /// Its value, for use in an expression.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        Gauge(Select::rule(self.clone()))
    }

    /// Its value now: short for `gauge().now()`.
    #[must_use]
    pub fn now(&self) -> Expr {
        self.gauge().now()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self, names: &Names) -> String {
        let Definition { level, metric, operation, .. } = &*self.0;
        format!("{}:{}:{operation}", level.word(), names.rule_metric(*metric))
    }

    /// The additional label of its series, with its value.
    #[must_use]
    pub fn own_label(&self) -> Option<(&'static str, &'static str)> {
        self.0.labels
    }

    /// The unit of its values.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.0.unit
    }

    /// Its expression.
    #[must_use]
    pub fn expr(&self) -> &Expr {
        &self.0.expr
    }

    /// The labels of its series.
    #[must_use]
    pub fn labels(&self) -> BTreeSet<Label> {
        self.0.level.labels().into_iter().collect()
    }

    /// Checks its expression, and that it has the labels of its level.
    ///
    /// # Errors
    /// All problems of it.
    pub fn check(&self) -> Result<(), Vec<InvalidExpression>> {
        let faults = self.faults();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// All problems of it.
    pub(crate) fn faults(&self) -> Vec<InvalidExpression> {
        let (mut found, promised) = (self.0.expr.labels(), self.labels());
        found.extend(self.0.labels.map(|(label, _)| Cow::Borrowed(label)));
        let mut faults = self.0.expr.render(&Names::default(), Reader::Rules).err().unwrap_or_default();
        if found != promised {
            faults.push(InvalidExpression::WrongLevel { rule: self.name(&Names::default()), found, promised });
        }
        faults
    }
}
