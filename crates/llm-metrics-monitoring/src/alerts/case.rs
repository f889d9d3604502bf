//! Test cases: series over time, and the alerts that fire.

use std::collections::BTreeMap;

use crate::{
    promql::{
        Counter, Gauge, Histogram, Names,
        select::{Compare, Matcher, Part, Select, quote},
    },
    slo::Slo,
    vocabulary::{GPU, GPU_UUID, INSTANCE, JOB, UPSTREAM},
};

/// The values of a series, minute by minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(Vec<(Option<u32>, Piece)>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Absent,
    Flat(f64),
    /// Rises by this much per minute.
    Rising(f64),
}

impl Values {
    /// Constant.
    #[must_use]
    pub fn flat(value: f64) -> Self {
        Self(vec![(None, Piece::Flat(value))])
    }

    /// Rises from 0 by this much per minute.
    #[must_use]
    pub fn rising(by: f64) -> Self {
        Self(vec![(None, Piece::Rising(by))])
    }

    /// No samples.
    #[must_use]
    pub fn absent() -> Self {
        Self(vec![(None, Piece::Absent)])
    }

    /// Like this until minute `minutes`, then like `next`.
    #[must_use]
    pub fn until(mut self, minutes: u32, next: Self) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.0 = Some(minutes);
        }
        self.0.extend(next.0);
        self
    }

    /// The values times `share`.
    fn scaled(&self, part: f64) -> Self {
        let scaled = |piece: &Piece| match piece {
            Piece::Absent => Piece::Absent,
            Piece::Flat(value) => Piece::Flat(value * part),
            Piece::Rising(by) => Piece::Rising(by * part),
        };
        Self(self.0.iter().map(|(until, piece)| (*until, scaled(piece))).collect())
    }

    /// One sample per minute from 0 to `end`, in promtool's notation.
    fn render(&self, end: u32) -> String {
        let (mut now, mut value, mut words) = (0, 0.0, Vec::new());
        for (until, piece) in &self.0 {
            let samples = until.unwrap_or(end + 1).min(end + 1).saturating_sub(now);
            if samples == 0 {
                continue;
            }
            match piece {
                Piece::Absent => words.push(format!("_x{samples}")),
                Piece::Flat(flat) => {
                    value = *flat;
                    words.push(format!("{value}x{}", samples - 1));
                }
                Piece::Rising(by) => {
                    let start = if now == 0 { value } else { value + by };
                    words.push(format!("{start}+{by}x{}", samples - 1));
                    value = start + by * f64::from(samples - 1);
                }
            }
            now += samples;
        }
        words.join(" ")
    }
}

/// Bad and good events per minute, over time.
#[derive(Clone, Debug)]
pub(crate) struct Flow(Vec<(Option<u32>, f64, f64)>);

impl Flow {
    /// Constant numbers.
    pub(crate) fn steady(bad: f64, good: f64) -> Self {
        Self(vec![(None, bad, good)])
    }

    /// Like this until minute `minutes`, then like `next`.
    pub(crate) fn until(mut self, minutes: u32, next: Self) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.0 = Some(minutes);
        }
        self.0.extend(next.0);
        self
    }

    /// The counter of the bad events.
    pub(crate) fn bad(&self) -> Values {
        self.counter(|bad, _| bad)
    }

    /// The counter of the good events.
    pub(crate) fn good(&self) -> Values {
        self.counter(|_, good| good)
    }

    /// The counter of both.
    pub(crate) fn all(&self) -> Values {
        self.counter(|bad, good| bad + good)
    }

    fn counter(&self, of: impl Fn(f64, f64) -> f64) -> Values {
        Values(self.0.iter().map(|(until, bad, good)| (*until, Piece::Rising(of(*bad, *good)))).collect())
    }
}

/// A series of a case. Labels that are not set have their usual value.
#[derive(Clone, Debug, PartialEq)]
pub struct TestSeries {
    select: Select,
    le: Option<String>,
    values: Values,
    /// Whether it counts events, so that it can be split into several series.
    counts: bool,
}

/// Labels by which events can be split, each with an unusual value.
const APART: [(&str, &str); 6] = [
    (INSTANCE, "llm-9:8080"),
    ("endpoint", "/v1/completions"),
    ("operation", "text_completion"),
    ("thinking", "true"),
    ("rule_group", "y"),
    ("model", "qwen3-4b"),
];

impl TestSeries {
    pub(crate) fn name(&self, names: &Names, context: &Context) -> String {
        let mut labels = self.select.labels();
        names.extend_by(&mut labels);
        let mut labels: BTreeMap<String, String> =
            labels.into_iter().map(|label| (label.to_string(), usual(&label, context))).collect();
        for matcher in self.select.matchers.iter().filter(|matcher| matcher.compare == Compare::Equal) {
            labels.insert(matcher.label.to_string(), matcher.values.concat());
        }
        labels.extend(self.le.iter().map(|le| ("le".to_owned(), le.clone())));
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}={}", quote(value))).collect();
        format!("{}{{{}}}", self.select.name(names), labels.join(", "))
    }

    /// Ends the series at that minute.
    pub(crate) fn ends_at(mut self, minutes: u32) -> Self {
        self.values = self.values.until(minutes, Values::rising(0.0));
        self
    }

    pub(crate) fn values(&self, end: u32) -> String {
        self.values.render(end)
    }

    /// Splits a counter into two that add up to it, by a label that the alert does not use. This shows that an expression sums, and does not take the
    /// maximum.
    pub(crate) fn parts(&self, is_used: impl Fn(&str) -> bool) -> Vec<Self> {
        let labels = self.select.labels();
        let is_set = |label: &str| self.select.matchers.iter().any(|matcher| matcher.label == label);
        let free = |(label, _): &&(&str, &str)| labels.contains(*label) && !is_used(label) && !is_set(label);
        let Some((label, value)) = APART.iter().find(free).filter(|_| self.counts) else { return vec![self.clone()] };
        let [more, mut less] = [0.75, 0.25].map(|part| Self { values: self.values.scaled(part), ..self.clone() });
        less.select.matchers.push(Matcher::new(*label, Compare::Equal, [*value]));
        vec![more, less]
    }

    /// Why it is invalid.
    pub(crate) fn faults(&self) -> Vec<crate::promql::InvalidExpression> {
        let mut faults = Vec::new();
        self.select.check(&mut faults);
        faults
    }
}

impl Counter {
    /// One of its series in a case: with the labels of [`Counter::with`], and usual values for the others.
    #[must_use]
    pub fn series(self, values: Values) -> TestSeries {
        TestSeries { select: self.0, le: None, values, counts: true }
    }
}

impl Gauge {
    /// One of its series in a case: with the labels of [`Gauge::with`], and usual values for the others.
    #[must_use]
    pub fn series(self, values: Values) -> TestSeries {
        TestSeries { select: self.0, le: None, values, counts: false }
    }
}

impl Histogram {
    /// One of its buckets in a case, with this spelling of `le`.
    #[must_use]
    pub fn bucket_series(self, le: &str, values: Values) -> TestSeries {
        let select = Select { part: Part::Bucket(None), ..self.0 };
        TestSeries { select, le: Some(le.to_owned()), values, counts: true }
    }

    /// Its series in a case: observations per minute at or below each bound (spelled as in `le`), and in total.
    #[must_use]
    pub fn series(self, buckets: &[(&str, f64)], all: f64) -> Vec<TestSeries> {
        let bucket = |(le, by): &(&str, f64)| self.clone().bucket_series(le, Values::rising(*by));
        let mut series: Vec<_> = buckets.iter().chain([&("+Inf", all)]).map(bucket).collect();
        series.push(self.count().series(Values::rising(all)));
        series
    }
}

/// An alert that fires in a case.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Firing {
    /// The variant, from 0.
    pub variant: usize,
    /// Its value, as in the texts.
    pub value: String,
    /// Labels with unusual values.
    pub labels: Vec<(&'static str, String)>,
}

/// Series, and the alerts that fire at a given minute.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The minute of evaluation.
    pub at: u32,
    /// The series.
    pub series: Vec<TestSeries>,
    /// The alerts that fire; empty if none does.
    pub firings: Vec<Firing>,
    /// The only variant that is checked, and whether it fires.
    pub(crate) alone: Option<(usize, bool)>,
    /// The job and model, if they are not the usual ones.
    pub(crate) context: Option<Context>,
}

/// The job and model of a case's series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Context {
    pub(crate) job: String,
    pub(crate) model: String,
}

impl Context {
    /// The usual ones.
    pub(crate) fn new(slo: &Slo) -> Self {
        let job = slo.service.jobs.first().cloned().unwrap_or_default();
        Self { job, model: "qwen3-14b".to_owned() }
    }
}

impl Case {
    /// The first variant fires, with this value in the texts.
    pub(crate) fn fires(name: impl Into<String>, at: u32, value: impl Into<String>, series: Vec<TestSeries>) -> Self {
        Self::quiet(name, at, series).firing(0, value, &[])
    }

    /// Nothing fires.
    pub(crate) fn quiet(name: impl Into<String>, at: u32, series: Vec<TestSeries>) -> Self {
        Self { name: name.into(), at, series, firings: Vec::new(), alone: None, context: None }
    }

    /// This variant does not fire; others are not checked.
    pub(crate) fn not(mut self, variant: usize) -> Self {
        self.alone = Some((variant, false));
        self
    }

    /// This variant fires; others are not checked.
    pub(crate) fn surely(mut self, variant: usize) -> Self {
        self.alone = Some((variant, true));
        self
    }

    /// This variant fires, too.
    pub(crate) fn firing(mut self, variant: usize, value: impl Into<String>, labels: &[(&'static str, &str)]) -> Self {
        let labels = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        self.firings.push(Firing { variant, value: value.into(), labels });
        self
    }
}

/// The usual value of a label in cases.
pub(crate) fn usual(label: &str, context: &Context) -> String {
    let value = match label {
        JOB => &context.job,
        INSTANCE => "llm-1:8080",
        "model" => &context.model,
        "operation" => "chat",
        "endpoint" => "/v1/chat/completions",
        "stream" => "true",
        "thinking" => "false",
        "outcome" => "success",
        "finish_reason" => "stop",
        "phase" => "streaming",
        "slo" => "interactive",
        "version" => "0.1.0",
        "label" => "model",
        GPU => "0",
        GPU_UUID => "GPU-aaaa",
        "xid" => "79",
        UPSTREAM => "ollama",
        "reason" => "hw_thermal_slowdown",
        "severity" => "uncorrected",
        "counter" => "volatile",
        "sensor" => "gpu",
        _ => "x",
    };
    value.to_owned()
}

/// A ratio as Prometheus's `humanizePercentage` formats it: four significant digits.
pub(crate) fn percent(ratio: f64) -> String {
    let value = ratio * 100.0;
    let whole = if value == 0.0 { 1 } else { value.abs().log10().floor() as i32 + 1 };
    let text = format!("{value:.*}", usize::try_from(4 - whole).unwrap_or(0));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}%")
}

/// A share that is 1 % above the limit, but below 1.
pub(crate) fn just_above(limit: f64) -> f64 {
    (limit * 1.01).min(f64::midpoint(limit, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_continue_from_the_previous_value() {
        assert_eq!(Values::flat(2.0).render(3), "2x3");
        assert_eq!(Values::rising(5.0).until(3, Values::rising(1.0)).render(5), "0+5x2 11+1x2");
        assert_eq!(Values::absent().until(2, Values::flat(7.0)).render(2), "_x2 7x0");
        assert_eq!(Values::flat(1.0).until(9, Values::flat(0.0)).render(2), "1x2");
    }

    #[test]
    fn shares_are_formatted_like_prometheus_does() {
        let spelled = [0.0725, 0.901, 1.0, 0.0, 0.00123456, 1.325].map(percent);
        assert_eq!(spelled, ["7.25%", "90.1%", "100%", "0%", "0.1235%", "132.5%"]);
    }
}
