//! What two events of one stream have in common.
//!
//! The events of a stream are alike to the byte but for their text. So what a text stood between is remembered, and an
//! event that begins the same way need not be read again up to there: the reader would only come to the same state. The
//! same holds for what follows the text. Nothing is guessed: bytes that differ are read.
//!
//! Events with a role, a finish reason or the usage have less in common with the others: what comes before the choices,
//! the *stem* of the template.
//!
//! Only an envelope is remembered: what the shape knows to hold neither a fact nor anything that a model or user wrote.
//! In what follows the text, one value may be different each time: padding, or an object that nobody looks at, such as
//! log probabilities. See [`Template::ends`] for why that is safe.

use super::escape::Joined;
use super::facts::{Choice, Gap, Mark, Stem};
use super::json::{Place, SCRATCH, Skipped};
use super::skip::quote_or_backslash;
use super::{Sink, TextKind};

/// How much can be remembered. Longer envelopes are read each time.
const CAPACITY: usize = 384;

/// A text that was found without reading what is around it.
pub(super) struct Text<'b> {
    choice: u32,
    kind: TextKind,
    text: &'b [u8],
    /// There are escapes of two bytes in it.
    escaped: bool,
}

impl Text<'_> {
    #[inline]
    pub(super) fn tell(&self, sink: &mut impl Sink) {
        sink.choice(self.choice);
        let mut tell = |piece: &[u8]| sink.text(self.choice, self.kind, piece);
        if self.escaped {
            self.tell_unescaped(tell);
        } else if !self.text.is_empty() {
            tell(self.text);
        }
    }

    fn tell_unescaped(&self, tell: impl FnMut(&[u8])) {
        let mut text = Joined::new(tell);
        let mut rest = self.text;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            let (piece, [_, byte, after @ ..]) = rest.split_at(at) else { break };
            text.piece(piece);
            text.escape(*byte);
            rest = after;
        }
        text.piece(rest);
        text.flush();
    }
}

/// The bytes on both sides of a text, one after the other. The scanner borrows the memory when it has to keep a split
/// value, which is seldom; the template is lost then.
#[derive(Debug)]
pub(super) struct Template {
    bytes: [u8; CAPACITY],
    /// How long the part before the choices is; 0: not known.
    stem: u16,
    /// How long the part before the text is; 0: no template.
    prefix: u16,
    /// How long the part after it is, up to the gap if there is one. `None`: it is different each time.
    tail: Option<u16>,
    /// How long the part after the gap is.
    end: u16,
    gap: Option<Skipped>,
    list: Place,
    place: Place,
    choice: Choice,
    kind: TextKind,
    #[cfg(any(test, fuzzing))]
    pub(super) probe: Probe,
}

/// For tests: whether templates are in use, how many events were known from their first byte to their last, and how many
/// only up to their choices.
#[cfg(any(test, fuzzing))]
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub(super) off: bool,
    pub(super) known: u8,
    /// One of them had an object in the place of the gap: see [`Template::ends`].
    pub(super) trusted: bool,
    pub(super) begun: u8,
}

impl Template {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; CAPACITY],
            stem: 0,
            prefix: 0,
            tail: None,
            end: 0,
            gap: None,
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
        self.probe.trusted |= self.gap == Some(Skipped::Object);
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
        self.stem = 0;
        self.prefix = 0;
    }

    /// What follows the part before the text, and the state to go on from, if this data begins as the last did.
    #[inline]
    pub(super) fn after_prefix<'b>(&self, data: &'b [u8]) -> Option<(&'b [u8], Place, Choice)> {
        Some((self.after(self.prefix, data)?, self.place, self.choice))
    }

    /// Where the choices begin, and the list that they are in, if this data begins as the last did up to there.
    pub(super) fn after_stem(&self, data: &[u8]) -> Option<(usize, Place)> {
        self.after(self.stem, data).map(|rest| (data.len() - rest.len(), self.list))
    }

    #[inline]
    fn after<'b>(&self, length: u16, data: &'b [u8]) -> Option<&'b [u8]> {
        #[cfg(any(test, fuzzing))]
        if self.probe.off {
            return None;
        }
        if length == 0 { None } else { data.strip_prefix(&self.bytes[..usize::from(length)]) }
    }

    /// Whether `rest`, with which the event ends, says what followed the last text: that the document is complete, and not
    /// a fact.
    ///
    /// Without a gap it does if it is the same. With one, this has to be shown: what is in the place of the gap is one
    /// whole value, for then the reader would pass over it and come to the same end.
    ///
    /// - Padding: a string is whole if there is no quote and no backslash in it.
    /// - An object: it cannot have ended early, because after the end of a member's value comes `}` or `,"`, and here each
    ///   closing brace but the last is followed by `]` or `,{`, or by a quote and so is part of a string. Neither can it go
    ///   on: the quotes of the known end come in pairs, so it begins outside a string or the line would end inside one;
    ///   and its brackets close just what is around the object. That holds for whatever is JSON: a line that is not may
    ///   go unnoticed.
    #[inline]
    pub(super) fn ends(&self, rest: &[u8]) -> bool {
        let Some(tail) = self.tail.map(usize::from) else { return false };
        let known = &self.bytes[usize::from(self.prefix)..];
        let Some(gap) = self.gap else { return rest == &known[..tail] };
        let (head, end) = (&known[..tail], &known[tail..tail + usize::from(self.end)]);
        let gap_value = rest.strip_prefix(head).and_then(|rest| rest.strip_suffix(end));
        match (gap, gap_value) {
            (Skipped::Padding, Some([b'"', padding @ .., b'"'])) => memchr::memchr2(b'"', b'\\', padding).is_none(),
            (Skipped::Object, Some([b'{', members @ .., b'}'])) => !could_end_in(members),
            _ => false,
        }
    }

    /// Splits an event that is like the last one to the byte, blank line and all, but for its text: the text, as far as it
    /// needs no reading of its own, and what comes after the event.
    #[inline]
    pub(super) fn split<'b>(&self, bytes: &'b [u8]) -> Option<(Text<'b>, &'b [u8])> {
        let tail = self.tail.filter(|_| self.gap.is_none())?;
        let tail = self.bytes.get(usize::from(self.prefix)..usize::from(self.prefix + tail))?;
        let data = bytes.strip_prefix(b"data: ")?;
        let data = self.after(self.prefix, data)?;
        let (mut end, mut escaped) = (0, false);
        loop {
            end += quote_or_backslash(data.get(end..)?)?;
            if data[end] == b'"' {
                break;
            }
            // A code unit may be half of a character: that is for the scanner.
            if data.get(end + 1) == Some(&b'u') {
                return None;
            }
            escaped = true;
            end += 2;
        }
        let (text, after) = (&data[..end], &data[end + 1..]);
        let rest = after.strip_prefix(tail)?.strip_prefix(b"\n\n")?;
        if text.is_empty() || text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return None;
        }
        Some((Text { choice: self.choice.index(), kind: self.kind, text, escaped }, rest))
    }

    /// Remembers what came before the choices; what is known of a text was after other bytes.
    pub(super) fn learn_stem(&mut self, data: &[u8], stem: &Stem) {
        self.forget();
        let Some(bytes) = data.get(..stem.ends).filter(|bytes| bytes.len() <= CAPACITY) else { return };
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.stem = bytes.len() as u16;
        self.list = stem.place;
    }

    /// Remembers what came before a text, after the same stem.
    pub(super) fn learn(&mut self, data: &[u8], mark: &Mark) {
        self.tail = None;
        self.prefix = 0;
        let Some(prefix) = data.get(..mark.begins).filter(|prefix| prefix.len() <= CAPACITY) else { return };
        self.bytes[..prefix.len()].copy_from_slice(prefix);
        self.prefix = prefix.len() as u16;
        self.place = mark.place;
        self.choice = mark.choice;
        self.kind = mark.kind;
    }

    /// Remembers what came after it, from `from` in `data` on.
    pub(super) fn learn_tail(&mut self, data: &[u8], from: usize, gap: Option<Gap>) {
        self.tail = None;
        let (head, end) = match gap {
            None => (data.get(from..), Some(&[][..])),
            Some(gap) => (data.get(from..gap.from), data.get(gap.to..)),
        };
        let (Some(head), Some(end)) = (head, end) else { return };
        let known = &mut self.bytes[usize::from(self.prefix)..];
        if head.len() + end.len() <= known.len() {
            known[..head.len()].copy_from_slice(head);
            known[head.len()..head.len() + end.len()].copy_from_slice(end);
            self.tail = Some(head.len() as u16);
            self.end = end.len() as u16;
            self.gap = gap.map(|gap| gap.what);
        }
    }
}

/// Whether an object that holds these members can have ended among them; without branches, so that it is done for many
/// bytes at once: to search for the braces was measured to be slower.
#[inline]
fn could_end_in(members: &[u8]) -> bool {
    let [.., before, last] = members else { return true };
    let triples = members.iter().zip(&members[1..]).zip(&members[2..]);
    let early = triples.fold(0, |early, ((byte, next), after)| {
        let goes_on =
            u8::from(*next == b']') | u8::from(*next == b'"') | (u8::from(*next == b',') & u8::from(*after == b'{'));
        early | (u8::from(*byte == b'}') & (goes_on ^ 1))
    });
    early != 0 || *last == b'}' || (*before == b'}' && !matches!(last, b']' | b'"'))
}
