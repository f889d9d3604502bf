//! Fields that are read in one call, some of which a device may not have.

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

/// A field that never had a value is left out after this many failures in a row.
const FAILURES: u8 = 3;

/// The fields, and those that are currently read.
pub(super) struct Batch {
    all: &'static [Field],
    asked: Vec<RequestedFields>,
    again: Backoff,
}

struct RequestedFields {
    /// Its index among all.
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

    /// The fields to read now; `None` if no field is known to have a value. Fields that were left out are tried again from time to time.
    pub(super) fn requests(&mut self, calls: &mut Calls, now: Instant) -> Vec<FieldRequest> {
        if self.asked.len() < self.all.len() && self.again.is_due(now) && calls.may_try_again() {
            self.complete();
            // Whatever the result.
            self.again.postpone(now);
        }
        self.asked.iter().map(|asked| self.all[asked.at].request).collect()
    }

    /// Processes the results of the last [`requests`](Self::requests), and leaves out fields without values.
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
            // Older drivers return this for an unknown field.
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
                self.asked.insert(at, RequestedFields { at, worked: false, failures: 0 });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::fields::FAST_FIELDS, *};

    const REFUSED: Result<u64, NvmlError> = Err(NvmlError::NotSupported);

    struct Hand {
        batch: Batch,
        calls: Calls,
        start: Instant,
    }

    impl Hand {
        fn new() -> Self {
            Self { batch: Batch::new(&FAST_FIELDS), calls: Calls::default(), start: Instant::now() }
        }

        /// The ids that are requested this many seconds after the start. Each of them gets the given result.
        fn asked(&mut self, second: u64, answers: impl IntoIterator<Item = Result<u64, NvmlError>>) -> Vec<u32> {
            let now = self.start + Duration::from_secs(second);
            self.calls.begin_tick();
            let requests = self.batch.requests(&mut self.calls, now);
            let answers = answers.into_iter().take(requests.len()).collect();
            self.batch.publish(answers, now, &mut Readings::new(now)).unwrap();
            requests.into_iter().map(|request| request.id).collect()
        }
    }

    #[test]
    fn a_refused_field_is_requested_again_in_its_place_ten_seconds_later() {
        let (first, second) = (FAST_FIELDS[0].request.id, FAST_FIELDS[1].request.id);
        let mut hand = Hand::new();
        assert_eq!(hand.asked(0, [Ok(1), Ok(2)]), [first, second]);
        assert_eq!(hand.asked(5, [REFUSED, Ok(2)]), [first, second]);
        assert_eq!(hand.asked(14, [Ok(2)]), [second]);
        assert_eq!(hand.asked(15, [REFUSED, Ok(2)]), [first, second]);
        assert_eq!(hand.asked(34, [Ok(2)]), [second], "twice as long the second time");
        assert_eq!(hand.asked(35, [Ok(1), Ok(2)]), [first, second]);
        assert_eq!(hand.asked(36, [Ok(1), Ok(2)]), [first, second], "it works now");
    }

    #[test]
    fn fields_that_are_all_requested_leave_the_second_try_of_a_tick_to_others() {
        let mut hand = Hand::new();
        hand.asked(0, [REFUSED, Ok(2)]);
        assert_eq!(hand.asked(10, [Ok(1), Ok(2)]).len(), 2);
        assert!(!hand.calls.may_try_again(), "that was one");
        for second in [30, 60, 120] {
            assert_eq!(hand.asked(second, [Ok(1), Ok(2)]).len(), 2);
            assert!(hand.calls.may_try_again(), "nothing was refused");
        }
    }
}
