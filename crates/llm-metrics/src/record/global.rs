//! Handles whose labels are closed sets.

use std::{
    array,
    sync::{Arc, OnceLock},
};

use metrics::{Counter, Gauge, SharedString};

use crate::{
    catalog::{self, Registrar, labels},
    vocabulary::{Endpoint, InspectionFailure, Operation, PassReason, Phase, Protocol, SkipReason},
    wire::ROUTES,
};

/// Handles that depend neither on a model nor on a caller. They are resolved at construction, except those with several labels whose combinations
/// are mostly unused: they are resolved at their first use.
pub(crate) struct GlobalHandles {
    registrar: Arc<Registrar>,
    started: [[OnceLock<Counter>; Endpoint::ALL.len()]; Operation::ALL.len()],
    in_flight: [[OnceLock<Gauge>; Phase::ALL.len()]; Operation::ALL.len()],
    overflow: Vec<(SharedString, Counter)>,
    failures: [[Counter; InspectionFailure::ALL.len()]; Protocol::ALL.len()],
    skipped: [Counter; SkipReason::ALL.len()],
    passed: [Counter; PassReason::ALL.len()],
}

impl GlobalHandles {
    pub(super) fn new(registrar: &Arc<Registrar>, extra_names: &[SharedString]) -> Self {
        registrar.describe();
        let version = labels::VERSION.label(env!("CARGO_PKG_VERSION"));
        registrar.gauge(&catalog::BUILD_INFO, vec![version]).set(1.0);
        let overflow = |name: &SharedString| {
            let label = labels::LABEL.label(name.clone());
            (name.clone(), registrar.counter(&catalog::LABEL_OVERFLOW, vec![label]))
        };
        let failure = |protocol: usize, kind: usize| {
            let protocol = labels::PROTOCOL.label(Protocol::WORDS[protocol]);
            let kind = labels::FAILURE_KIND.label(InspectionFailure::WORDS[kind]);
            registrar.counter(&catalog::INSPECTION_FAILURES, vec![protocol, kind])
        };
        let skipped = |reason: usize| {
            let reason = labels::SKIP_REASON.label(SkipReason::WORDS[reason]);
            registrar.counter(&catalog::BODIES_SKIPPED, vec![reason])
        };
        let passed = |reason: usize| {
            let reason = labels::PASS_REASON.label(PassReason::WORDS[reason]);
            registrar.counter(&catalog::REQUESTS_PASSED, vec![reason])
        };
        let global = Self {
            overflow: [SharedString::const_str(labels::MODEL.name)].iter().chain(extra_names).map(overflow).collect(),
            failures: array::from_fn(|protocol| array::from_fn(|kind| failure(protocol, kind))),
            skipped: array::from_fn(skipped),
            passed: array::from_fn(passed),
            started: Default::default(),
            in_flight: Default::default(),
            registrar: Arc::clone(registrar),
        };
        for route in ROUTES.iter().filter(|route| route.starts_at_zero) {
            global.started(route.operation, route.endpoint);
            for phase in Phase::ALL {
                global.in_flight(route.operation, *phase);
            }
        }
        global
    }

    pub(crate) fn started(&self, operation: Operation, endpoint: Endpoint) -> &Counter {
        self.started[operation as usize][endpoint as usize].get_or_init(|| {
            let operation = labels::OPERATION.label(operation.as_str());
            let endpoint = labels::ENDPOINT.label(endpoint.as_str());
            self.registrar.counter(&catalog::REQUESTS_STARTED, vec![operation, endpoint])
        })
    }

    pub(crate) fn in_flight(&self, operation: Operation, phase: Phase) -> &Gauge {
        self.in_flight[operation as usize][phase as usize].get_or_init(|| {
            let operation = labels::OPERATION.label(operation.as_str());
            let phase = labels::PHASE.label(phase.as_str());
            self.registrar.gauge(&catalog::REQUESTS_IN_FLIGHT, vec![operation, phase])
        })
    }

    pub(crate) fn failure(&self, protocol: Protocol, kind: InspectionFailure) -> &Counter {
        &self.failures[protocol as usize][kind as usize]
    }

    pub(crate) fn skipped(&self, reason: SkipReason) -> &Counter {
        &self.skipped[reason as usize]
    }

    pub(crate) fn passed(&self, reason: PassReason) -> &Counter {
        &self.passed[reason as usize]
    }

    pub(super) fn overflowed(&self, label: &str) {
        if let Some((_, counter)) = self.overflow.iter().find(|(name, _)| name.as_ref() == label) {
            counter.increment(1);
        }
    }
}
