//! Sources of prompts.

use std::{fs, io, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The source of prompts. Each request draws one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Prompts {
    /// The built-in mixture: short questions, explanations, code, JSON, and texts to summarise.
    #[default]
    Mixture,
    /// A file: one prompt per line, or one object with `prompt` per line, as in data sets; or one JSON array of either.
    File(PathBuf),
}

/// Why the prompts could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPrompts {
    /// The file cannot be read.
    #[error("{}: the prompts cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An item of its array has no prompt.
    #[error("{}: item {number} of the array has to be a string, or an object with a string \"prompt\"", path.display())]
    NoPromptInItem {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        number: usize,
    },
    /// A line has no prompt.
    #[error("{}:{line}: a line that begins with {{ has to be a JSON object with a string \"prompt\"", path.display())]
    NoPrompt {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The file is empty.
    #[error("{}: it contains no prompt: write one per line", .0.display())]
    Empty(PathBuf),
}

const MIXTURE: [&str; 12] = [
    "What is a token?",
    "How many legs do three spiders have?",
    "Name five rivers of Europe, one a line.",
    "Explain to a child why the sky is blue.",
    "Explain the difference between latency and throughput, with an example from a kitchen.",
    "Write a function in Python that returns the n-th Fibonacci number, with a test.",
    "Write an SQL query that returns the ten customers with the highest turnover of the last month.",
    "Answer with a JSON object and nothing else. Give name, age and city of a person whom you make up.",
    "Answer with a JSON array of three objects, each with the keys \"city\" and \"population\".",
    "Translate into German: The train to the airport leaves from platform seven at a quarter past nine.",
    "Summarise in one sentence: A queue forms where requests come faster than they are served. It grows without end as long as \
     that lasts, and each one that comes has to wait for all that came before it. A test that waits for an answer before it asks \
     again never sees this, because it asks more slowly the slower the answers are.",
    "Summarise in three points: The memory of a graphics processor holds the weights of a model and, for each request that is \
     being served, the keys and values of all tokens so far. The weights stay. The keys and values grow with the length of the \
     texts and with the number of requests, until there is no room left; then requests have to wait, or are thrown out and begun again.",
];

/// The words that are added to make prompts longer.
pub(super) const FILLER: &str = "Consider the following notes of a meeting about a service that answers questions in many languages, \
    in which the team spoke about load, about answers that were cut off, about the cost of each request and about what to \
    measure next; they agreed to look at the slowest requests first, to keep an eye on the memory, and to meet again on Monday.";

impl Prompts {
    pub(crate) fn load(&self) -> Result<Vec<String>, InvalidPrompts> {
        let path = match self {
            Self::Mixture => return Ok(MIXTURE.map(str::to_owned).to_vec()),
            Self::File(path) => path,
        };
        let text =
            fs::read_to_string(path).map_err(|source| InvalidPrompts::Unreadable { path: path.clone(), source })?;
        if let Ok(serde_json::Value::Array(items)) = serde_json::from_str(&text) {
            let missing = |number| InvalidPrompts::NoPromptInItem { path: path.clone(), number: number + 1 };
            let prompt = |(number, item): (usize, &serde_json::Value)| {
                Ok(item.as_str().or_else(|| item["prompt"].as_str()).ok_or_else(|| missing(number))?.to_owned())
            };
            let prompts: Vec<_> = items.iter().enumerate().map(prompt).collect::<Result<_, _>>()?;
            return if prompts.is_empty() { Err(InvalidPrompts::Empty(path.clone())) } else { Ok(prompts) };
        }
        let mut prompts = Vec::new();
        for (number, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
            if line.starts_with('{') {
                let object: Option<serde_json::Value> = serde_json::from_str(line).ok();
                let prompt = object.as_ref().and_then(|object| object["prompt"].as_str());
                let missing = || InvalidPrompts::NoPrompt { path: path.clone(), line: number + 1 };
                prompts.push(prompt.ok_or_else(missing)?.to_owned());
            } else {
                prompts.push(line.to_owned());
            }
        }
        if prompts.is_empty() { Err(InvalidPrompts::Empty(path.clone())) } else { Ok(prompts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Vec<String>, InvalidPrompts> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts.txt");
        fs::write(&path, text).unwrap();
        Prompts::File(path).load()
    }

    #[test]
    fn a_file_has_a_prompt_or_an_object_a_line() {
        assert_eq!(load("One?\n\n{\"prompt\": \"Two\\nlines?\", \"id\": 2}\r\n").unwrap(), ["One?", "Two\nlines?"]);
    }

    #[test]
    fn a_file_may_be_one_array() {
        assert_eq!(load("[\n  {\"name\": \"a\", \"prompt\": \"One?\"},\n  \"Two?\"\n]\n").unwrap(), ["One?", "Two?"]);
        assert_eq!(load("[1] is a footnote").unwrap(), ["[1] is a footnote"]);
        assert!(load("[\"a\", 3]").unwrap_err().to_string().contains("item 2"));
        assert!(matches!(load("[]"), Err(InvalidPrompts::Empty(_))));
    }

    #[test]
    fn errors_in_a_file_have_the_line() {
        assert!(load("a\n{\"text\": \"b\"}").unwrap_err().to_string().contains("prompts.txt:2:"));
        assert!(load("{").unwrap_err().to_string().contains("prompts.txt:1:"));
        assert!(matches!(load(" \n\n"), Err(InvalidPrompts::Empty(_))));
        assert!(matches!(Prompts::File("/no/such/file".into()).load(), Err(InvalidPrompts::Unreadable { .. })));
    }
}
