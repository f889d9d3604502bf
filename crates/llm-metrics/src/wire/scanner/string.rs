//! Strings: keys, texts and scalars, with their escapes, from slice to slice.

use super::{Escape, SCRATCH, Scalar, Scanner, Shape, State, Use, Visitor, skip};
use crate::wire::escape::{Joined, unescaped};

/// Replaces an unpaired surrogate.
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

impl<F: Copy + 'static> Scanner<F> {
    #[inline]
    pub(super) fn begin_string(&mut self, used_for: Use) {
        self.state = State::String;
        self.used_for = used_for;
        self.escape = Escape::None;
        self.high = 0;
        self.kept = 0;
    }

    pub(super) fn string<V: Visitor<Fact = F>>(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        scratch: &mut [u8],
        visitor: &mut V,
    ) -> usize {
        while at < bytes.len() {
            if self.escape != Escape::None {
                self.escaped(bytes[at], scratch, visitor);
                at += 1;
                continue;
            }
            let rest = &bytes[at..];
            let Some(length) = skip::quote_or_backslash(rest) else {
                self.piece(rest, scratch, visitor);
                return bytes.len();
            };
            let piece = &rest[..length];
            if rest[length] == b'"' {
                at += length + 1;
                self.end_string(piece, at, scratch, visitor);
                return at;
            }
            match rest.get(length + 1) {
                Some(byte) if *byte != b'u' && self.used_for == Use::Text => at += self.escapes(rest, visitor),
                Some(byte) if *byte != b'u' => {
                    self.piece(piece, scratch, visitor);
                    self.piece(&[unescaped(*byte)], scratch, visitor);
                    at += length + 2;
                }
                _ => {
                    self.piece(piece, scratch, visitor);
                    self.escape = Escape::Backslash;
                    at += length + 1;
                }
            }
        }
        at
    }

    /// Finds two-byte escapes in a text, and the pieces around them, with the total length.
    fn escapes<V: Visitor<Fact = F>>(&mut self, bytes: &[u8], visitor: &mut V) -> usize {
        let mut at = 0;
        // A text never needs the scratch buffer.
        let mut text = Joined::new(|piece: &[u8]| self.piece(piece, &mut [], visitor));
        while let Some(length) = skip::quote_or_backslash(&bytes[at..]) {
            let (piece, [b'\\', byte, ..]) = bytes[at..].split_at(length) else { break };
            if *byte == b'u' {
                break;
            }
            text.piece(piece);
            text.escape(*byte);
            at += length + 2;
        }
        text.flush();
        at
    }

    /// The closing quote, with the text since the last escape or the start of the slice.
    #[inline]
    fn end_string<V: Visitor<Fact = F>>(&mut self, piece: &[u8], at: usize, scratch: &mut [u8], visitor: &mut V) {
        match self.used_for {
            Use::Nothing => {
                visitor.skipped(at);
                return self.after_value(visitor);
            }
            Use::Text => {
                self.piece(piece, scratch, visitor);
                self.lone_surrogate(scratch, visitor);
                visitor.text_ends(at);
                return self.after_value(visitor);
            }
            Use::Key | Use::Scalar => {}
        }
        let whole = if self.kept == 0 && self.high == 0 {
            piece
        } else {
            self.piece(piece, scratch, visitor);
            self.lone_surrogate(scratch, visitor);
            &scratch[..usize::from(self.kept)]
        };
        if self.used_for == Use::Key {
            self.named(whole);
        } else {
            self.emit_scalar(Scalar::String(whole), visitor);
            self.after_value(visitor);
        }
    }

    /// A piece of a string, unescaped.
    #[inline]
    fn piece<V: Visitor<Fact = F>>(&mut self, piece: &[u8], scratch: &mut [u8], visitor: &mut V) {
        if piece.is_empty() || self.used_for == Use::Nothing {
            return;
        }
        if self.high != 0 {
            self.lone_surrogate(scratch, visitor);
        }
        if self.used_for != Use::Text {
            self.keep(piece, scratch);
        } else if let Some(Shape::Text(kind)) = self.container.child(self.place.slot).map(Shape::scalar) {
            visitor.text(*kind, self.place.slot, piece);
        }
    }

    pub(super) fn keep(&mut self, piece: &[u8], scratch: &mut [u8]) {
        let free = scratch.get_mut(usize::from(self.kept)..SCRATCH).unwrap_or_default();
        let fits = piece.len().min(free.len());
        free[..fits].copy_from_slice(&piece[..fits]);
        self.kept += fits as u8;
        self.touched = true;
    }

    /// One byte of an escape sequence.
    #[cold]
    fn escaped<V: Visitor<Fact = F>>(&mut self, byte: u8, scratch: &mut [u8], visitor: &mut V) {
        let read = match self.escape {
            Escape::Unicode(read) => read,
            _ if byte == b'u' && self.used_for != Use::Nothing => {
                self.escape = Escape::Unicode(0);
                self.unit = 0;
                return;
            }
            _ => {
                self.escape = Escape::None;
                return self.piece(&[unescaped(byte)], scratch, visitor);
            }
        };
        let digit = char::from(byte).to_digit(16).unwrap_or(0) as u16;
        self.unit = self.unit << 4 | digit;
        self.escape = if read < 3 { Escape::Unicode(read + 1) } else { Escape::None };
        if read == 3 {
            self.code_unit(scratch, visitor);
        }
    }

    /// A complete `\uXXXX`.
    fn code_unit<V: Visitor<Fact = F>>(&mut self, scratch: &mut [u8], visitor: &mut V) {
        let pair = [std::mem::take(&mut self.high), self.unit];
        let units = if pair[0] == 0 { &pair[1..] } else { &pair[..] };
        for decoded in char::decode_utf16(units.iter().copied()) {
            match decoded {
                Ok(character) => {
                    self.piece(character.encode_utf8(&mut [0; 4]).as_bytes(), scratch, visitor);
                }
                // It waits for its other half; `lone_surrogate` handles the case that it does not follow.
                Err(half) => {
                    self.lone_surrogate(scratch, visitor);
                    self.high = half.unpaired_surrogate();
                }
            }
        }
    }

    /// A surrogate whose other half did not follow.
    fn lone_surrogate<V: Visitor<Fact = F>>(&mut self, scratch: &mut [u8], visitor: &mut V) {
        if std::mem::take(&mut self.high) != 0 {
            self.piece(REPLACEMENT, scratch, visitor);
        }
    }
}
