//! Bytes that are held until all of them are there: a schema, and the answer that is to follow it.

use std::fmt;

/// Bytes, up to a limit. Once there are more, none are held.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Held {
    pub(crate) fn push(&mut self, piece: &[u8], limit: usize) {
        self.overflowed |= self.bytes.len() + piece.len() > limit;
        if self.overflowed {
            self.bytes = Vec::new();
        } else {
            if self.bytes.capacity() - self.bytes.len() < piece.len() {
                // As `Vec` grows, but never over the limit.
                let capacity = (2 * self.bytes.capacity()).clamp(self.bytes.len() + piece.len(), limit);
                self.bytes.reserve_exact(capacity - self.bytes.len());
            }
            self.bytes.extend_from_slice(piece);
        }
    }

    /// All bytes; `None` if there were more than the limit.
    pub(crate) fn whole(&self) -> Option<&[u8]> {
        (!self.overflowed).then_some(&*self.bytes)
    }
}

/// Without the text, which must not reach a log.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("length", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_held_over_the_limit() {
        let mut held = Held::default();
        held.push(b"ab", 4);
        held.push(b"cd", 4);
        assert_eq!(held.whole(), Some(&b"abcd"[..]));
        held.push(b"e", 4);
        assert_eq!((held.whole(), held.bytes.capacity()), (None, 0));
        held.push(b"", 4);
        assert_eq!(held.whole(), None);
    }

    #[test]
    fn its_memory_grows_by_doubling_and_never_over_the_limit() {
        let mut held = Held::default();
        let capacities: std::collections::BTreeSet<_> = (0..1000)
            .map(|_| {
                held.push(b"x", 1000);
                held.bytes.capacity()
            })
            .collect();
        assert_eq!((held.bytes.len(), capacities.last()), (1000, Some(&1000)));
        assert!(capacities.len() < 12, "{capacities:?}");
    }

    #[test]
    fn debug_output_has_no_text() {
        let mut held = Held::default();
        held.push(b"secret", 100);
        assert_eq!(format!("{held:?}"), "Held { length: 6, .. }");
    }
}
