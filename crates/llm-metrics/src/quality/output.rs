//! The checks of one choice.

use super::{
    Finding, Part, QualityChecks, RequestedOutput, markup::Markup, repetition::Repetition, structured::StructuredOutput,
};
use crate::vocabulary::{
    AnomalyKind, EmptyKind, FinishReason, RefusalKind, StructuredFormat, StructuredResult, TruncationCause,
};

/// How a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChoiceEnd {
    /// The model or a limit ended it. `on_limit` is the limit, if it was one.
    Finished { reason: FinishReason, on_limit: TruncationCause },
    /// The stream was truncated.
    StreamCut,
    /// The client disconnected.
    ClientGone,
}

impl ChoiceEnd {
    fn reason(self) -> Option<FinishReason> {
        match self {
            Self::Finished { reason, .. } => Some(reason),
            Self::StreamCut | Self::ClientGone => None,
        }
    }

    /// The cause, if the choice was cut.
    pub(crate) fn cause(self) -> Option<TruncationCause> {
        match self {
            Self::Finished { reason: FinishReason::Length, on_limit } => Some(on_limit),
            Self::Finished { .. } => None,
            Self::StreamCut => Some(TruncationCause::StreamCut),
            Self::ClientGone => Some(TruncationCause::ClientDisconnect),
        }
    }
}

/// The state of one choice.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    structured: StructuredOutput,
    markup: Markup,
    /// The check for loops: most of an output's state.
    repetition: Option<Box<Repetition>>,
    reasoned: bool,
    refused: bool,
    called: bool,
    /// Anomalies that were emitted; each is emitted once.
    emitted: [bool; AnomalyKind::ALL.len()],
}

impl Output {
    /// `keeps_bytes`: buffer the JSON, to validate it against a schema.
    pub(super) fn new(keeps_bytes: bool) -> Self {
        Self { structured: StructuredOutput::new(keeps_bytes), ..Self::default() }
    }

    /// Reads the next piece of a text.
    #[inline]
    pub(super) fn read(
        &mut self,
        part: Part,
        text: &[u8],
        checks: QualityChecks,
        json: bool,
        emit: &mut impl FnMut(Finding),
    ) {
        match part {
            Part::Answer => {
                let found = self.markup.read(text);
                if found.special_token && checks.anomalies {
                    self.anomaly(AnomalyKind::SpecialTokenLeak, emit);
                }
                if found.replacement_char && checks.anomalies {
                    self.anomaly(AnomalyKind::ReplacementChar, emit);
                }
                if json {
                    self.structured.read(text);
                }
            }
            Part::Reasoning if text.iter().all(u8::is_ascii_whitespace) => {}
            Part::Reasoning => {
                self.reasoned = true;
                self.markup.reasoning_apart();
            }
            Part::Refusal => self.refused = true,
            Part::ToolCall | Part::Media => self.called = true,
        }
        if checks.repetition {
            let repetition = self.repetition.get_or_insert_default();
            repetition.read(text).into_iter().for_each(|kind| emit(Finding::Repetition(kind)));
        }
    }

    fn anomaly(&mut self, kind: AnomalyKind, emit: &mut impl FnMut(Finding)) {
        if !std::mem::replace(&mut self.emitted[kind as usize], true) {
            emit(Finding::Anomaly(kind));
        }
    }

    /// Evaluates what is only known at the end. Only a complete answer can be empty.
    pub(super) fn end(
        mut self,
        ending: ChoiceEnd,
        checks: QualityChecks,
        requested: &RequestedOutput,
        complete: bool,
        emit: &mut impl FnMut(Finding),
    ) {
        let reason = ending.reason();
        let finished = reason.is_some();
        let filtered = reason == Some(FinishReason::ContentFilter);
        let refused = self.refused || reason == Some(FinishReason::Refusal);
        if checks.refusals && refused {
            emit(Finding::Refusal(RefusalKind::RefusalField));
        }
        if checks.refusals && filtered {
            emit(Finding::Refusal(RefusalKind::ContentFilter));
        }
        if let Some(cause) = ending.cause().filter(|_| checks.truncation) {
            emit(Finding::OutputTruncated(cause));
        }
        let elsewhere = refused || filtered || self.called || reason == Some(FinishReason::ToolCalls);
        if let Some(kind) = self.empty().filter(|_| checks.empty && complete && finished && !elsewhere) {
            emit(Finding::Empty(kind));
        }
        if checks.anomalies && finished && self.markup.reasoning_is_open() {
            self.anomaly(AnomalyKind::UnclosedReasoning, emit);
        }
        // A client that disconnected cut the answer itself, and a tool call or a refusal is a different kind of answer.
        if let Some(format) =
            requested.format.filter(|_| checks.structured_output && ending != ChoiceEnd::ClientGone && !elsewhere)
        {
            let result = match format {
                StructuredFormat::Grammar => StructuredResult::Unchecked,
                _ => match self.structured.result(ending.cause().is_some()) {
                    StructuredResult::Valid if checks.json_schema => {
                        self.structured.by_schema(format, requested.schema.as_deref())
                    }
                    result => result,
                },
            };
            emit(Finding::StructuredOutput(format, result));
        }
    }

    fn empty(&self) -> Option<EmptyKind> {
        if self.markup.has_answer() {
            None
        } else if self.reasoned || self.markup.has_reasoning() {
            Some(EmptyKind::ReasoningOnly)
        } else if self.markup.has_text() {
            Some(EmptyKind::Whitespace)
        } else {
            Some(EmptyKind::NoContent)
        }
    }
}
