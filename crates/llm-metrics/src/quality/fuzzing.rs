//! The entry points of the targets in `fuzz/`, which exist under `--cfg fuzzing` alone.

#![allow(missing_docs, clippy::exhaustive_enums, reason = "nobody can depend on it")]

use super::{
    ChoiceEnd, Finding, Outputs, Part, QualityChecks, RequestEnd, RequestedOutput, ToolNames,
    json::{JsonValidator, Validity},
};
use crate::vocabulary::{FinishReason, StructuredFormat, TruncationCause};

/// What a text is, by the validator of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Json {
    Valid,
    Prefix,
    Invalid,
    TooDeep,
}

pub fn json<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Json {
    let mut json = JsonValidator::default();
    pieces.into_iter().for_each(|piece| {
        let _ = json.read(piece);
    });
    match json.validity() {
        Validity::Valid => Json::Valid,
        Validity::Prefix => Json::Prefix,
        Validity::Invalid => Json::Invalid,
        Validity::TooDeep => Json::TooDeep,
    }
}

/// An answer with all checks on, of which one piece of each kind was read: what allocates has allocated.
#[derive(Debug)]
pub struct Checked {
    outputs: Outputs,
}

impl Checked {
    #[must_use]
    pub fn start() -> Self {
        let mut tools = ToolNames::default();
        tools.insert(b"tool");
        let requested =
            RequestedOutput { format: Some(StructuredFormat::JsonObject), tools: Some(Box::new(tools)), schema: None };
        let mut outputs = Outputs::new(QualityChecks::all(), requested);
        outputs.text(0, Part::Answer, b"", &mut |_| {});
        outputs.tool_name(1, 0, b"", &mut |_| {});
        Self { outputs }
    }

    /// Reads a piece as answer of one choice, and as arguments of a call of another; tells how many findings there were.
    pub fn read(&mut self, piece: &[u8]) -> usize {
        let mut findings = 0;
        self.outputs.text(0, Part::Answer, piece, &mut |_| findings += 1);
        self.outputs.tool_arguments(1, 0, piece, &mut |_| findings += 1);
        findings
    }

    /// What was found at the end.
    #[must_use]
    pub fn end(mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut emit = |finding: Finding| found.push(format!("{finding:?}"));
        self.outputs.finish(0, FinishReason::Stop);
        let on_limit = TruncationCause::MaxTokens;
        self.outputs.end(RequestEnd { open: ChoiceEnd::StreamCut, on_limit, complete: true }, &mut emit);
        found
    }
}
