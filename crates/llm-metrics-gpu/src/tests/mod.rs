//! Ticks that the tests trigger one by one, with the real `nvml-wrapper` and its FFI, and a simulated clock.

mod budget;
mod golden;
mod kinds;
mod nvml;
mod refusals;
#[path = "../../tests/support/mod.rs"]
pub(crate) mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use llm_metrics::catalog::Registrar;
use support::{Fake, Page};

use crate::{
    catalog,
    control::Control,
    sampler::{Generation, Intervals, Sampler},
    select::Selection,
    source::{GpuSession, GpuSource, SourceError},
};

const SECOND: Duration = Duration::from_secs(1);

/// A sampler within one session, and the simulated time.
struct Hand<'a> {
    sampler: Sampler,
    generation: Generation,
    session: &'a mut dyn GpuSession,
    fake: &'a Fake,
    page: Page,
    now: Instant,
}

impl Hand<'_> {
    fn tick(&mut self) -> Result<(), SourceError> {
        let result = self.sampler.tick(&mut self.generation, self.session, self.now);
        self.now += SECOND;
        result
    }

    fn ticks(&mut self, count: usize) {
        (0..count).for_each(|_| self.tick().unwrap());
    }

    /// The value of the series of the only device.
    fn value(&self, name: &str, labels: &[&str]) -> Option<f64> {
        self.page.value(name, labels)
    }
}

/// Runs `body` in a session with the fake driver.
fn by_hand(fake: &Fake, body: impl FnMut(&mut Hand<'_>)) {
    by_hand_from(fake.source(), fake, body);
}

fn by_hand_from(mut source: impl GpuSource, fake: &Fake, mut body: impl FnMut(&mut Hand<'_>)) {
    let opened = source.session(&mut |session| {
        let (recorder, page) = support::page();
        let registrar = Registrar::new(catalog::SECTIONS).recorder(recorder);
        registrar.describe();
        let control = Arc::new(Control::default());
        let mut sampler = Sampler::new(Intervals::default(), Selection::All, registrar, control);
        let now = Instant::now();
        let generation = sampler.begin(session, now).unwrap();
        body(&mut Hand { sampler, generation, session, fake, page, now });
    });
    opened.unwrap();
}
