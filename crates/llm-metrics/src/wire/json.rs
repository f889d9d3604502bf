//! Describes which values to read from a JSON document, and the visitor that receives them.
//!
//! A [`Shape`] defines which values matter, and their places. A value is only read at its place: a key of the same name inside tool arguments or a
//! schema is skipped, and one inside a text is not a key.

use super::TextKind;

/// The maximum depth of a shape.
pub(super) const MAX_LEVELS: usize = 8;
/// How many bytes of a value are kept: enough to see that the longest model name is too long.
pub(super) const SCRATCH: usize = 132;

/// The values to read. `F` names the facts.
#[derive(Debug)]
pub(super) enum Shape<F: 'static> {
    /// An object with these keys of interest.
    Object(Option<F>, &'static [(&'static str, Self)]),
    /// An array, each element of which has this shape.
    Array(&'static Self),
    /// A string that is emitted in fragments, as it arrives.
    Text(TextKind),
    /// A string, number or other scalar that is emitted in one piece.
    Scalar(F),
    /// Anything but `null`: only its presence is emitted.
    Present(F),
    /// A string that is emitted only if it equals this one. Otherwise it is envelope.
    Is(&'static str, F),
    /// A word that defines the meaning of the other members of the outermost object.
    Tag(&'static Tags<F>),
    /// The first shape for a string, number or other scalar, the second for an object or array.
    Either(&'static Self, &'static Self),
    /// A value without interest, which is skipped.
    Envelope,
    /// The same, if it differs from one document to the next.
    Padding,
}

/// The kinds of documents of a protocol, by the word in them or the name of their event.
#[derive(Debug)]
pub(super) struct Tags<F: 'static> {
    /// The word, its fact, and the shape of the document.
    pub(super) words: &'static [(&'static str, Option<F>, Shape<F>)],
    /// The common prefix of the protocol's words, if there is one: an event whose name has it contains that same word.
    pub(super) begin: Option<&'static str>,
    /// The shape of a document with any other word.
    pub(super) otherwise: Shape<F>,
}

impl<F: Copy> Tags<F> {
    /// The index of a word in the list.
    pub(super) fn find(&self, word: &[u8]) -> Option<usize> {
        self.words.iter().position(|(known, ..)| known.as_bytes() == word)
    }

    /// Whether a word belongs to the protocol although it is not in the list.
    pub(super) fn is_unlisted(&self, word: &[u8]) -> bool {
        self.begin.is_some_and(|begin| word.starts_with(begin.as_bytes()))
    }
}

impl<F> Shape<F> {
    /// The shape of the value in this slot of an object or array.
    #[inline]
    pub(super) fn child(&self, slot: u8) -> Option<&Self> {
        match self {
            Self::Object(_, keys) => keys.get(usize::from(slot)).map(|(_, shape)| shape),
            Self::Array(element) => Some(element),
            _ => None,
        }
    }

    /// The shape for an object or array.
    pub(super) fn container(&self) -> &Self {
        if let Self::Either(_, container) = self { container } else { self }
    }

    /// The shape for a string, number or other scalar.
    #[inline]
    pub(super) fn scalar(&self) -> &Self {
        if let Self::Either(scalar, _) = self { scalar } else { self }
    }
}

/// A scalar in one piece. Strings are unescaped, and truncated if they are longer than [`SCRATCH`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    String(&'a [u8]),
    Number(&'a [u8]),
    Bool(bool),
    Null,
    /// An object, an array, or an invalid value.
    Other,
}

impl<'a> Scalar<'a> {
    /// A non-negative whole number.
    pub(super) fn integer(self) -> Option<u64> {
        let Self::Number(digits) = self else { return None };
        digits.iter().try_fold(0_u64, |sum, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            sum.checked_mul(10)?.checked_add(u64::from(digit))
        })
    }

    /// A non-negative whole number, possibly with a decimal point. A number that is too large becomes the largest one.
    pub(super) fn amount(self) -> Option<u64> {
        let float = || self.float().filter(|float| *float >= 0.0 && float.fract() == 0.0);
        self.integer().or_else(|| float().map(|float| float as u64))
    }

    pub(super) fn float(self) -> Option<f64> {
        let Self::Number(digits) = self else { return None };
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    pub(super) fn boolean(self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(value) } else { None }
    }

    pub(super) fn string(self) -> Option<&'a [u8]> {
        if let Self::String(value) = self { Some(value) } else { None }
    }
}

/// Why a document was abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Malformed,
    TooLarge,
}

/// Receives the scanner's findings. Offsets are relative to the start of the current slice.
pub(super) trait Visitor {
    type Fact: Copy + 'static;
    /// A named object was opened.
    fn enter(&mut self, _object: Self::Fact) {}
    /// A named object was closed.
    fn leave(&mut self, _object: Self::Fact) {}
    fn scalar(&mut self, _fact: Self::Fact, _value: Scalar<'_>) {}
    /// A value, at `offset` if a template may skip it.
    fn present(&mut self, _fact: Self::Fact, _offset: usize) {}
    /// The kind of the document is known, which may be a fact.
    fn tagged(&mut self, _fact: Option<Self::Fact>) {}
    /// A list begins at `offset`, after its opening bracket.
    fn list_begins(&mut self, _offset: usize, _inside: Place) {}
    /// A text begins at `offset`, after its opening quote.
    fn text_begins(&mut self, _offset: usize, _place: Place) {}
    /// A non-empty piece of a text. `key` distinguishes texts of one kind in one object.
    fn text(&mut self, _kind: TextKind, _key: u8, _fragment: &[u8]) {}
    /// The text ended before `offset`, after its closing quote.
    fn text_ends(&mut self, _offset: usize) {}
    /// A value that is more than a number or a word is skipped, from `offset` on.
    fn skips(&mut self, _offset: usize, _what: Skipped) {}
    /// The value was skipped, up to `offset`; not called for a number that does not end in its slice.
    fn skipped(&mut self, _offset: usize) {}
    /// The document is complete.
    fn complete(&mut self) {}
    /// The document is abandoned; nothing more of it is emitted.
    fn broken(&mut self, _why: Broken) {}
}

/// A skipped value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    Object,
    Array,
    String,
    /// A string or a number that differs between documents.
    Padding,
    Number,
}

/// The position of a value in the shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The slots from the root to the innermost open container.
    pub(super) path: [u8; MAX_LEVELS],
    /// The number of open containers.
    pub(super) levels: u8,
    /// The slot in that container.
    pub(super) slot: u8,
}
