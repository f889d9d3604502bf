//! The messages of protocols other than OpenAI's chat completions, byte for byte, and code to parse them.

use std::{borrow::Cow, hint::black_box};

use bytes::Bytes;
use serde::Deserialize;

use crate::sample::{MODEL, escaped_tokens};

fn each(event: impl Fn(usize, &str) -> String) -> Vec<Bytes> {
    escaped_tokens().iter().enumerate().map(|(at, token)| event(at, token).into()).collect()
}

/// Deltas of Anthropic's Messages.
#[must_use]
pub fn messages() -> Vec<Bytes> {
    each(|_, token| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{token}\"}}}}\n\n"
        )
    })
}

/// Deltas of OpenAI's Responses, with a growing number before the text.
#[must_use]
pub fn responses() -> Vec<Bytes> {
    each(|at, token| {
        format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{at},\"item_id\":\"msg_67c9fdcf37fc8190ba82116e33fb28c507b8b0ad8e5eb654\",\"output_index\":0,\"content_index\":0,\"delta\":\"{token}\",\"logprobs\":[]}}\n\n"
        )
    })
}

/// Lines of Ollama, with a timestamp before the text.
#[must_use]
pub fn ollama() -> Vec<Bytes> {
    each(|at, token| {
        format!(
            "{{\"model\":\"{MODEL}\",\"created_at\":\"2026-01-01T00:00:{at:02}.123456789Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"{token}\"}},\"done\":false}}\n"
        )
    })
}

/// Embeddings of this many bytes, followed by their usage.
#[must_use]
pub fn embeddings(bytes: usize) -> Bytes {
    let mut body = String::from(r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.0"#);
    let mut at = 0_u32;
    while body.len() < bytes {
        body.push_str(&format!(",-0.0{:07}", at.wrapping_mul(7919) % 9_999_991));
        at += 1;
    }
    body.push_str(&format!(r#"]}}],"model":"{MODEL}","usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#));
    body.into()
}

/// The relevant part of a delta of Messages.
#[derive(Debug, Deserialize)]
struct BlockDelta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    index: u32,
    #[serde(borrow, default)]
    delta: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Text<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

/// The relevant part of a delta of Responses.
#[derive(Debug, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    delta: Option<Cow<'a, str>>,
}

/// The relevant part of a line of Ollama.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    done: bool,
    #[serde(default)]
    eval_count: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
}

/// Parses a delta of Messages into types for it.
pub fn typed_block_delta(event: &Bytes) {
    let data = data_of(event).and_then(|data| serde_json::from_slice::<BlockDelta<'_>>(data).ok());
    let delta = data.as_ref().and_then(|block| block.delta.as_ref());
    black_box(data.as_ref().map(|block| (&block.kind, block.index)));
    black_box(delta.map(|delta| (&delta.kind, &delta.text)));
}

/// Parses a delta of Responses into types for it.
pub fn typed_delta(event: &Bytes) {
    let data = data_of(event).and_then(|data| serde_json::from_slice::<Delta<'_>>(data).ok());
    black_box(data.as_ref().map(|delta| (&delta.kind, &delta.delta)));
}

/// Parses a line of Ollama into types for it.
pub fn typed_line(line: &Bytes) {
    if let Ok(line) = serde_json::from_slice::<Line<'_>>(line) {
        black_box(line.message.as_ref().map(|message| &message.content));
        black_box((line.done, line.eval_count));
    }
}

/// The data of a named event.
fn data_of(event: &[u8]) -> Option<&[u8]> {
    let at = event.iter().position(|byte| *byte == b'{')?;
    Some(event[at..].trim_ascii_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_json_and_is_parsed() {
        for event in messages() {
            let block: BlockDelta<'_> = serde_json::from_slice(data_of(&event).unwrap()).unwrap();
            let delta = block.delta.expect("a delta");
            assert!(delta.text.is_some() && delta.kind == "text_delta" && block.kind == "content_block_delta");
        }
        for event in responses() {
            let delta: Delta<'_> = serde_json::from_slice(data_of(&event).unwrap()).unwrap();
            assert!(delta.delta.is_some() && delta.kind == "response.output_text.delta");
        }
        for line in ollama() {
            let line: Line<'_> = serde_json::from_slice(&line).unwrap();
            assert!(line.message.is_some() && !line.done && line.eval_count.is_none());
        }
        serde_json::from_slice::<serde_json::Value>(&embeddings(5000)).unwrap();
    }
}
