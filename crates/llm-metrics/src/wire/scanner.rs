//! An incremental scanner that follows a [`Shape`] through a JSON document, from slice to slice.
//!
//! It keeps the position, not the bytes: a text goes to the visitor as it arrives. A key, or a value that is needed in one piece, is copied into a
//! small scratch buffer, and only if it is split over two slices or has an escape. Values that the shape does not name are skipped.

mod string;

use super::json::{Broken, MAX_LEVELS, Place, SCRATCH, Scalar, Shape, Skipped, Tags, Visitor};
use super::skip;

/// The slot of a value that the shape does not name, and in an object before its first key.
const UNNAMED: u8 = u8::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must follow.
    Value,
    /// A value or the end of the array must follow.
    FirstElement,
    /// A key or the end of the object must follow.
    FirstKey,
    Key,
    Colon,
    /// A comma or the end of the container must follow.
    Next,
    /// Inside a string; [`Use`] says what for.
    String,
    /// Inside a number, `true`, `false` or `null`.
    Atom,
    /// Inside a skipped object or array.
    Skip,
    Complete,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Key,
    Text,
    Scalar,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    /// The number of digits of `\uXXXX` that were read.
    Unicode(u8),
}

#[derive(Debug)]
pub(super) struct Scanner<F: 'static> {
    /// The initial kind of a document.
    start: &'static Shape<F>,
    /// The kind of the current document.
    root: &'static Shape<F>,
    /// The innermost open container that has a shape.
    container: &'static Shape<F>,
    place: Place,
    state: State,
    used_for: Use,
    escape: Escape,
    /// The digits of `\uXXXX` so far.
    unit: u16,
    /// A high surrogate that waits for its low surrogate, or 0.
    high: u16,
    skip: skip::Skip,
    /// The number of bytes in the scratch buffer.
    kept: u8,
    touched: bool,
}

impl<F: Copy + 'static> Scanner<F> {
    pub(super) const fn new(root: &'static Shape<F>) -> Self {
        Self {
            start: root,
            root,
            container: root,
            place: Place { path: [0; MAX_LEVELS], levels: 0, slot: 0 },
            state: State::Value,
            used_for: Use::Nothing,
            escape: Escape::None,
            unit: 0,
            high: 0,
            skip: skip::Skip::new(),
            kept: 0,
            touched: false,
        }
    }

    /// Returns to the start of a document.
    pub(super) fn restart(&mut self) {
        self.root = self.start;
        self.place.levels = 0;
        self.state = State::Value;
    }

    /// The kinds of documents.
    pub(super) fn tags(&self) -> Option<&'static Tags<F>> {
        let Shape::Object(_, keys) = self.start else { return None };
        keys.iter().find_map(|(_, shape)| if let Shape::Tag(tags) = shape { Some(*tags) } else { None })
    }

    /// The kind of the current document.
    pub(super) fn root(&self) -> &'static Shape<F> {
        self.root
    }

    /// Sets the kind of the next document.
    pub(super) fn begin_as(&mut self, root: &'static Shape<F>) {
        self.root = root;
    }

    /// Moves to the inside of a text, after its opening quote.
    pub(super) fn resume_in_text(&mut self, root: &'static Shape<F>, place: Place) {
        self.root = root;
        self.place = place;
        self.container = self.walk();
        self.begin_string(Use::Text);
    }

    /// Moves to the inside of a list, after its opening bracket.
    pub(super) fn resume_in_list(&mut self, root: &'static Shape<F>, place: Place) {
        self.root = root;
        self.place = place;
        self.container = self.walk();
        self.state = State::FirstElement;
    }

    /// Moves to the end of the document, which is known to follow.
    pub(super) fn finish(&mut self) {
        self.state = State::Complete;
    }

    /// Whether the document is complete, or was abandoned and reported.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, State::Complete | State::Broken) || (self.state == State::Atom && self.place.levels == 0)
    }

    /// Whether the scratch buffer was written to since the last call.
    pub(super) fn touched_scratch(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    /// Reads the next bytes of the document.
    pub(super) fn read<V: Visitor<Fact = F>>(&mut self, bytes: &[u8], scratch: &mut [u8], visitor: &mut V) {
        self.read_from(0, bytes, scratch, visitor);
    }

    /// Reads from an offset on.
    pub(super) fn read_from<V: Visitor<Fact = F>>(
        &mut self,
        mut at: usize,
        bytes: &[u8],
        scratch: &mut [u8],
        visitor: &mut V,
    ) {
        while at < bytes.len() {
            at = match self.state {
                State::String => self.string(bytes, at, scratch, visitor),
                State::Atom => self.atom(bytes, at, scratch, visitor),
                State::Skip => self.skipped(bytes, at, visitor),
                State::Broken => return,
                _ if is_blank(bytes[at]) => at + 1,
                _ => self.punctuation(bytes, at, scratch, visitor),
            };
        }
    }

    /// Reads only up to the end of the current text, and returns its offset.
    #[inline]
    pub(super) fn read_text<V: Visitor<Fact = F>>(&mut self, bytes: &[u8], visitor: &mut V) -> usize {
        // A text never needs the scratch buffer.
        self.string(bytes, 0, &mut [], visitor)
    }

    #[inline]
    fn punctuation<V: Visitor<Fact = F>>(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        scratch: &mut [u8],
        visitor: &mut V,
    ) -> usize {
        match (self.state, bytes[at]) {
            (State::FirstKey | State::Key, b'"') => {
                at = self.key(bytes, at + 1);
                // Usually the value follows immediately.
                if self.state != State::Value || bytes.get(at).is_none_or(|byte| is_blank(*byte)) {
                    return at;
                }
            }
            (State::Colon, b':') => {
                self.state = State::Value;
                return at + 1;
            }
            (State::Next, b',') => {
                self.comma();
                return at + 1;
            }
            (State::Next | State::FirstKey, b'}') if matches!(self.container, Shape::Object(..)) => {
                self.close(visitor);
                return at + 1;
            }
            (State::Next | State::FirstElement, b']') if matches!(self.container, Shape::Array(_)) => {
                self.close(visitor);
                return at + 1;
            }
            (State::Value | State::FirstElement, _) => {}
            _ => {
                self.give_up(Broken::Malformed, visitor);
                return at;
            }
        }
        let at = self.value(bytes, at, scratch, visitor);
        if self.state != State::Next || bytes.get(at) != Some(&b',') {
            return at;
        }
        self.comma();
        at + 1
    }

    #[inline]
    fn comma(&mut self) {
        self.state = if matches!(self.container, Shape::Array(_)) { State::Value } else { State::Key };
    }

    /// A key, after its opening quote: usually complete in this slice, including the colon.
    #[inline]
    fn key(&mut self, bytes: &[u8], at: usize) -> usize {
        let rest = &bytes[at..];
        match skip::quote_or_backslash(rest) {
            Some(length) if rest[length] == b'"' => {
                self.named(&rest[..length]);
                let ends = at + length + 1;
                if bytes.get(ends) != Some(&b':') {
                    return ends;
                }
                self.state = State::Value;
                ends + 1
            }
            _ => {
                self.begin_string(Use::Key);
                at
            }
        }
    }

    /// Expects the value of this key.
    #[inline]
    fn named(&mut self, key: &[u8]) {
        self.state = State::Colon;
        let Shape::Object(_, keys) = self.container else { return self.place.slot = UNNAMED };
        // Most documents have their keys in the order of the shape.
        let next = self.place.slot.wrapping_add(1);
        self.place.slot = match keys.get(usize::from(next)) {
            Some((name, _)) if skip::is_same_key(name.as_bytes(), key) => next,
            _ => slot_of(key, keys),
        };
    }

    /// A value, from its first byte on.
    #[inline]
    fn value<V: Visitor<Fact = F>>(&mut self, bytes: &[u8], at: usize, scratch: &mut [u8], visitor: &mut V) -> usize {
        let shape = if self.place.levels == 0 { Some(self.root) } else { self.container.child(self.place.slot) };
        let byte = bytes[at];
        let shape = match shape {
            Some(Shape::Either(scalar, container)) => Some(match (byte, container) {
                (b'{', Shape::Object(..)) | (b'[', Shape::Array(_)) => *container,
                _ => *scalar,
            }),
            shape => shape,
        };
        if let Some(Shape::Present(fact)) = shape {
            if byte != b'n' {
                visitor.present(*fact, at);
            }
        }
        match (byte, shape) {
            (b'{', Some(shape @ Shape::Object(name, _))) => {
                self.open(shape, State::FirstKey);
                if let Some(name) = name {
                    visitor.enter(*name);
                }
            }
            (b'[', Some(shape @ Shape::Array(_))) => {
                self.open(shape, State::FirstElement);
                visitor.list_begins(at + 1, self.place);
            }
            // An empty container is treated like a word.
            (b'[', None | Some(Shape::Envelope)) if bytes.get(at + 1) == Some(&b']') => {
                self.after_value(visitor);
                return at + 2;
            }
            (b'{' | b'[', _) => {
                let what = if byte == b'{' { Skipped::Object } else { Skipped::Array };
                visitor.skips(at, what);
                if let Some(Shape::Scalar(fact)) = shape {
                    visitor.scalar(*fact, Scalar::Other);
                }
                self.skip.begin();
                self.state = State::Skip;
            }
            (b'"', Some(Shape::Text(_))) => {
                visitor.text_begins(at + 1, self.place);
                self.begin_string(Use::Text);
                return self.string(bytes, at + 1, scratch, visitor);
            }
            (b'"', _) => {
                match shape {
                    Some(Shape::Envelope | Shape::Scalar(_) | Shape::Is(..) | Shape::Tag(_)) => {}
                    Some(Shape::Padding) => visitor.skips(at, Skipped::Padding),
                    _ => visitor.skips(at, Skipped::String),
                }
                let is_scalar = matches!(shape, Some(Shape::Scalar(_) | Shape::Is(..) | Shape::Tag(_)));
                // Usually it is complete in this slice, and has no escapes.
                let rest = &bytes[at + 1..];
                if let Some(length) = skip::quote_or_backslash(rest).filter(|length| rest[*length] == b'"') {
                    let ends = at + length + 2;
                    if is_scalar {
                        self.emit_scalar_of(shape, Scalar::String(&rest[..length]), visitor);
                    } else {
                        visitor.skipped(ends);
                    }
                    self.after_value(visitor);
                    return ends;
                }
                self.begin_string(if is_scalar { Use::Scalar } else { Use::Nothing });
                return self.string(bytes, at + 1, scratch, visitor);
            }
            // Python writes NaN and Infinity, which are not JSON.
            (b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'N' | b'I', _) => {
                if matches!(shape, Some(Shape::Padding)) && byte.is_ascii_digit() {
                    visitor.skips(at, Skipped::Number);
                }
                let is_scalar = matches!(shape, Some(Shape::Scalar(_)));
                if let Some(length) = end_of_atom(&bytes[at..]) {
                    let ends = at + length;
                    if is_scalar {
                        self.emit_scalar_of(shape, scalar(&bytes[at..ends]), visitor);
                    }
                    visitor.skipped(ends);
                    self.after_value(visitor);
                    return ends;
                }
                self.used_for = if is_scalar { Use::Scalar } else { Use::Nothing };
                self.kept = 0;
                self.state = State::Atom;
                return self.atom(bytes, at, scratch, visitor);
            }
            _ => self.give_up(Broken::Malformed, visitor),
        }
        at + 1
    }

    fn open(&mut self, shape: &'static Shape<F>, state: State) {
        let level = usize::from(self.place.levels);
        // A shape is static and never deeper than this: a test walks them all.
        if let Some(step) = self.place.path.get_mut(level) {
            *step = self.place.slot;
            self.place.levels += 1;
        }
        self.place.slot = if state == State::FirstKey { UNNAMED } else { 0 };
        self.container = shape;
        self.state = state;
    }

    fn close<V: Visitor<Fact = F>>(&mut self, visitor: &mut V) {
        if let Shape::Object(Some(name), _) = self.container {
            visitor.leave(*name);
        }
        self.place.levels = self.place.levels.saturating_sub(1);
        self.place.slot = self.place.path.get(usize::from(self.place.levels)).copied().unwrap_or(UNNAMED);
        self.container = self.walk();
        self.after_value(visitor);
    }

    /// The container at the end of the path.
    fn walk(&self) -> &'static Shape<F> {
        let steps = self.place.path.get(1..usize::from(self.place.levels)).unwrap_or_default();
        steps.iter().fold(self.root, |shape, step| shape.child(*step).map_or(shape, Shape::container))
    }

    #[inline]
    fn after_value<V: Visitor<Fact = F>>(&mut self, visitor: &mut V) {
        self.state = State::Next;
        if self.place.levels == 0 {
            self.state = State::Complete;
            visitor.complete();
        }
    }

    #[cold]
    fn give_up<V: Visitor<Fact = F>>(&mut self, why: Broken, visitor: &mut V) {
        self.state = State::Broken;
        visitor.broken(why);
    }

    fn skipped<V: Visitor<Fact = F>>(&mut self, bytes: &[u8], at: usize, visitor: &mut V) -> usize {
        let end = self.skip.read(&bytes[at..]);
        if self.skip.is_over() {
            visitor.skipped(at + end);
            self.after_value(visitor);
        } else if self.skip.is_too_deep() {
            self.give_up(Broken::TooLarge, visitor);
        }
        at + end
    }

    fn atom<V: Visitor<Fact = F>>(&mut self, bytes: &[u8], at: usize, scratch: &mut [u8], visitor: &mut V) -> usize {
        let rest = &bytes[at..];
        let end = end_of_atom(rest);
        let piece = &rest[..end.unwrap_or(rest.len())];
        if self.used_for == Use::Scalar {
            // It did not end in the slice in which it began, so that its beginning is there.
            self.keep(piece, scratch);
            if end.is_some() {
                self.emit_scalar(scalar(&scratch[..usize::from(self.kept)]), visitor);
            }
        }
        if end.is_some() {
            self.after_value(visitor);
        }
        at + piece.len()
    }

    fn emit_scalar<V: Visitor<Fact = F>>(&mut self, scalar: Scalar<'_>, visitor: &mut V) {
        self.emit_scalar_of(self.container.child(self.place.slot).map(Shape::scalar), scalar, visitor);
    }

    #[inline]
    fn emit_scalar_of<V: Visitor<Fact = F>>(
        &mut self,
        shape: Option<&'static Shape<F>>,
        scalar: Scalar<'_>,
        visitor: &mut V,
    ) {
        // The root of a document that is not an object has a shape, but no slot.
        if self.place.levels == 0 {
            return;
        }
        match shape {
            Some(Shape::Scalar(fact)) => visitor.scalar(*fact, scalar),
            Some(Shape::Is(word, fact)) if scalar.string() == Some(word.as_bytes()) => {
                visitor.present(*fact, usize::MAX)
            }
            Some(Shape::Tag(tags)) if self.place.levels == 1 => {
                let Some(word) = scalar.string() else { return };
                let before = self.root;
                self.root = match tags.find(word) {
                    Some(at) => {
                        let (_, fact, shape) = &tags.words[at];
                        visitor.tagged(*fact);
                        shape
                    }
                    None => {
                        visitor.tagged(None);
                        &tags.otherwise
                    }
                };
                self.container = self.root;
                if let (Shape::Object(Some(name), _), Shape::Object(None, _)) = (self.root, before) {
                    visitor.enter(*name);
                }
            }
            _ => {}
        }
    }
}

#[inline(never)]
fn slot_of<F>(key: &[u8], keys: &[(&str, Shape<F>)]) -> u8 {
    let slot = keys.iter().position(|(name, _)| skip::is_same_key(name.as_bytes(), key));
    slot.map_or(UNNAMED, |slot| slot as u8)
}

/// Where a number, `true`, `false` or `null` ends.
#[inline]
fn end_of_atom(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| ATOM_END[usize::from(*byte)])
}

fn scalar(atom: &[u8]) -> Scalar<'_> {
    match atom {
        b"null" => Scalar::Null,
        b"true" => Scalar::Bool(true),
        b"false" => Scalar::Bool(false),
        _ if atom.len() >= SCRATCH => Scalar::Other,
        _ => Scalar::Number(atom),
    }
}

/// The bytes that end a number, `true`, `false` or `null`.
static ATOM_END: [bool; 256] = skip::set(b",}] \t\n\r");

/// White space between values.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
