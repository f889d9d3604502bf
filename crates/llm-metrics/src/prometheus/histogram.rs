//! Histograms that are counted into their buckets as the samples come.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use foldhash::fast::RandomState;
use metrics::{HistogramFn, Key, Label, SharedString};
use metrics_exporter_prometheus::formatting::{
    sanitize_label_key, sanitize_label_value, sanitize_metric_name, write_help_line, write_type_line,
};

/// The histograms whose buckets are known by their full name.
///
/// The exporter underneath keeps each sample until it is asked for them all. That is memory which grows with the rate, and when
/// the thread that records is held up at the wrong instant, all that was kept is lost: 160,000 of 10,000,000 samples were, once,
/// on a machine with ten times the work that it could do. Counted at once, a sample costs a quarter, takes no room, and stays.
#[derive(Debug, Default)]
pub(super) struct Histograms(BTreeMap<String, Family>);

#[derive(Debug)]
struct Family {
    bounds: Arc<[f64]>,
    help: OnceLock<SharedString>,
    /// By their labels as they are rendered.
    series: Mutex<BTreeMap<Key, Arc<Series>>>,
    /// The same by their keys as they were asked for: a macro asks for each sample.
    known: RwLock<HashMap<Key, Arc<Series>, RandomState>>,
}

#[derive(Debug)]
struct Series {
    /// As they are rendered, without braces.
    labels: String,
    bounds: Arc<[f64]>,
    /// Samples that are in no bucket below: one count more than there are bounds.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histograms {
    pub(super) fn bind(&mut self, name: String, bounds: &[f64]) {
        let (help, series, known) = (OnceLock::new(), Mutex::default(), RwLock::default());
        self.0.insert(name, Family { bounds: bounds.into(), help, series, known });
    }

    /// Takes the HELP text, unless the histogram is none of these.
    pub(super) fn describe(&self, name: &str, help: &SharedString) -> bool {
        let family = self.0.get(name);
        if let Some(family) = family {
            let _ = family.help.set(help.clone());
        }
        family.is_some()
    }

    /// The handle of a series, unless the histogram is none of these.
    pub(super) fn register(&self, key: &Key, constant: &[Label]) -> Option<metrics::Histogram> {
        let family = self.0.get(key.name())?;
        Some(metrics::Histogram::from_arc(family.known(key).unwrap_or_else(|| family.learn(key, constant))))
    }

    pub(super) fn render(&self, page: &mut String) {
        for (name, family) in &self.0 {
            // Taken out of the lock: whoever registers a series does not wait for a scrape.
            let series: Vec<_> = family.series().values().cloned().collect();
            if series.is_empty() {
                continue;
            }
            let name = sanitize_metric_name(name);
            if let Some(help) = family.help.get() {
                write_help_line(page, &name, None, None, help);
            }
            write_type_line(page, &name, None, None, "histogram");
            for series in series {
                let _ = series.render(&name, page);
            }
            page.push('\n');
        }
    }
}

impl Family {
    fn known(&self, key: &Key) -> Option<Arc<Series>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn learn(&self, key: &Key, constant: &[Label]) -> Arc<Series> {
        let labels = Key::from_parts("", merged(constant.iter().chain(key.labels())));
        let new = |labels: &Key| Arc::new(Series::new(text(labels.labels()), &self.bounds));
        let series = Arc::clone(self.series().entry(labels).or_insert_with_key(new));
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key.to_retained(), Arc::clone(&series));
        series
    }

    fn series(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Series>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Series {
    fn new(labels: String, bounds: &Arc<[f64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { labels, bounds: Arc::clone(bounds), counts, sum: AtomicU64::new(0) }
    }

    fn render(&self, name: &str, page: &mut String) -> std::fmt::Result {
        let labels = &self.labels;
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (bound, more) in self.bounds.iter().zip(&self.counts) {
            count += more.load(Relaxed);
            writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}")?;
        }
        // The sum of what was read, so that no scrape has a count that is not the last bucket.
        count += self.counts[self.bounds.len()].load(Relaxed);
        writeln!(page, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
        let sum = f64::from_bits(self.sum.load(Relaxed));
        if labels.is_empty() {
            writeln!(page, "{name}_sum {sum}\n{name}_count {count}")
        } else {
            writeln!(page, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}")
        }
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        // What is no number is below no bound.
        let bucket =
            if value.is_nan() { self.bounds.len() } else { self.bounds.partition_point(|bound| *bound < value) };
        self.counts[bucket].fetch_add(count as u64, Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value * count as f64).to_bits());
        let _ = self.sum.fetch_update(Relaxed, Relaxed, add);
    }
}

/// Each name once, with the last of its values.
fn merged<'a>(labels: impl Iterator<Item = &'a Label>) -> Vec<Label> {
    let mut merged: Vec<Label> = Vec::new();
    for label in labels {
        match merged.iter_mut().find(|known| known.key() == label.key()) {
            Some(known) => known.clone_from(label),
            None => merged.push(label.clone()),
        }
    }
    merged
}

/// Spelled as the exporter underneath spells them, so that a counter and a histogram of one label set have the same labels.
fn text<'a>(labels: impl Iterator<Item = &'a Label>) -> String {
    let pair =
        |label: &Label| format!("{}=\"{}\"", sanitize_label_key(label.key()), sanitize_label_value(label.value()));
    labels.map(pair).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "llm_request_duration_seconds";

    fn bound() -> Histograms {
        let mut histograms = Histograms::default();
        histograms.bind(NAME.to_owned(), &[0.5, 1.0]);
        histograms
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
        let handle = histograms.register(&key, &[Label::new("region", "eu"), Label::new("model", "constant")]).unwrap();
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
            histograms.register(&Key::from_name(NAME), &[]).unwrap().record(0.25);
        }
        assert!(page(&histograms).ends_with(&format!("{NAME}_sum 0.5\n{NAME}_count 2\n\n")));
    }

    #[test]
    fn what_is_no_number_is_above_every_bound() {
        let histograms = bound();
        histograms.register(&Key::from_name(NAME), &[]).unwrap().record(f64::NAN);
        let page = page(&histograms);
        assert!(page.contains("le=\"1\"} 0\n") && page.contains("le=\"+Inf\"} 1\n"), "{page}");
    }

    #[test]
    fn no_sample_of_any_thread_is_lost_while_it_is_rendered() {
        const EACH: u64 = 50_000;
        let histograms = bound();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let handle = histograms.register(&Key::from_name(NAME), &[]).unwrap();
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
    fn what_is_not_bound_is_left_to_others() {
        let histograms = bound();
        assert!(histograms.register(&Key::from_name("mine_seconds"), &[]).is_none());
        assert!(!histograms.describe("mine_seconds", &"Mine.".into()));
        assert_eq!(page(&histograms), "");
    }
}
