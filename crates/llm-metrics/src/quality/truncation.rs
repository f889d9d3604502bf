//! What cut an output or a prompt.

use crate::vocabulary::{InputTruncation, TruncationCause};

/// A prompt shorter than this says nothing about how many bytes a token has.
const LEAST_TEXT: u64 = 8192;
/// No text has so many bytes a token: English has four to five, code three, JSON with much white space eight.
const MOST_BYTES_A_TOKEN: u64 = 16;

/// Which limit an output ran into that ended with the finish reason `length`. Where the request set none, or had not come to
/// it, it was the model's context (or a limit of the server's own, which nobody tells).
pub(crate) fn on_limit(max_tokens: Option<u64>, output_tokens: Option<u64>, choices: u64) -> TruncationCause {
    match (max_tokens, output_tokens) {
        (None, _) => TruncationCause::ContextWindow,
        // The count is over all choices, and the limit is for each.
        (Some(limit), Some(tokens)) if choices == 1 && tokens < limit => TruncationCause::ContextWindow,
        (Some(_), _) => TruncationCause::MaxTokens,
    }
}

/// Whether the prompt was cut, and how that is known.
pub(crate) fn of_input(reported: bool, text_bytes: Option<u64>, input_tokens: Option<u64>) -> Option<InputTruncation> {
    if reported {
        return Some(InputTruncation::Reported);
    }
    suspected(text_bytes?, input_tokens)
}

/// Whether an engine that cuts prompts without a word has cut this one: it counts far fewer tokens than a text of so many bytes has.
fn suspected(text_bytes: u64, input_tokens: Option<u64>) -> Option<InputTruncation> {
    let tokens = input_tokens?;
    let too_few = tokens.saturating_mul(MOST_BYTES_A_TOKEN) < text_bytes;
    (text_bytes >= LEAST_TEXT && too_few).then_some(InputTruncation::Suspected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_was_reached_is_the_cause() {
        assert_eq!(on_limit(Some(100), Some(100), 1), TruncationCause::MaxTokens);
        assert_eq!(on_limit(Some(100), Some(101), 1), TruncationCause::MaxTokens);
        assert_eq!(on_limit(Some(100), None, 1), TruncationCause::MaxTokens);
        assert_eq!(on_limit(Some(100), Some(30), 2), TruncationCause::MaxTokens);
    }

    #[test]
    fn a_limit_that_was_not_reached_or_not_set_is_not() {
        assert_eq!(on_limit(Some(100), Some(99), 1), TruncationCause::ContextWindow);
        assert_eq!(on_limit(None, Some(99), 1), TruncationCause::ContextWindow);
        assert_eq!(on_limit(None, None, 1), TruncationCause::ContextWindow);
    }

    #[test]
    fn a_prompt_of_which_too_few_tokens_were_counted_is_suspected() {
        assert_eq!(suspected(100_000, Some(4096)), Some(InputTruncation::Suspected));
        assert_eq!(suspected(16 * 4096, Some(4096)), None);
        assert_eq!(suspected(16 * 4096 + 1, Some(4096)), Some(InputTruncation::Suspected));
        assert_eq!(suspected(8191, Some(1)), None, "too short to tell");
        assert_eq!(suspected(8192, Some(1)), Some(InputTruncation::Suspected));
        assert_eq!(suspected(100_000, None), None);
    }
}
