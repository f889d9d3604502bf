//! A subscriber of `tracing` that stores what it receives.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use llm_metrics::spans::TARGET;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{Layer, Registry, filter::LevelFilter, layer::Context, prelude::*, registry::LookupSpan};

/// A span as its subscriber received it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) name: &'static str,
    pub(crate) target: String,
    pub(crate) parent: Option<usize>,
    pub(crate) fields: BTreeMap<&'static str, String>,
    pub(crate) closed: bool,
}

/// A subscriber that stores spans.
#[derive(Clone, Default)]
pub(crate) struct Spans(Arc<Mutex<Vec<Seen>>>);

/// The index of a span of the registry in the list. The registry reuses its own numbers.
struct Place(usize);

impl Spans {
    /// Subscribes on this thread.
    pub(crate) fn subscribe() -> (Self, DefaultGuard) {
        Self::subscribe_to(LevelFilter::TRACE)
    }

    pub(crate) fn subscribe_to(level: LevelFilter) -> (Self, DefaultGuard) {
        let spans = Self::default();
        let guard = tracing::subscriber::set_default(Registry::default().with(spans.clone()).with(level));
        (spans, guard)
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// The spans of requests.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.all().into_iter().filter(|span| span.target == TARGET).collect()
    }

    /// The only span of a request.
    #[track_caller]
    pub(crate) fn request(&self) -> Seen {
        let [span] = <[Seen; 1]>::try_from(self.requests()).expect("one span a request");
        span
    }
}

impl Seen {
    #[track_caller]
    pub(crate) fn assert_fields(&self, expected: &[(&str, &str)]) {
        let fields: Vec<(&str, &str)> = self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(fields, expected);
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// The outcome, error and status in the span.
    pub(crate) fn ending(&self) -> (Option<&str>, Option<&str>, Option<&str>) {
        (self.field("llm.outcome"), self.field("error.type"), self.field("otel.status_code"))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let mut all = self.0.lock().unwrap();
        let mut seen = Seen {
            name: span.name(),
            target: span.metadata().target().to_owned(),
            parent: span.parent().map(|parent| parent.extensions().get::<Place>().unwrap().0),
            ..Seen::default()
        };
        attributes.record(&mut Fields(&mut seen.fields));
        span.extensions_mut().insert(Place(all.len()));
        all.push(seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let place = context.span(id).unwrap().extensions().get::<Place>().unwrap().0;
        values.record(&mut Fields(&mut self.0.lock().unwrap()[place].fields));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let place = context.span(&id).unwrap().extensions().get::<Place>().unwrap().0;
        self.0.lock().unwrap()[place].closed = true;
    }
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
