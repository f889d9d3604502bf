//! What cut an output or a prompt.

use crate::vocabulary::{InputTruncation, TruncationCause};

/// A prompt shorter than this says nothing about how many bytes a token has.
const LEAST_TEXT: u64 = 8192;
/// No text has so many bytes a token: English has four to five, code three, JSON with much white space eight.
const MOST_BYTES_A_TOKEN: u64 = 16;

/// A prompt that its engine may cut and not say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// How long the request is in which it stands.
    pub(crate) bytes: u64,
    pub(crate) limit: Option<PromptLimit>,
}

/// The context that the request asked for, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PromptLimit {
    pub(crate) context: u64,
    /// What may be left of a prompt that is longer.
    pub(crate) left: [u64; 4],
}

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
pub(crate) fn of_input(reported: bool, prompt: Option<Prompt>, input_tokens: Option<u64>) -> Option<InputTruncation> {
    if reported {
        return Some(InputTruncation::Reported);
    }
    suspected(prompt?, input_tokens?).then_some(InputTruncation::Suspected)
}

/// Whether an engine that does not say so has cut this prompt: it counts far fewer tokens than a text of so many bytes has, or just as many as it leaves
/// of a prompt that is too long.
fn suspected(Prompt { bytes, limit }: Prompt, tokens: u64) -> bool {
    let too_few = bytes >= LEAST_TEXT && tokens.saturating_mul(MOST_BYTES_A_TOKEN) < bytes;
    // A token has a byte: a text of fewer bytes than the context has tokens is not too long for it.
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
        assert!(!suspected(8191, 1), "too short to tell");
        assert!(suspected(8192, 1));
    }

    #[test]
    fn a_prompt_of_which_just_what_a_cut_one_has_left_was_counted_is_suspected_if_it_can_be_so_long() {
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
    fn what_the_engine_says_is_more_than_a_suspicion_and_without_a_count_there_is_none() {
        let prompt = Some(Prompt { bytes: 100_000, limit: None });
        assert_eq!(of_input(true, prompt, Some(1)), Some(InputTruncation::Reported));
        assert_eq!(of_input(true, None, None), Some(InputTruncation::Reported));
        assert_eq!(of_input(false, prompt, Some(1)), Some(InputTruncation::Suspected));
        assert_eq!(of_input(false, prompt, None), None);
        assert_eq!(of_input(false, None, Some(1)), None);
    }
}
