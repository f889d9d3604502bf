//! Escapes of two bytes, which are frequent in text with several lines.

/// The unescaped byte for the byte after the backslash.
pub(super) fn unescaped(byte: u8) -> u8 {
    match byte {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => byte,
    }
}

/// The maximum length of a text that is unescaped at once.
pub(super) const SHORT: usize = 64;

/// Unescapes a text that has only two-byte escapes; `None` if it is too long.
pub(super) fn unescape<'r>(text: &[u8], room: &'r mut [u8; SHORT]) -> Option<&'r [u8]> {
    let (mut length, mut bytes) = (0, text.iter());
    while let Some(byte) = bytes.next() {
        *room.get_mut(length)? = if *byte == b'\\' { unescaped(*bytes.next()?) } else { *byte };
        length += 1;
    }
    Some(&room[..length])
}

/// The maximum length of a piece that was joined from shorter ones.
const LONG: usize = 256;

/// Joins the short pieces of text between escapes, because emitting a piece costs more than copying it.
pub(super) struct Joined<T> {
    bytes: [u8; LONG],
    length: usize,
    emit: T,
}

impl<T: FnMut(&[u8])> Joined<T> {
    pub(super) fn new(emit: T) -> Self {
        Self { bytes: [0; LONG], length: 0, emit }
    }

    /// The next piece of the text.
    pub(super) fn piece(&mut self, piece: &[u8]) {
        if piece.len() > self.bytes.len() - self.length {
            self.flush();
        }
        match self.bytes.get_mut(self.length..self.length + piece.len()) {
            Some(free) => {
                free.copy_from_slice(piece);
                self.length += piece.len();
            }
            None => (self.emit)(piece),
        }
    }

    /// The next byte of the text, given the byte after its backslash.
    pub(super) fn escape(&mut self, byte: u8) {
        if self.length == self.bytes.len() {
            self.flush();
        }
        self.bytes[self.length] = unescaped(byte);
        self.length += 1;
    }

    /// Emits the rest.
    pub(super) fn flush(&mut self) {
        if self.length > 0 {
            (self.emit)(&self.bytes[..self.length]);
            self.length = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of `Joined`, piece by piece.
    fn joined(text: &[u8]) -> Vec<u8> {
        let mut emitted = Vec::new();
        let mut joined = Joined::new(|piece: &[u8]| emitted.extend_from_slice(piece));
        for (at, piece) in text.split(|byte| *byte == b'\\').enumerate() {
            if let (1.., [byte, rest @ ..]) = (at, piece) {
                joined.escape(*byte);
                joined.piece(rest);
            } else {
                joined.piece(piece);
            }
        }
        joined.flush();
        emitted
    }

    #[test]
    fn a_short_text_is_unescaped_at_once() {
        for text in ["", "plain", r#"\"a\", \n\t\r\b\f\/ b"#, "größe"] {
            let mut room = [0; SHORT];
            assert_eq!(
                unescape(text.as_bytes(), &mut room).map(<[u8]>::to_vec),
                Some(joined(text.as_bytes())),
                "{text}"
            );
        }
        let (fits, too_long) = (r"\n".repeat(SHORT), r"\n".repeat(SHORT + 1));
        assert_eq!(unescape(fits.as_bytes(), &mut [0; SHORT]), Some(&[b'\n'; SHORT][..]));
        assert_eq!(unescape(too_long.as_bytes(), &mut [0; SHORT]), None);
    }
}
