//! What to look for in a JSON document, and the visitor that receives what was found.
//!
//! A [`Shape`] says which values matter and where they stand. So a fact is only ever read at its place: a key of the same
//! name inside tool arguments or a schema is never compared with anything, and one inside a text is not even a key.

use super::TextKind;

/// How deep a shape may go.
pub(super) const MAX_LEVELS: usize = 8;
/// How much of a value is kept when it has to be kept: what the longest model name needs to be seen as too long.
pub(super) const SCRATCH: usize = 132;

/// What is worth reading in a value. `F` names the facts.
#[derive(Debug)]
pub(super) enum Shape<F: 'static> {
    /// An object, of which these keys matter.
    Object(Option<F>, &'static [(&'static str, Self)]),
    /// An array, each element of which has this shape.
    Array(&'static Self),
    /// A string that is emitted in fragments, as it flows.
    Text(TextKind),
    /// A string, number or other scalar that is emitted in one piece.
    Scalar(F),
    /// Anything but `null`: only its presence is emitted.
    Present(F),
    /// A string that is emitted only if it is this one. Otherwise it is envelope.
    Is(&'static str, F),
    /// A word that says what the other members of the document's outermost object are.
    Tag(&'static Tags<F>),
    /// The first for a string, number or other scalar, the second for an object or array.
    Either(&'static Self, &'static Self),
    /// Known to matter to nobody, and to hold nothing that a model or a user wrote.
    Envelope,
    /// The same, and known to differ from one document to the next.
    Padding,
}

/// What documents of a protocol there are, by the word in them or in the name of their event.
#[derive(Debug)]
pub(super) struct Tags<F: 'static> {
    /// The word, what it says by itself, and what the document holds.
    pub(super) words: &'static [(&'static str, Option<F>, Shape<F>)],
    /// How the protocol's words begin, if they all do so: an event whose name does has that word, and no other.
    pub(super) begin: Option<&'static str>,
    /// What a document with any other word holds.
    pub(super) otherwise: Shape<F>,
}

impl<F: Copy> Tags<F> {
    /// The place of a word in the list.
    pub(super) fn find(&self, word: &[u8]) -> Option<usize> {
        self.words.iter().position(|(known, ..)| known.as_bytes() == word)
    }

    /// Whether a word that is not in the list is one of the protocol's all the same.
    pub(super) fn is_unlisted(&self, word: &[u8]) -> bool {
        self.begin.is_some_and(|begin| word.starts_with(begin.as_bytes()))
    }
}

impl<F> Shape<F> {
    /// The shape of what stands in this slot of an object or array.
    #[inline]
    pub(super) fn child(&self, slot: u8) -> Option<&Self> {
        match self {
            Self::Object(_, keys) => keys.get(usize::from(slot)).map(|(_, shape)| shape),
            Self::Array(element) => Some(element),
            _ => None,
        }
    }

    /// What it is where an object or array stands.
    pub(super) fn container(&self) -> &Self {
        if let Self::Either(_, container) = self { container } else { self }
    }

    /// What it is where a string, number or other scalar stands.
    #[inline]
    pub(super) fn scalar(&self) -> &Self {
        if let Self::Either(scalar, _) = self { scalar } else { self }
    }
}

/// A scalar in one piece. Strings are unescaped, and may be cut where they are longer than [`SCRATCH`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    String(&'a [u8]),
    Number(&'a [u8]),
    Bool(bool),
    Null,
    /// An object, an array, or nothing that JSON knows.
    Other,
}

impl<'a> Scalar<'a> {
    /// A whole number that is not negative.
    pub(super) fn integer(self) -> Option<u64> {
        let Self::Number(digits) = self else { return None };
        digits.iter().try_fold(0_u64, |sum, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            sum.checked_mul(10)?.checked_add(u64::from(digit))
        })
    }

    /// A whole number that is not negative, with a point or without. One that is too large stays as large as it can be.
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

/// Why a document was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Malformed,
    TooLarge,
}

/// Receives what the scanner finds. Offsets count from the start of the slice at hand.
pub(super) trait Visitor {
    type Fact: Copy + 'static;
    /// An object that has a name was opened.
    fn enter(&mut self, _object: Self::Fact) {}
    /// It was closed.
    fn leave(&mut self, _object: Self::Fact) {}
    fn scalar(&mut self, _fact: Self::Fact, _value: Scalar<'_>) {}
    /// A value is there, at `offset` if it may be passed over.
    fn present(&mut self, _fact: Self::Fact, _offset: usize) {}
    /// The document has said what it is, which may be a fact.
    fn tagged(&mut self, _fact: Option<Self::Fact>) {}
    /// A list begins at `offset`, right after its opening bracket.
    fn list_begins(&mut self, _offset: usize, _inside: Place) {}
    /// A text begins at `offset`, right after its opening quote.
    fn text_begins(&mut self, _offset: usize, _place: Place) {}
    /// A piece of a text that is not empty. `key` tells apart texts of one kind in one object.
    fn text(&mut self, _kind: TextKind, _key: u8, _fragment: &[u8]) {}
    /// The text ended before `offset`, right after its closing quote.
    fn text_ends(&mut self, _offset: usize) {}
    /// A value that is more than a number or a word is passed over, from `offset` on.
    fn skips(&mut self, _offset: usize, _what: Skipped) {}
    /// It was passed over, up to `offset`.
    fn skipped(&mut self, _offset: usize) {}
    /// The document is complete.
    fn complete(&mut self) {}
    /// The document is given up; nothing more of it is emitted.
    fn broken(&mut self, _why: Broken) {}
}

/// What is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    Object,
    Array,
    String,
    /// A string or a number that is known to differ.
    Padding,
    Number,
}

/// Where a value stands in the shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The slots that lead from the root to the innermost open container.
    pub(super) path: [u8; MAX_LEVELS],
    /// How many containers are open.
    pub(super) levels: u8,
    /// The slot in that container.
    pub(super) slot: u8,
}
