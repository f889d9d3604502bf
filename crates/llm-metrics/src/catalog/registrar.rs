//! Handles for rows of a catalogue: from a recorder, under names and with constant labels.

use std::{borrow::Cow, fmt, sync::Arc};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, Label, Level, Metadata, Recorder};

use super::{InvalidLabel, Kind, MetricDef, Naming, Section, valid};
use crate::catch::catch_panic;

static METADATA: Metadata<'static> = Metadata::new("llm_metrics", Level::INFO, Some("llm_metrics"));

/// Registers the rows of a catalogue with a recorder: the global one, unless another is given.
///
/// The crates of llm-metrics use it for their metrics. Use it for the catalogue of your service, too:
///
/// ```
/// use llm_metrics::catalog::Registrar;
///
/// mod desk {
///     llm_metrics::labels! {
///         /// How the ticket was closed.
///         RESULT = "result": &["solved", "given_up"];
///     }
///     llm_metrics::catalogue! {
///         "Tickets" {
///             /// Tickets that were closed.
///             TICKETS_CLOSED = counter("desk_tickets_closed_total", Count)[RESULT];
///         }
///     }
/// }
///
/// let registrar = Registrar::new(desk::SECTIONS).constant_label("region", "eu-west-1")?;
/// registrar.describe();
/// let solved = registrar.counter(&desk::TICKETS_CLOSED, [desk::RESULT.label("solved")]);
/// solved.increment(1);
/// # Ok::<(), llm_metrics::catalog::InvalidLabel>(())
/// ```
///
/// A handle that is registered before a global recorder is installed never records anything. If the recorder or one of its handles panics, that value
/// is lost, and the caller continues.
///
/// # Panics
/// In builds with debug assertions, [`counter`](Self::counter), [`gauge`](Self::gauge) and [`histogram`](Self::histogram) panic if the row is of
/// another kind or of another catalogue, if the labels are not those of the row, each once, or if one of them has a value that its closed set does not
/// have. In other builds, a handle of another kind records nothing.
#[derive(Clone)]
#[must_use]
pub struct Registrar {
    catalogue: &'static [Section],
    recorder: Option<Arc<dyn Recorder + Send + Sync>>,
    naming: Naming,
    constant: Vec<Label>,
    /// Names of labels that a series can have in addition to those of its row.
    additional: Vec<String>,
}

impl Registrar {
    /// Registers rows of `catalogue` with the global recorder.
    pub fn new(catalogue: &'static [Section]) -> Self {
        Self { catalogue, recorder: None, naming: Naming::new(), constant: Vec::new(), additional: Vec::new() }
    }

    /// Uses `recorder` instead of the global one.
    pub fn recorder(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.recorder = Some(Arc::new(recorder));
        self
    }

    /// Spells the names with `naming`.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// Adds a label with the same value to every series.
    ///
    /// # Errors
    /// If the name is invalid in Prometheus, if a row of the catalogue has a label of that name, if it was added before, or if the value is not a
    /// [label value](crate::LabelPolicy::is_label_value).
    pub fn constant_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Result<Self, InvalidLabel> {
        let (name, value) = (name.into(), value.into());
        self.check_name(&name)?;
        if !valid::is_label_value(&value) {
            return Err(InvalidLabel::Value { name, value });
        }
        self.constant.push(Label::new(name, value));
        Ok(self)
    }

    /// Allows series to have a label in addition to those of their rows. Its name is checked as that of a [constant label](Self::constant_label).
    pub(crate) fn additional_label(mut self, name: &str) -> Result<Self, InvalidLabel> {
        self.check_name(name)?;
        self.additional.push(name.to_owned());
        Ok(self)
    }

    fn check_name(&self, name: &str) -> Result<(), InvalidLabel> {
        if !valid::is_label_name(name) {
            return Err(InvalidLabel::Name { name: name.to_owned() });
        }
        let mut declared = self.catalogue.iter().flat_map(|section| section.metrics).flat_map(|row| row.labels);
        let taken = valid::is_reserved(name)
            || declared.any(|label| label.name == name)
            || self.constant.iter().any(|label| label.key() == name)
            || self.additional.iter().any(|label| label == name);
        if taken { Err(InvalidLabel::Taken { name: name.to_owned() }) } else { Ok(()) }
    }

    /// Describes every row of the catalogue to the recorder.
    pub fn describe(&self) {
        self.describe_rows(self.catalogue.iter().flat_map(|section| section.metrics));
    }

    pub(crate) fn describe_rows<'a>(&self, rows: impl IntoIterator<Item = &'a MetricDef>) {
        for row in rows {
            let _ = self.with_recorder(|recorder| row.describe(&self.naming, recorder));
        }
    }

    /// The full name of a row.
    pub(crate) fn name(&self, row: &MetricDef) -> Cow<'static, str> {
        self.naming.name(row)
    }

    /// A handle of the series of this row that has these labels.
    pub fn counter(&self, row: &MetricDef, labels: impl IntoIterator<Item = Label>) -> Counter {
        if !is_of_kind(row, Kind::Counter) {
            return Counter::noop();
        }
        let key = self.key(row, labels.into_iter().collect());
        let counter = self.with_recorder(|recorder| recorder.register_counter(&key, &METADATA));
        counter.map_or_else(Counter::noop, |counter| Counter::from_arc(Arc::new(Caught(counter))))
    }

    /// A handle of the series of this row that has these labels.
    pub fn gauge(&self, row: &MetricDef, labels: impl IntoIterator<Item = Label>) -> Gauge {
        if !is_of_kind(row, Kind::Gauge) {
            return Gauge::noop();
        }
        let key = self.key(row, labels.into_iter().collect());
        let gauge = self.with_recorder(|recorder| recorder.register_gauge(&key, &METADATA));
        gauge.map_or_else(Gauge::noop, |gauge| Gauge::from_arc(Arc::new(Caught(gauge))))
    }

    /// A handle of the series of this row that has these labels.
    pub fn histogram(&self, row: &MetricDef, labels: impl IntoIterator<Item = Label>) -> Histogram {
        if !is_of_kind(row, Kind::Histogram) {
            return Histogram::noop();
        }
        let key = self.key(row, labels.into_iter().collect());
        let histogram = self.with_recorder(|recorder| recorder.register_histogram(&key, &METADATA));
        histogram.map_or_else(Histogram::noop, |histogram| Histogram::from_arc(Arc::new(Caught(histogram))))
    }

    /// Whether a recorder was given, so that the global one is not used.
    pub(crate) fn has_recorder(&self) -> bool {
        self.recorder.is_some()
    }

    /// Whether no recorder is installed, so that handles resolved now never record anything. The no-op recorder has no state.
    pub(crate) fn records_nothing(&self) -> bool {
        self.recorder.is_none() && metrics::with_recorder(|recorder| size_of_val(recorder) == 0)
    }

    /// `None` where the recorder panics.
    fn with_recorder<T>(&self, call: impl FnOnce(&dyn Recorder) -> T) -> Option<T> {
        catch_panic(|| match &self.recorder {
            Some(recorder) => call(recorder.as_ref()),
            None => metrics::with_recorder(call),
        })
    }

    /// The key of a series of this row.
    pub(crate) fn key(&self, row: &MetricDef, mut labels: Vec<Label>) -> Key {
        if cfg!(debug_assertions) {
            self.assert_declared(row, &labels);
        }
        labels.extend_from_slice(&self.constant);
        Key::from_parts(self.naming.key_name(row), labels)
    }

    fn assert_declared(&self, row: &MetricDef, labels: &[Label]) {
        let mut rows = self.catalogue.iter().flat_map(|section| section.metrics);
        assert!(rows.any(|own| own == row), "{} is not in the catalogue of this registrar", row.name);
        for declared in row.labels {
            let is_given = labels.iter().any(|label| label.key() == declared.name);
            assert!(is_given, "the series of {} needs the label {declared}", row.name);
        }
        for (at, label) in labels.iter().enumerate() {
            let (name, value) = (label.key(), label.value());
            let is_repeated = labels[..at].iter().any(|before| before.key() == name);
            assert!(!is_repeated, "a series of {} was given the label {name} twice", row.name);
            match row.label(name) {
                Some(declared) => {
                    assert!(declared.allows(value), "the label {name} of {} is never {value:?}", row.name)
                }
                None => {
                    let is_additional = self.additional.iter().any(|additional| additional == name);
                    assert!(is_additional, "{} has no label {name}", row.name);
                }
            }
        }
    }
}

/// A row of another kind would be on the page twice, with two types.
fn is_of_kind(row: &MetricDef, kind: Kind) -> bool {
    debug_assert!(row.kind == kind, "{} is not a {kind}", row.name);
    row.kind == kind
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar")
            .field("naming", &self.naming)
            .field("constant", &self.constant)
            .finish_non_exhaustive()
    }
}

/// A handle of a recorder that catches panics of the recorder, so that they do not reach the caller.
struct Caught<T>(T);

impl CounterFn for Caught<Counter> {
    fn increment(&self, value: u64) {
        let _ = catch_panic(|| self.0.increment(value));
    }

    fn absolute(&self, value: u64) {
        let _ = catch_panic(|| self.0.absolute(value));
    }
}

impl GaugeFn for Caught<Gauge> {
    fn increment(&self, value: f64) {
        let _ = catch_panic(|| self.0.increment(value));
    }

    fn decrement(&self, value: f64) {
        let _ = catch_panic(|| self.0.decrement(value));
    }

    fn set(&self, value: f64) {
        let _ = catch_panic(|| self.0.set(value));
    }
}

impl HistogramFn for Caught<Histogram> {
    fn record(&self, value: f64) {
        let _ = catch_panic(|| self.0.record(value));
    }

    fn record_many(&self, value: f64, count: usize) {
        let _ = catch_panic(|| self.0.record_many(value, count));
    }
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::DebuggingRecorder;

    use super::*;

    #[allow(unreachable_pub, dead_code, reason = "the macros declare public items")]
    mod desk {
        crate::labels! {
            /// The queue of the ticket.
            QUEUE = "queue";
            /// How the ticket was closed.
            RESULT = "result": &["solved", "given_up"];
        }
        crate::catalogue! {
            "Tickets" {
                /// Tickets that were closed.
                TICKETS_CLOSED = counter("desk_tickets_closed_total", Count)[QUEUE, RESULT];
            }
        }
    }
    use desk::{QUEUE, RESULT, TICKETS_CLOSED};

    fn registrar() -> Registrar {
        Registrar::new(desk::SECTIONS)
    }

    #[test]
    fn a_series_has_its_labels_and_the_constant_ones_under_the_name_of_the_service() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let naming = Naming::new().prefix("support").unwrap();
        let registrar = registrar().recorder(recorder).naming(naming).constant_label("region", "eu").unwrap();
        registrar.describe();
        registrar.counter(&TICKETS_CLOSED, [QUEUE.label("any"), RESULT.label("solved")]).increment(2);
        let series = snapshotter.snapshot().into_vec();
        let [(key, _, help, value)] = &series[..] else { panic!("{series:?}") };
        let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
        assert_eq!(key.key().name(), "support_tickets_closed_total");
        assert_eq!(labels, [("queue", "any"), ("result", "solved"), ("region", "eu")]);
        assert_eq!(help.as_deref(), Some("Tickets that were closed."));
        assert_eq!(*value, metrics_util::debugging::DebugValue::Counter(2));
    }

    #[test]
    fn constant_labels_have_names_that_are_not_in_use_and_valid_values() {
        let taken = |name: &str| Err(InvalidLabel::Taken { name: name.to_owned() });
        let add = |name: &str| registrar().constant_label("region", "eu")?.constant_label(name, "x").map(drop);
        for name in ["queue", "result", "le", "quantile", "region"] {
            assert_eq!(add(name), taken(name));
        }
        for value in ["", "a\nb", "a\\b", &"x".repeat(129)] {
            let invalid = InvalidLabel::Value { name: "region".to_owned(), value: value.to_owned() };
            assert_eq!(registrar().constant_label("region", value).map(drop), Err(invalid));
        }
        let tenant = registrar().additional_label("tenant").unwrap();
        assert_eq!(tenant.clone().constant_label("tenant", "x").map(drop), taken("tenant"));
        assert_eq!(tenant.additional_label("tenant").map(drop), taken("tenant"));
        assert_eq!(add("model"), Ok(()), "this catalogue has no such label");
    }

    #[test]
    fn only_the_labels_of_the_row_and_additional_ones_are_accepted() {
        let registrar = registrar().additional_label("tenant").unwrap();
        let labels = [QUEUE.label("any"), RESULT.label("solved"), Label::new("tenant", "a")];
        assert_eq!(registrar.key(&TICKETS_CLOSED, labels.to_vec()).labels().len(), 3);
    }

    #[test]
    #[should_panic(expected = "desk_tickets_closed_total is not a gauge")]
    fn a_handle_of_another_kind_is_found_in_tests() {
        let _ = registrar().gauge(&TICKETS_CLOSED, [QUEUE.label("any"), RESULT.label("solved")]);
    }

    #[test]
    #[should_panic(expected = "llm_metrics_build_info is not in the catalogue of this registrar")]
    fn a_row_of_another_catalogue_is_found_in_tests() {
        let _ = registrar().gauge(&crate::catalog::BUILD_INFO, [crate::catalog::labels::VERSION.label("1")]);
    }

    #[test]
    #[should_panic(expected = "the series of desk_tickets_closed_total needs the label queue")]
    fn a_label_that_is_missing_is_found_in_tests() {
        let _ = registrar().counter(&TICKETS_CLOSED, [RESULT.label("solved")]);
    }

    #[test]
    #[should_panic(expected = "a series of desk_tickets_closed_total was given the label queue twice")]
    fn a_label_that_is_given_twice_is_found_in_tests() {
        let labels = [QUEUE.label("any"), QUEUE.label("other"), RESULT.label("solved")];
        let _ = registrar().counter(&TICKETS_CLOSED, labels);
    }

    #[test]
    #[should_panic(expected = "desk_tickets_closed_total has no label tenant")]
    fn a_label_that_the_row_does_not_have_is_found_in_tests() {
        let labels = [QUEUE.label("any"), RESULT.label("solved"), Label::new("tenant", "a")];
        let _ = registrar().counter(&TICKETS_CLOSED, labels);
    }

    #[test]
    #[should_panic(expected = "the label result of desk_tickets_closed_total is never \"lost\"")]
    fn a_value_that_the_label_never_has_is_found_in_tests() {
        let _ = registrar().counter(&TICKETS_CLOSED, [QUEUE.label("any"), RESULT.label("lost")]);
    }
}
