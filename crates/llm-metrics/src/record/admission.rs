//! Chooses the label set for a request: how models, request labels and their combinations stay bounded.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError},
};

use foldhash::fast::RandomState;
use http::request::Parts;
use metrics::SharedString;

use super::{
    Hint, Inner, LabelSet, RequestHandles,
    model::Model,
    policy::{Known, LabelValues},
    quality::QualityCounters,
};
use crate::{
    catalog::labels,
    catch::catch_panic,
    vocabulary::{Endpoint, Operation},
    wire::ROUTES,
};

/// A label that the embedder reads from the request's head.
pub(crate) struct ExtraLabel {
    pub(super) name: SharedString,
    pub(super) values: LabelValues,
    pub(super) read: ReadLabel,
}

pub(super) type ReadLabel = Box<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// The request's values of the embedder's labels, not bounded yet.
pub(crate) type RawLabels = Box<[RawLabel]>;

/// The request's value.
#[derive(Clone)]
pub(crate) enum RawLabel {
    Absent,
    Value(String),
    /// The embedder's function panicked.
    Failed,
}

/// All label sets that exist.
#[derive(Default)]
pub(super) struct LabelSets {
    all: HashMap<LabelSet, Arc<RequestHandles>, RandomState>,
    /// The number of sets that are not reserved.
    learnt: usize,
}

impl Inner {
    /// Whether the embedder has request labels.
    pub(crate) fn reads_labels(&self) -> bool {
        !self.extra.is_empty()
    }

    /// Reads the embedder's labels from a request's head.
    pub(crate) fn read_labels(&self, parts: &Parts) -> RawLabels {
        let read = |label: &ExtraLabel| match catch_panic(|| (label.read)(parts)) {
            Some(Some(value)) if !value.is_empty() => RawLabel::Value(value),
            Some(_) => RawLabel::Absent,
            None => RawLabel::Failed,
        };
        self.extra.iter().map(read).collect()
    }

    /// Sets one of the embedder's labels, for a request without a head.
    pub(crate) fn set_label(&self, labels: &mut Option<RawLabels>, name: &str, value: String) {
        let Some(at) = self.extra_names.iter().position(|known| **known == *name) else {
            return self.hint(Hint::UnknownLabel);
        };
        let labels = labels.get_or_insert_with(|| vec![RawLabel::Absent; self.extra.len()].into());
        labels[at] = if value.is_empty() { RawLabel::Absent } else { RawLabel::Value(value) };
    }

    /// The handles for a request. A name counts under `other` if it is over its cap, or if it is unknown and its request was not accepted.
    ///
    /// The number of sets is bounded as well, because caps of single labels do not bound their combinations. A request that was not accepted creates
    /// no new set.
    pub(crate) fn series(
        &self,
        endpoint: Endpoint,
        operation: Operation,
        model: Option<&str>,
        raw: Option<&RawLabels>,
        accepted: bool,
    ) -> Arc<RequestHandles> {
        let model = match model {
            None | Some("") => self.unknown.clone(),
            Some(name) => self.models.admit(name, accepted).unwrap_or_else(|| self.other_model(accepted)),
        };
        self.series_of(endpoint, operation, model, raw, accepted)
    }

    /// The handles for a request whose model is known already.
    pub(crate) fn series_of(
        &self,
        endpoint: Endpoint,
        operation: Operation,
        model: Model,
        raw: Option<&RawLabels>,
        accepted: bool,
    ) -> Arc<RequestHandles> {
        if let Some(series) = self.existing_series(endpoint, operation, &model) {
            return series;
        }
        let extra = self.reads_labels().then(|| {
            let raw = |at: usize| raw.and_then(|raw| raw.get(at)).unwrap_or(&RawLabel::Absent);
            let values = self.extra.iter().enumerate().map(|(at, label)| match raw(at) {
                RawLabel::Absent => constant(&UNKNOWN),
                RawLabel::Value(value) => self.bounded(&label.name, &label.values, value, accepted),
                RawLabel::Failed => self.overflow(&label.name, accepted),
            });
            values.collect()
        });
        let mut key = LabelSet { model, endpoint, operation, extra };
        if let Some(series) =
            self.known(&self.series.read().unwrap_or_else(PoisonError::into_inner), &mut key, accepted)
        {
            return series;
        }
        let mut sets = self.series.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have taken the last free place meanwhile.
        if let Some(series) = self.known(&sets, &mut key, accepted) {
            return series;
        }
        sets.learnt += usize::from(!self.is_reserved(&key));
        let recent = self.recent.model(key.model.name());
        let series = Arc::new(RequestHandles::new(
            &self.registrar,
            &key,
            &self.extra_names,
            &self.objectives,
            recent,
            self.options.quality,
        ));
        if key.extra.is_none() {
            key.model.set_series(endpoint, &series);
        }
        sets.all.insert(key, Arc::clone(&series));
        series
    }

    /// The handles for a request whose model is known already, if they exist, and do not depend on request labels. Calls no code of the embedder.
    pub(crate) fn existing_series(
        &self,
        endpoint: Endpoint,
        operation: Operation,
        model: &Model,
    ) -> Option<Arc<RequestHandles>> {
        if self.reads_labels() { None } else { model.series(endpoint, operation) }
    }

    /// The existing set for `key`, or the set that replaces it. With neither, `key` is changed to one for which there is room.
    fn known(&self, sets: &LabelSets, key: &mut LabelSet, accepted: bool) -> Option<Arc<RequestHandles>> {
        // The usual case.
        if let Some(series) = sets.all.get(key) {
            return Some(Arc::clone(series));
        }
        self.fit(sets, key, accepted);
        sets.all.get(key).map(Arc::clone)
    }

    /// Registers the series of declared models, all at 0.
    pub(super) fn register_declared(&self) {
        for model in self.models.declared() {
            for route in ROUTES.iter().filter(|route| route.starts_at_zero) {
                let series = self.series(route.endpoint, route.operation, Some(model), None, true);
                if route.operation == Operation::Chat {
                    series.quality.iter().for_each(QualityCounters::register);
                }
            }
        }
    }

    /// The model under which a request with this name will be recorded, if that is certain before it is accepted. Learns nothing.
    pub(crate) fn certain_model(&self, name: &str) -> Option<Model> {
        if name.is_empty() {
            return None;
        }
        match self.models.find(name) {
            Known::As(model) => Some(model),
            Known::Full => Some(self.other.clone()),
            Known::New => None,
        }
    }

    /// Whether it is `other`.
    pub(crate) fn is_other(&self, model: &Model) -> bool {
        *model == self.other
    }

    /// Adds a request to the gauge of this model.
    pub(crate) fn entered(&self, model: &Model) {
        model.in_flight(&self.registrar).increment(1.0);
    }

    /// Removes it again.
    pub(crate) fn left(&self, model: &Model) {
        model.in_flight(&self.registrar).decrement(1.0);
    }

    /// Leaves `key` unchanged if its set exists or there is room for it. Otherwise removes the request labels, and if that is not enough also the
    /// model.
    fn fit(&self, sets: &LabelSets, key: &mut LabelSet, accepted: bool) {
        let has_place = |key: &LabelSet| sets.all.contains_key(key) || self.is_reserved(key);
        if has_place(key) || (accepted && sets.learnt < self.options.label_sets) {
            return;
        }
        if let Some(extra) = &mut key.extra {
            for (label, value) in self.extra.iter().zip(Arc::make_mut(extra)) {
                if **value != *labels::OTHER && !label.values.is_reserved(value) {
                    *value = self.overflow(&label.name, accepted);
                }
            }
        }
        if !has_place(key) {
            key.model = self.other_model(accepted);
        }
    }

    /// Whether there is always room for this set: it is of a declared model (or of `other` or `unknown`), and its request labels have reserved values
    /// or none. The number of such sets is declared models × endpoints × reserved values.
    fn is_reserved(&self, key: &LabelSet) -> bool {
        let values = || key.extra.iter().flat_map(|values| self.extra.iter().zip(values.iter()));
        let all = |word: &str| values().all(|(label, value)| **value == *word || label.values.is_reserved(value));
        let is_nameless = key.model == self.other || key.model == self.unknown;
        (is_nameless || self.models.is_declared(&key.model)) && (all(labels::OTHER) || all(labels::UNKNOWN))
    }

    fn bounded(&self, label: &str, values: &LabelValues, raw: &str, accepted: bool) -> Arc<str> {
        values.admit(raw, accepted).unwrap_or_else(|| self.overflow(label, accepted))
    }

    fn other_model(&self, accepted: bool) -> Model {
        self.overflowed(labels::MODEL.name, accepted);
        self.other.clone()
    }

    /// Counts a value that is replaced by `other`. A value of a request that was not accepted is not counted, because it could not have become a
    /// label value.
    fn overflow(&self, label: &str, accepted: bool) -> Arc<str> {
        self.overflowed(label, accepted);
        constant(&OTHER)
    }

    fn overflowed(&self, label: &str, accepted: bool) {
        if accepted {
            self.global().overflowed(label);
        }
    }
}

/// The two replacement values, without an allocation per request.
struct Constant(OnceLock<Arc<str>>, &'static str);

static OTHER: Constant = Constant(OnceLock::new(), labels::OTHER);
static UNKNOWN: Constant = Constant(OnceLock::new(), labels::UNKNOWN);

fn constant(Constant(cell, value): &'static Constant) -> Arc<str> {
    Arc::clone(cell.get_or_init(|| (*value).into()))
}
