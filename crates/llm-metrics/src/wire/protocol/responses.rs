//! OpenAI's Responses. The kind of an event is in its name and in its `type`, which vLLM writes last: the same key, `delta`, is answer, reasoning or
//! tool call.
//!
//! llama-server sends `completed` for an answer that was cut, and vLLM `response.completed` for one with the status `incomplete`: the status counts,
//! not the name of the event.

use super::openai::{FORMAT, TIMINGS, TOOLS, USAGE};
use super::{ERROR, Keys};
use crate::wire::TextKind::{Answer, Media, Reasoning, Refusal, ToolArguments, ToolInput, ToolName};
use crate::wire::facts::{Fact, Status};
use crate::wire::json::Shape::{self, Array, Either, Envelope, Object, Padding, Scalar, Tag, Text};
use crate::wire::json::Tags;
use crate::wire::request::RequestField;

/// One event of a stream whose name is unknown or comes later.
pub(in crate::wire) static EVENT: Shape<Fact> = Object(
    None,
    &[
        ("type", Tag(&EVENTS)),
        ("delta", Text(Answer)),
        ("response", Object(None, ENDED_RESPONSE)),
        ("item", Object(None, &[("type", Scalar(Fact::OpenItem))])),
        ("part", Object(None, &[("type", Scalar(Fact::OpenItem))])),
        ("error", ERROR),
        ("code", Scalar(Fact::LooseCode)),
        ("message", Scalar(Fact::LooseMessage)),
        ("sequence_number", Envelope),
    ],
);

static EVENTS: Tags<Fact> = Tags {
    begin: Some("response."),
    words: &[
        ("response.output_text.delta", None, Object(Some(Fact::Choice), &delta(Text(Answer)))),
        ("response.reasoning_text.delta", None, Object(Some(Fact::Choice), &delta(Text(Reasoning)))),
        ("response.reasoning_summary_text.delta", None, Object(Some(Fact::Choice), &delta(Text(Reasoning)))),
        // LM Studio and OpenRouter have the first of them, the second was OpenAI's.
        ("response.reasoning.delta", None, Object(Some(Fact::Choice), &delta(Text(Reasoning)))),
        ("response.reasoning_summary.delta", None, Object(Some(Fact::Choice), &delta(Text(Reasoning)))),
        ("response.refusal.delta", None, Object(Some(Fact::Choice), &delta(Text(Refusal)))),
        ("response.function_call_arguments.delta", None, Object(Some(Fact::Choice), &delta(Text(ToolArguments(0))))),
        // The name of a call is in an event without a token.
        (
            "response.output_item.added",
            None,
            Object(None, &[TYPE, ("item", Object(None, &[("name", Scalar(Fact::CalledTool))])), ("error", ERROR)]),
        ),
        ("response.function_call_arguments.done", Some(Fact::ToolCallsEnd), Object(None, &[TYPE])),
        ("response.mcp_call_arguments.done", Some(Fact::ToolCallsEnd), Object(None, &[TYPE])),
        ("response.output_item.done", Some(Fact::ToolCallsEnd), Object(None, &[TYPE])),
        ("response.custom_tool_call_input.delta", None, Object(Some(Fact::Choice), &delta(Text(ToolInput)))),
        ("response.shell_call_command.delta", None, Object(Some(Fact::Choice), &delta(Text(ToolInput)))),
        // Tools that the server itself calls.
        (
            "response.mcp_call_arguments.delta",
            Some(Fact::HostedTool),
            Object(Some(Fact::Choice), &delta(Text(ToolArguments(0)))),
        ),
        (
            "response.code_interpreter_call_code.delta",
            Some(Fact::HostedTool),
            Object(Some(Fact::Choice), &delta(Text(ToolInput))),
        ),
        // OpenRouter, according to its documentation; others have an object there.
        (
            "response.content_part.delta",
            None,
            Object(Some(Fact::Choice), &delta(Either(&Text(Answer), &Object(None, &[TYPE, ("text", Text(Answer))])))),
        ),
        ("response.audio.transcript.delta", None, Object(Some(Fact::Choice), &delta(Text(Answer)))),
        ("response.audio.delta", None, Object(Some(Fact::Choice), &delta(Text(Media)))),
        ("response.completed", Some(Fact::Ended(Status::Completed)), Object(None, ENDED)),
        ("response.incomplete", Some(Fact::Ended(Status::Incomplete)), Object(None, ENDED)),
        ("response.cancelled", Some(Fact::Ended(Status::Cancelled)), Object(None, ENDED)),
        // OpenRouter.
        ("response.done", Some(Fact::Done), Object(None, ENDED)),
        ("response.failed", Some(Fact::Error), Object(None, ENDED)),
        ("error", Some(Fact::Error), FAILED),
    ],
    otherwise: Object(None, &[TYPE, ("response", Object(None, BEGUN)), ("error", ERROR)]),
};

const TYPE: (&str, Shape<Fact>) = ("type", Envelope);

/// Events with tokens, and their known envelope.
const fn delta(text: Shape<Fact>) -> [(&'static str, Shape<Fact>); 5] {
    [
        TYPE,
        ("delta", text),
        ("item_id", Envelope),
        ("sequence_number", Padding),
        // OpenAI's padding of random letters.
        ("obfuscation", Padding),
    ]
}

/// A response that has only begun.
const BEGUN: Keys = &[("model", Scalar(Fact::Model)), ("status", Scalar(Fact::Status)), BACKGROUND, ("error", ERROR)];
const BACKGROUND: (&str, Shape<Fact>) = ("background", Scalar(Fact::Background));

/// The last event repeats all texts, which were already emitted.
const ENDED: Keys = &[
    TYPE,
    ("response", Object(None, ENDED_RESPONSE)),
    // llama.cpp.
    ("timings", TIMINGS),
    // Perplexity: next to the type, and not in the response.
    ("error", ERROR),
];

const ENDED_RESPONSE: Keys = &[
    ("model", Scalar(Fact::Model)),
    ("status", Scalar(Fact::Status)),
    BACKGROUND,
    ("incomplete_details", Object(None, &[("reason", Scalar(Fact::FinishReason))])),
    ("error", ERROR),
    ("usage", USAGE),
];

/// An error as an event. OpenAI has its fields at the top level, others in an object.
const FAILED: Shape<Fact> = Object(Some(Fact::Error), &[TYPE, ("code", Scalar(Fact::ErrorCode)), ("error", ERROR)]);

/// A whole response.
pub(in crate::wire) static RESPONSE: Shape<Fact> = Object(
    None,
    &[
        ("model", Scalar(Fact::Model)),
        ("status", Scalar(Fact::Status)),
        ("incomplete_details", Object(None, &[("reason", Scalar(Fact::FinishReason))])),
        ("error", ERROR),
        ("usage", USAGE),
        ("timings", TIMINGS),
        ("output", Array(&Object(Some(Fact::Item), ITEM))),
        ("code", Scalar(Fact::LooseCode)),
        ("message", Scalar(Fact::LooseMessage)),
    ],
);

const ITEM: Keys = &[
    ("type", Scalar(Fact::Item)),
    ("name", Text(ToolName(0))),
    ("arguments", Text(ToolArguments(0))),
    ("input", Text(ToolInput)),
    ("code", Text(ToolInput)),
    ("action", Object(None, &[("commands", COMMANDS), ("command", COMMANDS)])),
    (
        "content",
        Array(&Object(None, &[("type", Scalar(Fact::Item)), ("text", Text(Answer)), ("refusal", Text(Refusal))])),
    ),
    ("summary", Array(&Object(None, &[("text", Text(Reasoning))]))),
];

/// The input of a shell tool.
const COMMANDS: Shape<Fact> = Array(&Text(ToolInput));

pub(in crate::wire) static REQUEST: Shape<RequestField> = Object(
    None,
    &[
        ("model", Scalar(RequestField::Model)),
        ("stream", Scalar(RequestField::Stream)),
        ("max_output_tokens", Scalar(RequestField::MaxTokens)),
        ("background", Scalar(RequestField::Background)),
        ("tools", TOOLS),
        ("text", Object(None, &[("format", FORMAT)])),
        ("reasoning", Object(None, &[("effort", Scalar(RequestField::Effort))])),
    ],
);
