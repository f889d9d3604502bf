//! The entry of a model: its label value, its gauge of requests in flight, and its handles.

use std::{
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{Arc, OnceLock, Weak},
};

use metrics::Gauge;

use super::{Registrar, RequestHandles, policy::LabelValue};
use crate::{
    catalog::{self, labels},
    vocabulary::{Endpoint, Operation},
};

/// A value of the label `model`, with its gauge. There is one entry per value, so entries are compared and hashed by address.
#[derive(Clone)]
pub(crate) struct Model(Arc<State>);

struct State {
    name: Arc<str>,
    in_flight: OnceLock<Gauge>,
    /// The handles of its requests to each endpoint, if there are no request labels. Weak, because the handles have the model.
    series: [OnceLock<Weak<RequestHandles>>; Endpoint::ALL.len()],
}

impl LabelValue for Model {
    fn of(name: Arc<str>) -> Self {
        Self(Arc::new(State { name, in_flight: OnceLock::new(), series: Default::default() }))
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

    /// The handles for requests without request labels, if they exist. Takes no lock.
    pub(super) fn series(&self, endpoint: Endpoint, operation: Operation) -> Option<Arc<RequestHandles>> {
        let series = self.0.series[endpoint as usize].get()?.upgrade();
        series.filter(|series| series.operation() == operation)
    }

    /// The first operation of an endpoint stays: nearly all endpoints have one.
    pub(super) fn set_series(&self, endpoint: Endpoint, series: &Arc<RequestHandles>) {
        let _ = self.0.series[endpoint as usize].set(Arc::downgrade(series));
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
