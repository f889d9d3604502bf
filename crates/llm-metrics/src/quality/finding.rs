//! What a check has to say.

use crate::vocabulary::{
    AnomalyKind, EmptyKind, InputTruncation, RefusalKind, RepetitionKind, StructuredFormat, StructuredResult,
    ToolCallResult, TruncationCause,
};

/// Something that a check found, good or bad.
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
