//! Finish reasons, in the words of all protocols.

use crate::vocabulary::FinishReason;

/// The finish reason for a word. An empty word, or one for "none", means that the choice has not finished.
pub(super) fn finish_reason(word: &[u8]) -> Option<FinishReason> {
    Some(match word {
        b"" | b"null" | b"none" => return None,
        b"stop" | b"end_turn" | b"stop_sequence" | b"eos" | b"eos_token" | b"word" | b"COMPLETE" => FinishReason::Stop,
        b"length"
        | b"max_tokens"
        | b"max_output_tokens"
        | b"model_length"
        | b"limit"
        | b"model_context_window_exceeded" => FinishReason::Length,
        b"tool_calls" | b"function_call" | b"tool_use" => FinishReason::ToolCalls,
        b"content_filter" | b"sensitive" => FinishReason::ContentFilter,
        b"refusal" => FinishReason::Refusal,
        b"repetition" => FinishReason::Repetition,
        b"pause" | b"pause_turn" | b"compaction" => FinishReason::Pause,
        b"abort" | b"canceled" | b"cancelled" => FinishReason::Abort,
        // DeepSeek, Zhipu: the engine did not finish its work.
        b"error" | b"insufficient_system_resource" | b"network_error" | b"timeout" | b"timed_out" => {
            FinishReason::Error
        }
        _ => FinishReason::Other,
    })
}
