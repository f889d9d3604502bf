//! Reads the few facts of a request body that matter, as it passes.

use std::num::NonZeroU32;

use super::json::{Broken, SCRATCH, Scalar, Shape, Skipped, Visitor};
use super::scanner::Scanner;
use crate::quality::{BoundedBytes, Prompt, PromptLimit, ToolNames};
use crate::vocabulary::{InspectionFailure, StructuredFormat};

/// The facts of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    /// The model's name in the request.
    pub(crate) model: Option<Name>,
    pub(crate) stream: Option<bool>,
    /// The limit on output tokens.
    pub(crate) max_tokens: Option<u64>,
    /// The number of choices.
    pub(crate) choices: Option<u64>,
    /// The requested output format.
    pub(crate) format: Option<Format>,
    /// Tools are offered.
    pub(crate) tools: bool,
    /// The switch for reasoning.
    pub(crate) thinking: Option<bool>,
    /// The number of texts to embed or rank.
    pub(crate) inputs: Option<u32>,
    /// The answer is generated in the background.
    pub(crate) background: bool,
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    JsonObject,
    JsonSchema,
    Grammar,
}

impl Format {
    /// The format, unless it is plain text.
    pub(crate) const fn structured(self) -> Option<StructuredFormat> {
        match self {
            Self::Text => None,
            Self::JsonObject => Some(StructuredFormat::JsonObject),
            Self::JsonSchema => Some(StructuredFormat::JsonSchema),
            Self::Grammar => Some(StructuredFormat::Grammar),
        }
    }
}

/// An inline copy of a name. A longer name is truncated to a length that is still too long for a label.
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

/// The meaning of a value in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestField {
    Model,
    Stream,
    MaxTokens,
    MaxCompletionTokens,
    /// Like `MaxTokens`, but 0 means no limit.
    MaxTokensIfAny,
    Choices,
    Format,
    Grammar,
    /// The kind of a grammar: `json_schema`, `regex`, …
    GrammarType,
    JsonSchema,
    /// The schema of a format that is named next to it.
    Schema,
    /// `true`: any object.
    JsonObject,
    Tool,
    ToolName,
    Images,
    /// `true` or `false`.
    Thinking,
    /// `enabled` or `disabled`.
    ThinkingType,
    /// The reasoning effort: `none` turns reasoning off.
    Effort,
    /// `true` or `false`, or an effort.
    Think,
    /// `json`, or a schema.
    OllamaFormat,
    /// One text to embed; or an element of a list of texts, or of one text's tokens.
    Input,
    Inputs,
    /// The context length for the prompt and its answer together.
    Context,
    /// The number of first tokens to keep of a prompt that is cut; all if it is negative.
    Keep,
    Background,
}

/// The token counts that an engine may keep of a cut prompt, for a context length and a number of first tokens to keep.
pub(super) type LeftOfPrompt = fn(context: u64, keep: Option<u64>) -> [u64; 4];

/// Reads a request body as it passes, and keeps only the facts.
#[derive(Debug)]
pub(crate) struct RequestScan {
    scanner: Scanner<RequestField>,
    scratch: [u8; SCRATCH],
    collected: Collected,
    begin: Begin,
    bytes: u64,
}

/// The state of reading the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// The number of bytes of a byte order mark.
    ByteOrderMark(u8),
    /// White space. A body that is declared to be compressed may turn out not to be.
    Blank,
    /// A brace, in a body that is declared to be compressed.
    Brace,
    Json,
    /// Compressed, and not read.
    Compressed,
}

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

impl RequestScan {
    #[inline]
    pub(super) fn new(shape: &'static Shape<RequestField>, encoded: bool) -> Self {
        let collected = Collected { encoded, ..Collected::default() };
        Self {
            scanner: Scanner::new(shape),
            scratch: [0; SCRATCH],
            collected,
            begin: Begin::ByteOrderMark(0),
            bytes: 0,
        }
    }

    /// Reads the next bytes of the body.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let bytes = if self.begin == Begin::Json { bytes } else { self.first_bytes(bytes) };
        if self.begin == Begin::Json {
            self.scanner.read(bytes, &mut self.scratch, &mut self.collected);
            if let Some(schema) = &mut self.collected.schema {
                schema.keep(bytes);
            }
        }
    }

    /// From here on, names of tools are kept until they are taken.
    pub(crate) fn want_tools(&mut self) {
        self.collected.wants_tools = true;
    }

    /// The names of tools that arrived since they were last taken.
    pub(crate) fn take_tools(&mut self) -> Option<Box<ToolNames>> {
        self.collected.tools.take()
    }

    /// Keeps the answer's schema, for [`take_schema`](Self::take_schema).
    pub(crate) fn want_schema(&mut self) {
        self.collected.schema = Some(Box::default());
    }

    /// The schema, once, when all of it has been read. It is over its limit if it was larger than that.
    pub(crate) fn take_schema(&mut self) -> Option<Box<BoundedBytes>> {
        self.collected.schema.as_mut()?.whole.take()
    }

    /// The length of the prompt so far, and the token counts that may remain if it is cut; `None` if much of the request is not text for the model.
    pub(super) fn prompt(&self, left: LeftOfPrompt) -> Option<Prompt> {
        let is_text = !self.collected.images && self.collected.facts.format != Some(Format::JsonSchema);
        let context = self.collected.context.map(|context| context.get().into()).filter(|context| *context > 1);
        let keep = self.collected.keep.map(u64::from);
        let limit = context.map(|context| PromptLimit { context, left: left(context, keep) });
        is_text.then_some(Prompt { bytes: self.bytes, limit })
    }

    /// The facts so far.
    pub(crate) fn facts(&self) -> &RequestFacts {
        &self.collected.facts
    }

    /// Whether the body is compressed, so that it cannot be read.
    pub(crate) fn is_compressed(&self) -> bool {
        self.begin == Begin::Compressed
    }

    /// Why the body could not be read; `ended` means that the body has ended. Returned once.
    pub(crate) fn failure(&mut self, ended: bool) -> Option<InspectionFailure> {
        let cut = ended && self.begin == Begin::Json && !self.scanner.is_settled();
        let why =
            self.collected.broken.or_else(|| cut.then_some(Broken::Malformed)).filter(|_| !self.collected.failed)?;
        self.collected.failed = true;
        Some(match why {
            Broken::Malformed => InspectionFailure::Malformed,
            Broken::TooLarge => InspectionFailure::TooLarge,
        })
    }

    #[cold]
    fn first_bytes<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        while let [byte, rest @ ..] = bytes {
            self.begin = match self.begin {
                Begin::ByteOrderMark(read) if *byte == BYTE_ORDER_MARK[usize::from(read)] => {
                    if read == 2 {
                        Begin::Blank
                    } else {
                        Begin::ByteOrderMark(read + 1)
                    }
                }
                Begin::ByteOrderMark(_) | Begin::Blank if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => Begin::Blank,
                Begin::ByteOrderMark(_) | Begin::Blank if !self.collected.encoded => Begin::Json,
                Begin::ByteOrderMark(_) | Begin::Blank if *byte == b'{' => Begin::Brace,
                Begin::Brace if matches!(byte, b'"' | b'}' | b' ' | b'\t' | b'\r' | b'\n') => {
                    self.scanner.read(b"{", &mut self.scratch, &mut self.collected);
                    Begin::Json
                }
                Begin::ByteOrderMark(_) | Begin::Blank | Begin::Brace => Begin::Compressed,
                Begin::Json | Begin::Compressed => return bytes,
            };
            if matches!(self.begin, Begin::Json | Begin::Compressed) {
                return bytes;
            }
            bytes = rest;
        }
        bytes
    }
}

/// The facts, and the values of several keys with the same meaning.
#[derive(Debug, Default)]
struct Collected {
    facts: RequestFacts,
    /// The limit was set by the key that has precedence over the older one.
    newer_limit: bool,
    format: Option<Format>,
    grammar: Option<Format>,
    switch: Option<bool>,
    effort: Option<bool>,
    /// The request head declares a compressed body.
    encoded: bool,
    broken: Option<Broken>,
    /// The failure was already returned.
    failed: bool,
    /// The names of tools that were read and not yet taken, if they are needed, and whether the current tool has a name.
    tools: Option<Box<ToolNames>>,
    wants_tools: bool,
    tool_is_named: bool,
    images: bool,
    context: Option<NonZeroU32>,
    keep: Option<u32>,
    /// The schema, if it is to be kept.
    schema: Option<Box<KeptSchema>>,
}

/// The maximum bytes of a schema.
const SCHEMA: usize = 32 << 10;

/// Copies the schema from a request as it is read. The scanner skips a schema, and reports where it begins and ends. Offsets are relative to the
/// current slice.
#[derive(Debug, Default)]
struct KeptSchema {
    /// The start of the last skipped value.
    skipped_from: usize,
    /// A schema begins here if this value is skipped: `true` and the like are not.
    expected_at: Option<usize>,
    begins: Option<usize>,
    ends: Option<usize>,
    part: BoundedBytes,
    whole: Option<Box<BoundedBytes>>,
}

impl KeptSchema {
    fn begin(&mut self, at: usize) {
        (self.begins, self.ends, self.part) = (Some(at), None, BoundedBytes::default());
    }

    /// Copies the part of the slice that belongs to the schema.
    fn keep(&mut self, slice: &[u8]) {
        self.expected_at = None;
        let Some(begins) = self.begins.take() else { return };
        self.part.push(&slice[begins..self.ends.unwrap_or(slice.len())], SCHEMA);
        if self.ends.take().is_some() {
            self.whole = Some(Box::new(std::mem::take(&mut self.part)));
        } else {
            self.begins = Some(0);
        }
    }
}

impl Visitor for Collected {
    type Fact = RequestField;

    fn enter(&mut self, object: RequestField) {
        if object == RequestField::Tool {
            self.facts.tools = true;
            self.tool_is_named = false;
        }
    }

    fn leave(&mut self, object: RequestField) {
        if object == RequestField::Tool && !self.tool_is_named {
            self.nameless_tool();
        }
    }

    fn scalar(&mut self, fact: RequestField, value: Scalar<'_>) {
        match fact {
            RequestField::Model => {
                self.facts.model = value
                    .string()
                    .filter(|name| !name.is_empty())
                    .map(|name| Name::new(super::facts::model_name(name)));
            }
            RequestField::Stream => self.facts.stream = value.boolean(),
            RequestField::MaxTokens if self.newer_limit => {}
            RequestField::MaxTokens => self.facts.max_tokens = value.amount(),
            RequestField::MaxTokensIfAny => self.facts.max_tokens = value.amount().filter(|limit| *limit > 0),
            RequestField::MaxCompletionTokens => {
                self.newer_limit = value.amount().is_some();
                self.facts.max_tokens = value.amount().or(self.facts.max_tokens);
            }
            RequestField::Choices => self.facts.choices = value.amount(),
            RequestField::Format => self.format = value.string().and_then(format),
            RequestField::GrammarType => {
                self.grammar = value.string().map(|kind| match format(kind) {
                    None | Some(Format::Text) => Format::Grammar,
                    Some(format) => format,
                });
            }
            RequestField::JsonObject if value.boolean() == Some(true) => self.grammar = Some(Format::JsonObject),
            RequestField::Thinking => self.switch = value.boolean().or(self.switch),
            RequestField::ThinkingType => {
                self.switch = match value.string() {
                    Some(b"enabled" | b"adaptive") => Some(true),
                    Some(b"disabled") => Some(false),
                    _ => self.switch,
                }
            }
            RequestField::Effort => self.effort = value.string().map(|effort| effort != b"none"),
            RequestField::Think => match value {
                Scalar::Bool(think) => self.switch = Some(think),
                _ => self.effort = value.string().map(|effort| effort != b"none"),
            },
            RequestField::OllamaFormat => {
                self.format = match value {
                    Scalar::String(b"json") => Some(Format::JsonObject),
                    Scalar::Other => Some(Format::JsonSchema),
                    _ => None,
                };
                if let (Scalar::Other, Some(schema)) = (value, &mut self.schema) {
                    schema.begin(schema.skipped_from);
                }
            }
            RequestField::Input => self.facts.inputs = value.string().map(|_| 1),
            RequestField::Inputs => match value {
                // A list of numbers is one text as tokens.
                Scalar::Number(_) => self.facts.inputs = Some(1),
                _ => self.facts.inputs = Some(self.facts.inputs.unwrap_or(0).saturating_add(1)),
            },
            RequestField::Context => {
                self.context = value.amount().and_then(|context| u32::try_from(context).ok()?.try_into().ok())
            }
            RequestField::Keep => {
                let all = value.float().is_some_and(|keep| keep < 0.0);
                let keep = value.amount().map(|keep| u32::try_from(keep).unwrap_or(u32::MAX));
                self.keep = if all { Some(u32::MAX) } else { keep };
            }
            RequestField::Background => self.facts.background = value.boolean() == Some(true),
            RequestField::ToolName => {
                if let Some(name) = value.string().filter(|_| self.wants_tools) {
                    // A truncated value would be a different one.
                    self.tool_is_named |= name.len() < SCRATCH;
                    self.tools.get_or_insert_default().insert(name);
                }
            }
            RequestField::Grammar
            | RequestField::JsonSchema
            | RequestField::JsonObject
            | RequestField::Schema
            | RequestField::Tool
            | RequestField::Images => {}
        }
        self.facts.thinking = self.switch.or(self.effort);
        self.settle_format();
    }

    fn present(&mut self, fact: RequestField, offset: usize) {
        if let (RequestField::JsonSchema | RequestField::Schema, Some(schema)) = (fact, &mut self.schema) {
            schema.expected_at = Some(offset);
        }
        match fact {
            RequestField::Tool => {
                self.facts.tools = true;
                self.nameless_tool();
            }
            RequestField::Images => self.images = true,
            RequestField::Grammar => self.grammar = Some(Format::Grammar),
            RequestField::JsonSchema => self.grammar = Some(Format::JsonSchema),
            _ => {}
        }
        self.settle_format();
    }

    fn skips(&mut self, offset: usize, _: Skipped) {
        if let Some(schema) = &mut self.schema {
            schema.skipped_from = offset;
            if schema.expected_at.take() == Some(offset) {
                schema.begin(offset);
            }
        }
    }

    fn skipped(&mut self, offset: usize) {
        if let Some(schema) = self.schema.as_mut().filter(|schema| schema.begins.is_some() && schema.ends.is_none()) {
            schema.ends = Some(offset);
        }
    }

    fn broken(&mut self, why: Broken) {
        self.broken = Some(why);
    }
}

impl Collected {
    /// A tool without a known name allows calls of any name.
    fn nameless_tool(&mut self) {
        if self.wants_tools {
            self.tools.get_or_insert_default().leave_open();
        }
    }

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
