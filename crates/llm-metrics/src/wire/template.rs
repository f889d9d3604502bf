//! What two events of one stream have in common.
//!
//! The events of a stream are alike to the byte but for their text. So what a text stood between is remembered, and an
//! event that begins the same way need not be read again up to there: the reader would only come to the same state. The
//! same holds for what follows the text. Nothing is guessed: bytes that differ are read.
//!
//! Only an envelope is remembered: what the shape knows to hold neither a fact nor anything that a model or user wrote.

use super::facts::{Choice, Mark};
use super::json::{Place, SCRATCH};

const LONGEST_PREFIX: usize = 320;
const LONGEST_TAIL: usize = 128;

/// The bytes on both sides of a text. The scanner borrows the memory when it has to keep a split value, which is seldom;
/// the template is lost then.
#[derive(Debug)]
pub(super) struct Template {
    bytes: [u8; LONGEST_PREFIX + LONGEST_TAIL],
    /// 0: no template.
    prefix: u16,
    /// `None`: what follows differs each time.
    tail: Option<u8>,
    place: Place,
    choice: Choice,
}

impl Template {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; LONGEST_PREFIX + LONGEST_TAIL],
            prefix: 0,
            tail: None,
            place: Place::default(),
            choice: Choice::default(),
        }
    }

    pub(super) fn scratch(&mut self) -> &mut [u8] {
        &mut self.bytes[..SCRATCH]
    }

    pub(super) fn forget(&mut self) {
        self.prefix = 0;
    }

    /// Where the text begins in this line, and the state to go on from, if the line begins as the last one did.
    #[inline]
    pub(super) fn matches(&self, line: &[u8]) -> Option<(usize, Place, Choice)> {
        let length = usize::from(self.prefix);
        let same = length > 0 && line.starts_with(&self.bytes[..length]);
        same.then_some((length, self.place, self.choice))
    }

    /// Whether this is what followed the last text.
    #[inline]
    pub(super) fn ends_with(&self, rest: &[u8]) -> bool {
        self.tail.is_some_and(|length| rest == &self.bytes[LONGEST_PREFIX..LONGEST_PREFIX + usize::from(length)])
    }

    /// Remembers what came before a text. `begins`: where it begins in `line`.
    pub(super) fn learn(&mut self, line: &[u8], begins: usize, mark: &Mark) {
        self.tail = None;
        self.prefix = 0;
        if let (Some(from), Some(prefix)) = (self.bytes.get_mut(..begins), line.get(..begins)) {
            if begins <= LONGEST_PREFIX {
                from.copy_from_slice(prefix);
                self.prefix = begins as u16;
                self.place = mark.place;
                self.choice = mark.choice;
            }
        }
    }

    /// Remembers what came after it.
    pub(super) fn learn_tail(&mut self, rest: &[u8]) {
        self.tail = None;
        if rest.len() <= LONGEST_TAIL {
            self.bytes[LONGEST_PREFIX..LONGEST_PREFIX + rest.len()].copy_from_slice(rest);
            self.tail = Some(rest.len() as u8);
        }
    }
}
