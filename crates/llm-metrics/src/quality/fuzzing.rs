//! The entry points of the fuzz targets in `fuzz/`. They exist only under `--cfg fuzzing`.

#![allow(missing_docs, clippy::exhaustive_enums, reason = "no crate can depend on it")]

use super::{
    ChoiceEnd, Finding, Outputs, Part, QualityChecks, RequestEnd, RequestedOutput, ToolNames,
    json::{JsonValidator, Validity},
};
use crate::vocabulary::{FinishReason, StructuredFormat, TruncationCause};

/// The JSON validator's verdict on a text.
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

/// An answer with all checks on. It has read one piece of each kind, so that all memory is allocated.
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

    /// Reads a piece as the answer of one choice, and as arguments of a tool call of another. Returns the number of findings.
    pub fn read(&mut self, piece: &[u8]) -> usize {
        let mut findings = 0;
        self.outputs.text(0, Part::Answer, piece, &mut |_| findings += 1);
        self.outputs.tool_arguments(1, 0, piece, &mut |_| findings += 1);
        findings
    }

    /// The findings at the end.
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
