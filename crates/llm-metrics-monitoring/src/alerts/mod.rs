//! The alerts: conditions, texts, and the cases that prove them.
//!
//! [`Alert::check`] rejects an [`Alert`] without a case in which it fires and one in which it only just does not fire. Generating calls it. The cases
//! become promtool unit tests.

mod case;
pub(crate) mod daily;
pub(crate) mod gateway;
pub(crate) mod gpu;
pub(crate) mod objectives;
pub(crate) mod outages;
mod quality;
pub(crate) mod scoped;
mod share;
pub(crate) mod targets;
pub(crate) mod traffic;
mod unusual;
pub(crate) mod yaml;

use std::borrow::Cow;

pub use case::{Case, Firing, TestSeries, Values};

use crate::{
    promql::{Expr, InvalidExpression, Names, Reader, Window},
    recording::{INTERVAL, Recording},
    slo::Slo,
    vocabulary::SEVERITY,
};

/// The severity: a closed set, by which Alertmanager routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Users are affected now, or hardware is broken: a page.
    Critical,
    /// It will get worse: someone must look at it today.
    Warning,
    /// For information only.
    Info,
    /// Always firing, to prove that alerts are delivered.
    None,
}

impl Severity {
    /// Every severity.
    pub const ALL: [Self; 4] = [Self::Critical, Self::Warning, Self::Info, Self::None];

    /// The value of the label `severity`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::None => "none",
        }
    }
}

/// An alert. It has several variants if several expressions have the same meaning for the person on call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Alert {
    /// Its name, and that of its runbook.
    pub name: &'static str,
    /// The problem, in one line with values.
    pub summary: String,
    /// The meaning, in a sentence or two.
    pub description: String,
    /// The settings in `slo.yaml` that it depends on.
    pub settings: &'static [&'static str],
    /// When it fires.
    pub variants: Vec<Variant>,
    /// The cases that prove it.
    pub cases: Vec<Case>,
}

/// One expression of an alert.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Variant {
    /// Its severity.
    pub severity: Severity,
    /// The condition.
    pub expr: Expr,
    /// How long the condition must hold.
    pub hold: Window,
    /// How long it continues to fire after the condition ended.
    pub keep: Option<Window>,
    /// Labels other than the severity that distinguish the variants, and the labels from the settings.
    pub labels: Vec<(Cow<'static, str>, String)>,
    /// Summary and description, if an override changes them.
    pub texts: Option<(String, String)>,
}

impl Variant {
    fn new(severity: Severity, hold: Window, expr: Expr) -> Self {
        Self { severity, expr, hold, keep: None, labels: Vec::new(), texts: None }
    }

    /// Against flapping, for values near the threshold.
    fn keep_firing_for(mut self, window: Window) -> Self {
        self.keep = Some(window);
        self
    }

    fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Summary and description.
    pub(crate) fn texts<'a>(&'a self, alert: &'a Alert) -> (&'a str, &'a str) {
        match &self.texts {
            Some((summary, description)) => (summary, description),
            None => (&alert.summary, &alert.description),
        }
    }

    /// All labels that it adds.
    pub(crate) fn all_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.labels.iter().map(|(name, value)| (&**name, value.as_str()));
        std::iter::once((SEVERITY, self.severity.as_str())).chain(own)
    }
}

/// Why an alert is invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAlert {
    /// No case in which a variant fires.
    #[error("no case shows variant {variant} firing")]
    NeverFires {
        /// The variant, from 0.
        variant: usize,
    },
    /// No case in which nothing fires.
    #[error("no case shows it not firing")]
    NeverQuiet,
    /// A text uses a label that the alert does not have.
    #[error("the text uses the label {label:?}, which the alert does not have")]
    NoSuchLabel {
        /// The label.
        label: String,
    },
    /// A label of the alert replaces one of the expression.
    #[error("the label {label:?} replaces one of the expression")]
    LabelReplaced {
        /// The label.
        label: String,
    },
    /// The summary shows neither how bad it is nor where.
    #[error("the summary has neither a value nor a label in it")]
    NothingSaid,
    /// Two variants that Prometheus cannot distinguish.
    #[error("two variants have the same labels")]
    SameLabels,
    /// The expression has no condition, so it would always fire.
    #[error("the expression has no condition")]
    NoCondition,
    /// An expression is invalid.
    #[error(transparent)]
    Expression(#[from] InvalidExpression),
}

impl Alert {
    fn new(name: &'static str, summary: impl Into<String>, description: impl Into<String>) -> Self {
        let (summary, description) = (summary.into(), description.into());
        Self { name, summary, description, settings: &[], variants: Vec::new(), cases: Vec::new() }
    }

    fn settings(mut self, settings: &'static [&'static str]) -> Self {
        self.settings = settings;
        self
    }

    fn variant(mut self, variant: Variant) -> Self {
        self.variants.push(variant);
        self
    }

    fn cases(mut self, cases: impl IntoIterator<Item = Case>) -> Self {
        self.cases.extend(cases);
        self
    }

    fn case(mut self, case: Case) -> Self {
        self.cases.push(case);
        self
    }

    /// Whether both have the same texts and conditions.
    fn says_the_same(&self, other: &Self) -> bool {
        (&self.variants, &self.summary, &self.description) == (&other.variants, &other.summary, &other.description)
    }

    /// Checks its expressions, texts and cases.
    ///
    /// # Errors
    /// All problems of it.
    pub fn check(&self) -> Result<(), Vec<InvalidAlert>> {
        let mut faults = Vec::new();
        let watchdog = self.variants.iter().all(|variant| variant.severity == Severity::None);
        for (index, variant) in self.variants.iter().enumerate() {
            let rendered = variant.expr.render(&Names::default(), Reader::Rules);
            faults.extend(rendered.err().into_iter().flatten().map(InvalidAlert::Expression));
            if !self.cases.iter().any(|case| case.firings.iter().any(|firing| firing.variant == index)) {
                faults.push(InvalidAlert::NeverFires { variant: index });
            }
            let labels = variant.expr.labels();
            let replaced = variant.all_labels().find(|(label, _)| labels.contains(*label));
            faults.extend(replaced.map(|(label, _)| InvalidAlert::LabelReplaced { label: label.to_owned() }));
            let own: Vec<_> = variant.all_labels().map(|(label, _)| label).collect();
            let (summary, description) = variant.texts(self);
            let missing = asked_labels(summary).chain(asked_labels(description));
            let missing = missing.filter(|label| !labels.contains(*label) && !own.contains(label));
            faults.extend(missing.map(|label| InvalidAlert::NoSuchLabel { label: label.to_owned() }));
            let same = |other: &&Variant| {
                other.labels == variant.labels && other.severity == variant.severity && other.expr.labels() == labels
            };
            if self.variants[..index].iter().any(|other| same(&other)) {
                faults.push(InvalidAlert::SameLabels);
            }
            if !watchdog && !variant.expr.has_condition() {
                faults.push(InvalidAlert::NoCondition);
            }
        }
        if !watchdog && !self.cases.iter().any(|case| case.firings.is_empty()) {
            faults.push(InvalidAlert::NeverQuiet);
        }
        if !watchdog && !self.summary.contains("{{") {
            faults.push(InvalidAlert::NothingSaid);
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// The labels that a text uses.
fn asked_labels(text: &str) -> impl Iterator<Item = &str> {
    text.split("$labels.").skip(1).map(|rest| {
        let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// A group of alerts: a file of alerts, and a file of cases.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Topic {
    /// Its name, and that of its files.
    pub name: &'static str,
    /// Its alerts.
    pub alerts: Vec<Alert>,
}

impl Topic {
    /// How often its cases are evaluated: as often as in Prometheus, except for cases that take days.
    pub(crate) fn evaluation_interval(&self) -> String {
        let longest = self.alerts.iter().flat_map(|alert| &alert.cases).map(|case| case.at).max();
        // Less than the five minutes for which Prometheus uses a sample.
        let interval = if longest.unwrap_or(0) > 24 * 60 { Window::minutes(4) } else { INTERVAL };
        interval.to_string()
    }
}

/// All alerts for these settings.
#[must_use]
pub fn topics(slo: &Slo, rules: &Recording) -> Vec<Topic> {
    type Make = fn(&Slo, &Recording) -> Vec<Alert>;
    let all: [(&'static str, Make); 12] = [
        ("availability", objectives::availability),
        ("first-token", objectives::first_token),
        ("gaps", objectives::gaps),
        ("attainment", objectives::attainment),
        ("outages", outages::alerts),
        ("traffic", traffic::alerts),
        ("unusual", unusual::alerts),
        ("daily", daily::alerts),
        ("quality", quality::alerts),
        ("gateway", gateway::alerts),
        ("gpu", gpu::alerts),
        ("targets", targets::alerts),
    ];
    let topic = |(name, make): (&'static str, Make)| Topic { name, alerts: scoped::alerts(slo, rules, make) };
    all.map(topic).into_iter().filter(|topic| !topic.alerts.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counter, vocabulary::JOB};

    fn sound() -> Alert {
        let slo = Slo::default();
        let alerts = topics(&slo, &Recording::new(&slo)).into_iter().flat_map(|topic| topic.alerts);
        let alert = alerts.into_iter().find(|alert| alert.name == targets::TARGET_DOWN).unwrap();
        assert_eq!(alert.check(), Ok(()));
        alert
    }

    fn faults(change: impl FnOnce(&mut Alert)) -> Vec<InvalidAlert> {
        let mut alert = sound();
        change(&mut alert);
        alert.check().unwrap_err()
    }

    #[test]
    fn an_alert_without_both_cases_is_rejected() {
        assert_eq!(
            faults(|alert| alert.cases.retain(|case| case.firings.is_empty())),
            [InvalidAlert::NeverFires { variant: 0 }]
        );
        assert_eq!(faults(|alert| alert.cases.retain(|case| !case.firings.is_empty())), [InvalidAlert::NeverQuiet]);
    }

    #[test]
    fn an_alert_with_a_wrong_text_or_wrong_labels_is_rejected() {
        let model = |alert: &mut Alert| alert.description += "{{ $labels.model }}";
        assert_eq!(faults(model), [InvalidAlert::NoSuchLabel { label: "model".to_owned() }]);
        assert_eq!(faults(|alert| alert.summary = "down".to_owned()), [InvalidAlert::NothingSaid]);
        let replaced = |alert: &mut Alert| alert.variants[0].labels.push((JOB.into(), "llm".to_owned()));
        assert_eq!(faults(replaced), [InvalidAlert::LabelReplaced { label: JOB.to_owned() }]);
        let twice = |alert: &mut Alert| {
            alert.variants.push(alert.variants[0].clone());
            alert.cases.push(alert.cases[0].clone().firing(1, "0", &[]));
        };
        assert_eq!(faults(twice), [InvalidAlert::SameLabels]);
    }

    #[test]
    fn an_alert_without_a_condition_is_rejected() {
        let always = |alert: &mut Alert| {
            alert.summary = "{{ $value }}".to_owned();
            alert.variants[0].expr = counter!(llm_metrics::catalog::REQUESTS).rate(Window::minutes(5));
        };
        assert_eq!(faults(always), [InvalidAlert::NoCondition]);
    }

    #[test]
    fn a_share_with_two_levels_is_proven_at_both() {
        let requests = || counter!(llm_metrics::catalog::REQUESTS);
        let alert = share::Share {
            name: "LlmExample",
            are: "of tool calls are invalid",
            description: "An example.",
            settings: &[],
            levels: &[(Severity::Critical, 0.1), (Severity::Warning, 0.05)],
            window: Window::minutes(15),
            hold: 10,
            bad: counter!(llm_metrics::catalog::STREAM_STALLS),
            good: None,
            all: requests(),
            neither: None,
            recorded: None,
        };
        let alert = alert.alert();
        assert_eq!(alert.check(), Ok(()));
        let firing = |name: &str| {
            let case = alert.cases.iter().find(|case| case.name == name).unwrap();
            case.firings.iter().map(|firing| firing.variant).collect::<Vec<_>>()
        };
        assert_eq!(firing("just above 10%"), [0, 1]);
        assert_eq!(firing("just below 10%"), [1]);
        assert_eq!(firing("just below 5%"), [0; 0]);
    }
}
