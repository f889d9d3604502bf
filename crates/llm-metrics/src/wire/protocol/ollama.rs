//! Ollama's own API. Each line is an answer, usage and times at once; times are in nanoseconds.

use super::ERROR;
use super::openai::TOOLS;
use crate::wire::TextKind::{Answer, Reasoning, ToolName};
use crate::wire::counts::Count;
use crate::wire::facts::{Fact, Time};
use crate::wire::json::Shape::{self, Array, Either, Envelope, Object, Padding, Present, Scalar, Text};
use crate::wire::request::Asked;

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
                    // What it is called with is an object: its name alone is read.
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

pub(in crate::wire) static REQUEST: Shape<Asked> = Object(
    None,
    &[
        ("model", Scalar(Asked::Model)),
        ("stream", Scalar(Asked::Stream)),
        ("options", Object(None, &[("num_predict", Scalar(Asked::MaxTokens))])),
        ("format", Scalar(Asked::OllamaFormat)),
        ("tools", TOOLS),
        // Pictures are longer than the tokens that they make.
        ("images", Present(Asked::Images)),
        ("messages", Array(&Object(None, &[("images", Present(Asked::Images))]))),
        // `true`, or how much.
        ("think", Scalar(Asked::Think)),
    ],
);

pub(in crate::wire) static EMBED_REQUEST: Shape<Asked> = Object(
    None,
    &[
        ("model", Scalar(Asked::Model)),
        ("input", Either(&Scalar(Asked::Input), &Array(&Scalar(Asked::Inputs)))),
        ("prompt", Scalar(Asked::Input)),
    ],
);
