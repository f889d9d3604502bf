//! What a client sees of an answer, parsed independently of the library.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::timeout;

use super::TIMEOUT;
use crate::{Answer, Client};

/// The parts of an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Seen {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// Whether it is an event stream.
    pub streamed: bool,
    /// The answer text of each choice.
    pub text: BTreeMap<u64, String>,
    /// The reasoning of all choices.
    pub reasoning: String,
    /// The names and arguments of tool calls, in order of arrival.
    pub tool_calls: String,
    /// The finish reasons of all choices.
    pub finish_reasons: Vec<String>,
    /// Events with a token: text, reasoning, or a part of a tool call.
    pub token_events: u64,
    /// From before the connection was opened until the first such event.
    pub first_token: Option<Duration>,
    /// From before the connection was opened until the end of the part that was read.
    pub took: Duration,
    /// Token counts, if the answer had them.
    pub usage: Option<Usage>,
    /// The `error` of the document, or of an event.
    pub error: Option<Value>,
    /// Whether `[DONE]` arrived.
    pub done: bool,
    /// Whether the body is complete according to HTTP.
    pub whole: bool,
}

/// The token counts of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of all choices.
    pub output: u64,
    /// The part of them that is reasoning.
    pub reasoning: u64,
}

impl Seen {
    /// The text of the first choice.
    #[must_use]
    pub fn answer(&self) -> &str {
        self.text.get(&0).map_or("", String::as_str)
    }

    /// The usage in the answer.
    ///
    /// # Panics
    /// If there was none.
    #[must_use]
    #[track_caller]
    pub fn reported_usage(&self) -> Usage {
        self.usage.unwrap_or_else(|| panic!("no usage in {self:?}"))
    }

    fn json(&mut self, json: &Value) {
        if !json["error"].is_null() {
            self.error = Some(json["error"].clone());
        }
        if let Some(output) = json["usage"]["completion_tokens"].as_u64() {
            let usage = &json["usage"];
            let input = usage["prompt_tokens"].as_u64().expect("a number");
            assert_eq!(usage["total_tokens"].as_u64(), Some(input + output), "{usage}");
            let reasoning = usage["completion_tokens_details"]["reasoning_tokens"].as_u64().expect("a number");
            self.usage = Some(Usage { input, output, reasoning });
        }
        let mut bears_token = false;
        for choice in json["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().expect("a number");
            let said = if self.streamed { &choice["delta"] } else { &choice["message"] };
            let content = said["content"].as_str().or_else(|| choice["text"].as_str()).unwrap_or_default();
            let reasoning = said["reasoning_content"].as_str().unwrap_or_default();
            let calls = said["tool_calls"].as_array().into_iter().flatten();
            let calls: String = calls
                .flat_map(|call| [&call["function"]["name"], &call["function"]["arguments"]])
                .filter_map(Value::as_str)
                .collect();
            bears_token |= !(content.is_empty() && reasoning.is_empty() && calls.is_empty());
            self.text.entry(index).or_default().push_str(content);
            self.reasoning.push_str(reasoning);
            self.tool_calls.push_str(&calls);
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.finish_reasons.push(reason.to_owned());
            }
        }
        self.token_events += u64::from(bears_token);
    }
}

/// An answer whose head has arrived.
#[derive(Debug)]
pub struct Reading {
    /// The part that was read so far.
    pub seen: Seen,
    answer: Answer,
    began: Instant,
    buffer: Vec<u8>,
    client: Client,
}

impl Reading {
    /// Sends a request over a separate connection, and waits for the response head.
    pub(super) async fn open(addr: SocketAddr, request: Request<Full<Bytes>>) -> Self {
        let began = Instant::now();
        let opened = async {
            let mut client = Client::connect(addr).await;
            let answer = client.send(request).await;
            (client, answer)
        };
        let (client, answer) = timeout(TIMEOUT, opened).await.expect("a head in time");
        let kind = answer.head.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let seen = Seen {
            status: answer.status().as_u16(),
            headers: answer.head.headers.clone(),
            streamed: kind.starts_with("text/event-stream"),
            text: BTreeMap::new(),
            reasoning: String::new(),
            tool_calls: String::new(),
            finish_reasons: Vec::new(),
            token_events: 0,
            first_token: None,
            took: began.elapsed(),
            usage: None,
            error: None,
            done: false,
            whole: false,
        };
        Self { seen, answer, began, buffer: Vec::new(), client }
    }

    /// Reads until this many events with a token have arrived, or to the end.
    pub async fn until_tokens(&mut self, events: u64) {
        while self.seen.token_events < events && self.frame().await {}
    }

    /// Reads to the end.
    pub async fn rest(mut self) -> Seen {
        while self.frame().await {}
        if !self.seen.streamed && !self.buffer.is_empty() {
            match serde_json::from_slice(&self.buffer) {
                Ok(document) => self.seen.json(&document),
                Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&self.buffer)),
            }
        }
        self.seen
    }

    /// Closes the socket, and returns the part that was read.
    pub fn hang_up(self) -> Seen {
        self.client.hang_up();
        self.seen
    }

    /// `false` at the end.
    async fn frame(&mut self) -> bool {
        // Measured from the beginning, because a server that hangs still sends comments to keep the connection open.
        let left = TIMEOUT.saturating_sub(self.began.elapsed());
        let frame = timeout(left, self.answer.frame()).await.expect("the whole answer in time");
        self.seen.took = self.began.elapsed();
        match frame {
            None => self.seen.whole = true,
            Some(Ok(frame)) => {
                self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
                if self.seen.streamed {
                    self.events();
                }
                return true;
            }
            Some(Err(_)) => {}
        }
        assert!(!self.seen.streamed || self.buffer.is_empty(), "the last event has no end");
        false
    }

    fn events(&mut self) {
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let event = std::str::from_utf8(&event).expect("text").trim_end();
            match event.strip_prefix("data: ") {
                None => assert!(event.starts_with(':'), "neither data nor a comment: {event}"),
                Some("[DONE]") => self.seen.done = true,
                Some(data) => {
                    assert!(!self.seen.done, "nothing comes after [DONE]: {event}");
                    self.seen.json(&serde_json::from_str(data).expect("JSON"));
                }
            }
            if self.seen.token_events > 0 {
                self.seen.first_token.get_or_insert(self.seen.took);
            }
        }
    }
}
