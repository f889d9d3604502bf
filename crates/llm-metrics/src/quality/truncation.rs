//! The causes of a cut output or prompt.

use crate::vocabulary::{InputTruncation, TruncationCause};

/// A shorter prompt says nothing about the number of bytes per token.
const LEAST_TEXT: u64 = 8192;
/// No text has this many bytes per token: English has four to five, code three, JSON with much white space eight.
const MOST_BYTES_A_TOKEN: u64 = 16;

/// A prompt that its engine may cut without reporting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// The length of the request.
    pub(crate) bytes: u64,
    pub(crate) limit: Option<PromptLimit>,
}

/// The context length that the request asked for, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PromptLimit {
    pub(crate) context: u64,
    /// The token counts that remain of a longer prompt.
    pub(crate) left: [u64; 4],
}

/// The limit behind the finish reason `length`. If the request set no limit or did not reach it, it was the model's context (or a limit of the
/// server, which no server reports).
pub(crate) fn on_limit(max_tokens: Option<u64>, output_tokens: Option<u64>, choices: u64) -> TruncationCause {
    match (max_tokens, output_tokens) {
        (None, _) => TruncationCause::ContextWindow,
        // The count is over all choices, but the limit is per choice.
        (Some(limit), Some(tokens)) if choices == 1 && tokens < limit => TruncationCause::ContextWindow,
        (Some(_), _) => TruncationCause::MaxTokens,
    }
}

/// Whether the prompt was cut, and how that is known.
pub(crate) fn of_input(reported: bool, prompt: Option<Prompt>, input_tokens: Option<u64>) -> Option<InputTruncation> {
    if reported {
        return Some(InputTruncation::Reported);
    }
    suspected(prompt?, input_tokens?).then_some(InputTruncation::Suspected)
}

/// Whether an engine that does not report it has cut this prompt: it counts far fewer tokens than a text of this length has, or exactly as many as it
/// keeps of a prompt that is too long.
fn suspected(Prompt { bytes, limit }: Prompt, tokens: u64) -> bool {
    let too_few = bytes >= LEAST_TEXT && tokens.saturating_mul(MOST_BYTES_A_TOKEN) < bytes;
    // A token has at least one byte, so a text with fewer bytes than the context has tokens is not too long.
    too_few || limit.is_some_and(|limit| bytes >= limit.context && limit.left.contains(&tokens))
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
        let suspected = |bytes, tokens| suspected(Prompt { bytes, limit: None }, tokens);
        assert!(suspected(100_000, 4096));
        assert!(!suspected(16 * 4096, 4096));
        assert!(suspected(16 * 4096 + 1, 4096));
        assert!(!suspected(8191, 1), "too short");
        assert!(suspected(8192, 1));
    }

    #[test]
    fn a_prompt_with_exactly_the_count_of_a_cut_one_is_suspected_if_it_can_be_that_long() {
        let limit = Some(PromptLimit { context: 4096, left: [4096, 4095, 2050, 2051] });
        let suspected = |bytes, tokens| suspected(Prompt { bytes, limit }, tokens);
        for tokens in [4096, 4095, 2050, 2051] {
            assert!(suspected(16_384, tokens), "{tokens}");
            assert!(suspected(4096, tokens), "{tokens}");
            assert!(!suspected(4095, tokens), "{tokens}: it cannot have had more tokens than fit");
        }
        for tokens in [2049, 2052, 4094, 4097] {
            assert!(!suspected(16_384, tokens), "{tokens}");
        }
    }

    #[test]
    fn the_engines_report_takes_precedence_over_a_suspicion_which_needs_a_count() {
        let prompt = Some(Prompt { bytes: 100_000, limit: None });
        assert_eq!(of_input(true, prompt, Some(1)), Some(InputTruncation::Reported));
        assert_eq!(of_input(true, None, None), Some(InputTruncation::Reported));
        assert_eq!(of_input(false, prompt, Some(1)), Some(InputTruncation::Suspected));
        assert_eq!(of_input(false, prompt, None), None);
        assert_eq!(of_input(false, None, Some(1)), None);
    }
}
