//! Anthropic's Messages, as implemented by Anthropic, vLLM and llama.cpp.

use super::openai::{FORMAT, TOOLS};
use super::{ERROR, Keys};
use crate::wire::TextKind::{Answer, Reasoning, ToolArguments, ToolName};
use crate::wire::counts::Count;
use crate::wire::facts::Fact;
use crate::wire::json::Shape::{self, Array, Envelope, Object, Scalar, Tag, Text};
use crate::wire::json::Tags;
use crate::wire::request::RequestField;

/// One event of a stream.
pub(in crate::wire) static EVENT: Shape<Fact> = Object(None, &[("type", Tag(&EVENTS)), ("error", ERROR)]);

static EVENTS: Tags<Fact> = Tags {
    begin: None,
    words: &[
        // The keys of a delta determine its kind, whatever its type. A signature is not a token.
        (
            "content_block_delta",
            None,
            Object(
                Some(Fact::Choice),
                &[
                    TYPE,
                    ("index", Envelope),
                    (
                        "delta",
                        Object(
                            None,
                            &[
                                TYPE,
                                ("text", Text(Answer)),
                                ("thinking", Text(Reasoning)),
                                ("partial_json", Text(ToolArguments(0))),
                            ],
                        ),
                    ),
                ],
            ),
        ),
        // A tool's name is the first part of a call.
        (
            "content_block_start",
            None,
            Object(Some(Fact::Choice), &[TYPE, ("index", Envelope), ("content_block", Object(None, BLOCK))]),
        ),
        // Its output count is a placeholder of one token.
        (
            "message_start",
            Some(Fact::Provisional),
            Object(None, &[TYPE, ("message", Object(None, &[("model", Scalar(Fact::Model)), ("usage", USAGE)]))]),
        ),
        (
            "message_delta",
            Some(Fact::Final),
            Object(
                Some(Fact::Choice),
                &[TYPE, ("delta", Object(None, &[("stop_reason", Scalar(Fact::FinishReason))])), ("usage", USAGE)],
            ),
        ),
        // Bedrock repeats the counts under other names.
        (
            "message_stop",
            Some(Fact::Done),
            Object(None, &[TYPE, ("usage", USAGE), ("amazon-bedrock-invocationMetrics", INVOCATION_METRICS)]),
        ),
        ("ping", None, Object(None, &[TYPE])),
        ("error", Some(Fact::Error), Object(None, &[TYPE, ("error", ERROR)])),
    ],
    otherwise: Object(None, &[TYPE, ("error", ERROR)]),
};

const TYPE: (&str, Shape<Fact>) = ("type", Envelope);

const BLOCK: Keys =
    &[TYPE, ("id", Envelope), ("name", Text(ToolName(0))), ("text", Text(Answer)), ("thinking", Text(Reasoning))];

/// A whole message. The input of a tool is an object, so only its name is read.
pub(in crate::wire) static MESSAGE: Shape<Fact> = Object(
    Some(Fact::Choice),
    &[
        ("type", Shape::Is("error", Fact::Error)),
        ("model", Scalar(Fact::Model)),
        ("stop_reason", Scalar(Fact::FinishReason)),
        ("content", Array(&Object(Some(Fact::ToolCall), BLOCK))),
        ("usage", USAGE),
        ("error", ERROR),
    ],
);

const USAGE: Shape<Fact> = Object(
    None,
    &[
        ("input_tokens", Scalar(Fact::Count(Count::UncachedInput))),
        ("cache_read_input_tokens", Scalar(Fact::Count(Count::CachedInput))),
        ("cache_creation_input_tokens", Scalar(Fact::Count(Count::CacheWrite))),
        ("output_tokens", Scalar(Fact::Count(Count::Output))),
        ("output_tokens_details", Object(None, &[("thinking_tokens", Scalar(Fact::Count(Count::Reasoning)))])),
    ],
);

const INVOCATION_METRICS: Shape<Fact> = Object(
    None,
    &[
        ("inputTokenCount", Scalar(Fact::Count(Count::UncachedInput))),
        ("cacheReadInputTokenCount", Scalar(Fact::Count(Count::CachedInput))),
        ("cacheWriteInputTokenCount", Scalar(Fact::Count(Count::CacheWrite))),
        ("outputTokenCount", Scalar(Fact::Count(Count::Output))),
    ],
);

pub(in crate::wire) static REQUEST: Shape<RequestField> = Object(
    None,
    &[
        ("model", Scalar(RequestField::Model)),
        ("stream", Scalar(RequestField::Stream)),
        ("max_tokens", Scalar(RequestField::MaxTokens)),
        ("tools", TOOLS),
        ("thinking", Object(None, &[("type", Scalar(RequestField::ThinkingType))])),
        ("output_format", FORMAT),
        ("output_config", Object(None, &[("format", FORMAT)])),
    ],
);
