//! A stream of events, each of which is a JSON document.

use super::Sink;
use super::facts::{Fact, Facts, Interpreter};
use super::json::Shape;
use super::scanner::Scanner;
use super::sse::{Extent, Framing, Lines};
use super::template::Template;
use crate::vocabulary::InspectionFailure;

/// What the data of the event at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    /// Nothing yet.
    Nothing,
    Json,
    /// So many bytes of `[DONE]`.
    Done(u8),
    /// A text for people: an error.
    Plain,
}

const DONE: &[u8] = b"[DONE]";

#[derive(Debug)]
pub(super) struct EventStream {
    framing: Framing,
    events: Events,
}

impl EventStream {
    pub(super) fn new(shape: &'static Shape<Fact>) -> Self {
        let events = Events {
            scanner: Scanner::new(shape),
            facts: Facts::default(),
            template: Template::new(),
            payload: Payload::Nothing,
            dirty: false,
        };
        Self { framing: Framing::new(), events }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn template(&mut self) -> &mut Template {
        &mut self.events.template
    }

    #[inline]
    pub(super) fn read(&mut self, mut bytes: &[u8], sink: &mut impl Sink) {
        if self.framing.is_between_lines() {
            while let Some(rest) = self.events.alike(bytes, sink) {
                bytes = rest;
            }
        }
        if !bytes.is_empty() {
            self.framing.read(bytes, &mut Told { events: &mut self.events, sink });
        }
    }

    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        self.framing.end(&mut Told { events: &mut self.events, sink });
    }
}

#[derive(Debug)]
struct Events {
    scanner: Scanner<Fact>,
    facts: Facts,
    template: Template,
    payload: Payload,
    /// The event has told something, if only that it is an error.
    dirty: bool,
}

struct Told<'a, S> {
    events: &'a mut Events,
    sink: &'a mut S,
}

impl<S: Sink> Lines for Told<'_, S> {
    #[inline]
    fn data(&mut self, data: &[u8], extent: Extent) {
        let Self { events, sink } = self;
        if events.payload == Payload::Nothing && extent.begins {
            if let Some((rest, place, choice)) = events.template.after_prefix(data) {
                events.payload = Payload::Json;
                events.facts.choice = choice;
                events.scanner.resume_in_text(place);
                return events.varying(rest, extent, *sink);
            }
            if let Some((begins, place)) = events.template.after_stem(data) {
                #[cfg(any(test, fuzzing))]
                events.template.note_begun();
                events.payload = Payload::Json;
                events.scanner.resume_in_list(place);
                return events.json(begins, data, extent.ends, *sink);
            }
        }
        if events.payload == Payload::Json && extent.begins {
            // Several data lines are one document with line feeds in it.
            events.json(0, b"\n", false, *sink);
        }
        events.payload(data, extent, *sink);
    }

    fn error(&mut self) {
        self.events.dirty = true;
        self.events.facts.error(self.sink);
    }

    #[inline]
    fn event_ends(&mut self) {
        self.events.event_ends(self.sink);
    }
}

impl Events {
    /// Tells of an event that is like the one before it but for its text. `None`: it is to be read as any other; nothing
    /// was told. Between events there is no state that an event leaves behind.
    #[inline]
    fn alike<'b>(&mut self, bytes: &'b [u8], sink: &mut impl Sink) -> Option<&'b [u8]> {
        if self.payload != Payload::Nothing || self.dirty {
            return None;
        }
        let (text, rest) = self.template.split(bytes)?;
        #[cfg(any(test, fuzzing))]
        self.template.note_known();
        text.tell(sink);
        sink.event_end();
        Some(rest)
    }

    /// What follows a known prefix: a text, and what comes after it.
    #[inline]
    fn varying(&mut self, rest: &[u8], extent: Extent, sink: &mut impl Sink) {
        let mut interpreter = Interpreter::new(&mut self.facts, sink);
        let ends = self.scanner.read_text(rest, &mut interpreter);
        let tail = &rest[ends..];
        if extent.last && self.template.ends(tail) && !self.scanner.is_in_text() {
            #[cfg(any(test, fuzzing))]
            self.template.note_known();
            self.scanner.finish();
            self.facts.end_choice(sink);
            return;
        }
        let mut interpreter = Interpreter::after_text(&mut self.facts, sink);
        self.scanner.read(tail, self.template.scratch(), &mut interpreter);
        let Interpreter { gap, plain_tail, complete, .. } = interpreter;
        if self.scanner.touched_scratch() {
            self.template.forget();
        } else if extent.ends && complete && plain_tail && !self.facts.noteworthy {
            self.template.learn_tail(tail, 0, gap);
        }
    }

    fn payload(&mut self, data: &[u8], extent: Extent, sink: &mut impl Sink) {
        let whole = extent.begins && extent.ends;
        for byte in data {
            match self.payload {
                // A line in the middle of a document is not what the next one begins with.
                Payload::Json => return self.json(0, data, false, sink),
                Payload::Plain => return,
                Payload::Nothing if matches!(byte, b' ' | b'\t') => {}
                // What comes before is white space, in JSON too.
                Payload::Nothing if *byte == b'{' => {
                    self.payload = Payload::Json;
                    return self.json(0, data, whole, sink);
                }
                Payload::Nothing if *byte == DONE[0] => self.payload = Payload::Done(1),
                Payload::Done(6) if matches!(byte, b' ' | b'\t') => {}
                Payload::Done(read) if DONE.get(usize::from(read)) == Some(byte) => {
                    self.payload = Payload::Done(read + 1);
                    if usize::from(read) + 1 == DONE.len() {
                        sink.done();
                    }
                }
                Payload::Nothing | Payload::Done(_) => {
                    self.payload = Payload::Plain;
                    self.facts.error(sink);
                }
            }
        }
    }

    /// Reads on at `from`. `whole`: the document begins in this data line, and all of the line is at hand.
    fn json(&mut self, from: usize, data: &[u8], whole: bool, sink: &mut impl Sink) {
        let mut interpreter = Interpreter::new(&mut self.facts, sink);
        self.scanner.read_from(from, data, self.template.scratch(), &mut interpreter);
        let Interpreter { stem, mark, gap, plain_tail, complete, .. } = interpreter;
        if self.scanner.touched_scratch() {
            self.template.forget();
        }
        if !whole || !complete {
            return;
        }
        if let Some(stem) = stem {
            self.template.learn_stem(data, &stem);
        }
        let Some(mark) = mark.filter(|mark| mark.ends > 0) else { return };
        self.template.learn(data, &mark);
        if plain_tail && !self.facts.noteworthy {
            self.template.learn_tail(data, mark.ends, gap);
        }
    }

    #[inline]
    fn event_ends(&mut self, sink: &mut impl Sink) {
        match self.payload {
            Payload::Nothing if !self.dirty => return,
            Payload::Json => {
                if !self.scanner.is_settled() {
                    self.facts.fail(InspectionFailure::Malformed, sink);
                }
                self.scanner.restart();
            }
            // `[DONE` and no more.
            Payload::Done(read) if usize::from(read) < DONE.len() => self.facts.error(sink),
            _ => {}
        }
        self.payload = Payload::Nothing;
        self.dirty = false;
        self.facts.begin_event();
        sink.event_end();
    }
}
