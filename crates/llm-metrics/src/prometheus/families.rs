//! Metrics that are counted when they are recorded, and rendered here.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Debug},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
};

use foldhash::fast::RandomState;
use metrics::{Key, Label, SharedString};
use metrics_exporter_prometheus::formatting::{
    sanitize_label_key, sanitize_label_value, sanitize_metric_name, write_help_line, write_type_line,
};

/// A series of a family.
pub(super) trait Series: Debug + Sized {
    /// The data that all series of a family share.
    type Shape: Debug;

    /// The type in `# TYPE` lines.
    const TYPE: &'static str;

    /// The sum of several series.
    type Total: Default;

    /// Adds a series with these labels, rendered and without braces.
    fn new(labels: String, shape: &Self::Shape) -> Self;

    fn render(&self, name: &str, page: &mut String) -> fmt::Result;

    /// Adds a series to the sum.
    fn add_to(&self, total: &mut Self::Total);
}

/// The metrics of one kind, found by their full name. They are rendered in the order of registration.
#[derive(Debug)]
pub(super) struct Families<S: Series> {
    all: Vec<Family<S>>,
    by_name: HashMap<String, usize, RandomState>,
}

#[derive(Debug)]
struct Family<S: Series> {
    name: String,
    shape: S::Shape,
    /// Whether it is on the page under its own name.
    shown: bool,
    help: OnceLock<SharedString>,
    /// By their rendered labels.
    series: Mutex<BTreeMap<Key, Arc<S>>>,
    /// By the keys that were requested: a macro requests its handle for each sample.
    known: RwLock<HashMap<Key, Arc<S>, RandomState>>,
}

impl<S: Series> Default for Families<S> {
    fn default() -> Self {
        Self { all: Vec::new(), by_name: HashMap::default() }
    }
}

impl<S: Series> Families<S> {
    /// Adds a family, or replaces the family of the same name.
    pub(super) fn bind(&mut self, name: String, shape: S::Shape) {
        let (help, series, known) = (OnceLock::new(), Mutex::default(), RwLock::default());
        let family = Family { name: name.clone(), shape, shown: true, help, series, known };
        match self.by_name.get(&name) {
            Some(at) => self.all[*at] = family,
            None => {
                self.by_name.insert(name, self.all.len());
                self.all.push(family);
            }
        }
    }

    /// Removes a family from the page. It is still counted.
    pub(super) fn hide(&mut self, name: &str) {
        if let Some(at) = self.by_name.get(name) {
            self.all[*at].shown = false;
        }
    }

    /// The series of a family, by their labels.
    pub(super) fn series(&self, name: &str) -> Vec<(Key, Arc<S>)> {
        self.family(name).map(Family::snapshot).unwrap_or_default()
    }

    /// Stores the HELP text, if the metric is one of these.
    pub(super) fn describe(&self, name: &str, help: &SharedString) -> bool {
        let family = self.family(name);
        if let Some(family) = family {
            let _ = family.help.set(help.clone());
        }
        family.is_some()
    }

    /// Returns a series, if the metric is one of these.
    pub(super) fn register(&self, key: &Key, constant: &[Label]) -> Option<Arc<S>> {
        let family = self.family(key.name())?;
        Some(family.known(key).unwrap_or_else(|| family.learn(key, constant)))
    }

    pub(super) fn render(&self, page: &mut String) {
        for family in self.all.iter().filter(|family| family.shown) {
            family.render(page);
        }
    }

    fn family(&self, name: &str) -> Option<&Family<S>> {
        self.by_name.get(name).map(|at| &self.all[*at])
    }
}

impl<S: Series> Family<S> {
    fn render(&self, page: &mut String) {
        let all = self.snapshot();
        if all.is_empty() {
            return;
        }
        let name = sanitize_metric_name(&self.name);
        if let Some(help) = self.help.get() {
            write_help_line(page, &name, None, None, help);
        }
        write_type_line(page, &name, None, None, S::TYPE);
        for (_, series) in all {
            let _ = series.render(&name, page);
        }
        page.push('\n');
    }

    /// Copied, so that the lock is released: registering a series does not wait for a scrape.
    fn snapshot(&self) -> Vec<(Key, Arc<S>)> {
        self.series().iter().map(|(key, series)| (key.clone(), Arc::clone(series))).collect()
    }

    fn known(&self, key: &Key) -> Option<Arc<S>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn learn(&self, key: &Key, constant: &[Label]) -> Arc<S> {
        let labels = Key::from_parts("", merged(constant.iter().chain(key.labels())));
        let new = |labels: &Key| Arc::new(S::new(text(labels.labels()), &self.shape));
        let series = Arc::clone(self.series().entry(labels).or_insert_with_key(new));
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key.to_retained(), Arc::clone(&series));
        series
    }

    fn series(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<S>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Labels as they follow the name of a series.
pub(super) fn braces(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

/// Each name once, with its last value.
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

/// Spelled like the underlying exporter does, so that series with the same labels look the same.
fn text<'a>(labels: impl Iterator<Item = &'a Label>) -> String {
    let pair =
        |label: &Label| format!("{}=\"{}\"", sanitize_label_key(label.key()), sanitize_label_value(label.value()));
    labels.map(pair).collect::<Vec<_>>().join(",")
}
