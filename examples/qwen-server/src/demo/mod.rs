//! Wrong answers on purpose, to show every metric of output quality: `--demo`.
//!
//! A request whose last message begins with `/demo NAME` is answered by the script of that name instead of the model. Everything else is the same as
//! for any other request: admission, the token limit, stop sequences, parsing of tool calls, the format of each API, and the metrics layer, which
//! reads the response and does not know about scripts.

mod playback;
mod scripts;

pub(crate) use playback::Playback;

use std::time::Duration;

use scripts::SCRIPTS;

use crate::{engine::Prompt, telemetry::Handle};

/// A message that begins with this requests a script.
const COMMAND: &str = "/demo";

/// How much of each message remains if a script cuts the prompt.
const KEPT: usize = 200;

/// The output instead of the model's.
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
    /// Random words, up to the limit.
    Babble,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Like the model.
    Stop,
    /// Like a content filter.
    Filtered,
    /// Like a failing engine.
    Fails,
    /// There is no choice.
    NoChoice,
}

/// How the prompt is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadPrompt {
    Whole,
    /// It is cut, and the metrics are informed.
    Cut,
    /// It is cut, and its tokens are counted after that, as Ollama does it.
    CutSilently,
}

/// No script has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("There is no demonstration `{0}`. There are: {list}.", list = names())]
pub(crate) struct UnknownScript(String);

/// The script that a prompt requests, if any.
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
    /// Changes the prompt as the script says, before it is counted.
    pub(crate) fn read(&self, prompt: &mut Prompt, handle: &Handle) {
        if self.prompt != ReadPrompt::Whole {
            prompt.cut(KEPT);
        }
        if self.prompt == ReadPrompt::Cut {
            handle.prompt_was_cut();
        }
    }

    /// The number of choices in the answer, if this many were requested.
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
    fn the_error_for_a_missing_profile_lists_the_existing_ones() {
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
