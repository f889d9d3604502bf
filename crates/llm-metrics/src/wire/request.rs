//! The few facts of a request body that matter, read as it flows by.

use super::json::{SCRATCH, Scalar, Shape, Visitor};
use super::scanner::Scanner;

/// What the caller asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    /// The model, by the caller's name for it.
    pub(crate) model: Option<Name>,
    pub(crate) stream: Option<bool>,
    /// The limit on output tokens.
    pub(crate) max_tokens: Option<u64>,
    /// How many answers.
    pub(crate) choices: Option<u64>,
    /// What form the answer has to have.
    pub(crate) format: Option<Format>,
    /// Tools are on offer.
    pub(crate) tools: bool,
    /// The switch for reasoning.
    pub(crate) thinking: Option<bool>,
}

/// What form an answer has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    JsonObject,
    JsonSchema,
    Grammar,
}

/// A name in place. One that is too long for a label is cut, yet stays too long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    bytes: [u8; SCRATCH],
    length: u8,
}

impl Name {
    fn new(name: &str) -> Self {
        let mut bytes = [0; SCRATCH];
        let length = name.len().min(SCRATCH);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        Self { bytes, length: length as u8 }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What a value in a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Model,
    Stream,
    MaxTokens,
    MaxCompletionTokens,
    Choices,
    Format,
    Grammar,
    JsonSchema,
    Tool,
    /// `true` or `false`.
    Thinking,
    /// `enabled` or `disabled`.
    ThinkingType,
    /// How much to think: `none` is not at all.
    Effort,
}

/// Reads a request body as it flows by; keeps only the facts.
#[derive(Debug)]
pub(crate) struct RequestScan {
    scanner: Scanner<Asked>,
    scratch: [u8; SCRATCH],
    asked: Collected,
}

impl RequestScan {
    pub(super) fn new(shape: &'static Shape<Asked>) -> Self {
        Self { scanner: Scanner::new(shape), scratch: [0; SCRATCH], asked: Collected::default() }
    }

    /// Reads the next bytes of the body.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        self.scanner.read(bytes, &mut self.scratch, &mut self.asked);
    }

    /// What is known so far.
    pub(crate) fn facts(&self) -> &RequestFacts {
        &self.asked.facts
    }
}

/// The facts, and what several keys that say the same thing have said.
#[derive(Debug, Default)]
struct Collected {
    facts: RequestFacts,
    /// The limit was set by the key that wins over the older one.
    newer_limit: bool,
    format: Option<Format>,
    grammar: Option<Format>,
    switch: Option<bool>,
    effort: Option<bool>,
}

impl Visitor for Collected {
    type Fact = Asked;

    fn scalar(&mut self, fact: Asked, value: Scalar<'_>) {
        match fact {
            Asked::Model => {
                self.facts.model = value
                    .string()
                    .filter(|name| !name.is_empty())
                    .map(|name| Name::new(super::facts::model_name(name)));
            }
            Asked::Stream => self.facts.stream = value.boolean(),
            Asked::MaxTokens if self.newer_limit => {}
            Asked::MaxTokens => self.facts.max_tokens = value.integer(),
            Asked::MaxCompletionTokens => {
                self.newer_limit = value.integer().is_some();
                self.facts.max_tokens = value.integer().or(self.facts.max_tokens);
            }
            Asked::Choices => self.facts.choices = value.integer(),
            Asked::Format => self.format = value.string().and_then(format),
            Asked::Thinking => self.switch = value.boolean().or(self.switch),
            Asked::ThinkingType => {
                self.switch = match value.string() {
                    Some(b"enabled" | b"adaptive") => Some(true),
                    Some(b"disabled") => Some(false),
                    _ => self.switch,
                }
            }
            Asked::Effort => self.effort = value.string().map(|effort| effort != b"none"),
            Asked::Grammar | Asked::JsonSchema | Asked::Tool => {}
        }
        self.facts.thinking = self.switch.or(self.effort);
        self.settle_format();
    }

    fn present(&mut self, fact: Asked) {
        match fact {
            Asked::Tool => self.facts.tools = true,
            Asked::Grammar => self.grammar = Some(Format::Grammar),
            Asked::JsonSchema => self.grammar = Some(Format::JsonSchema),
            _ => {}
        }
        self.settle_format();
    }
}

impl Collected {
    fn settle_format(&mut self) {
        self.facts.format = match self.format {
            None | Some(Format::Text) => self.grammar.or(self.format),
            named => named,
        };
    }
}

fn format(word: &[u8]) -> Option<Format> {
    Some(match word {
        b"text" => Format::Text,
        b"json_object" => Format::JsonObject,
        b"json_schema" => Format::JsonSchema,
        b"grammar" | b"regex" | b"lark" | b"ebnf" | b"structural_tag" => Format::Grammar,
        _ => return None,
    })
}
