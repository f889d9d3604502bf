//! One JSON document per line: [NDJSON](https://github.com/ndjson/ndjson-spec), also called JSON lines.

use super::{Extent, LineSink};

/// The bytes after a document.
pub(super) const END: &[u8] = b"\n";

/// Splits a body into lines. It keeps only its position.
#[derive(Debug, Default)]
pub(in crate::wire) struct NdJsonDecoder {
    /// Some of the line was read.
    inside: bool,
}

impl NdJsonDecoder {
    /// Whether the next byte begins a line.
    #[inline]
    pub(in crate::wire) fn is_between_lines(&self) -> bool {
        !self.inside
    }

    pub(in crate::wire) fn read(&mut self, mut bytes: &[u8], lines: &mut impl LineSink) {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes);
            let line = &bytes[..end.unwrap_or(bytes.len())];
            if !line.is_empty() {
                let ends = end.is_some();
                lines.data(line, Extent { begins: !self.inside, ends, last: ends });
            }
            let Some(end) = end else {
                self.inside = true;
                return;
            };
            self.inside = false;
            lines.event_ends();
            bytes = &bytes[end + 1..];
        }
    }

    /// The body has ended; a last line counts without its line end.
    pub(in crate::wire) fn end(&mut self, lines: &mut impl LineSink) {
        self.inside = false;
        lines.body_ends();
    }
}
