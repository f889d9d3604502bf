//! The entry of a model: its label value, and its gauge of requests in flight.

use std::{
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use metrics::Gauge;

use super::{Registrar, policy::LabelValue};
use crate::catalog::{self, labels};

/// A value of the label `model`, with its gauge. There is one entry per value, so entries are compared and hashed by address.
#[derive(Clone)]
pub(crate) struct Model(Arc<State>);

struct State {
    name: Arc<str>,
    in_flight: OnceLock<Gauge>,
}

impl LabelValue for Model {
    fn of(name: Arc<str>) -> Self {
        Self(Arc::new(State { name, in_flight: OnceLock::new() }))
    }
}

impl Model {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// The gauge of its requests in flight, registered at the first call.
    pub(crate) fn in_flight(&self, registrar: &Registrar) -> &Gauge {
        self.0.in_flight.get_or_init(|| {
            let model = labels::MODEL.label(Arc::clone(&self.0.name));
            registrar.gauge(&catalog::MODEL_REQUESTS_IN_FLIGHT, vec![model])
        })
    }
}

impl Deref for Model {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.name
    }
}

impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Model {}

impl Hash for Model {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}
