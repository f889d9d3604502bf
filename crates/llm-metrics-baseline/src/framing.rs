//! Splits the bytes of a response into messages: events, lines, or one document.

/// How a response is split into messages.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    /// `text/event-stream`: the data of each event.
    Events,
    /// `application/x-ndjson`: each line.
    Lines,
    /// The whole body.
    Document,
}

/// The maximum size of a message. No server sends a larger one.
const MOST_BYTES: usize = 16 << 20;

/// A message is larger than [`MOST_BYTES`].
#[derive(Debug, PartialEq)]
pub(crate) struct TooLong;

/// Splits the bytes of one response into messages.
pub(crate) struct Framer {
    framing: Framing,
    /// The incomplete line, or the document.
    held: Vec<u8>,
    /// The data of the incomplete event.
    data: Vec<u8>,
}

impl Framer {
    /// Selects the framing by the content type of the response.
    pub(crate) fn new(content_type: &str) -> Self {
        let framing = match content_type.split(';').next().unwrap_or("").trim() {
            "text/event-stream" => Framing::Events,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Framing::Lines,
            _ => Framing::Document,
        };
        Self { framing, held: Vec::new(), data: Vec::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8], mut message: impl FnMut(&[u8])) -> Result<(), TooLong> {
        self.held.extend_from_slice(bytes);
        if self.framing != Framing::Document {
            let mut start = 0;
            while let Some(length) = self.held[start..].iter().position(|byte| *byte == b'\n') {
                let line = self.held[start..start + length].trim_ascii_end();
                match self.framing {
                    Framing::Events => event_line(line, &mut self.data, &mut message),
                    _ if line.is_empty() => {}
                    _ => message(line),
                }
                start += length + 1;
            }
            self.held.drain(..start);
        }
        if self.held.len() + self.data.len() > MOST_BYTES { Err(TooLong) } else { Ok(()) }
    }

    /// Call this at the end of the response: the remaining bytes may be a message, too.
    pub(crate) fn end(mut self, mut message: impl FnMut(&[u8])) {
        let held = std::mem::take(&mut self.held);
        let line = held.trim_ascii();
        match self.framing {
            // The standard discards an event without a blank line at its end, but some servers forget that line after the last event.
            Framing::Events => {
                event_line(line, &mut self.data, &mut message);
                event_line(b"", &mut self.data, &mut message);
            }
            _ if line.is_empty() => {}
            _ => message(line),
        }
    }
}

fn event_line(line: &[u8], data: &mut Vec<u8>, message: &mut impl FnMut(&[u8])) {
    if line.is_empty() {
        if !data.is_empty() {
            message(data);
            data.clear();
        }
    } else if let Some(part) = line.strip_prefix(b"data:") {
        if !data.is_empty() {
            data.push(b'\n');
        }
        data.extend_from_slice(part.strip_prefix(b" ").unwrap_or(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(content_type: &str, text: &str, size: usize) -> Vec<String> {
        let mut framer = Framer::new(content_type);
        let mut messages = Vec::new();
        let mut take = |message: &[u8]| messages.push(String::from_utf8(message.to_vec()).unwrap());
        for part in text.as_bytes().chunks(size) {
            framer.push(part, &mut take).unwrap();
        }
        framer.end(&mut take);
        messages
    }

    #[test]
    fn the_messages_do_not_depend_on_where_the_bytes_are_split() {
        let events = ": hello\n\nevent: a\ndata: one\n\ndata:two\r\ndata: more\r\n\r\nid: 3\n\ndata: [DONE]\n\n";
        let lines = "{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":3}";
        for size in 1..events.len() {
            assert_eq!(cut("text/event-stream; charset=utf-8", events, size), ["one", "two\nmore", "[DONE]"], "{size}");
            assert_eq!(cut("application/x-ndjson", lines, size), ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"], "{size}");
            assert_eq!(cut("application/json", "{\n \"a\": 1\n}\n", size), ["{\n \"a\": 1\n}"], "{size}");
        }
    }

    #[test]
    fn an_incomplete_event_is_returned_at_the_end() {
        assert_eq!(cut("text/event-stream", "data: one\n\ndata: two", 4), ["one", "two"]);
        assert_eq!(cut("text/event-stream", "", 1), [""; 0]);
    }

    #[test]
    fn a_message_without_end_is_an_error() {
        for content_type in ["text/event-stream", "application/json"] {
            let mut framer = Framer::new(content_type);
            let pushed = (0..32).find_map(|_| framer.push(&vec![b'x'; 1 << 20], |_| {}).err());
            assert_eq!(pushed, Some(TooLong), "{content_type}");
        }
    }
}
