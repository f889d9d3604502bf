//! Bytes that are buffered until they are complete: a schema, and the answer to be validated against it.

use std::fmt;

/// Bytes up to a limit. Beyond the limit, none are kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct BoundedBytes {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl BoundedBytes {
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

/// Without the text, which must not be logged.
impl fmt::Debug for BoundedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedBytes").field("length", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_over_the_limit() {
        let mut bytes = BoundedBytes::default();
        bytes.push(b"ab", 4);
        bytes.push(b"cd", 4);
        assert_eq!(bytes.whole(), Some(&b"abcd"[..]));
        bytes.push(b"e", 4);
        assert_eq!((bytes.whole(), bytes.bytes.capacity()), (None, 0));
        bytes.push(b"", 4);
        assert_eq!(bytes.whole(), None);
    }

    #[test]
    fn its_memory_grows_by_doubling_and_never_over_the_limit() {
        let mut bytes = BoundedBytes::default();
        let capacities: std::collections::BTreeSet<_> = (0..1000)
            .map(|_| {
                bytes.push(b"x", 1000);
                bytes.bytes.capacity()
            })
            .collect();
        assert_eq!((bytes.bytes.len(), capacities.last()), (1000, Some(&1000)));
        assert!(capacities.len() < 12, "{capacities:?}");
    }

    #[test]
    fn its_memory_grows_only_for_a_piece_that_does_not_fit() {
        let mut bytes = BoundedBytes::default();
        let capacities = ["four", "1", "two", "1"].map(|piece| {
            bytes.push(piece.as_bytes(), 1000);
            bytes.bytes.capacity()
        });
        assert_eq!(capacities, [4, 8, 8, 16]);
    }

    #[test]
    fn debug_output_has_no_text() {
        let mut bytes = BoundedBytes::default();
        bytes.push(b"secret", 100);
        assert_eq!(format!("{bytes:?}"), "BoundedBytes { length: 6, .. }");
    }
}
