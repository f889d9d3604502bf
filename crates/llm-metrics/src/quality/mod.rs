//! Checks on what a model said: whether it has the form that was asked for, whether tools can be called with it, whether it was cut, is
//! empty, goes round in circles, or holds what should not be there.
//!
//! Each check is an incremental automaton: it takes text in any pieces, keeps state of a fixed size and no text, allocates nothing once it
//! runs, and cannot fail. It knows neither how the text came nor what is recorded of it: [`Outputs`] takes pieces of text and emits
//! [`Finding`]s. The check of JSON schemas is the exception, and therefore off by default: it keeps schema and answer, up to a limit, and
//! works on them when the answer ends.
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

/// Choices that are checked; further ones are counted and not looked at.
const MAX_TRACKED: usize = 4;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Answer,
    Reasoning,
    Refusal,
    /// Speech or an image.
    Media,
    /// Told apart by [`Outputs::tool_name`] and [`Outputs::tool_arguments`].
    ToolCall,
}

/// What the request asked for, as far as it can be checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestedOutput {
    pub(crate) format: Option<StructuredFormat>,
    pub(crate) tools: Option<Box<ToolNames>>,
    /// The schema of that format, where it is to be checked.
    pub(crate) schema: Option<Box<BoundedBytes>>,
}

/// The outputs of one request, one for each choice.
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
    /// It cannot be told which text is its own: it is not judged.
    mixed_up: bool,
    output: Output,
}

/// How a request ended, as far as it matters to its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestEnd {
    /// What became of the choices that had not finished.
    pub(crate) open: ChoiceEnd,
    /// What cut those that finished because of a limit.
    pub(crate) on_limit: TruncationCause,
    /// The answer is there in full, so that what is not there is missing.
    pub(crate) complete: bool,
}

impl Outputs {
    pub(crate) fn new(checks: QualityChecks, requested: RequestedOutput) -> Self {
        Self { checks, requested, tracked: Vec::new(), tools: ToolCalls::default() }
    }

    /// The output is to have this form.
    pub(crate) fn expect(&mut self, format: StructuredFormat) {
        self.requested.format = Some(format);
    }

    /// All texts together have no more bytes: what they are too short for is not looked for.
    pub(crate) fn at_most(&mut self, bytes: u64) {
        self.checks.repetition &= repetition::fits_into(bytes);
    }

    /// A choice was seen.
    pub(crate) fn choice(&mut self, choice: u32) {
        self.output(choice);
    }

    /// A piece of a choice's text.
    #[inline]
    pub(crate) fn text(&mut self, choice: u32, part: Part, text: &[u8], emit: &mut impl FnMut(Finding)) {
        let (checks, json) = (self.checks, self.checks.structured_output && self.requested.format.is_some());
        if let Some(output) = self.output(choice) {
            output.read(part, text, checks, json, emit);
        }
    }

    /// A piece of the name of a call.
    pub(crate) fn tool_name(&mut self, choice: u32, call: u32, name: &[u8], emit: &mut impl FnMut(Finding)) {
        self.tool_text(choice, name, emit);
        if self.checks.tool_calls {
            self.tools.name((choice, call), name, self.requested.tools.as_deref(), emit);
        }
    }

    /// A piece of the arguments of a call.
    pub(crate) fn tool_arguments(&mut self, choice: u32, call: u32, arguments: &[u8], emit: &mut impl FnMut(Finding)) {
        self.tool_text(choice, arguments, emit);
        if self.checks.tool_calls {
            self.tools.arguments((choice, call), arguments, self.requested.tools.as_deref(), emit);
        }
    }

    fn tool_text(&mut self, choice: u32, text: &[u8], emit: &mut impl FnMut(Finding)) {
        self.text(choice, Part::ToolCall, text, emit);
    }

    /// Some text of the one choice was emitted as that of the other.
    pub(crate) fn mixed_up(&mut self, one: u32, other: u32) {
        for choice in [one, other] {
            if let Some(tracked) = self.tracked(choice) {
                tracked.mixed_up = true;
            }
        }
    }

    /// An event is over.
    #[inline]
    pub(crate) fn end_event(&mut self) {
        self.tools.end_event();
    }

    /// The calls that were begun are complete.
    pub(crate) fn end_tool_calls(&mut self, emit: &mut impl FnMut(Finding)) {
        self.tools.complete(self.requested.tools.as_deref(), emit);
    }

    /// The prompt was cut.
    pub(crate) fn input_truncated(&mut self, evidence: InputTruncation, emit: &mut impl FnMut(Finding)) {
        if self.checks.truncation {
            emit(Finding::InputTruncated(evidence));
        }
    }

    /// A choice says why it finished. It is judged when the request has ended, and all counts are known.
    pub(crate) fn finish(&mut self, choice: u32, reason: FinishReason) {
        if let Some(tracked) = self.tracked(choice) {
            tracked.reason = Some(reason);
        }
    }

    /// The request ended, and with it its choices.
    pub(crate) fn end(&mut self, end: RequestEnd, emit: &mut impl FnMut(Finding)) {
        if self.tracked.is_empty() && end.complete && self.checks.empty {
            emit(Finding::Empty(EmptyKind::NoChoices));
        }
        for tracked in std::mem::take(&mut self.tracked).into_iter().filter(|tracked| !tracked.mixed_up) {
            let ending = match tracked.reason {
                // The engine did not finish it, whatever it says.
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
