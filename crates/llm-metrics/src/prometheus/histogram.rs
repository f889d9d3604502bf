//! Histograms whose samples are counted into buckets when they are recorded.

use std::{
    fmt::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::HistogramFn;

use super::families::{Families, Series, braces};

/// The histograms whose buckets are known by their full name.
///
/// The underlying exporter stores each sample until it is read. That takes memory that grows with the rate. It can also lose stored samples if the
/// recording thread is descheduled at the wrong moment: a test on an overloaded machine (ten times the work that it could do) lost 160,000 of
/// 10,000,000 samples. Counting a sample when it is recorded costs a quarter of that, takes no memory, and loses nothing.
pub(super) type Histograms = Families<HistogramSeries>;

/// The upper bounds of a histogram.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    /// The bounds that are counted: those of all dialects, in ascending order.
    pub(super) counted: Arc<[f64]>,
    /// The bounds that are on the page under the histogram's own name.
    pub(super) shown: Arc<[f64]>,
}

impl Buckets {
    /// Counts the bounds that are shown, and further ones for other dialects.
    pub(super) fn new(shown: &[f64], others: &[f64]) -> Self {
        let mut counted = [shown, others].concat();
        counted.sort_by(f64::total_cmp);
        counted.dedup();
        Self { counted: counted.into(), shown: shown.into() }
    }
}

/// The sum of several series of a histogram.
#[derive(Debug, Default)]
pub(super) struct HistogramTotal {
    /// The bounds of `counts`.
    bounds: Option<Arc<[f64]>>,
    counts: Vec<u64>,
    sum: f64,
}

impl HistogramTotal {
    /// The number of samples in each of these buckets, and in all.
    pub(super) fn cumulated(&self, shown: &[f64], mut bucket: impl FnMut(f64, u64)) -> u64 {
        let (mut count, mut shown) = (0, shown.iter().peekable());
        for (bound, more) in self.bounds.iter().flat_map(|bounds| bounds.iter()).zip(&self.counts) {
            count += more;
            if shown.next_if_eq(&bound).is_some() {
                bucket(*bound, count);
            }
        }
        count + self.counts.last().unwrap_or(&0)
    }

    pub(super) fn sum(&self) -> f64 {
        self.sum
    }
}

#[derive(Debug)]
pub(super) struct HistogramSeries {
    /// The labels as rendered, without braces.
    labels: String,
    shape: Buckets,
    /// Samples per bucket, not cumulative: one element more than there are bounds.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Series for HistogramSeries {
    type Shape = Buckets;

    type Total = HistogramTotal;

    const TYPE: &'static str = "histogram";

    fn new(labels: String, shape: &Buckets) -> Self {
        let counts = (0..=shape.counted.len()).map(|_| AtomicU64::new(0)).collect();
        Self { labels, shape: shape.clone(), counts, sum: AtomicU64::new(0) }
    }

    fn render(&self, name: &str, page: &mut String) -> fmt::Result {
        let (labels, braces) = (&self.labels, braces(&self.labels));
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = HistogramTotal::default();
        self.add_to(&mut total);
        // The sum of the counts that were read, so that `_count` always equals the last bucket.
        let count = total.cumulated(&self.shape.shown, |bound, count| {
            let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
        });
        writeln!(page, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
        writeln!(page, "{name}_sum{braces} {}\n{name}_count{braces} {count}", total.sum)
    }

    fn add_to(&self, total: &mut HistogramTotal) {
        total.bounds.get_or_insert_with(|| Arc::clone(&self.shape.counted));
        total.counts.resize(self.counts.len(), 0);
        for (sum, count) in total.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Relaxed);
        }
        total.sum += f64::from_bits(self.sum.load(Relaxed));
    }
}

impl HistogramFn for HistogramSeries {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        // NaN is below no bound.
        let bounds = &self.shape.counted;
        let bucket = if value.is_nan() { bounds.len() } else { bounds.partition_point(|bound| *bound < value) };
        self.counts[bucket].fetch_add(count as u64, Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value * count as f64).to_bits());
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use metrics::{Histogram, Key, Label};

    use super::*;

    const NAME: &str = "llm_request_duration_seconds";

    fn bound() -> Histograms {
        let mut histograms = Histograms::default();
        histograms.bind(NAME.to_owned(), Buckets::new(&[0.5, 1.0], &[0.75, 0.5, 2.0]));
        histograms
    }

    fn register(histograms: &Histograms, key: &Key, constant: &[Label]) -> Histogram {
        Histogram::from_arc(histograms.register(key, constant).unwrap())
    }

    fn page(histograms: &Histograms) -> String {
        let mut page = String::new();
        histograms.render(&mut page);
        page
    }

    #[test]
    fn a_sample_is_counted_in_the_bucket_whose_bound_it_does_not_exceed() {
        let histograms = bound();
        histograms.describe(NAME, &"Seconds.\nOr \\ not.".into());
        let key = Key::from_parts(NAME, vec![Label::new("model", "a\"b\\c\nd")]);
        let handle = register(&histograms, &key, &[Label::new("region", "eu"), Label::new("model", "constant")]);
        handle.record(0.5);
        handle.record_many(0.75, 2);
        handle.record(7.0);
        let labels = r#"region="eu",model="a\"b\\c\nd""#;
        let expected = format!(
            "# HELP {NAME} Seconds.\\nOr \\\\ not.\n# TYPE {NAME} histogram\n\
             {NAME}_bucket{{{labels},le=\"0.5\"}} 1\n{NAME}_bucket{{{labels},le=\"1\"}} 3\n\
             {NAME}_bucket{{{labels},le=\"+Inf\"}} 4\n{NAME}_sum{{{labels}}} 9\n{NAME}_count{{{labels}}} 4\n\n"
        );
        assert_eq!(page(&histograms), expected);
    }

    #[test]
    fn handles_of_one_series_count_together_and_one_without_labels_has_no_braces() {
        let histograms = bound();
        for _ in 0..2 {
            register(&histograms, &Key::from_name(NAME), &[]).record(0.25);
        }
        assert!(page(&histograms).ends_with(&format!("{NAME}_sum 0.5\n{NAME}_count 2\n\n")));
    }

    #[test]
    fn nan_is_above_every_bound() {
        let histograms = bound();
        register(&histograms, &Key::from_name(NAME), &[]).record(f64::NAN);
        let page = page(&histograms);
        assert!(page.contains("le=\"1\"} 0\n") && page.contains("le=\"+Inf\"} 1\n"), "{page}");
    }

    #[test]
    fn no_sample_of_any_thread_is_lost_while_it_is_rendered() {
        const EACH: u64 = 50_000;
        let histograms = bound();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let handle = register(&histograms, &Key::from_name(NAME), &[]);
                scope.spawn(move || (0..EACH).for_each(|_| handle.record(0.5)));
            }
            for _ in 0..100 {
                let page = page(&histograms);
                let value = |line: &str| page.split_once(line).unwrap().1.split('\n').next().unwrap().trim().to_owned();
                assert_eq!(value("le=\"+Inf\"}"), value("_count"));
            }
        });
        assert!(page(&histograms).ends_with(&format!("{NAME}_sum {}\n{NAME}_count {}\n\n", 2 * EACH, 4 * EACH)));
    }

    #[test]
    fn metrics_without_known_buckets_are_left_to_the_underlying_exporter() {
        let histograms = bound();
        assert!(histograms.register(&Key::from_name("mine_seconds"), &[]).is_none());
        assert!(!histograms.describe("mine_seconds", &"Mine.".into()));
        assert_eq!(page(&histograms), "");
    }
}
