//! The common bytes of the events of one stream.
//!
//! The events of a stream are identical except for their text. A template stores the bytes around a text. An event that begins with the same bytes
//! need not be read up to there, because the reader would reach the same state. The same holds for the bytes after the text. Nothing is guessed:
//! bytes that differ are read.
//!
//! Events with a role, a finish reason or the usage have less in common with the others: only the bytes before the choices, the *list prefix* of the
//! template.
//!
//! Only envelope is stored: values that, according to the shape, hold neither a fact nor text of a model or user. One value before the text and one
//! after it may vary: padding, a number that counts events, or, after the text, an object without interest, such as log probabilities. [`Pattern`]
//! explains why that is safe.

use super::escape::{Joined, SHORT, unescape};
use super::facts::{Choice, Fact};
use super::framing::Framing;
use super::json::{Place, SCRATCH, Shape};
use super::learner::{ListPrefix, TextSpan, ValueSpan};
use super::pattern::{Pattern, VaryingValue};
use super::skip::{end_of_plain_text, quote_or_backslash};
use super::{Sink, TextKind};

/// The capacity. Longer envelopes are read each time.
const CAPACITY: usize = 280;
/// After this many events that were learnt and never matched, learning stops: if more than one value before the text varies, no event begins like
/// another.
const MAX_MISSES: u8 = 32;

/// The name of an event that the protocol knows, and its index in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) at: u8,
    pub(super) word: &'static str,
}

/// A text that was found without reading the bytes around it.
pub(super) struct Text<'b> {
    choice: u32,
    kind: TextKind,
    text: &'b [u8],
    /// It has two-byte escapes.
    escaped: bool,
}

impl Text<'_> {
    /// Emits the whole event.
    #[inline]
    pub(super) fn emit(&self, sink: &mut impl Sink) {
        if !self.escaped {
            return sink.text_event(self.choice, self.kind, self.text);
        }
        if let Some(text) = unescape(self.text, &mut [0; SHORT]) {
            return sink.text_event(self.choice, self.kind, text);
        }
        sink.choice(self.choice);
        self.emit_unescaped(|piece| sink.text(self.choice, self.kind, piece));
        sink.event_end();
    }

    #[inline(never)]
    fn emit_unescaped(&self, emit: impl FnMut(&[u8])) {
        let mut text = Joined::new(emit);
        let mut rest = self.text;
        // Any quote in it follows a backslash.
        while let Some(at) = quote_or_backslash(rest) {
            let (piece, [_, byte, after @ ..]) = rest.split_at(at) else { break };
            text.piece(piece);
            text.escape(*byte);
            rest = after;
        }
        text.piece(rest);
        text.flush();
    }
}

/// The bytes around a text, one after the other. The scanner borrows the memory if it has to keep a split value, which is rare; the template is then
/// lost.
///
/// ```text
///   event: …⏎data: {"id":"…","choices":[{"delta":{"content":" a text "}}]} ⏎⏎
///   ╰── lead ─────╯╰── list prefix ───╯                  │        │      │   │
///   ╰─────────────────── prefix ─────────────────────────╯        ╰─tail─╯end╯
/// ```
#[derive(Debug)]
pub(super) struct Template {
    bytes: [u8; CAPACITY],
    framing: Framing,
    /// The number of events that were learnt since the last match.
    misses: u8,
    /// The index of the event's name in the list of those that the protocol knows.
    name: Option<u8>,
    /// The kind of the document with the text.
    root: &'static Shape<Fact>,
    /// The length of the part before the data.
    lead: u16,
    /// The length of the data before the choices; 0 if unknown.
    list_prefix: u16,
    /// The part before the text, including the lead; without a length, there is no template.
    prefix: Pattern,
    /// The part of the data after it. `None`: it varies.
    tail: Option<Pattern>,
    list: Place,
    place: Place,
    choice: Choice,
    kind: TextKind,
    #[cfg(any(test, fuzzing))]
    pub(super) probe: Probe,
}

/// For tests: whether templates are on, how many events matched completely, how many of those were not even split into lines, and how many matched
/// only up to their choices.
#[cfg(any(test, fuzzing))]
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub(super) off: bool,
    pub(super) known: u8,
    pub(super) split: u8,
    /// One of them had an object in the place of the variable value: see [`Pattern::is`].
    pub(super) trusted: bool,
    pub(super) begun: u8,
}

impl Template {
    pub(super) fn new(root: &'static Shape<Fact>, framing: Framing) -> Self {
        Self {
            bytes: [0; CAPACITY],
            framing,
            misses: 0,
            name: None,
            root,
            lead: 0,
            list_prefix: 0,
            prefix: Pattern::default(),
            tail: None,
            list: Place::default(),
            place: Place::default(),
            choice: Choice::default(),
            kind: TextKind::Answer,
            #[cfg(any(test, fuzzing))]
            probe: Probe::default(),
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn note_known(&mut self) {
        self.probe.known = self.probe.known.saturating_add(1);
        let varying = self.tail.and_then(|tail| tail.varying);
        self.probe.trusted |= varying.is_some_and(|varying| varying.what == super::json::Skipped::Object);
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn note_split(&mut self) {
        self.probe.split = self.probe.split.saturating_add(1);
        self.note_known();
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn note_begun(&mut self) {
        self.probe.begun = self.probe.begun.saturating_add(1);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn scratch(&mut self) -> &mut [u8] {
        &mut self.bytes[..SCRATCH]
    }

    pub(super) fn forget(&mut self) {
        self.list_prefix = 0;
        self.prefix = Pattern::default();
        self.tail = None;
    }

    /// Whether it belongs to an event with this name.
    #[inline]
    pub(super) fn is_of(&self, name: Option<u8>) -> bool {
        self.name == name
    }

    pub(super) fn root(&self) -> &'static Shape<Fact> {
        self.root
    }

    /// An event began like the last one.
    pub(super) fn hit(&mut self) {
        self.misses = 0;
    }

    /// Whether matches can still be expected.
    pub(super) fn learns(&self) -> bool {
        self.misses < MAX_MISSES
    }

    /// The rest after the part before the text, and the state to continue from, if this data begins like the last.
    #[inline]
    pub(super) fn after_prefix<'b>(&self, data: &'b [u8]) -> Option<(&'b [u8], Place, Choice)> {
        let known = self.bytes.get(usize::from(self.lead)..usize::from(self.prefix.length))?;
        let varying = self.prefix.varying.map(|varying| VaryingValue { at: varying.at - self.lead, ..varying });
        if known.is_empty() || self.is_off() {
            return None;
        }
        Some((Pattern { varying, ..self.prefix }.strip(known, data)?, self.place, self.choice))
    }

    /// The start of the choices, and the list that holds them, if this data begins like the last up to there.
    pub(super) fn after_list_prefix(&self, data: &[u8]) -> Option<(usize, Place)> {
        let lead = usize::from(self.lead);
        let list_prefix = self.bytes.get(lead..lead + usize::from(self.list_prefix))?;
        if list_prefix.is_empty() || self.is_off() {
            return None;
        }
        data.starts_with(list_prefix).then_some((list_prefix.len(), self.list))
    }

    /// Whether `rest`, the end of the event, equals the bytes after the last text. Then the document is complete and has no other fact.
    #[inline]
    pub(super) fn ends(&self, rest: &[u8]) -> bool {
        let Some(tail) = self.tail else { return false };
        let known = self.bytes[usize::from(self.prefix.length)..].get(..usize::from(tail.length));
        known.is_some_and(|known| tail.is(known, rest))
    }

    /// Splits an event that equals the last one except for its text and the variable values. Returns the text, if it can be emitted without the
    /// scanner, and the rest after the event.
    #[inline]
    pub(super) fn split<'b>(&self, bytes: &'b [u8]) -> Option<(Text<'b>, &'b [u8])> {
        let tail = self.tail.filter(|_| !self.is_off())?;
        let (prefix, after) = self.bytes.split_at_checked(usize::from(self.prefix.length))?;
        let data = self.prefix.strip(prefix, bytes)?;
        let (mut end, mut escaped) = (0, false);
        loop {
            end += end_of_plain_text(data.get(end..)?)?;
            match data[end..] {
                [b'"', ..] => break,
                // A code unit may be a surrogate, which the scanner handles.
                [b'\\', byte, ..] if byte != b'u' && byte >= b' ' => {
                    escaped = true;
                    end += 2;
                }
                _ => return None,
            }
        }
        let text = &data[..end];
        if text.is_empty() {
            return None;
        }
        let data = &data[end + 1..];
        // The learnt tail, and the end of the event.
        let rest = if tail.may_be_long() {
            let ends = memchr::memchr2(b'\n', b'\r', data)?;
            let (line, rest) = data.split_at(ends);
            let rest = rest.strip_prefix(self.framing.end())?;
            tail.is(after.get(..usize::from(tail.length))?, line).then_some(rest)?
        } else {
            tail.strip(after.get(..usize::from(tail.length) + self.framing.end().len())?, data)?
        };
        Some((Text { choice: self.choice.index(), kind: self.kind, text, escaped }, rest))
    }

    /// Stores the bytes before the choices, and forgets the text, which followed other bytes.
    pub(super) fn learn_list_prefix(
        &mut self,
        data: &[u8],
        list_prefix: &ListPrefix,
        name: Option<Name>,
        root: &'static Shape<Fact>,
    ) {
        self.forget();
        let Some(length) = self.begin(name, root, &[&data[..list_prefix.ends]]) else { return };
        self.list_prefix = length - self.lead;
        self.list = list_prefix.place;
    }

    /// Stores the bytes before a text, after the same list prefix.
    pub(super) fn learn(&mut self, data: &[u8], text_span: &TextSpan, name: Option<Name>, root: &'static Shape<Fact>) {
        if self.name != name.map(|name| name.at) || !std::ptr::eq(self.root, root) || text_span.varying.is_some() {
            self.list_prefix = 0;
        }
        self.misses += 1;
        self.tail = None;
        self.prefix = Pattern::default();
        let Some((known, varying)) = known_parts(data, 0, text_span.begins, text_span.varying) else { return };
        let Some(length) = self.begin(name, root, &known) else { return };
        self.prefix =
            Pattern { length, varying: varying.map(|varying| VaryingValue { at: varying.at + self.lead, ..varying }) };
        self.place = text_span.place;
        self.choice = text_span.choice;
        self.kind = text_span.kind;
    }

    /// Stores the bytes after it, from `from` in `data` on.
    pub(super) fn learn_tail(&mut self, data: &[u8], from: usize, varying: Option<ValueSpan>) {
        self.tail = None;
        if self.prefix.length == 0 {
            return;
        }
        let Some(([before, after], varying)) = known_parts(data, from, data.len(), varying) else { return };
        let length = (before.len() + after.len()) as u16;
        if write(&mut self.bytes[usize::from(self.prefix.length)..], &[before, after, self.framing.end()]).is_some() {
            self.tail = Some(Pattern { length, varying });
        }
    }

    /// Writes the bytes before the data of an event with this name, and returns their length, if there is room.
    fn begin(&mut self, name: Option<Name>, root: &'static Shape<Fact>, data: &[&[u8]]) -> Option<u16> {
        self.name = name.map(|name| name.at);
        self.root = root;
        let lead = write(&mut self.bytes, &self.framing.lead(name.map(|name| name.word)));
        self.lead = lead.unwrap_or(0) as u16;
        let data = lead.and_then(|lead| write(&mut self.bytes[lead..], data));
        data.map(|data| self.lead + data as u16)
    }

    #[inline]
    fn is_off(&self) -> bool {
        #[cfg(any(test, fuzzing))]
        return self.probe.off;
        #[cfg(not(any(test, fuzzing)))]
        false
    }
}

/// The bytes from `from` to `to` around a variable value, and its place among them.
fn known_parts(
    data: &[u8],
    from: usize,
    to: usize,
    varying: Option<ValueSpan>,
) -> Option<([&[u8]; 2], Option<VaryingValue>)> {
    let Some(ValueSpan { from: begins, to: ends, what }) = varying else {
        return Some(([data.get(from..to)?, b""], None));
    };
    let before = data.get(from..begins)?;
    let at = u16::try_from(before.len()).ok()?;
    Some(([before, data.get(ends..to)?], Some(VaryingValue { at, what })))
}

/// Writes these pieces one after the other, and returns their length; writes nothing if they do not fit.
fn write(room: &mut [u8], pieces: &[&[u8]]) -> Option<usize> {
    let mut length = 0;
    for piece in pieces {
        room.get_mut(length..length + piece.len())?.copy_from_slice(piece);
        length += piece.len();
    }
    Some(length)
}
