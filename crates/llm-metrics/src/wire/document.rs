//! An answer that is one JSON document.

use super::Sink;
use super::facts::{Fact, Facts, Interpreter};
use super::framing::{DocumentDecoder, Extent, LineSink};
use super::json::{SCRATCH, Shape};
use super::scanner::Scanner;
use crate::vocabulary::InspectionFailure;

#[derive(Debug)]
pub(super) struct Document {
    decoder: DocumentDecoder,
    answer: Answer,
}

#[derive(Debug)]
struct Answer {
    scanner: Scanner<Fact>,
    facts: Facts,
    scratch: [u8; SCRATCH],
}

struct Reading<'a, S> {
    answer: &'a mut Answer,
    sink: &'a mut S,
}

impl Document {
    pub(super) fn new(shape: &'static Shape<Fact>) -> Self {
        let answer = Answer { scanner: Scanner::new(shape), facts: Facts::default(), scratch: [0; SCRATCH] };
        Self { decoder: DocumentDecoder::default(), answer }
    }

    pub(super) fn read(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        self.decoder.read(bytes, &mut Reading { answer: &mut self.answer, sink });
    }

    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        self.decoder.end(&mut Reading { answer: &mut self.answer, sink });
    }
}

impl<S: Sink> LineSink for Reading<'_, S> {
    fn data(&mut self, data: &[u8], _: Extent) {
        let Answer { scanner, facts, scratch } = &mut *self.answer;
        scanner.read(data, scratch, &mut Interpreter::of_body(facts, self.sink));
    }

    fn body_ends(&mut self) {
        let Answer { scanner, facts, .. } = &mut *self.answer;
        if !scanner.is_settled() {
            facts.emit_error(self.sink);
            facts.fail(InspectionFailure::Malformed, self.sink);
        }
    }
}
