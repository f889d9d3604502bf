//! Answers that are wrong on purpose, so that every metric of output quality can be seen to move: `--demo`.
//!
//! A request whose last message begins with `/demo NAME` is answered by the script of that name, and not by the model. Everything around
//! it is as for any other request: admission, the limit on tokens, stop sequences, the reading of tool calls, the words of each API, and
//! the metrics layer, which reads the bytes that go out and knows nothing of scripts.

mod playback;
mod scripts;

pub(crate) use playback::Playback;

use crate::engine::Prompt;
use crate::telemetry::Handle;
use scripts::SCRIPTS;
use std::time::Duration;

/// What a message begins with that asks for a script.
const COMMAND: &str = "/demo";

/// How much a script leaves of each message that it cuts.
const KEPT: usize = 200;

/// What is said in the place of the model.
#[derive(Debug)]
pub(crate) struct Script {
    name: &'static str,
    says: Says,
    ends: Ends,
    prompt: ReadPrompt,
    /// Before each word but the first.
    pause: Duration,
}

#[derive(Debug)]
enum Says {
    Answer(&'static str),
    Reasoning(&'static str),
    Refusal(&'static str),
    /// The same, some kilobytes of it.
    Again(&'static str),
    /// Words that follow no rule, as many as there is room for.
    Babble,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// As the model does.
    Stop,
    /// As a filter of content does.
    Filtered,
    /// As an engine does that fails.
    Fails,
    /// There is no choice that could end.
    NoChoice,
}

/// What becomes of the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadPrompt {
    Whole,
    /// It is cut, and the metrics are told.
    Cut,
    /// It is cut, and its tokens are counted after that, as Ollama does it.
    CutSilently,
}

/// There is no script of this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("There is no demonstration `{0}`. There are: {list}.", list = names())]
pub(crate) struct UnknownScript(String);

/// The script that a prompt asks for, if it asks for one.
pub(crate) fn asked_for(prompt: &Prompt) -> Result<Option<&'static Script>, UnknownScript> {
    let text = prompt.last_text().unwrap_or_default();
    let mut words = text.split_whitespace();
    if words.next() != Some(COMMAND) {
        return Ok(None);
    }
    let name = words.next().unwrap_or_default();
    let script = SCRIPTS.iter().find(|script| script.name == name);
    script.map(Some).ok_or_else(|| UnknownScript(name.chars().take(40).collect()))
}

fn names() -> String {
    SCRIPTS.iter().map(|script| script.name).collect::<Vec<_>>().join(", ")
}

impl Script {
    /// Does to the prompt what the script says, before it is counted.
    pub(crate) fn read(&self, prompt: &mut Prompt, handle: &Handle) {
        if self.prompt != ReadPrompt::Whole {
            prompt.cut(KEPT);
        }
        if self.prompt == ReadPrompt::Cut {
            handle.prompt_was_cut();
        }
    }

    /// How many choices the answer has where so many were asked for.
    pub(crate) fn choices(&self, asked: usize) -> usize {
        if self.ends == Ends::NoChoice { 0 } else { asked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn asks(text: &str) -> Result<Option<&'static str>, UnknownScript> {
        asked_for(&Prompt::Text(text.to_owned())).map(|script| script.map(|script| script.name))
    }

    #[test]
    fn a_message_that_begins_with_the_command_asks_for_a_script() {
        assert_eq!(asks("/demo cycle"), Ok(Some("cycle")));
        assert_eq!(asks("  /demo\ncycle and whatever follows"), Ok(Some("cycle")));
        for other in ["", "cycle", "What does /demo cycle do?", "/demos cycle"] {
            assert_eq!(asks(other), Ok(None), "{other}");
        }
    }

    #[test]
    fn whoever_asks_for_one_that_is_not_there_is_told_which_are() {
        let error = asks("/demo circle").unwrap_err().to_string();
        assert!(error.contains("`circle`") && error.contains("char_run, token_run, cycle"), "{error}");
        assert!(asks("/demo").is_err());
    }

    #[test]
    fn names_are_unique_and_in_the_readme() {
        let readme = include_str!("../../README.md");
        let names: BTreeSet<_> = SCRIPTS.iter().map(|script| script.name).collect();
        assert_eq!(names.len(), SCRIPTS.len());
        for name in names {
            assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in the table of the README");
        }
    }
}
