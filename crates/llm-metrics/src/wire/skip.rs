//! Finds the end of skipped values fast.

/// Skips one object or array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skip {
    depth: u16,
    in_string: bool,
    escaped: bool,
}

impl Skip {
    pub(super) const fn new() -> Self {
        Self { depth: 0, in_string: false, escaped: false }
    }

    /// The opening bracket was read.
    pub(super) fn begin(&mut self) {
        *self = Self { depth: 1, in_string: false, escaped: false };
    }

    /// The closing bracket was read.
    pub(super) fn is_over(&self) -> bool {
        self.depth == 0
    }

    /// No sensible document is nested like this; the value is abandoned.
    pub(super) fn is_too_deep(&self) -> bool {
        self.depth == u16::MAX
    }

    /// Reads to the end of the value or of `bytes`, and returns the offset.
    pub(super) fn read(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.in_string {
                let Some(length) = quote_or_backslash(&bytes[at..]) else { return bytes.len() };
                at += length + 1;
                if bytes[at - 1] == b'"' {
                    self.in_string = false;
                } else {
                    self.escaped = true;
                }
            } else {
                let Some(length) = bytes[at..].iter().position(|byte| STRUCTURE[usize::from(*byte)]) else {
                    return bytes.len();
                };
                at += length + 1;
                match bytes[at - 1] {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                    _ => self.depth -= 1,
                }
                if self.is_over() || self.is_too_deep() {
                    return at;
                }
            }
        }
        at
    }
}

/// The bytes that matter outside a string.
static STRUCTURE: [bool; 256] = set(b"\"{}[]");

/// A set of bytes.
pub(super) const fn set(mut bytes: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    while let [byte, rest @ ..] = bytes {
        set[*byte as usize] = true;
        bytes = rest;
    }
    set
}

/// The offset of the end of a string, or of its next escape. Most strings are too short for a function call: their bytes are checked eight at a time,
/// the first eight inline.
#[inline(always)]
pub(super) fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let Some(word) = bytes.first_chunk::<8>() else { return quote_or_backslash_from(bytes, 0) };
    let word = u64::from_le_bytes(*word);
    let found = bytes_equal(word, b'"') | bytes_equal(word, b'\\');
    if found != 0 { Some(found.trailing_zeros() as usize / 8) } else { quote_or_backslash_from(bytes, 8) }
}

/// The same, if there is known to be none before `at`.
fn quote_or_backslash_from(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let found = bytes_equal(word, b'"') | bytes_equal(word, b'\\');
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
        if at == 32 {
            return memchr::memchr2(b'"', b'\\', &bytes[at..]).map(|found| at + found);
        }
    }
    bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|found| at + found)
}

/// The same, but also stops at a byte that is invalid in a string, such as a line end.
#[inline]
pub(super) fn end_of_plain_text(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let found = bytes_equal(word, b'"') | bytes_equal(word, b'\\') | bytes_below(word, b' ');
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | ..b' ')).map(|found| at + found)
}

/// Whether two keys are equal. Most are too short for a function call: two overlapping words hold a whole key.
#[inline]
pub(super) fn is_same_key(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match one.len() {
        4..=7 => halves::<4>(one) == halves::<4>(other),
        8..=16 => halves::<8>(one) == halves::<8>(other),
        _ => one == other,
    }
}

#[inline]
fn halves<const N: usize>(key: &[u8]) -> (Option<&[u8; N]>, Option<&[u8; N]>) {
    (key.first_chunk(), key.last_chunk())
}

/// The lowest set bit marks the first byte that equals `byte`; the bits above it are meaningless.
#[inline]
const fn bytes_equal(word: u64, byte: u8) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let differences = word ^ (ONES * byte as u64);
    differences.wrapping_sub(ONES) & !differences & (ONES << 7)
}

/// The same for the first byte below `byte`, which must be at most 128.
#[inline]
const fn bytes_below(word: u64, byte: u8) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    word.wrapping_sub(ONES * byte as u64) & !word & (ONES << 7)
}
