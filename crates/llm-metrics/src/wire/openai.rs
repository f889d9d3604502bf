//! OpenAI chat completions and completions, with what vLLM, SGLang, llama.cpp and mistral.rs add.

use super::TextKind::{Answer, Reasoning, Refusal, ToolCall};
use super::facts::Fact;
use super::json::Shape::{self, Array, Envelope, Object, Padding, Present, Scalar, Text};
use super::request::Asked;

type Keys = &'static [(&'static str, Shape<Fact>)];

/// One event of a chat stream.
pub(super) static CHAT_CHUNK: Shape<Fact> = Object(None, &root(&CHAT_CHUNK_CHOICE));
/// A whole chat completion.
pub(super) static CHAT: Shape<Fact> = Object(None, &root(&CHAT_CHOICE));
/// A whole completion, or one event of a stream of them.
pub(super) static COMPLETION: Shape<Fact> = Object(None, &root(&COMPLETION_CHOICE));

const fn root(choice: &'static Shape<Fact>) -> [(&'static str, Shape<Fact>); 12] {
    [
        ("choices", Array(choice)),
        ("model", Scalar(Fact::Model)),
        ("usage", USAGE),
        ("error", Present(Fact::Error)),
        ("timings", TIMINGS),
        ("id", Envelope),
        ("object", Envelope),
        ("created", Envelope),
        ("system_fingerprint", Envelope),
        ("service_tier", Envelope),
        ("provider", Envelope),
        // OpenAI's padding, of random letters.
        ("obfuscation", Padding),
    ]
}

static CHAT_CHUNK_CHOICE: Shape<Fact> =
    Object(Some(Fact::Choice), &[INDEX, ("delta", Object(None, MESSAGE)), FINISH_REASON]);
static CHAT_CHOICE: Shape<Fact> =
    Object(Some(Fact::Choice), &[INDEX, ("message", Object(None, MESSAGE)), FINISH_REASON]);
static COMPLETION_CHOICE: Shape<Fact> = Object(Some(Fact::Choice), &[INDEX, ("text", Text(Answer)), FINISH_REASON]);

const INDEX: (&str, Shape<Fact>) = ("index", Scalar(Fact::ChoiceIndex));
const FINISH_REASON: (&str, Shape<Fact>) = ("finish_reason", Scalar(Fact::FinishReason));

const MESSAGE: Keys = &[
    ("role", Envelope),
    ("content", Text(Answer)),
    ("reasoning_content", Text(Reasoning)),
    ("reasoning", Text(Reasoning)),
    ("refusal", Text(Refusal)),
    ("tool_calls", Array(&Object(None, &[("function", FUNCTION), ("id", Envelope), ("type", Envelope)]))),
    ("function_call", FUNCTION),
];

const FUNCTION: Shape<Fact> = Object(None, &[("name", Text(ToolCall)), ("arguments", Text(ToolCall))]);

const USAGE: Shape<Fact> = Object(
    Some(Fact::Usage),
    &[
        ("prompt_tokens", Scalar(Fact::InputTokens)),
        ("completion_tokens", Scalar(Fact::OutputTokens)),
        ("prompt_tokens_details", Object(None, &[("cached_tokens", Scalar(Fact::CachedInputTokens))])),
        ("completion_tokens_details", Object(None, &[("reasoning_tokens", Scalar(Fact::ReasoningTokens))])),
        // SGLang has it here.
        ("reasoning_tokens", Scalar(Fact::ReasoningTokens)),
    ],
);

/// llama.cpp's own measurements.
const TIMINGS: Shape<Fact> = Object(
    Some(Fact::Timings),
    &[("prompt_ms", Scalar(Fact::PrefillMilliseconds)), ("predicted_ms", Scalar(Fact::DecodeMilliseconds))],
);

/// A request, to either endpoint.
pub(super) static REQUEST: Shape<Asked> = Object(
    None,
    &[
        ("model", Scalar(Asked::Model)),
        ("stream", Scalar(Asked::Stream)),
        ("max_tokens", Scalar(Asked::MaxTokens)),
        ("max_completion_tokens", Scalar(Asked::MaxCompletionTokens)),
        ("n", Scalar(Asked::Choices)),
        ("tools", Array(&Present(Asked::Tool))),
        ("response_format", Object(None, &[("type", Scalar(Asked::Format))])),
        // vLLM, SGLang, llama.cpp and mistral.rs.
        ("guided_json", Present(Asked::Grammar)),
        ("guided_regex", Present(Asked::Grammar)),
        ("guided_choice", Present(Asked::Grammar)),
        ("guided_grammar", Present(Asked::Grammar)),
        ("structured_outputs", Present(Asked::Grammar)),
        ("grammar", Present(Asked::Grammar)),
        ("regex", Present(Asked::Grammar)),
        ("ebnf", Present(Asked::Grammar)),
        ("json_schema", Present(Asked::JsonSchema)),
        // Every house has its own switch for reasoning.
        ("enable_thinking", Scalar(Asked::Thinking)),
        (
            "chat_template_kwargs",
            Object(None, &[("enable_thinking", Scalar(Asked::Thinking)), ("thinking", Scalar(Asked::Thinking))]),
        ),
        ("thinking", Object(None, &[("type", Scalar(Asked::ThinkingType))])),
        ("reasoning_effort", Scalar(Asked::Effort)),
        ("reasoning", Object(None, &[("effort", Scalar(Asked::Effort)), ("enabled", Scalar(Asked::Thinking))])),
    ],
);
