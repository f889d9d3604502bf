//! Cases: series over time, and what fires when.

use std::collections::BTreeMap;

use crate::{
    promql::{
        Counter, Gauge, Histogram, Names,
        select::{Compare, Part, Select, quote},
    },
    vocabulary::{GPU, GPU_UUID, INSTANCE, JOB},
};

/// How the values of a series go on, minute by minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(Vec<(Option<u32>, Piece)>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Piece {
    Absent,
    Flat(f64),
    /// By so much a minute, from where it is.
    Rising(f64),
}

impl Values {
    /// Always the same.
    #[must_use]
    pub fn flat(value: f64) -> Self {
        Self(vec![(None, Piece::Flat(value))])
    }

    /// From 0 on, by so much a minute.
    #[must_use]
    pub fn rising(by: f64) -> Self {
        Self(vec![(None, Piece::Rising(by))])
    }

    /// Not there.
    #[must_use]
    pub fn absent() -> Self {
        Self(vec![(None, Piece::Absent)])
    }

    /// So until minute `minutes`, then as `next` says.
    #[must_use]
    pub fn until(mut self, minutes: u32, next: Self) -> Self {
        if let Some(last) = self.0.last_mut() {
            last.0 = Some(minutes);
        }
        self.0.extend(next.0);
        self
    }

    /// One sample a minute from 0 to `end`, as promtool writes it.
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

/// A series of a case. Labels of which nothing is said have their usual value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    select: Select,
    le: Option<String>,
    values: Values,
}

impl Series {
    pub(crate) fn name(&self, names: &Names, job: &str) -> String {
        let mut labels: BTreeMap<String, String> =
            self.select.labels().into_iter().map(|label| (label.to_string(), usual(&label, job))).collect();
        for matcher in self.select.matchers.iter().filter(|matcher| matcher.compare == Compare::Equal) {
            labels.insert(matcher.label.to_string(), matcher.values.concat());
        }
        labels.extend(self.le.iter().map(|le| ("le".to_owned(), le.clone())));
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}={}", quote(value))).collect();
        format!("{}{{{}}}", self.select.name(names), labels.join(", "))
    }

    /// The same, with every rise times `factor`.
    pub(crate) fn slow_down(&mut self, factor: f64) {
        for (_, piece) in &mut self.values.0 {
            if let Piece::Rising(by) = piece {
                *by *= factor;
            }
        }
    }

    pub(crate) fn values(&self, end: u32) -> String {
        self.values.render(end)
    }

    /// What is wrong with it.
    pub(crate) fn faults(&self) -> Vec<crate::promql::Fault> {
        let mut faults = Vec::new();
        self.select.check(&mut faults);
        faults
    }
}

impl Counter {
    /// One of its series in a case: the labels of [`Counter::with`], the usual values for the rest.
    #[must_use]
    pub fn series(self, values: Values) -> Series {
        Series { select: self.0, le: None, values }
    }
}

impl Gauge {
    /// One of its series in a case: the labels of [`Gauge::with`], the usual values for the rest.
    #[must_use]
    pub fn series(self, values: Values) -> Series {
        Series { select: self.0, le: None, values }
    }
}

impl Histogram {
    /// One of its buckets in a case, by how `le` is spelled.
    #[must_use]
    pub fn bucket_series(self, le: &str, values: Values) -> Series {
        let select = Select { part: Part::Bucket(None), ..self.0 };
        Series { select, le: Some(le.to_owned()), values }
    }

    /// Its series in a case: how many observations come a minute at or below each bound (spelled as in `le`), and in all.
    #[must_use]
    pub fn series(self, buckets: &[(&str, f64)], all: f64) -> Vec<Series> {
        let bucket = |(le, by): &(&str, f64)| self.clone().bucket_series(le, Values::rising(*by));
        let mut series: Vec<_> = buckets.iter().chain([&("+Inf", all)]).map(bucket).collect();
        series.push(self.count().series(Values::rising(all)));
        series
    }
}

/// What fires in a case.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Firing {
    /// The variant, from 0.
    pub variant: usize,
    /// Its value, as the texts show it.
    pub value: String,
    /// Labels that do not have their usual value.
    pub labels: Vec<(&'static str, String)>,
}

/// Series, and what fires after so many minutes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// After so many minutes.
    pub at: u32,
    /// The series.
    pub series: Vec<Series>,
    /// What fires; nothing where it is quiet.
    pub firings: Vec<Firing>,
}

impl Case {
    /// The first variant fires, with a value that the texts show so.
    pub(crate) fn fires(name: impl Into<String>, at: u32, value: impl Into<String>, series: Vec<Series>) -> Self {
        Self::quiet(name, at, series).firing(0, value, &[])
    }

    /// Nothing fires.
    pub(crate) fn quiet(name: impl Into<String>, at: u32, series: Vec<Series>) -> Self {
        Self { name: name.into(), at, series, firings: Vec::new() }
    }

    /// That variant fires too.
    pub(crate) fn firing(mut self, variant: usize, value: impl Into<String>, labels: &[(&'static str, &str)]) -> Self {
        let labels = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        self.firings.push(Firing { variant, value: value.into(), labels });
        self
    }
}

/// The value that a label has in cases where nothing says another.
pub(crate) fn usual(label: &str, job: &str) -> String {
    let value = match label {
        JOB => job,
        INSTANCE => "llm-1:8080",
        "model" => "qwen3-14b",
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
        "reason" => "hw_thermal_slowdown",
        "severity" => "uncorrected",
        "counter" => "volatile",
        "sensor" => "gpu",
        _ => "x",
    };
    value.to_owned()
}

/// A share as Prometheus's `humanizePercentage` spells it: four significant digits.
pub(crate) fn percent(ratio: f64) -> String {
    let value = ratio * 100.0;
    let whole = if value == 0.0 { 1 } else { value.abs().log10().floor() as i32 + 1 };
    let text = format!("{value:.*}", usize::try_from(4 - whole).unwrap_or(0));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}%")
}

/// A share by a hundredth of it above the limit, and below 1.
pub(crate) fn just_above(limit: f64) -> f64 {
    (limit * 1.01).min(f64::midpoint(limit, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_on_from_where_they_were() {
        assert_eq!(Values::flat(2.0).render(3), "2x3");
        assert_eq!(Values::rising(5.0).until(3, Values::rising(1.0)).render(5), "0+5x2 11+1x2");
        assert_eq!(Values::absent().until(2, Values::flat(7.0)).render(2), "_x2 7x0");
        assert_eq!(Values::flat(1.0).until(9, Values::flat(0.0)).render(2), "1x2");
    }

    #[test]
    fn shares_are_spelled_as_prometheus_spells_them() {
        let spelled = [0.0725, 0.901, 1.0, 0.0, 0.00123456, 1.325].map(percent);
        assert_eq!(spelled, ["7.25%", "90.1%", "100%", "0%", "0.1235%", "132.5%"]);
    }
}
