//! The usual way to read a chunk: parse it.

use std::{borrow::Cow, hint::black_box};

use bytes::Bytes;
use serde::Deserialize;

/// The relevant part of a chunk, borrowed where possible.
#[derive(Debug, Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    completion_tokens: u64,
}

/// Parses an event into types for it.
pub fn typed(event: &Bytes) {
    let chunk = json(event).and_then(|json| serde_json::from_slice::<Chunk<'_>>(json).ok());
    if let Some(chunk) = &chunk {
        let choice = chunk.choices.first();
        black_box(choice.and_then(|choice| choice.delta.as_ref()?.content.as_ref()));
        black_box(choice.and_then(|choice| choice.finish_reason.as_ref()));
        black_box(chunk.usage.as_ref().map(|usage| usage.completion_tokens));
    }
}

/// Parses an event into a tree.
pub fn value(event: &Bytes) {
    black_box(json(event).and_then(|json| serde_json::from_slice::<serde_json::Value>(json).ok()));
}

fn json(event: &Bytes) -> Option<&[u8]> {
    event.strip_prefix(b"data: ").map(<[u8]>::trim_ascii_end)
}
