//! A strict parser of Prometheus' text format: it rejects everything that it does not expect.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use llm_metrics::catalog::{self, Kind, MetricDef};

/// A page of metrics, as a scrape receives it.
#[derive(Debug)]
pub struct Page {
    /// The unchanged text.
    pub text: String,
    families: BTreeMap<String, Family>,
}

/// A metric with all its series.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Family {
    /// The type in its `# TYPE` line.
    pub kind: String,
    /// The text of its `# HELP` line, unescaped.
    pub help: Option<String>,
    /// Its lines, in the order of the page.
    pub samples: Vec<Sample>,
}

/// A line with a value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The full name, including suffixes such as `_bucket`.
    pub name: String,
    /// Labels in alphabetic order.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// The sum of the selected series of a histogram.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// The number of samples.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Each upper bound with the number of samples at or below it, in ascending order, including `+Inf`.
    pub buckets: Vec<(f64, f64)>,
}

impl Page {
    /// Scrapes every 10 ms until the page satisfies a condition, at most `tries` times. The page is rendered while values are being set, so the first
    /// page that satisfies the condition may lack values that are set together with it: the next one is returned, if it satisfies the condition too.
    pub(crate) async fn when(scrape: impl AsyncFn() -> Self, tries: u32, is: impl Fn(&Self) -> bool) -> Self {
        let mut was = false;
        for _ in 0..tries {
            let page = scrape().await;
            let is = is(&page);
            if was && is {
                return page;
            }
            was = is;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let page = scrape().await;
        let says = |line: &&str| !line.starts_with('#') && !line.ends_with(" 0") && !line.contains("_bucket{");
        panic!(
            "the page never satisfied the condition:\n{}",
            page.text.lines().filter(says).collect::<Vec<_>>().join("\n")
        );
    }

    /// Reads a page.
    ///
    /// # Panics
    /// If the page has anything that is not allowed: invalid lines, samples before their `TYPE`, a series twice, summaries, or histograms with
    /// inconsistent buckets.
    #[must_use]
    #[track_caller]
    pub fn parse(text: impl Into<String>) -> Self {
        let text = text.into();
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut seen = HashSet::new();
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is cut");
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# ") {
                let (what, rest) = rest.split_once(' ').expect("HELP or TYPE");
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let family = families.entry(name.to_owned()).or_default();
                assert!(family.samples.is_empty(), "{name}: HELP and TYPE come before its samples");
                match what {
                    "TYPE" => {
                        assert!(family.kind.is_empty(), "{name} has two types");
                        rest.clone_into(&mut family.kind);
                    }
                    "HELP" => family.help = Some(rest.replace("\\n", "\n").replace("\\\\", "\\")),
                    other => panic!("a comment that the format does not have: {other}"),
                }
                continue;
            }
            assert!(
                seen.insert(line.rsplit_once(' ').expect("a value").0.to_owned()),
                "a series is on the page twice: {line}"
            );
            let sample = Sample::parse(line);
            let family = sample.family(&families).to_owned();
            let family = families.get_mut(&family).unwrap_or_else(|| panic!("no TYPE before {line}"));
            family.samples.push(sample);
        }
        let page = Self { text, families };
        page.check();
        page
    }

    /// Every metric by its name.
    #[must_use]
    pub fn families(&self) -> &BTreeMap<String, Family> {
        &self.families
    }

    /// The samples with this full name and at least these labels.
    ///
    /// # Panics
    /// If such a sample cannot exist, because a test would then always get 0: the name is neither on the page nor in a catalogue, the metric does not
    /// have the label, or the label never has this value.
    #[track_caller]
    pub fn samples<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        let on_page = || self.families.values().flat_map(|family| &family.samples).filter(|sample| sample.name == name);
        let row = self.row_of(name);
        assert!(row.is_some() || on_page().next().is_some(), "{name} is neither on this page nor in a catalogue");
        for (label, value) in labels {
            match row.and_then(|row| row.label(label)) {
                Some(declared) => assert!(declared.allows(value), "{value} is never a value of {declared:?}"),
                None => {
                    let known = *label == "le" || on_page().any(|sample| sample.labels.contains_key(*label));
                    assert!(known, "{name} has no label {label}");
                }
            }
        }
        self.families.values().flat_map(|family| &family.samples).filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        })
    }

    /// The sum over all series with this name and these labels; 0 if there are none.
    #[must_use]
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).map(|sample| sample.value).sum()
    }

    /// The number of series with this name and these labels.
    #[must_use]
    #[track_caller]
    pub fn series(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        self.samples(name, labels).count()
    }

    /// The values that a label has in the series with this name.
    #[must_use]
    #[track_caller]
    pub fn label_values(&self, name: &str, label: &str) -> HashSet<String> {
        self.samples(name, &[]).filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    /// The sum over all histograms with this name and these labels; empty if there are none.
    #[must_use]
    #[track_caller]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.samples(&format!("{name}_bucket"), labels) {
            let bound = sample.bound();
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Histogram {
            count: self.value(&format!("{name}_count"), labels),
            sum: self.value(&format!("{name}_sum"), labels),
            buckets,
        }
    }

    /// The number of samples of a histogram; 0 if there is none.
    #[must_use]
    #[track_caller]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.histogram(name, labels).count
    }

    /// The lines about the service, without `process_…`, in a fixed order.
    #[must_use]
    pub fn numbers(&self) -> Vec<&str> {
        let about_us = |line: &&str| !line.starts_with("process_") && !line.is_empty();
        let mut lines: Vec<&str> = self.text.lines().filter(about_us).collect();
        lines.sort_unstable();
        lines
    }

    /// The row of a catalogue that has series with this name. Tests use the prefix `qwen` instead of `llm`.
    fn row_of(&self, name: &str) -> Option<&'static MetricDef> {
        let has_prefix = self.families.keys().any(|name| name.starts_with("qwen_"));
        let renamed = if has_prefix { format!("llm_{}", name.strip_prefix("qwen_")?) } else { name.to_owned() };
        let has_line = |row: &&'static MetricDef| match renamed.strip_prefix(row.name) {
            Some("") => row.kind != Kind::Histogram,
            Some("_bucket" | "_count" | "_sum") => row.kind == Kind::Histogram,
            _ => false,
        };
        let mut rows = catalog::all().chain(llm_metrics_gateway::catalog::all()).chain(llm_metrics_gpu::catalog::all());
        rows.find(has_line)
    }

    fn check(&self) {
        for (name, family) in &self.families {
            match family.kind.as_str() {
                "counter" => {
                    for sample in &family.samples {
                        assert!(sample.value >= 0.0, "a counter below zero: {sample:?}");
                    }
                }
                "gauge" => {}
                "histogram" => family.check_histogram(name),
                other => panic!("{name} is a {other:?}: only counters, gauges and histograms can be aggregated"),
            }
        }
    }
}

impl Family {
    /// The label names of its series, without `le`.
    #[must_use]
    pub fn label_names(&self) -> HashSet<Vec<&str>> {
        self.samples
            .iter()
            .map(|sample| sample.labels.keys().map(String::as_str).filter(|key| *key != "le").collect())
            .collect()
    }

    fn check_histogram(&self, name: &str) {
        /// Buckets, count and sum of one series.
        type Lines = (Vec<(f64, f64)>, Option<f64>, Option<f64>);
        let mut series: BTreeMap<BTreeMap<&str, &str>, Lines> = BTreeMap::new();
        for sample in &self.samples {
            let labels = sample.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).filter(|(k, _)| *k != "le");
            let (buckets, count, sum) = series.entry(labels.collect()).or_default();
            match sample.name.strip_prefix(name) {
                Some("_bucket") => buckets.push((sample.bound(), sample.value)),
                Some("_count") => *count = Some(sample.value),
                Some("_sum") => *sum = Some(sample.value),
                _ => panic!("{name} is a histogram, but has the sample {sample:?}"),
            }
        }
        for (labels, (buckets, count, sum)) in series {
            let rising = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            assert!(rising, "{name}{labels:?}: buckets are cumulative and ordered: {buckets:?}");
            let last = buckets.last().unwrap_or_else(|| panic!("{name}{labels:?} has no buckets"));
            assert_eq!(
                *last,
                (f64::INFINITY, count.unwrap_or(f64::NAN)),
                "{name}{labels:?}: the last bucket has all samples"
            );
            assert!(sum.is_some(), "{name}{labels:?} has no sum");
        }
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let name_ends = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).expect("a name");
        let (name, mut rest) = line.split_at(name_ends);
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let (key, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("labels: {line}"));
                let (value, after) = unquote(after).unwrap_or_else(|| panic!("a label without end: {line}"));
                assert!(labels.insert(key.to_owned(), value).is_none(), "a label twice: {line}");
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            rest = &rest[1..];
        }
        let value = match rest.strip_prefix(' ').unwrap_or_else(|| panic!("a space before the value: {line}")) {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            number => number.parse().unwrap_or_else(|_| panic!("a number: {line}")),
        };
        Self { name: name.to_owned(), labels, value }
    }

    fn family<'a>(&'a self, families: &'a BTreeMap<String, Family>) -> &'a str {
        let histogram = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| {
            let name = self.name.strip_suffix(suffix)?;
            families.get(name).is_some_and(|family| family.kind == "histogram").then_some(name)
        });
        histogram.unwrap_or(&self.name)
    }

    fn bound(&self) -> f64 {
        match self.labels.get("le").map(String::as_str) {
            Some("+Inf") => f64::INFINITY,
            Some(bound) => bound.parse().expect("a bound is a number"),
            None => panic!("a bucket without a bound: {self:?}"),
        }
    }
}

/// The value of a label, and the text after its closing quote.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                other => panic!("an escape that the format does not have: {other:?}"),
            }),
            '\n' => return None,
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_total What \\\\ is.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\\n\"} 2\na_total{x=\"2\",y=\"\"} 3\n\n\
        # TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 7.5\nh_count 2\n";

    #[test]
    fn a_page_is_read() {
        let page = Page::parse(PAGE);
        assert_eq!(page.value("a_total", &[]), 5.0);
        assert_eq!(page.value("a_total", &[("y", "q\"\n")]), 2.0);
        assert_eq!(page.families()["a_total"].help.as_deref(), Some("What \\ is."));
        let histogram = page.histogram("h", &[]);
        assert_eq!((histogram.count, histogram.sum), (2.0, 7.5));
        assert_eq!(histogram.buckets, [(0.5, 1.0), (f64::INFINITY, 2.0)]);
    }

    #[test]
    fn lines_that_break_the_format_are_rejected() {
        for page in [
            "a 1",
            "a 1\n",
            "# TYPE a summary\na{quantile=\"0.5\"} 1\n",
            "# TYPE a counter\na 1\na 2\n",
            "# TYPE a counter\na -1\n",
            "# TYPE a counter\na{x=\"} 1\n",
            "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
            "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n",
        ] {
            assert!(std::panic::catch_unwind(|| Page::parse(page)).is_err(), "{page:?}");
        }
    }

    #[test]
    fn a_family_without_a_description_cannot_be_read() {
        let page = Page::parse(PAGE);
        let fails = |page: &Page, name: &str| std::panic::catch_unwind(|| page.value(name, &[])).is_err();
        for absent in ["llm_requests_total", "llm_request_duration_seconds_count"] {
            assert_eq!(page.value(absent, &[]), 0.0);
        }
        assert_eq!(page.count("llm_request_duration_seconds", &[]), 0.0);
        for nothing in
            ["llm_request_total", "qwen_requests_total", "requests_total", "llm_request_duration_seconds", "h", "up"]
        {
            assert!(fails(&page, nothing), "{nothing}");
        }
        let renamed = Page::parse("# TYPE qwen_requests_started_total counter\nqwen_requests_started_total 1\n");
        assert_eq!(renamed.value("qwen_requests_total", &[]), 0.0);
        assert!(fails(&renamed, "llm_requests_total"), "this page has another prefix");
        assert!(std::panic::catch_unwind(|| page.count("llm_requests_total", &[])).is_err());
    }
}
