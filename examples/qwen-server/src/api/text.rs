//! Processes one choice's text for the client: cuts it at stop sequences, and extracts tool calls.
//!
//! 0.8.1 stops at a stop sequence, but one token late and with the sequence still in a streamed text.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{format::unique_id, messages::ToolUse};
use crate::engine::{Finish, Piece};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A part of a tool call: the first part has the id and the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallDelta {
    pub(super) index: usize,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: String,
}

/// The part of a [`Piece`] that a client receives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) reasoning: String,
    pub(super) content: String,
    /// A refusal instead of an answer.
    pub(super) refusal: String,
    pub(super) calls: Vec<CallDelta>,
    pub(super) finish_reason: Option<&'static str>,
    /// The stop sequence that ended the text, in addition to the finish reason.
    pub(super) stop_sequence: Option<String>,
}

impl Delta {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The text, for an API without refusals.
    pub(super) fn spoken(&self) -> String {
        format!("{}{}", self.content, self.refusal)
    }
}

/// The state of one choice.
pub(super) struct ChoiceText {
    reasoning: StopFilter,
    content: StopFilter,
    tools: ToolReader,
}

impl ChoiceText {
    pub(super) fn new(stop: &Arc<[String]>, tools: &ToolUse) -> Self {
        Self {
            reasoning: StopFilter::new(Arc::clone(stop)),
            content: StopFilter::new(Arc::clone(stop)),
            tools: ToolReader::new(tools),
        }
    }

    pub(super) fn push(&mut self, piece: Piece) -> Delta {
        let mut reasoning = self.reasoning.push(&piece.reasoning);
        let mut content = if self.reasoning.hit.is_some() { String::new() } else { self.content.push(&piece.content) };
        if piece.finish.is_some() {
            reasoning += &self.reasoning.rest();
            content += &self.content.rest();
        }
        let (content, calls) = self.tools.push(&content, piece.finish.is_some());
        let stop_sequence = piece.finish.and_then(|_| self.reasoning.hit.take().or_else(|| self.content.hit.take()));
        let finish_reason = piece.finish.map(|finish| match finish {
            Finish::Length if stop_sequence.is_none() => "length",
            Finish::Filtered => "content_filter",
            _ if self.tools.calls > 0 => "tool_calls",
            _ => "stop",
        });
        Delta { reasoning, content, refusal: piece.refusal, calls, finish_reason, stop_sequence }
    }
}

/// Passes text on up to a stop sequence, and holds back what may be the beginning of one.
struct StopFilter {
    stops: Arc<[String]>,
    held: String,
    /// The sequence that was found.
    hit: Option<String>,
}

impl StopFilter {
    fn new(stops: Arc<[String]>) -> Self {
        Self { stops, held: String::new(), hit: None }
    }

    fn push(&mut self, text: &str) -> String {
        if self.hit.is_some() || text.is_empty() {
            return String::new();
        }
        if self.stops.is_empty() {
            return text.to_owned();
        }
        self.held.push_str(text);
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop))).min();
        self.hit = found.map(|(_, stop)| stop.clone());
        let passes = match found {
            Some((at, _)) => at,
            None => self.held.len() - longest_beginning(&self.held, &self.stops),
        };
        let rest = self.held.split_off(passes);
        let passed = std::mem::replace(&mut self.held, rest);
        if self.hit.is_some() {
            self.held.clear();
        }
        passed
    }

    fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest end of `text` that is the beginning of one of `patterns`.
fn longest_beginning<P: AsRef<str>>(text: &str, patterns: &[P]) -> usize {
    let longest = |pattern: &str| {
        let beginnings = pattern.char_indices().map(|(length, _)| length).rev();
        beginnings.into_iter().find(|length| text.ends_with(&pattern[..*length])).unwrap_or(0)
    };
    patterns.iter().map(|pattern| longest(pattern.as_ref())).max().unwrap_or(0)
}

/// Extracts Qwen's `<tool_call>{"name": …, "arguments": …}</tool_call>` from the text.
struct ToolReader {
    mode: ToolUse,
    held: String,
    inside: bool,
    calls: usize,
}

#[derive(Deserialize)]
struct WrittenCall {
    name: String,
    #[serde(default, alias = "parameters")]
    arguments: Value,
}

impl ToolReader {
    fn new(mode: &ToolUse) -> Self {
        Self { mode: mode.clone(), held: String::new(), inside: false, calls: 0 }
    }

    fn push(&mut self, text: &str, last: bool) -> (String, Vec<CallDelta>) {
        match &self.mode {
            ToolUse::None => (text.to_owned(), Vec::new()),
            ToolUse::Forced(_) if text.is_empty() => (String::new(), Vec::new()),
            ToolUse::Forced(name) => {
                let name = (self.calls == 0).then(|| name.clone());
                self.calls = 1;
                (String::new(), vec![CallDelta::part(0, name, text.to_owned())])
            }
            ToolUse::Auto => self.read(text, last),
        }
    }

    fn read(&mut self, text: &str, last: bool) -> (String, Vec<CallDelta>) {
        self.held.push_str(text);
        let (mut content, mut calls) = (String::new(), Vec::new());
        loop {
            let tag = if self.inside { CLOSE } else { OPEN };
            let Some(at) = self.held.find(tag) else { break };
            let before: String = self.held.drain(..at + tag.len()).take(at).collect();
            match (self.inside, serde_json::from_str::<WrittenCall>(&before)) {
                (false, _) => content += self.unless_markup(&before),
                (true, Ok(call)) => {
                    calls.push(CallDelta::part(self.calls, Some(call.name), arguments(call.arguments)));
                    self.calls += 1;
                }
                // Not a call after all: the client gets the text unchanged.
                (true, Err(_)) => content += &format!("{OPEN}{before}{CLOSE}"),
            }
            self.inside = !self.inside;
        }
        if last && self.inside {
            content = content + OPEN + &std::mem::take(&mut self.held);
        } else if !self.inside {
            let kept = if last { 0 } else { longest_beginning(&self.held, &[OPEN]) };
            let rest = self.held.split_off(self.held.len() - kept);
            let passed = std::mem::replace(&mut self.held, rest);
            content += self.unless_markup(&passed);
        }
        (content, calls)
    }

    /// The line breaks between and after calls belong to the calls.
    fn unless_markup<'a>(&self, text: &'a str) -> &'a str {
        if self.calls > 0 && text.trim().is_empty() { "" } else { text }
    }
}

/// OpenAI has the arguments as a string of JSON; the model may write either.
fn arguments(written: Value) -> String {
    match written {
        Value::String(text) => text,
        Value::Null => "{}".to_owned(),
        value => value.to_string(),
    }
}

impl CallDelta {
    /// A part of call `index`; the first one names the function.
    fn part(index: usize, name: Option<String>, arguments: String) -> Self {
        Self { index, id: name.is_some().then(|| unique_id("call_")), name, arguments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stop: &[&str], tools: &ToolUse, pieces: &[&str], finish: Finish) -> Delta {
        let stop: Arc<[String]> = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let mut choice = ChoiceText::new(&stop, tools);
        let mut all = Delta::default();
        for (index, content) in pieces.iter().enumerate() {
            let finish = (index + 1 == pieces.len()).then_some(finish);
            let delta = choice.push(Piece { content: (*content).to_owned(), finish, ..Piece::default() });
            all.content += &delta.content;
            all.calls.extend(delta.calls);
            all.finish_reason = delta.finish_reason;
            all.stop_sequence = delta.stop_sequence;
        }
        all
    }

    #[test]
    fn a_stop_sequence_and_all_after_it_is_cut_however_it_is_split() {
        for pieces in [&["one two END three"][..], &["one two E", "ND th", "ree"], &["one two ", "E", "N", "D", " x"]] {
            let delta = run(&["END"], &ToolUse::None, pieces, Finish::Length);
            assert_eq!((delta.content.as_str(), delta.finish_reason), ("one two ", Some("stop")));
            assert_eq!(delta.stop_sequence.as_deref(), Some("END"));
        }
    }

    #[test]
    fn text_that_only_begins_like_a_stop_sequence_is_delivered() {
        let delta = run(&["END", "N\u{e9}e"], &ToolUse::None, &["the E", "N", "\u{e9}"], Finish::Length);
        assert_eq!((delta.content.as_str(), delta.finish_reason), ("the EN\u{e9}", Some("length")));
        assert_eq!(delta.stop_sequence, None);
    }

    #[test]
    fn the_earliest_stop_sequence_wins() {
        assert_eq!(run(&["c", "b"], &ToolUse::None, &["abc"], Finish::Stop).content, "a");
    }

    #[test]
    fn calls_are_taken_out_of_the_text_however_they_are_split() {
        let text = "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n\
                    <tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>";
        for size in [1, 3, 7, text.len()] {
            let pieces: Vec<&str> =
                text.as_bytes().chunks(size).map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
            let delta = run(&[], &ToolUse::Auto, &pieces, Finish::Stop);
            assert_eq!((delta.content.as_str(), delta.finish_reason), ("Let me see.\n", Some("tool_calls")));
            let calls: Vec<_> =
                delta.calls.iter().map(|c| (c.index, c.name.as_deref().unwrap(), c.arguments.as_str())).collect();
            assert_eq!(calls, [(0, "f", r#"{"a":1}"#), (1, "g", "{}")]);
        }
    }

    #[test]
    fn text_that_is_not_a_call_stays_text() {
        for text in ["<tool_call>not json</tool_call>", "<tool_call>{\"name\": \"f\"", "a <tool"] {
            let delta = run(&[], &ToolUse::Auto, &[text], Finish::Length);
            assert_eq!((delta.content.as_str(), delta.finish_reason), (text, Some("length")));
        }
    }

    #[test]
    fn a_forced_call_streams_its_arguments() {
        let delta = run(&[], &ToolUse::Forced("f".into()), &["{\"a\"", ":1}"], Finish::Stop);
        assert_eq!((delta.content.as_str(), delta.finish_reason), ("", Some("tool_calls")));
        assert_eq!(delta.calls[0].name.as_deref(), Some("f"));
        assert_eq!(delta.calls[1].id, None);
        assert_eq!(delta.calls.iter().map(|call| call.arguments.as_str()).collect::<String>(), "{\"a\":1}");
    }
}
