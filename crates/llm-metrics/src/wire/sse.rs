//! The framing of [server-sent events][spec]: which bytes of a body are data, and where an event ends.
//!
//! Nothing is buffered but the name of a field, and that only when a slice ends inside it.
//!
//! [spec]: https://html.spec.whatwg.org/multipage/server-sent-events.html

/// The longest field name that matters.
const LONGEST: usize = 5;

/// Who is told what the lines hold.
pub(super) trait Lines {
    /// A piece of what is in a data line.
    fn data(&mut self, data: &[u8], extent: Extent);
    /// The event says of itself that it is an error.
    fn error(&mut self);
    /// A blank line: the event is over.
    fn event_ends(&mut self);
}

/// How much of a data line a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The data begins with it.
    pub(super) begins: bool,
    /// The line ends with it.
    pub(super) ends: bool,
    /// It is known that a blank line follows: the event ends with it, too.
    pub(super) last: bool,
}

/// What is known about the end of a line at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    None,
    Some,
    BlankFollows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the field name, of which so many bytes were read.
    Name(u8),
    /// Right after the colon, where one space does not count.
    Colon(Field),
    /// In data, of which some or none was read.
    Data { begun: bool },
    /// In the event's type, of which so many bytes were as in `error`.
    Type(u8),
    /// In a line that does not matter.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Data,
    Event,
    /// Not in the specification: how llama.cpp told of errors for long.
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

/// Where the reader is in the stream.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    name: [u8; LONGEST],
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl Framing {
    pub(super) const fn new() -> Self {
        Self { state: State::Name(0), name: [0; LONGEST], after_return: false }
    }

    /// Whether the next byte begins a line.
    #[inline]
    pub(super) fn is_between_lines(&self) -> bool {
        self.state == State::Name(0) && !self.after_return
    }

    pub(super) fn read(&mut self, mut bytes: &[u8], lines: &mut impl Lines) {
        if self.after_return && !bytes.is_empty() {
            self.after_return = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while !bytes.is_empty() {
            let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) else {
                return self.line(bytes, LineEnd::None, lines);
            };
            let ending = if bytes[end..].starts_with(b"\r\n") { 2 } else { 1 };
            let blank_follows = matches!(bytes.get(end + ending), Some(b'\n' | b'\r'));
            self.line(&bytes[..end], if blank_follows { LineEnd::BlankFollows } else { LineEnd::Some }, lines);
            self.after_return = ending == 1 && bytes[end] == b'\r' && end + 1 == bytes.len();
            bytes = &bytes[end + ending..];
        }
    }

    /// The body is over; a last line counts without its end, a last event without its blank line.
    pub(super) fn end(&mut self, lines: &mut impl Lines) {
        self.line(b"", LineEnd::Some, lines);
        lines.event_ends();
    }

    /// A line, or a piece of one.
    #[inline]
    fn line(&mut self, line: &[u8], end: LineEnd, lines: &mut impl Lines) {
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
        }
        let mut from = 0;
        while from < line.len() {
            from = self.step(line, from, end, lines);
        }
        self.line_ends(whole, lines);
    }

    /// Reads on in a line that was not all in one slice, or is no ordinary one.
    fn step(&mut self, line: &[u8], from: usize, end: LineEnd, lines: &mut impl Lines) -> usize {
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
                    Field::Event => State::Type(0),
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
            State::Type(read) => {
                let expected = b"error".get(usize::from(read));
                self.state = if expected == Some(&byte) { State::Type(read + 1) } else { State::Other };
                from + 1
            }
            State::Other => line.len(),
        }
    }

    #[inline]
    fn line_ends(&mut self, whole: bool, lines: &mut impl Lines) {
        if !whole {
            return;
        }
        if self.state == State::Type(5) {
            lines.error();
        }
        self.state = State::Name(0);
    }
}
