//! A stream of events, each of which is a JSON document.

use super::Sink;
use super::facts::{Fact, Facts, Interpreter};
use super::framing::{Extent, Framing, LineSink, NdJsonDecoder, SseDecoder};
use super::json::{Shape, Tags};
use super::learner::Learner;
use super::scanner::Scanner;
use super::template::{self, Template};
use crate::vocabulary::InspectionFailure;

/// The kind of data in the current event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    /// Nothing yet.
    Nothing,
    /// A value for the scanner.
    Json,
    /// The number of bytes of `[DONE]`.
    Done(u8),
    /// The number of bytes of one of [`WORDS`]: padding.
    Word(u8, u8),
    /// A number: padding.
    Number,
    /// Plain text.
    Plain,
}

/// The end of a stream in OpenAI's protocol.
const DONE: &[u8] = b"[DONE]";
/// JSON that is not an object is ignored.
const WORDS: [&[u8]; 3] = [b"null", b"true", b"false"];

/// The name of the current event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// None, or one without meaning.
    None,
    /// The word at this index in the protocol's list.
    Known(u8),
    /// A word of the protocol that is not in its list.
    Unlisted,
    /// Another name: a keep-alive.
    Own,
}

#[derive(Debug)]
pub(super) struct EventStream {
    decoder: Decoder,
    events: Events,
}

#[derive(Debug)]
enum Decoder {
    Sse(SseDecoder),
    NdJson(NdJsonDecoder),
}

impl EventStream {
    /// Server-sent events.
    #[inline(always)]
    pub(super) fn events(shape: &'static Shape<Fact>) -> Self {
        Self { decoder: Decoder::Sse(SseDecoder::new()), events: Events::new(shape, Framing::Events) }
    }

    /// One document per line.
    pub(super) fn lines(shape: &'static Shape<Fact>) -> Self {
        Self { decoder: Decoder::NdJson(NdJsonDecoder::default()), events: Events::new(shape, Framing::Lines) }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn template(&mut self) -> &mut Template {
        &mut self.events.template
    }

    #[inline]
    pub(super) fn read(&mut self, mut bytes: &[u8], sink: &mut impl Sink) {
        let is_between_lines = match &self.decoder {
            Decoder::Sse(decoder) => decoder.is_between_lines(),
            Decoder::NdJson(decoder) => decoder.is_between_lines(),
        };
        if is_between_lines {
            while let Some(rest) = self.events.emit_known_event(bytes, sink) {
                bytes = rest;
                if bytes.is_empty() {
                    return;
                }
            }
        }
        self.read_lines(bytes, sink);
    }

    /// Not inlined, so that the usual path needs few registers.
    #[inline(never)]
    fn read_lines(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let mut reading = Reading { events: &mut self.events, sink };
        match &mut self.decoder {
            Decoder::Sse(decoder) => decoder.read(bytes, &mut reading),
            Decoder::NdJson(decoder) => decoder.read(bytes, &mut reading),
        }
    }

    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        let mut reading = Reading { events: &mut self.events, sink };
        match &mut self.decoder {
            Decoder::Sse(decoder) => decoder.end(&mut reading),
            Decoder::NdJson(decoder) => decoder.end(&mut reading),
        }
    }
}

#[derive(Debug)]
struct Events {
    scanner: Scanner<Fact>,
    facts: Facts,
    template: Template,
    payload: Payload,
    name: Name,
    /// The event has emitted something, even if only an error.
    has_emitted: bool,
}

struct Reading<'a, S> {
    events: &'a mut Events,
    sink: &'a mut S,
}

impl<S: Sink> LineSink for Reading<'_, S> {
    #[inline]
    fn data(&mut self, data: &[u8], extent: Extent) {
        let Self { events, sink } = self;
        if events.payload == Payload::Nothing
            && extent.begins
            && events.name != Name::Unlisted
            && events.template.is_of(events.known_name())
        {
            if let Some((rest, place, choice)) = events.template.after_prefix(data) {
                events.payload = Payload::Json;
                events.template.hit();
                events.facts.choice = choice;
                events.scanner.resume_in_text(events.template.root(), place);
                return events.text_after_prefix(rest, extent, *sink);
            }
            if let Some((begins, place)) = events.template.after_list_prefix(data) {
                #[cfg(any(test, fuzzing))]
                events.template.note_begun();
                events.payload = Payload::Json;
                events.scanner.resume_in_list(events.template.root(), place);
                return events.json(begins, data, extent.ends, *sink);
            }
        }
        if events.payload == Payload::Json && extent.begins {
            // Several data lines are one document with line feeds in it.
            events.json(0, b"\n", false, *sink);
        }
        events.payload(data, extent, *sink);
    }

    fn named(&mut self, name: &[u8]) {
        self.events.named(name);
    }

    fn error(&mut self) {
        self.events.has_emitted = true;
        self.events.facts.mark_error();
    }

    #[inline]
    fn event_ends(&mut self) {
        self.events.event_ends(self.sink);
    }

    fn body_ends(&mut self) {
        self.events.body_ends(self.sink);
    }
}

impl Events {
    fn new(shape: &'static Shape<Fact>, framing: Framing) -> Self {
        Self {
            scanner: Scanner::new(shape),
            facts: Facts::default(),
            template: Template::new(shape, framing),
            payload: Payload::Nothing,
            name: Name::None,
            has_emitted: false,
        }
    }

    /// Emits an event that equals the previous one except for its text. `None`: it must be read like any other; nothing was emitted. An event leaves
    /// no state behind.
    #[inline]
    fn emit_known_event<'b>(&mut self, bytes: &'b [u8], sink: &mut impl Sink) -> Option<&'b [u8]> {
        if self.payload != Payload::Nothing || self.has_emitted || self.name != Name::None {
            return None;
        }
        let (text, rest) = self.template.split(bytes)?;
        #[cfg(any(test, fuzzing))]
        self.template.note_split();
        text.emit(sink);
        Some(rest)
    }

    /// The index of the event's name in the protocol's list.
    fn known_name(&self) -> Option<u8> {
        if let Name::Known(at) = self.name { Some(at) } else { None }
    }

    fn named(&mut self, name: &[u8]) {
        if self.payload != Payload::Nothing {
            return;
        }
        let tags: Option<&'static Tags<Fact>> = self.scanner.tags();
        self.name = if let Some((tags, at)) = tags.and_then(|tags| Some((tags, tags.find(name)?))) {
            let (_, fact, shape) = &tags.words[at];
            self.scanner.begin_as(shape);
            if let Some(fact) = fact {
                self.facts.tagged(*fact);
            }
            Name::Known(at as u8)
        } else {
            match name {
                b"" | b"message" | b"data" | b"error" => Name::None,
                _ => match tags.filter(|tags| tags.is_unlisted(name)) {
                    Some(tags) => {
                        // Its text may come before its type, and is not an answer.
                        self.scanner.begin_as(&tags.otherwise);
                        Name::Unlisted
                    }
                    None => Name::Own,
                },
            }
        };
        if name == b"error" {
            self.has_emitted = true;
            self.facts.mark_error();
        }
    }

    /// After a known prefix: a text, and the rest.
    #[inline]
    fn text_after_prefix(&mut self, rest: &[u8], extent: Extent, sink: &mut impl Sink) {
        let mut interpreter = Interpreter::new(&mut self.facts, sink);
        let ends = self.scanner.read_text(rest, &mut interpreter);
        let tail = &rest[ends..];
        if extent.last && self.template.ends(tail) {
            #[cfg(any(test, fuzzing))]
            self.template.note_known();
            self.scanner.finish();
            self.facts.end_choice(sink);
            return;
        }
        let mut interpreter = Interpreter::after_text(&mut self.facts, sink);
        self.scanner.read(tail, self.template.scratch(), &mut interpreter);
        let Interpreter { learner: Learner { varying, only_envelope_after, .. }, complete, .. } = interpreter;
        if self.scanner.touched_scratch() {
            self.template.forget();
        } else if extent.ends && complete && only_envelope_after && !self.facts.has_facts {
            self.template.learn_tail(tail, 0, varying);
        }
    }

    fn payload(&mut self, data: &[u8], extent: Extent, sink: &mut impl Sink) {
        let whole = extent.begins && extent.ends;
        for (at, byte) in data.iter().enumerate() {
            let is_blank = matches!(byte, b' ' | b'\t' | b'\r');
            self.payload = match self.payload {
                // A line inside a document does not begin like the next event.
                Payload::Json => return self.json(0, &data[at..], false, sink),
                Payload::Plain => return,
                Payload::Nothing if is_blank => Payload::Nothing,
                // White space may come first, in JSON too.
                Payload::Nothing if matches!(byte, b'{' | b'"') => {
                    self.payload = Payload::Json;
                    return self.json(0, data, whole, sink);
                }
                Payload::Nothing if *byte == DONE[0] => Payload::Done(1),
                Payload::Nothing if byte.is_ascii_digit() || *byte == b'-' => Payload::Number,
                Payload::Number if is_blank || byte.is_ascii_digit() => Payload::Number,
                Payload::Number if matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E') => Payload::Number,
                Payload::Nothing => match WORDS.iter().position(|word| word[0] == *byte) {
                    Some(word) => Payload::Word(word as u8, 1),
                    None => self.plain(sink),
                },
                Payload::Word(word, read) => match WORDS[usize::from(word)].get(usize::from(read)) {
                    None if is_blank => Payload::Word(word, read),
                    Some(expected) if expected == byte => Payload::Word(word, read + 1),
                    _ => self.plain(sink),
                },
                Payload::Done(6) if is_blank => Payload::Done(6),
                // Sent twice, on a separate line.
                Payload::Done(6) if *byte == DONE[0] && at == 0 && extent.begins => Payload::Done(1),
                Payload::Done(read) if DONE.get(usize::from(read)) == Some(byte) => {
                    if usize::from(read) + 1 == DONE.len() {
                        sink.done();
                    }
                    Payload::Done(read + 1)
                }
                // A list is ignored, too.
                Payload::Done(1) if is_blank || matches!(byte, b'{' | b'[' | b']' | b'"' | b'-' | b'0'..=b'9') => {
                    self.payload = Payload::Json;
                    self.json(0, b"[", false, sink);
                    return self.json(0, &data[at..], false, sink);
                }
                Payload::Number | Payload::Done(_) => self.plain(sink),
            };
        }
    }

    /// Plain text, which is an error unless the event's name gives it another meaning.
    fn plain(&mut self, sink: &mut impl Sink) -> Payload {
        if self.name == Name::None {
            self.facts.plain_text(sink);
        }
        Payload::Plain
    }

    /// Continues at `from`. `whole`: the document begins in this data line, and the line is complete.
    fn json(&mut self, from: usize, data: &[u8], whole: bool, sink: &mut impl Sink) {
        let mut interpreter = Interpreter::new(&mut self.facts, sink);
        self.scanner.read_from(from, data, self.template.scratch(), &mut interpreter);
        let Interpreter {
            learner: Learner { list_prefix, text_span, varying, only_envelope_after, .. }, complete, ..
        } = interpreter;
        if self.scanner.touched_scratch() {
            self.template.forget();
        }
        if !whole || !complete || !self.template.learns() {
            return;
        }
        let word = |at: u8| self.scanner.tags()?.words.get(usize::from(at)).map(|(word, ..)| *word);
        let name = self.known_name().and_then(|at| Some(template::Name { at, word: word(at)? }));
        let root = self.scanner.root();
        if let Some(list_prefix) = list_prefix {
            self.template.learn_list_prefix(data, &list_prefix, name, root);
        }
        let Some(text_span) = text_span else { return };
        self.template.learn(data, &text_span, name, root);
        if only_envelope_after && !self.facts.has_facts {
            self.template.learn_tail(data, text_span.ends, varying);
        }
    }

    #[inline]
    fn event_ends(&mut self, sink: &mut impl Sink) {
        match self.payload {
            Payload::Nothing if !self.has_emitted => {
                if self.name != Name::None {
                    self.begin_event();
                }
                return;
            }
            Payload::Json if !self.scanner.is_settled() => self.facts.fail(InspectionFailure::Malformed, sink),
            // An incomplete `[DONE`, or `nul`.
            Payload::Done(read) if usize::from(read) < DONE.len() => {
                self.plain(sink);
            }
            Payload::Word(word, read) if usize::from(read) < WORDS[usize::from(word)].len() => {
                self.plain(sink);
            }
            _ => {}
        }
        self.facts.emit_error(sink);
        self.begin_event();
        sink.event_end();
    }

    #[inline]
    fn begin_event(&mut self) {
        self.payload = Payload::Nothing;
        self.name = Name::None;
        self.has_emitted = false;
        self.scanner.restart();
        self.facts.begin_event();
    }

    /// A last event counts without its blank line if it is complete. No client can read an incomplete one, so it only counts if it is an error.
    fn body_ends(&mut self, sink: &mut impl Sink) {
        match self.payload {
            Payload::Json if !self.scanner.is_settled() => {
                self.facts.emit_error(sink);
                self.facts.fail(InspectionFailure::Malformed, sink);
            }
            Payload::Done(0..6) => {}
            Payload::Word(word, read) if usize::from(read) < WORDS[usize::from(word)].len() => {}
            _ => self.event_ends(sink),
        }
    }
}
