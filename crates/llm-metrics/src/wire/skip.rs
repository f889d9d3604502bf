//! Finding the end of what nobody looks at, fast.

/// Passes over one object or array.
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

    /// How many brackets are open: 0 at the end.
    pub(super) fn depth(&self) -> u16 {
        self.depth
    }

    /// Reads on, to the end of the value or of `bytes`, and says how far it came.
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
                let byte = bytes[at];
                at += 1;
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
                if self.depth == 0 || self.depth == u16::MAX {
                    return at;
                }
            }
        }
        at
    }
}

/// Where a string ends, or is escaped. Most strings are too short to be worth a call.
#[inline]
pub(super) fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let near = bytes.len().min(16);
    if let Some(found) = bytes[..near].iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        return Some(found);
    }
    if near == bytes.len() {
        return None;
    }
    memchr::memchr2(b'"', b'\\', &bytes[near..]).map(|found| near + found)
}
