//! The framing of server-sent events, read from a whole stream line by line.

use llm_metrics::fuzzing::Line;

use crate::answers::{self, Body};
use crate::events::{Answer, Event};
use crate::json;

const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

/// What the lines of a stream say.
pub fn lines(stream: &[u8]) -> Vec<Line> {
    let lines = split(stream);
    let mut told = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = colon.map_or((*line, None), |colon| (&line[..colon], Some(&line[colon + 1..])));
        match (field, value) {
            _ if line.is_empty() => told.push(Line::EventEnd),
            (b"data", Some(value)) => {
                let data = value.strip_prefix(b" ").unwrap_or(value);
                // The last line of all has no blank one after it, only the end.
                let blank_follows = lines.get(at + 1).is_some_and(|next| next.is_empty()) && at + 2 < lines.len();
                if !data.is_empty() {
                    told.push(Line::Data(data.to_vec(), blank_follows));
                }
            }
            (b"event", Some(b"error" | b" error")) => told.push(Line::Error),
            // Not in the specification: how llama.cpp told of errors for long.
            (b"error", Some([_, ..])) => told.push(Line::Error),
            _ => {}
        }
    }
    // The end of the body ends the event.
    if lines.last().is_some_and(|line| !line.is_empty()) {
        told.push(Line::EventEnd);
    }
    told
}

/// At `\n`, `\r` and `\r\n`; what comes after the last of them is a line, too.
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

/// What a stream says, if every document in it is valid.
pub fn read(stream: &[u8], body: Body) -> Option<Answer> {
    let stream = stream.strip_prefix(BYTE_ORDER_MARK).unwrap_or(stream);
    let mut answer = Answer::default();
    let (mut data, mut error) = (Vec::<Vec<u8>>::new(), false);
    for line in lines(stream) {
        match line {
            Line::Data(line, _) => data.push(line),
            Line::Error => error = true,
            Line::EventEnd => {
                let read = event(&std::mem::take(&mut data), body, &mut answer)?;
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

/// One event: `None` if it is no valid JSON, and `Some(None)` if there is nothing in it.
fn event(data: &[Vec<u8>], body: Body, answer: &mut Answer) -> Option<Option<Event>> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let joined = data.concat();
    let Some(begins) = joined.iter().position(|byte| !blank(byte)) else { return Some(None) };
    if joined[begins] == b'{' {
        let document = json::parse(std::str::from_utf8(&data.join(&b'\n')).ok()?)?;
        return Some(Some(answers::read(document.as_object()?, body, answer)));
    }
    let done = joined[begins..].strip_prefix(b"[DONE]");
    let error = done.is_none_or(|rest| !rest.iter().all(blank));
    Some(Some(Event { done: done.is_some(), error, ..Event::default() }))
}
