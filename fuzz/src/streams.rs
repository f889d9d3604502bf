//! The framing of server-sent events, read line by line from a whole stream.

use llm_metrics::fuzzing::{LONGEST_EVENT_NAME, Line};

use crate::answers::{self, Body};
use crate::events::{Answer, Event};
use crate::json;

const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

/// The lines of a stream, parsed.
pub fn lines(stream: &[u8]) -> Vec<Line> {
    let lines = split(stream);
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = colon.map_or((*line, None), |colon| (&line[..colon], Some(&line[colon + 1..])));
        match (field, value) {
            _ if line.is_empty() => found.push(Line::EventEnd),
            (b"data", Some(value)) => {
                let data = value.strip_prefix(b" ").unwrap_or(value);
                // The last line is followed by the end instead of a blank line.
                let blank_follows = lines.get(at + 1).is_some_and(|next| next.is_empty()) && at + 2 < lines.len();
                if !data.is_empty() {
                    found.push(Line::Data(data.to_vec(), blank_follows));
                }
            }
            (b"event", Some(name @ [_, ..])) => {
                let name = name.strip_prefix(b" ").unwrap_or(name);
                found.push(Line::Named(name[..name.len().min(LONGEST_EVENT_NAME)].to_vec()));
            }
            // Not in the specification: for a long time, llama.cpp reported errors like this.
            (b"error", Some([_, ..])) => found.push(Line::Error),
            _ => {}
        }
    }
    // The text after the last line end is a line only if it is not empty.
    if lines.last().is_some_and(|line| line.is_empty()) {
        found.pop();
    }
    found.push(Line::BodyEnd);
    found
}

/// Splits at `\n`, `\r` and `\r\n`; the text after the last of them is a line, too.
fn split(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = stream.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        lines.push(&stream[..end]);
        let ending = if stream[end..].starts_with(b"\r\n") { 2 } else { 1 };
        stream = &stream[end + ending..];
    }
    lines.push(stream);
    lines
}

/// The facts of a stream, if all documents in it are valid.
pub fn read(stream: &[u8], body: Body) -> Option<Answer> {
    // White space at the beginning matters in no framing.
    let stream = stream.trim_ascii_start();
    let stream = stream.strip_prefix(BYTE_ORDER_MARK).unwrap_or(stream);
    // A body that begins like a document is read as one, whatever the content type is.
    if matches!(stream.trim_ascii_start(), [b'{' | b'[', ..]) {
        return None;
    }
    let mut answer = Answer::default();
    let (mut data, mut error, mut own) = (Vec::<Vec<u8>>::new(), false, false);
    for line in lines(stream) {
        match line {
            Line::Data(line, _) => data.push(line),
            Line::Error => error = true,
            // A name counts only if it comes before the data.
            Line::Named(_) if data.concat().iter().any(|byte| !blank(byte)) => {}
            Line::Named(name) => {
                error |= name == b"error";
                own = !matches!(&name[..], b"" | b"message" | b"data" | b"error");
            }
            Line::EventEnd | Line::BodyEnd => {
                let read = event(&std::mem::take(&mut data), body, std::mem::take(&mut own), &mut answer)?;
                if read.is_some() || error {
                    let mut read = read.unwrap_or_default();
                    read.error |= std::mem::take(&mut error);
                    answer.events.push(read);
                }
            }
        }
    }
    Some(answer)
}

fn blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// One event: `None` if this reader is not sure about it, and `Some(None)` if it is empty. `own`: it has an event name, so that text in it is only a
/// heartbeat.
fn event(data: &[Vec<u8>], body: Body, own: bool, answer: &mut Answer) -> Option<Option<Event>> {
    let joined = data.concat();
    let Some(begins) = joined.iter().position(|byte| !blank(byte)) else { return Some(None) };
    let text = data.join(&b'\n');
    match joined[begins] {
        b'{' => {
            let document = json::parse(std::str::from_utf8(&text).ok()?).filter(answers::knows)?;
            Some(Some(answers::read(document.as_object()?, body, answer)))
        }
        b'[' if joined[begins..].starts_with(b"[DONE]") => {
            let only = joined[begins + b"[DONE]".len()..].iter().all(blank);
            only.then(|| Some(Event { done: true, ..Event::default() }))
        }
        // JSON that is not an object is padding; text that only resembles it may be anything.
        b'[' | b'"' | b'-' | b'0'..=b'9' | b'n' | b't' | b'f' => {
            let is_json = data.len() == 1 && std::str::from_utf8(&text).is_ok_and(|text| json::parse(text).is_some());
            is_json.then(|| Some(Event::default()))
        }
        _ => Some(Some(Event { error: !own, ..Event::default() })),
    }
}
