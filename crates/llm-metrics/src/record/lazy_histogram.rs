//! A histogram that is registered late.

use std::sync::OnceLock;

use metrics::Histogram;

/// A histogram that exists from its first sample on: an empty one would be twenty lines without information.
#[derive(Default)]
pub(crate) struct LazyHistogram(OnceLock<Histogram>);

impl LazyHistogram {
    pub(crate) fn resolve(&self, register: impl FnOnce() -> Histogram) -> &Histogram {
        self.0.get_or_init(register)
    }
}
