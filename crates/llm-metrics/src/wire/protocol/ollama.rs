//! Ollama's own API. Each line is an answer, usage and times at once; times are in nanoseconds.

use super::ERROR;
use super::openai::TOOLS;
use crate::wire::TextKind::{Answer, Reasoning, ToolName};
use crate::wire::counts::Count;
use crate::wire::facts::{Fact, Time};
use crate::wire::json::Shape::{self, Array, Either, Envelope, Object, Padding, Present, Scalar, Text};
use crate::wire::request::RequestField;

/// A line of a stream of `/api/chat` or `/api/generate`, or a whole answer.
pub(in crate::wire) static ANSWER: Shape<Fact> = Object(
    Some(Fact::Choice),
    &[
        ("model", Scalar(Fact::Model)),
        ("created_at", Padding),
        (
            "message",
            Object(
                None,
                &[
                    ("role", Envelope),
                    ("content", Text(Answer)),
                    ("thinking", Text(Reasoning)),
                    // Tool arguments are an object, so only the name is read.
                    (
                        "tool_calls",
                        Array(&Object(
                            Some(Fact::ToolCall),
                            &[("function", Object(None, &[("name", Text(ToolName(0)))]))],
                        )),
                    ),
                ],
            ),
        ),
        ("response", Text(Answer)),
        ("thinking", Text(Reasoning)),
        ("done", Scalar(Fact::Done)),
        ("done_reason", Scalar(Fact::FinishReason)),
        ("prompt_eval_count", Scalar(Fact::Count(Count::Input))),
        ("eval_count", Scalar(Fact::Count(Count::Output))),
        ("load_duration", Scalar(Fact::Time(Time::LoadNanoseconds))),
        ("prompt_eval_duration", Scalar(Fact::Time(Time::PrefillNanoseconds))),
        ("eval_duration", Scalar(Fact::Time(Time::DecodeNanoseconds))),
        ("error", ERROR),
    ],
);

/// An answer of `/api/embed`.
pub(in crate::wire) static EMBEDDED: Shape<Fact> = Object(
    None,
    &[
        ("model", Scalar(Fact::Model)),
        ("prompt_eval_count", Scalar(Fact::Count(Count::Input))),
        ("load_duration", Scalar(Fact::Time(Time::LoadNanoseconds))),
        ("error", ERROR),
    ],
);

pub(in crate::wire) static REQUEST: Shape<RequestField> = Object(
    None,
    &[
        ("model", Scalar(RequestField::Model)),
        ("stream", Scalar(RequestField::Stream)),
        (
            "options",
            Object(
                None,
                &[
                    ("num_predict", Scalar(RequestField::MaxTokensIfAny)),
                    ("num_ctx", Scalar(RequestField::Context)),
                    ("num_keep", Scalar(RequestField::Keep)),
                ],
            ),
        ),
        ("format", Scalar(RequestField::OllamaFormat)),
        ("tools", TOOLS),
        // Images have more bytes than their tokens would as text.
        ("images", Present(RequestField::Images)),
        ("messages", Array(&Object(None, &[("images", Present(RequestField::Images))]))),
        // `true`, or an effort.
        ("think", Scalar(RequestField::Think)),
    ],
);

pub(in crate::wire) static EMBED_REQUEST: Shape<RequestField> = Object(
    None,
    &[
        ("model", Scalar(RequestField::Model)),
        ("input", Either(&Scalar(RequestField::Input), &Array(&Scalar(RequestField::Inputs)))),
        ("prompt", Scalar(RequestField::Input)),
    ],
);

/// The number of first tokens that Ollama keeps of a prompt that it cuts, if the request does not set it.
const KEEP: u64 = 4;

/// The token counts that Ollama may keep of a prompt that does not fit into `context` tokens. Until 2025: as many as fit, or one less. Since then:
/// its first tokens, and as many of its last ones as leave half of the rest free. If the model has a token for the beginning, that is kept as well.
pub(in crate::wire) fn left_of_prompt(context: u64, keep: Option<u64>) -> [u64; 4] {
    let half = |keep: u64| context - (context.saturating_sub(keep) / 2).max(1);
    let keep = keep.unwrap_or(KEEP);
    [context, context - 1, half(keep), half(keep.saturating_add(1))]
}

#[cfg(test)]
mod tests {
    use super::left_of_prompt;

    /// From `limit=… keep=…` in Ollama's log.
    #[test]
    fn the_rest_of_a_cut_prompt_is_as_long_as_ollama_logs_it() {
        for (context, keep, limit) in [
            (2048, None, 2048),
            (4096, None, 4095),
            (4096, None, 2050),
            (4096, None, 2051),
            (512, None, 258),
            (65_536, None, 32_770),
            (32_768, Some(5), 16_387),
            (4096, Some(0), 2048),
            (4096, Some(1000), 2548),
            // Everything is to be kept, except for one token.
            (4096, Some(u64::MAX), 4095),
            (2, None, 1),
        ] {
            assert!(left_of_prompt(context, keep).contains(&limit), "{context} {keep:?} {limit}");
        }
        assert!(!left_of_prompt(4096, Some(0)).contains(&2050), "it keeps as many as the request sets");
    }
}
