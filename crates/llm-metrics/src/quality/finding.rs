//! The result of a check.

use crate::vocabulary::{
    AnomalyKind, EmptyKind, InputTruncation, RefusalKind, RepetitionKind, StructuredFormat, StructuredResult,
    ToolCallResult, TruncationCause,
};

/// The result of a check, whether good or bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    StructuredOutput(StructuredFormat, StructuredResult),
    ToolCall(ToolCallResult),
    OutputTruncated(TruncationCause),
    InputTruncated(InputTruncation),
    Empty(EmptyKind),
    Repetition(RepetitionKind),
    Refusal(RefusalKind),
    Anomaly(AnomalyKind),
}
