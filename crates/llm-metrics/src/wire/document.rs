//! One JSON document that is the whole body.

use super::Sink;
use super::facts::{Fact, Facts, Interpreter};
use super::json::{SCRATCH, Shape};
use super::scanner::Scanner;
use crate::vocabulary::InspectionFailure;

#[derive(Debug)]
pub(super) struct Document {
    scanner: Scanner<Fact>,
    facts: Facts,
    scratch: [u8; SCRATCH],
}

impl Document {
    pub(super) fn new(shape: &'static Shape<Fact>) -> Self {
        Self { scanner: Scanner::new(shape), facts: Facts::default(), scratch: [0; SCRATCH] }
    }

    pub(super) fn read(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let mut interpreter = Interpreter::of_body(&mut self.facts, sink);
        self.scanner.read(bytes, &mut self.scratch, &mut interpreter);
    }

    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        if !self.scanner.is_settled() {
            self.facts.fail(InspectionFailure::Malformed, sink);
        }
    }
}
