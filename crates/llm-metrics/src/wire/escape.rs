//! Escapes of two bytes, which a text of several lines is full of.

/// What stands after the backslash, unescaped.
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

/// Joins the short pieces that escapes leave of a text: to tell of one costs more than to copy it.
pub(super) struct Joined<T> {
    bytes: [u8; 64],
    length: usize,
    tell: T,
}

impl<T: FnMut(&[u8])> Joined<T> {
    pub(super) fn new(tell: T) -> Self {
        Self { bytes: [0; 64], length: 0, tell }
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
            None => (self.tell)(piece),
        }
    }

    /// The next byte of the text, by what stands after its backslash.
    pub(super) fn escape(&mut self, byte: u8) {
        if self.length == self.bytes.len() {
            self.flush();
        }
        self.bytes[self.length] = unescaped(byte);
        self.length += 1;
    }

    /// Tells what is still to be told.
    pub(super) fn flush(&mut self) {
        if self.length > 0 {
            (self.tell)(&self.bytes[..self.length]);
            self.length = 0;
        }
    }
}
