//! The messages of engines and clients, byte for byte.

use bytes::Bytes;

/// The model name in all samples.
pub const MODEL: &str = "Qwen/Qwen3-4B-Instruct-2507";

/// Pieces of text like those of a tokenizer: mostly words, and some characters that JSON must escape.
const TOKENS: [&str; 32] = [
    " the",
    " answer",
    " to",
    " your",
    " question",
    " is",
    " that",
    " a",
    " server",
    " can",
    " only",
    " count",
    " what",
    " it",
    " has",
    " seen",
    ",",
    " and",
    " so",
    " it",
    " says",
    " \\\"",
    "maybe",
    "\\\"",
    ".",
    "\\n\\n",
    "Next",
    " we",
    " look",
    " at",
    " größe",
    "!",
];

/// Pieces of text as escaped in JSON.
pub(crate) const fn escaped_tokens() -> &'static [&'static str] {
    &TOKENS
}

/// The same pieces of text, unescaped.
///
/// # Panics
/// If one of them is not valid JSON.
#[must_use]
pub fn tokens() -> Vec<String> {
    let text = |token| serde_json::from_str(&format!("\"{token}\"")).expect("a token is JSON");
    TOKENS.iter().map(text).collect()
}

fn event(json: &str) -> Bytes {
    format!("data: {json}\n\n").into()
}

fn chunk(choices: &str, rest: &str) -> Bytes {
    event(&format!(
        r#"{{"id":"chatcmpl-7f3c2a9be1d04c55a6e2f8b9d0c1e2f3","object":"chat.completion.chunk","created":1753000000,"model":"{MODEL}","choices":[{choices}]{rest}}}"#
    ))
}

/// Events of about 230 bytes with one token each, like vLLM's.
#[must_use]
pub fn text_chunks() -> Vec<Bytes> {
    TOKENS
        .iter()
        .map(|token| {
            let choice =
                format!(r#"{{"index":0,"delta":{{"content":"{token}"}},"logprobs":null,"finish_reason":null}}"#);
            chunk(&choice, "")
        })
        .collect()
}

/// `count` chunks of the usual size whose text is JSON and never repeats: no check ends before the stream does.
#[must_use]
pub fn checked_chunks(count: usize) -> Vec<Bytes> {
    let words = ["river", "stone", "light", "water", "paper", "glass", "cloud"];
    let text = |n: usize| match n {
        0 => "[".to_owned(),
        _ if n.is_multiple_of(8) => format!(" {},", n * 7919 % 9973),
        _ => format!(r#" \"{}{}\","#, words[n * n % 7], n * 31 % 97),
    };
    let choice =
        |n| format!(r#"{{"index":0,"delta":{{"content":"{}"}},"logprobs":null,"finish_reason":null}}"#, text(n));
    (0..count).map(|n| chunk(&choice(n), "")).collect()
}

/// The same, with the usage so far in each chunk: no two chunks have the same bytes around their text.
#[must_use]
pub fn usage_chunks() -> Vec<Bytes> {
    TOKENS
        .iter()
        .enumerate()
        .map(|(at, token)| {
            let choice =
                format!(r#"{{"index":0,"delta":{{"content":"{token}"}},"logprobs":null,"finish_reason":null}}"#);
            let (output, total) = (at + 1, at + 10);
            let usage =
                format!(r#","usage":{{"prompt_tokens":9,"completion_tokens":{output},"total_tokens":{total}}}"#);
            chunk(&choice, &usage)
        })
        .collect()
}

/// Events of about 1.2 KB with a token and its twelve most likely alternatives.
#[must_use]
pub fn logprob_chunks() -> Vec<Bytes> {
    TOKENS
        .iter()
        .enumerate()
        .map(|(at, token)| {
            let rivals: Vec<String> = (0..12)
                .map(|rank| {
                    let logprob = 0.125 + (at * 7 + rank * 13) as f64 / 16.0;
                    format!(r#"{{"token":" tok{at}{rank}","logprob":-{logprob:.6},"bytes":[32,116,111,{at},107,{rank}]}}"#)
                })
                .collect();
            let choice = format!(
                r#"{{"index":0,"delta":{{"content":"{token}"}},"logprobs":{{"content":[{{"token":"{token}","logprob":-0.125,"bytes":[32,116,104,101],"top_logprobs":[{}]}}]}},"finish_reason":null}}"#,
                rivals.join(",")
            );
            chunk(&choice, "")
        })
        .collect()
}

/// The event before the first token, with the role and no text.
#[must_use]
pub fn role_chunk() -> Bytes {
    chunk(r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}"#, "")
}

/// The events after the last token: the finish reason, the usage, and the end.
#[must_use]
pub fn last_chunks(tokens: usize) -> Vec<Bytes> {
    let total = tokens + 9;
    vec![
        chunk(r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}"#, ""),
        chunk("", &format!(r#","usage":{{"prompt_tokens":9,"total_tokens":{total},"completion_tokens":{tokens}}}"#)),
        event("[DONE]"),
    ]
}

/// An answer in one piece, of some 120 tokens.
#[must_use]
pub fn document() -> Bytes {
    let text = TOKENS.repeat(4).concat();
    format!(
        r#"{{"id":"chatcmpl-7f3c2a9be1d04c55a6e2f8b9d0c1e2f3","object":"chat.completion","created":1753000000,"model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","tool_calls":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":128,"total_tokens":137}}}}"#
    )
    .into()
}

/// A short question.
#[must_use]
pub fn question(stream: bool) -> Bytes {
    let options = if stream { r#","stream_options":{"include_usage":true}"# } else { "" };
    format!(
        r#"{{"model":"{MODEL}","messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"What can a server count, and what can it not?"}}],"max_tokens":256,"temperature":0.7,"stream":{stream}{options}}}"#
    )
    .into()
}

/// A question that requests JSON and offers tools.
#[must_use]
pub fn demanding_question() -> Bytes {
    format!(
        r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"What can a server count?"}}],"stream":true,"response_format":{{"type":"json_object"}},"tools":[{{"type":"function","function":{{"name":"count"}}}}]}}"#
    )
    .into()
}

/// The shortest question and answer with countable tokens: they show the cost of a request besides its bytes.
#[must_use]
pub fn shortest() -> [Bytes; 2] {
    let question = format!(r#"{{"model":"{MODEL}"}}"#);
    [question.into(), Bytes::from_static(br#"{"usage":{"prompt_tokens":9,"completion_tokens":18}}"#)]
}

/// A question about an image: `bytes` of base64 inside a message.
#[must_use]
pub fn picture(bytes: usize) -> Bytes {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let picture: String = (0..bytes)
        .map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(ALPHABET[(random >> 58) as usize])
        })
        .collect();
    format!(
        r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"What is this?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{picture}"}}}}]}}],"model":"{MODEL}","max_tokens":256,"stream":true}}"#
    )
    .into()
}

/// A long conversation of short messages, some with tool calls: dense JSON of about `bytes` bytes.
#[must_use]
pub fn conversation(bytes: usize) -> Bytes {
    let mut body = String::from(r#"{"messages":[{"role":"system","content":"You are a helpful assistant."}"#);
    let mut turn = 0;
    while body.len() < bytes {
        body.push_str(&format!(
            r#",{{"role":"user","content":"How many are in box {turn}?"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_{turn}","type":"function","function":{{"name":"count","arguments":"{{\"box\":{turn},\"deep\":{{\"usage\":[1,2]}}}}"}}}}]}},{{"role":"tool","tool_call_id":"call_{turn}","content":"[{turn},2,3]"}},{{"role":"assistant","content":"There are \"three\".\n"}}"#
        ));
        turn += 1;
    }
    body.push_str(&format!(r#"],"model":"{MODEL}","max_tokens":256,"stream":true}}"#));
    body.into()
}

/// The body with another model name.
#[must_use]
pub fn named(body: &Bytes, model: &str) -> Bytes {
    String::from_utf8_lossy(body).replace(MODEL, model).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_sizes_that_they_are_named_for() {
        let mean = |chunks: Vec<Bytes>| chunks.iter().map(Bytes::len).sum::<usize>() / chunks.len();
        let (text, logprobs) = (mean(text_chunks()), mean(logprob_chunks()));
        assert!((220..=250).contains(&text), "{text}");
        assert!((1150..=1250).contains(&logprobs), "{logprobs}");
    }

    #[test]
    fn every_sample_is_json() {
        let events = [text_chunks(), usage_chunks(), logprob_chunks(), vec![role_chunk()]].concat();
        for event in events.iter().chain(&last_chunks(3)[..2]) {
            serde_json::from_slice::<serde_json::Value>(&event[6..]).unwrap();
        }
        for body in [document(), question(true), question(false), picture(1000), conversation(1000)] {
            serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        }
    }
}
