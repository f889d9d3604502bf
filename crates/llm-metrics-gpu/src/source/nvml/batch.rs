//! Fields that are asked for in one call, of which a device may not have all.

use std::time::Instant;

use nvml_wrapper::error::NvmlError;

use super::{
    calls::{Calls, until_it_is_asked_again},
    fault::{Fault, classify},
    fields::Field,
    raw::FieldRequest,
};
use crate::{
    backoff::Backoff,
    source::{ErrorKind, ReadError, Readings},
};

/// A field that never had a value and failed so often in a row is left out.
const FAILURES: u8 = 3;

/// The fields, and those of them that are asked for at present.
pub(super) struct Batch {
    all: &'static [Field],
    asked: Vec<Asked>,
    again: Backoff,
}

struct Asked {
    /// Its place among all.
    at: usize,
    worked: bool,
    failures: u8,
}

impl Batch {
    pub(super) fn new(all: &'static [Field]) -> Self {
        let mut batch = Self { all, asked: Vec::new(), again: until_it_is_asked_again() };
        batch.complete();
        batch
    }

    /// What to ask for now; nothing if no field is known to have a value. Fields that were left out are asked for again from
    /// time to time.
    pub(super) fn requests(&mut self, calls: &mut Calls, now: Instant) -> Vec<FieldRequest> {
        if self.asked.len() < self.all.len() && self.again.is_due(now) && calls.may_try_again() {
            self.complete();
            // Whatever comes of it.
            self.again.postpone(now);
        }
        self.asked.iter().map(|asked| self.all[asked.at].request).collect()
    }

    /// Reports the answers to the last [`requests`](Self::requests), and leaves out what is not worth asking for.
    pub(super) fn publish(
        &mut self,
        answers: Vec<Result<u64, NvmlError>>,
        now: Instant,
        out: &mut Readings,
    ) -> Result<(), ReadError> {
        let (before, mut lost) = (self.asked.len(), false);
        let mut answers = answers.into_iter();
        self.asked.retain_mut(|asked| match answers.next() {
            Some(Ok(value)) => {
                self.all[asked.at].publish(value, out);
                (asked.worked, asked.failures) = (true, 0);
                true
            }
            // What older drivers say of a field that they do not know.
            Some(Err(NvmlError::InvalidArg)) => false,
            Some(Err(error)) => match classify(&error) {
                Fault::Unsupported | Fault::Permission => false,
                Fault::Nothing => true,
                Fault::Lost => {
                    lost = true;
                    true
                }
                Fault::Source(_) | Fault::Failed => {
                    out.failed(ErrorKind::CallFailed);
                    asked.failures = asked.failures.saturating_add(1);
                    asked.worked || asked.failures < FAILURES
                }
            },
            None => true,
        });
        if self.asked.len() < before && !self.again.is_set() {
            self.again.postpone(now);
        }
        if lost { Err(ReadError::Lost) } else { Ok(()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    fn complete(&mut self) {
        for at in 0..self.all.len() {
            if self.asked.get(at).is_none_or(|asked| asked.at != at) {
                self.asked.insert(at, Asked { at, worked: false, failures: 0 });
            }
        }
    }
}
