//! Checks of model output: whether it has the requested format, whether its tool calls can be executed, and whether it is cut, empty, stuck in a
//! loop, or contains text that should not be there.
//!
//! Each check is an incremental automaton: it accepts text in any pieces, has state of a fixed size, keeps no text, allocates nothing while it runs,
//! and cannot fail. It is independent of protocols and metrics: [`Outputs`] reads pieces of text and emits [`Finding`]s. The check of JSON schemas is
//! the exception, and therefore off by default: it buffers schema and answer, up to a limit, and validates when the answer ends.
//!
//! ```text
//!                    ┌─ markup        tags of reasoning, leaked tokens, replacement characters
//!   text of a choice ┼─ structured ─┬ json     one JSON text, bare or in a fence
//!                    │              └ schema   (opt-in) does it follow its schema
//!                    ├─ repetition    a cycle of words or of blocks
//!                    └─ tools ─────── json     each call's name and arguments
//! ```

mod bounded;
mod checks;
mod finding;
#[cfg(fuzzing)]
pub mod fuzzing;
mod json;
mod markup;
mod output;
mod repetition;
#[cfg_attr(not(feature = "json-schema"), path = "no_schema.rs")]
mod schema;
mod structured;
#[cfg(test)]
mod tests;
mod tools;
pub(crate) mod truncation;

pub(crate) use bounded::BoundedBytes;
pub use checks::QualityChecks;
pub(crate) use finding::Finding;
pub(crate) use output::ChoiceEnd;
use output::Output;
use tools::ToolCalls;
pub(crate) use tools::ToolNames;
pub(crate) use truncation::{Prompt, PromptLimit};

use crate::vocabulary::{EmptyKind, FinishReason, InputTruncation, StructuredFormat, TruncationCause};

/// Choices that are checked; further ones are counted but not checked.
const MAX_TRACKED: usize = 4;

/// The kind of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Answer,
    Reasoning,
    Refusal,
    /// Audio or an image.
    Media,
    /// Read by [`Outputs::tool_name`] and [`Outputs::tool_arguments`].
    ToolCall,
}

/// The parts of the request that outputs are checked against.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestedOutput {
    pub(crate) format: Option<StructuredFormat>,
    pub(crate) tools: Option<Box<ToolNames>>,
    /// The schema of that format, if the output is to be validated.
    pub(crate) schema: Option<Box<BoundedBytes>>,
}

/// The outputs of one request, one per choice.
#[derive(Debug)]
pub(crate) struct Outputs {
    checks: QualityChecks,
    requested: RequestedOutput,
    tracked: Vec<TrackedChoice>,
    tools: ToolCalls,
}

#[derive(Debug)]
struct TrackedChoice {
    choice: u32,
    reason: Option<FinishReason>,
    /// Its text cannot be separated from that of other choices, so it is not checked.
    mixed_up: bool,
    output: Output,
}

/// The end of a request, as far as it matters for its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestEnd {
    /// The end of the choices without a finish reason.
    pub(crate) open: ChoiceEnd,
    /// The limit that cut the choices with the finish reason `length`.
    pub(crate) on_limit: TruncationCause,
    /// Whether the answer is complete, so that missing parts are really missing.
    pub(crate) complete: bool,
}

impl Outputs {
    pub(crate) fn new(checks: QualityChecks, requested: RequestedOutput) -> Self {
        Self { checks, requested, tracked: Vec::new(), tools: ToolCalls::default() }
    }

    /// Sets the requested output format.
    pub(crate) fn expect(&mut self, format: StructuredFormat) {
        self.requested.format = Some(format);
    }

    /// Limits the total length of all texts: checks that need longer texts are skipped.
    pub(crate) fn at_most(&mut self, bytes: u64) {
        self.checks.repetition &= repetition::fits_into(bytes);
    }

    /// Call it when a choice was seen.
    pub(crate) fn choice(&mut self, choice: u32) {
        self.output(choice);
    }

    /// Reads a piece of a choice's text.
    #[inline]
    pub(crate) fn text(&mut self, choice: u32, part: Part, text: &[u8], emit: &mut impl FnMut(Finding)) {
        let (checks, json) = (self.checks, self.checks.structured_output && self.requested.format.is_some());
        if let Some(output) = self.output(choice) {
            output.read(part, text, checks, json, emit);
        }
    }

    /// Reads a piece of a tool call's name.
    pub(crate) fn tool_name(&mut self, choice: u32, call: u32, name: &[u8], emit: &mut impl FnMut(Finding)) {
        self.tool_text(choice, name, emit);
        if self.checks.tool_calls {
            self.tools.name((choice, call), name, self.requested.tools.as_deref(), emit);
        }
    }

    /// Reads a piece of a tool call's arguments.
    pub(crate) fn tool_arguments(&mut self, choice: u32, call: u32, arguments: &[u8], emit: &mut impl FnMut(Finding)) {
        self.tool_text(choice, arguments, emit);
        if self.checks.tool_calls {
            self.tools.arguments((choice, call), arguments, self.requested.tools.as_deref(), emit);
        }
    }

    fn tool_text(&mut self, choice: u32, text: &[u8], emit: &mut impl FnMut(Finding)) {
        self.text(choice, Part::ToolCall, text, emit);
    }

    /// Call it if text of one choice was emitted as that of another.
    pub(crate) fn mixed_up(&mut self, one: u32, other: u32) {
        for choice in [one, other] {
            if let Some(tracked) = self.tracked(choice) {
                tracked.mixed_up = true;
            }
        }
    }

    /// Call it at the end of an event.
    #[inline]
    pub(crate) fn end_event(&mut self) {
        self.tools.end_event();
    }

    /// Call it when the open tool calls are complete.
    pub(crate) fn end_tool_calls(&mut self, emit: &mut impl FnMut(Finding)) {
        self.tools.complete(self.requested.tools.as_deref(), emit);
    }

    /// Call it when the prompt was cut.
    pub(crate) fn input_truncated(&mut self, evidence: InputTruncation, emit: &mut impl FnMut(Finding)) {
        if self.checks.truncation {
            emit(Finding::InputTruncated(evidence));
        }
    }

    /// Stores a choice's finish reason. The choice is evaluated when the request has ended, because only then all counts are known.
    pub(crate) fn finish(&mut self, choice: u32, reason: FinishReason) {
        if let Some(tracked) = self.tracked(choice) {
            tracked.reason = Some(reason);
        }
    }

    /// Ends the request, and its choices.
    pub(crate) fn end(&mut self, end: RequestEnd, emit: &mut impl FnMut(Finding)) {
        if self.tracked.is_empty() && end.complete && self.checks.empty {
            emit(Finding::Empty(EmptyKind::NoChoices));
        }
        for tracked in std::mem::take(&mut self.tracked).into_iter().filter(|tracked| !tracked.mixed_up) {
            let ending = match tracked.reason {
                // The engine did not finish the choice, whatever it reports.
                Some(FinishReason::Error | FinishReason::Abort) => ChoiceEnd::StreamCut,
                Some(reason) => ChoiceEnd::Finished { reason, on_limit: end.on_limit },
                None => end.open,
            };
            tracked.output.end(ending, self.checks, &self.requested, end.complete, emit);
            if self.checks.tool_calls && ending != ChoiceEnd::ClientGone {
                self.tools.end(tracked.choice, ending.cause().is_some(), self.requested.tools.as_deref(), emit);
            }
        }
    }

    #[inline]
    fn output(&mut self, choice: u32) -> Option<&mut Output> {
        self.tracked(choice).map(|tracked| &mut tracked.output)
    }

    #[inline]
    fn tracked(&mut self, choice: u32) -> Option<&mut TrackedChoice> {
        let at = match self.tracked.iter().position(|tracked| tracked.choice == choice) {
            Some(at) => at,
            None if self.tracked.len() < MAX_TRACKED => {
                let output = Output::new(self.requested.schema.is_some());
                // Nearly all requests have one choice.
                self.tracked.reserve_exact(1);
                self.tracked.push(TrackedChoice { choice, reason: None, mixed_up: false, output });
                self.tracked.len() - 1
            }
            None => return None,
        };
        Some(&mut self.tracked[at]).filter(|tracked| !tracked.mixed_up)
    }
}
