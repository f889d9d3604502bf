//! One document that is the whole body: treated as one line that ends with the body, whatever line ends it contains.

use super::{Extent, LineSink};

#[derive(Debug, Default)]
pub(in crate::wire) struct DocumentDecoder {
    /// Some of it was read.
    begun: bool,
}

impl DocumentDecoder {
    pub(in crate::wire) fn read(&mut self, bytes: &[u8], lines: &mut impl LineSink) {
        if !bytes.is_empty() {
            let begins = !std::mem::replace(&mut self.begun, true);
            lines.data(bytes, Extent { begins, ends: false, last: false });
        }
    }

    /// The body has ended.
    pub(in crate::wire) fn end(&mut self, lines: &mut impl LineSink) {
        lines.body_ends();
    }
}
