//! Histograms of others that have buckets of ours, since their names end alike.

use std::sync::atomic::{AtomicBool, Ordering};

use super::configured::Settings;

/// Says it, once.
#[derive(Debug)]
pub(super) struct SharedBuckets {
    settings: Settings,
    /// What the names of our histograms end in.
    stems: Vec<&'static str>,
    told: AtomicBool,
}

impl SharedBuckets {
    pub(super) const fn new(settings: Settings, stems: Vec<&'static str>) -> Self {
        Self { settings, stems, told: AtomicBool::new(false) }
    }

    /// A histogram that is none of the catalogues is asked for.
    pub(super) fn look_at(&self, name: &str) {
        if self.told.load(Ordering::Relaxed) || !self.stems.iter().any(|stem| name.ends_with(stem)) {
            return;
        }
        if !self.settings.bind(name) && !self.told.swap(true, Ordering::Relaxed) {
            #[cfg(feature = "tracing")]
            let _ = crate::record::catch_panic(|| {
                tracing::warn!(
                    target: crate::spans::HINTS,
                    "`{name}` has the buckets of a histogram of the catalogue, since its name ends alike. If it is your own, bind yours to its full name: \
                     `ExporterBuilder::configure(|builder| builder.set_buckets_for_metric(Matcher::Full(…), …))`. If it is one of the catalogue under \
                     another prefix, tell the exporter: `ExporterBuilder::naming`"
                );
            });
        }
    }
}
