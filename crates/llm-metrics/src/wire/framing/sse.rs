//! The framing of [server-sent events][spec]: which bytes of a body are data, and where an event ends.
//!
//! Nothing is buffered except the name of a field or an event, and only if a slice ends inside it.
//!
//! [spec]: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
//!
//! ```text
//! stream  = [ bom ] *event
//! event   = *( comment / field ) end-of-line
//! comment = ":" *any-char end-of-line
//! field   = 1*name-char [ ":" [ space ] *any-char ] end-of-line
//! end-of-line = ( cr lf / cr / lf )
//! ```

use super::{Extent, LineSink};

/// Longer than the longest name of a field or an event that matters, `response.code_interpreter_call_code.delta`.
pub(in crate::wire) const LONGEST: usize = 42;

/// The bytes after an event, as servers write them.
pub(super) const END: &[u8] = b"\n\n";

/// The bytes before the data of an event with this name, as servers write them.
pub(super) fn lead(name: Option<&'static str>) -> [&'static [u8]; 3] {
    match name {
        None => [b"", b"", b"data: "],
        Some(name) => [b"event: ", name.as_bytes(), b"\ndata: "],
    }
}

/// What is known about the end of the current line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    None,
    Some,
    BlankFollows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the field name, with the number of bytes read.
    Name(u8),
    /// After the colon, where one space is ignored.
    Colon(Field),
    /// In data, with whether some of it was read.
    Data { begun: bool },
    /// In the event's name, with the number of bytes read.
    EventName(u8),
    /// In a line that is ignored.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    /// Not in the specification: older versions of llama.cpp reported errors like this.
    Error,
    Other,
}

impl Field {
    fn named(name: &[u8]) -> Self {
        match name {
            b"data" => Self::Data,
            b"event" => Self::Event,
            b"error" => Self::Error,
            _ => Self::Other,
        }
    }
}

/// Splits a body into lines. It keeps only its position.
#[derive(Debug)]
pub(in crate::wire) struct SseDecoder {
    state: State,
    name: [u8; LONGEST],
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl SseDecoder {
    pub(in crate::wire) const fn new() -> Self {
        Self { state: State::Name(0), name: [0; LONGEST], after_return: false }
    }

    /// Whether the next byte begins a line.
    #[inline]
    pub(in crate::wire) fn is_between_lines(&self) -> bool {
        self.state == State::Name(0) && !self.after_return
    }

    pub(in crate::wire) fn read(&mut self, mut bytes: &[u8], lines: &mut impl LineSink) {
        if self.after_return && !bytes.is_empty() {
            self.after_return = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while !bytes.is_empty() {
            let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) else {
                return self.line(bytes, LineEnd::None, lines);
            };
            let ending = if bytes[end..].starts_with(b"\r\n") { 2 } else { 1 };
            let (line, rest) = (&bytes[..end], &bytes[end + ending..]);
            if let Some(rest) = rest.strip_prefix(b"\n") {
                // Usually it is the end of an event, for which the next line is not needed.
                self.line(line, LineEnd::BlankFollows, lines);
                lines.event_ends();
                bytes = rest;
                continue;
            }
            let blank_follows = rest.starts_with(b"\r");
            self.line(line, if blank_follows { LineEnd::BlankFollows } else { LineEnd::Some }, lines);
            self.after_return = bytes[end] == b'\r' && ending == 1 && rest.is_empty();
            bytes = rest;
        }
    }

    /// The body has ended; a last line counts without its line end.
    pub(in crate::wire) fn end(&mut self, lines: &mut impl LineSink) {
        if self.state != State::Name(0) {
            self.line(b"", LineEnd::Some, lines);
        }
        lines.body_ends();
    }

    /// A line, or a piece of one.
    #[inline]
    fn line(&mut self, line: &[u8], end: LineEnd, lines: &mut impl LineSink) {
        let whole = end != LineEnd::None;
        if self.state == State::Name(0) {
            if whole && line.is_empty() {
                return lines.event_ends();
            }
            if let Some(data @ [_, ..]) = line.strip_prefix(b"data: ") {
                self.state = State::Data { begun: true };
                lines.data(data, Extent { begins: true, ends: whole, last: end == LineEnd::BlankFollows });
                return self.line_ends(whole, lines);
            }
            if let Some(name) = line.strip_prefix(b"event: ").filter(|_| whole) {
                return lines.named(name);
            }
        }
        let mut from = 0;
        while from < line.len() {
            from = self.step(line, from, end, lines);
        }
        self.line_ends(whole, lines);
    }

    /// Continues a line that was split over slices, or that is unusual.
    fn step(&mut self, line: &[u8], from: usize, end: LineEnd, lines: &mut impl LineSink) -> usize {
        let byte = line[from];
        match self.state {
            State::Name(read) => {
                let read = usize::from(read);
                self.state = if byte == b':' {
                    State::Colon(Field::named(&self.name[..read]))
                } else if let Some(next) = self.name.get_mut(read) {
                    *next = byte;
                    State::Name(read as u8 + 1)
                } else {
                    State::Other
                };
                from + 1
            }
            State::Colon(field) => {
                self.state = match field {
                    Field::Data => State::Data { begun: false },
                    Field::Event => State::EventName(0),
                    Field::Error => {
                        lines.error();
                        State::Other
                    }
                    Field::Other => State::Other,
                };
                from + usize::from(byte == b' ')
            }
            State::Data { begun } => {
                let (ends, last) = (end != LineEnd::None, end == LineEnd::BlankFollows);
                lines.data(&line[from..], Extent { begins: !begun, ends, last });
                self.state = State::Data { begun: true };
                line.len()
            }
            State::EventName(read) => {
                let rest = &line[from..];
                let free = &mut self.name[usize::from(read)..];
                let fits = rest.len().min(free.len());
                free[..fits].copy_from_slice(&rest[..fits]);
                self.state = State::EventName(read + fits as u8);
                line.len()
            }
            State::Other => line.len(),
        }
    }

    #[inline]
    fn line_ends(&mut self, whole: bool, lines: &mut impl LineSink) {
        if !whole {
            return;
        }
        if let State::EventName(read) = self.state {
            lines.named(&self.name[..usize::from(read)]);
        }
        self.state = State::Name(0);
    }
}
