//! What two events of one stream have in common.
//!
//! The events of a stream are alike to the byte but for their text. So what a text stood between is remembered, and an
//! event that begins the same way need not be read again up to there: the reader would only come to the same state. The
//! same holds for what follows the text. Nothing is guessed: bytes that differ are read.
//!
//! Events with a role, a finish reason or the usage have less in common with the others: what comes before the choices,
//! the *list prefix* of the template.
//!
//! Only an envelope is remembered: what the shape knows to hold neither a fact nor anything that a model or user wrote.
//! One value before the text and one after it may be different each time: padding, a number that counts events, or, after
//! it, an object that nobody looks at, such as log probabilities. See [`Pattern`] for why that is safe.

use super::escape::{Joined, SHORT, unescape};
use super::facts::{Choice, Fact};
use super::framing::Framing;
use super::json::{Place, SCRATCH, Shape};
use super::learner::{ListPrefix, TextSpan, ValueSpan};
use super::pattern::{Pattern, VaryingValue};
use super::skip::{end_of_plain_text, quote_or_backslash};
use super::{Sink, TextKind};

/// How much can be remembered. Longer envelopes are read each time.
const CAPACITY: usize = 280;
/// After so many events that were learnt and never met again, nothing is learnt any more: where more than one value before
/// the text is another each time, no event begins as another did.
const MAX_MISSES: u8 = 32;

/// The name of an event that the protocol knows, and its place in the list of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) at: u8,
    pub(super) word: &'static str,
}

/// A text that was found without reading what is around it.
pub(super) struct Text<'b> {
    choice: u32,
    kind: TextKind,
    text: &'b [u8],
    /// There are escapes of two bytes in it.
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
        // There is no quote in it but behind a backslash.
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

/// The bytes around a text, one after the other. The scanner borrows the memory when it has to keep a split value, which is
/// seldom; the template is lost then.
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
    /// How many events were learnt since one was known.
    misses: u8,
    /// The name that the event had, by its place in the list of those that the protocol knows.
    name: Option<u8>,
    /// What the document with the text is.
    root: &'static Shape<Fact>,
    /// How long the part before the data is.
    lead: u16,
    /// How long the part of the data before the choices is; 0: not known.
    list_prefix: u16,
    /// The part before the text, from the lead on; without length: no template.
    prefix: Pattern,
    /// The part of the data after it. `None`: it is different each time.
    tail: Option<Pattern>,
    list: Place,
    place: Place,
    choice: Choice,
    kind: TextKind,
    #[cfg(any(test, fuzzing))]
    pub(super) probe: Probe,
}

/// For tests: whether templates are in use, how many events were known from their first byte to their last, how many of those were not
/// even framed, and how many were known only up to their choices.
#[cfg(any(test, fuzzing))]
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub(super) off: bool,
    pub(super) known: u8,
    pub(super) split: u8,
    /// One of them had an object in the place of the varying value: see [`Pattern::is`].
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

    /// Whether it is of an event with this name.
    #[inline]
    pub(super) fn is_of(&self, name: Option<u8>) -> bool {
        self.name == name
    }

    pub(super) fn root(&self) -> &'static Shape<Fact> {
        self.root
    }

    /// An event began as the last one did.
    pub(super) fn hit(&mut self) {
        self.misses = 0;
    }

    /// Whether there is any hope that an event will be like another.
    pub(super) fn learns(&self) -> bool {
        self.misses < MAX_MISSES
    }

    /// What follows the part before the text, and the state to go on from, if this data begins as the last did.
    #[inline]
    pub(super) fn after_prefix<'b>(&self, data: &'b [u8]) -> Option<(&'b [u8], Place, Choice)> {
        let known = self.bytes.get(usize::from(self.lead)..usize::from(self.prefix.length))?;
        let varying = self.prefix.varying.map(|varying| VaryingValue { at: varying.at - self.lead, ..varying });
        if known.is_empty() || self.is_off() {
            return None;
        }
        Some((Pattern { varying, ..self.prefix }.strip(known, data)?, self.place, self.choice))
    }

    /// Where the choices begin, and the list that they are in, if this data begins as the last did up to there.
    pub(super) fn after_list_prefix(&self, data: &[u8]) -> Option<(usize, Place)> {
        let lead = usize::from(self.lead);
        let list_prefix = self.bytes.get(lead..lead + usize::from(self.list_prefix))?;
        if list_prefix.is_empty() || self.is_off() {
            return None;
        }
        data.starts_with(list_prefix).then_some((list_prefix.len(), self.list))
    }

    /// Whether `rest`, with which the event ends, says what followed the last text: that the document is complete, and not
    /// a fact.
    #[inline]
    pub(super) fn ends(&self, rest: &[u8]) -> bool {
        let Some(tail) = self.tail else { return false };
        let known = self.bytes[usize::from(self.prefix.length)..].get(..usize::from(tail.length));
        known.is_some_and(|known| tail.is(known, rest))
    }

    /// Splits an event that is like the last one to the byte, from the first to the last, but for its text and what may
    /// vary: the text, as far as it needs no reading of its own, and what comes after the event.
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
                // A code unit may be half of a character: that is for the scanner.
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
        // The tail as it was learnt, and what ends the event.
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

    /// Remembers what came before the choices; what is known of a text was after other bytes.
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

    /// Remembers what came before a text, after the same list prefix.
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

    /// Remembers what came after it, from `from` in `data` on.
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

    /// Writes what an event of this name begins with, and says how long that is, if there is room for it.
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

/// The bytes from `from` to `to` on both sides of a value that may differ, and where among them it stands.
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

/// Writes these pieces one after the other, and says how long they are; nothing is written that does not fit.
fn write(room: &mut [u8], pieces: &[&[u8]]) -> Option<usize> {
    let mut length = 0;
    for piece in pieces {
        room.get_mut(length..length + piece.len())?.copy_from_slice(piece);
        length += piece.len();
    }
    Some(length)
}
