//! Parses a page in Prometheus' text format: the samples, without types and HELP.

use std::collections::HashMap;

/// The samples of a page by name.
#[derive(Debug, Default)]
pub(crate) struct Page {
    samples: HashMap<String, Vec<Sample>>,
}

#[derive(Debug)]
struct Sample {
    labels: Vec<(String, String)>,
    value: f64,
}

impl Sample {
    fn has(&self, wanted: &[(&str, &str)]) -> bool {
        wanted.iter().all(|(name, value)| self.label(name) == Some(value))
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Buckets of one or more series with the same bounds, cumulative as exposed, up to +Inf.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Buckets {
    pub(crate) bounds: Vec<(f64, f64)>,
    pub(crate) sum: f64,
    pub(crate) count: f64,
}

impl Page {
    /// Skips lines that are not valid samples: validating the page is not the purpose here.
    pub(crate) fn parse(text: &str) -> Self {
        let mut page = Self::default();
        for (name, sample) in text.lines().filter_map(sample) {
            page.samples.entry(name).or_default().push(sample);
        }
        page
    }

    pub(crate) fn extend(&mut self, other: Self) {
        for (name, samples) in other.samples {
            self.samples.entry(name).or_default().extend(samples);
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.samples.contains_key(name)
    }

    /// Whether a series of this name has the label with this value.
    pub(crate) fn has_label(&self, name: &str, label: &str, value: &str) -> bool {
        self.matching(name, &[(label, value)]).next().is_some()
    }

    /// `None` if no such series exists, or all of them are NaN.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.matching(name, labels).map(|sample| sample.value).filter(|value| !value.is_nan()).reduce(|a, b| a + b)
    }

    pub(crate) fn mean(&self, name: &str) -> Option<f64> {
        let values: Vec<_> =
            self.matching(name, &[]).map(|sample| sample.value).filter(|value| !value.is_nan()).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The value of each series, with the value of its label.
    pub(crate) fn by(&self, name: &str, label: &str, labels: &[(&str, &str)]) -> Vec<(String, f64)> {
        let labelled = self.matching(name, labels);
        labelled.filter_map(|sample| Some((sample.label(label)?.to_owned(), sample.value))).collect()
    }

    /// The labels of the first series of an info metric with a value above 0.
    pub(crate) fn info(&self, name: &str) -> Option<Vec<(String, String)>> {
        Some(self.matching(name, &[]).find(|sample| sample.value > 0.0)?.labels.clone())
    }

    pub(crate) fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Option<Buckets> {
        let mut bounds: Vec<(f64, f64)> = Vec::new();
        for sample in self.matching(&format!("{name}_bucket"), labels) {
            let bound = sample.label("le").and_then(number)?;
            match bounds.iter_mut().find(|(own, _)| *own == bound) {
                Some((_, count)) => *count += sample.value,
                None => bounds.push((bound, sample.value)),
            }
        }
        bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let sum = self.sum(&format!("{name}_sum"), labels)?;
        let count = self.sum(&format!("{name}_count"), labels)?;
        Some(Buckets { bounds, sum, count })
    }

    fn matching<'a>(&'a self, name: &str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.get(name).into_iter().flatten().filter(|sample| sample.has(labels))
    }
}

impl Buckets {
    /// The increase since `before`. `None` if the count has decreased, because then the server was restarted.
    pub(crate) fn since(&self, before: Option<&Self>) -> Option<Self> {
        let Some(before) = before.filter(|before| before.count > 0.0) else { return Some(self.clone()) };
        if self.bounds.len() != before.bounds.len() || self.count < before.count {
            return None;
        }
        let bounds = self.bounds.iter().zip(&before.bounds).map(|(now, then)| (now.0, now.1 - then.1));
        Some(Self { bounds: bounds.collect(), sum: self.sum - before.sum, count: self.count - before.count })
    }

    /// The quantile as Prometheus interpolates it, and the bounds of its bucket. The upper bound of the last bucket is infinite: there, the quantile is
    /// its lower bound.
    pub(crate) fn quantile(&self, q: f64) -> Option<(f64, f64, f64)> {
        let rank = q * self.count;
        if self.count <= 0.0 {
            return None;
        }
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in &self.bounds {
            if *count >= rank && *count > below {
                let share = (rank - below) / (count - below);
                let value = if bound.is_finite() { low + (bound - low) * share } else { low };
                return Some((value, low, *bound));
            }
            (low, below) = (*bound, *count);
        }
        None
    }
}

fn sample(line: &str) -> Option<(String, Sample)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = number(rest.split_whitespace().next()?)?;
    Some((name.to_owned(), Sample { labels, value }))
}

fn labels(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once('=')?;
        let quoted = after.trim_start().strip_prefix('"')?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.trim().to_owned(), value));
        rest = quoted[end + 1..].trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP a A.
# TYPE a counter
a{model="m\"\\\n}",x="1"} 3
a{model="n", x="2",} 4 1700000000
b NaN
c -1.5e3
h_bucket{m="1",le="0.1"} 1
h_bucket{m="1",le="1.0"} 3
h_bucket{m="1",le="+Inf"} 4
h_sum{m="1"} 5
h_count{m="1"} 4
h_bucket{m="2",le="0.1"} 1
h_bucket{m="2",le="1.0"} 1
h_bucket{m="2",le="+Inf"} 1
h_sum{m="2"} 0.05
h_count{m="2"} 1
nonsense
{} 3
d{x="} 4
"#;

    #[test]
    fn a_page_is_parsed() {
        let page = Page::parse(PAGE);
        assert_eq!(page.sum("a", &[]), Some(7.0));
        assert_eq!(page.sum("a", &[("x", "2")]), Some(4.0));
        assert!(page.has_label("a", "model", "m\"\\\n}"));
        assert_eq!((page.sum("b", &[]), page.sum("c", &[]), page.sum("z", &[])), (None, Some(-1500.0), None));
        assert!(page.has("b") && !page.has("d"));
        assert_eq!(page.by("a", "x", &[]), [("1".to_owned(), 3.0), ("2".to_owned(), 4.0)]);
    }

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let buckets = Page::parse(PAGE).buckets("h", &[]).unwrap();
        assert_eq!(buckets.bounds, [(0.1, 2.0), (1.0, 4.0), (f64::INFINITY, 5.0)]);
        assert_eq!((buckets.sum, buckets.count), (5.05, 5.0));
        let (value, low, high) = buckets.quantile(0.6).unwrap();
        assert!((value - 0.55).abs() < 1e-9 && low == 0.1 && high == 1.0, "{value}");
        assert_eq!(buckets.quantile(0.99), Some((1.0, 1.0, f64::INFINITY)));
        assert_eq!(Buckets::default().quantile(0.5), None);
    }

    #[test]
    fn the_increase_is_known_unless_the_server_was_restarted() {
        let page = Page::parse(PAGE);
        let (all, one) = (page.buckets("h", &[]).unwrap(), page.buckets("h", &[("m", "1")]).unwrap());
        let since = all.since(Some(&one)).unwrap();
        assert_eq!(since.bounds, [(0.1, 1.0), (1.0, 1.0), (f64::INFINITY, 1.0)]);
        assert_eq!(one.since(Some(&all)), None);
        assert_eq!(all.since(None).as_ref(), Some(&all));
    }

    #[test]
    fn invalid_text_has_no_samples_and_does_not_panic() {
        for text in
            ["", "{", "a{", "a{b", "a{b=", "a{b=\"", "a{b=\"\\", "a{b=\"c\"", "a{b=\"c\"}", "a{b=\"ü\\", "\u{0}"]
        {
            assert!(Page::parse(text).samples.is_empty(), "{text:?}");
        }
    }
}
