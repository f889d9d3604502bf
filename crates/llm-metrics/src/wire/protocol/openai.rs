//! OpenAI chat completions and completions, with the extensions of vLLM, SGLang, llama.cpp, mistral.rs and hosted APIs.

use super::{ERROR, Keys};
use crate::wire::TextKind::{Answer, Media, Reasoning, Refusal, ToolArguments, ToolInput, ToolName};
use crate::wire::counts::Count;
use crate::wire::facts::{Fact, Time};
use crate::wire::json::Shape::{self, Array, Either, Envelope, Is, Object, Padding, Present, Scalar, Text};
use crate::wire::request::RequestField;

/// One event of a chat stream.
pub(in crate::wire) static CHAT_CHUNK: Shape<Fact> = Object(None, &root(&CHAT_CHUNK_CHOICE));
/// A whole chat completion.
pub(in crate::wire) static CHAT: Shape<Fact> = Object(None, &root(&CHAT_CHOICE));
/// A whole completion, or one event of a completion stream.
pub(in crate::wire) static COMPLETION: Shape<Fact> = Object(None, &root(&COMPLETION_CHOICE));

const fn root(choice: &'static Shape<Fact>) -> [(&'static str, Shape<Fact>); 18] {
    [
        ("id", Envelope),
        // vLLM reports an error in a stream like this.
        ("object", Is("error", Fact::Error)),
        ("created", Envelope),
        ("model", Scalar(Fact::Model)),
        ("provider", Envelope),
        ("choices", Array(choice)),
        ("usage", USAGE),
        ("service_tier", Envelope),
        ("system_fingerprint", Envelope),
        // OpenAI's padding of random letters.
        ("obfuscation", Padding),
        ("timings", TIMINGS),
        ("error", ERROR),
        ("code", Scalar(Fact::LooseCode)),
        ("message", Scalar(Fact::LooseMessage)),
        ("type", Scalar(Fact::ErrorType)),
        ("error_type", Scalar(Fact::Error)),
        ("error_message", Scalar(Fact::Error)),
        // Groq's own envelope.
        ("x_groq", Object(None, &[("usage", USAGE), ("error", ERROR), ("id", Envelope)])),
    ]
}

static CHAT_CHUNK_CHOICE: Shape<Fact> = Object(
    Some(Fact::Choice),
    &[INDEX, ("delta", Object(None, MESSAGE)), LOGPROBS, FINISH_REASON, CHOICE_USAGE, CHOICE_ERROR],
);
static CHAT_CHOICE: Shape<Fact> = Object(
    Some(Fact::Choice),
    &[INDEX, ("message", Object(None, MESSAGE)), LOGPROBS, FINISH_REASON, CHOICE_USAGE, CHOICE_ERROR],
);
static COMPLETION_CHOICE: Shape<Fact> =
    Object(Some(Fact::Choice), &[INDEX, ("text", Text(Answer)), LOGPROBS, FINISH_REASON, CHOICE_USAGE, CHOICE_ERROR]);

pub(super) const INDEX: (&str, Shape<Fact>) = ("index", Scalar(Fact::ChoiceIndex));
pub(super) const FINISH_REASON: (&str, Shape<Fact>) = ("finish_reason", Scalar(Fact::FinishReason));
/// Skipped, and named here because a key at its usual place is found faster.
const LOGPROBS: (&str, Shape<Fact>) = ("logprobs", Envelope);
/// Moonshot's place for usage.
const CHOICE_USAGE: (&str, Shape<Fact>) = ("usage", USAGE);
/// OpenRouter's place for it.
const CHOICE_ERROR: (&str, Shape<Fact>) = ("error", ERROR);

pub(super) const MESSAGE: Keys = &[
    ("role", Envelope),
    ("content", Either(&Text(Answer), &Array(&Object(None, CONTENT_PART)))),
    ("reasoning_content", Text(Reasoning)),
    ("reasoning", Text(Reasoning)),
    ("refusal", Text(Refusal)),
    ("tool_calls", Array(&Object(Some(Fact::ToolCall), TOOL_CALL))),
    ("function_call", FUNCTION),
    ("audio", Object(None, &[("transcript", Text(Answer)), ("data", Text(Media)), ("id", Envelope)])),
    // OpenRouter: reasoning details of providers, together with `reasoning` or alone.
    (
        "reasoning_details",
        Array(&Object(
            None,
            &[
                ("type", Envelope),
                ("id", Envelope),
                ("format", Envelope),
                ("index", Envelope),
                ("text", Text(Reasoning)),
                ("summary", Text(Reasoning)),
                ("data", Text(Reasoning)),
            ],
        )),
    ),
];

/// Mistral's content is a list if the model reasons.
const CONTENT_PART: Keys = &[
    ("type", Envelope),
    ("text", Text(Answer)),
    ("thinking", Either(&Text(Reasoning), &Array(&Object(None, &[("type", Envelope), ("text", Text(Reasoning))])))),
    ("refusal", Text(Refusal)),
];

const TOOL_CALL: Keys = &[
    ("function", FUNCTION),
    ("custom", Object(None, &[("name", Text(ToolName(0))), ("input", Text(ToolInput))])),
    ("index", Scalar(Fact::ToolCallIndex)),
    ("id", Envelope),
    ("type", Envelope),
];

const FUNCTION: Shape<Fact> = Object(None, &[("name", Text(ToolName(0))), ("arguments", Text(ToolArguments(0)))]);

/// Usage, under OpenAI's names and those of others.
pub(super) const USAGE: Shape<Fact> = Object(
    None,
    &[
        ("prompt_tokens", Scalar(Fact::Count(Count::Input))),
        ("completion_tokens", Scalar(Fact::Count(Count::Output))),
        ("total_tokens", Scalar(Fact::Count(Count::Total))),
        ("prompt_tokens_details", INPUT_DETAILS),
        ("completion_tokens_details", OUTPUT_DETAILS),
        // SGLang's place.
        ("reasoning_tokens", Scalar(Fact::Count(Count::Reasoning))),
        // OpenAI's Responses.
        ("input_tokens", Scalar(Fact::Count(Count::Input))),
        ("output_tokens", Scalar(Fact::Count(Count::Output))),
        ("input_tokens_details", INPUT_DETAILS),
        ("output_tokens_details", OUTPUT_DETAILS),
        // DeepSeek; Moonshot; LiteLLM.
        ("prompt_cache_hit_tokens", Scalar(Fact::Count(Count::CachedInput))),
        ("cached_tokens", Scalar(Fact::Count(Count::CachedInput))),
        ("cache_read_input_tokens", Scalar(Fact::Count(Count::CachedInput))),
        ("cache_creation_input_tokens", Scalar(Fact::Count(Count::CacheWrite))),
    ],
);

const INPUT_DETAILS: Shape<Fact> = Object(
    None,
    &[
        ("cached_tokens", Scalar(Fact::Count(Count::CachedInput))),
        ("cache_write_tokens", Scalar(Fact::Count(Count::CacheWrite))),
        ("cache_creation_tokens", Scalar(Fact::Count(Count::CacheWrite))),
    ],
);
const OUTPUT_DETAILS: Shape<Fact> = Object(None, &[("reasoning_tokens", Scalar(Fact::Count(Count::Reasoning)))]);

/// llama.cpp's own timings.
pub(super) const TIMINGS: Shape<Fact> = Object(
    None,
    &[
        ("prompt_ms", Scalar(Fact::Time(Time::PrefillMilliseconds))),
        ("predicted_ms", Scalar(Fact::Time(Time::DecodeMilliseconds))),
        ("prompt_n", Scalar(Fact::Count(Count::TimedInput))),
        ("cache_n", Scalar(Fact::Count(Count::TimedCachedInput))),
        ("predicted_n", Scalar(Fact::Count(Count::TimedOutput))),
    ],
);

/// The tools of a request: the name is in an object of the tool's kind, or next to the kind.
pub(super) const TOOLS: Shape<RequestField> = Array(&Either(
    &Present(RequestField::Tool),
    &Object(
        Some(RequestField::Tool),
        &[
            ("name", Scalar(RequestField::ToolName)),
            ("function", Object(None, &[("name", Scalar(RequestField::ToolName))])),
            ("custom", Object(None, &[("name", Scalar(RequestField::ToolName))])),
        ],
    ),
));

/// vLLM's structured output: one of these.
const STRUCTURED_OUTPUTS: &[(&str, Shape<RequestField>)] = &[
    ("json", Present(RequestField::JsonSchema)),
    ("json_object", Scalar(RequestField::JsonObject)),
    ("regex", Present(RequestField::Grammar)),
    ("choice", Present(RequestField::Grammar)),
    ("grammar", Present(RequestField::Grammar)),
    ("structural_tag", Present(RequestField::Grammar)),
];

/// A grammar as text, or mistral.rs's object, which may hold a schema.
const GRAMMAR: Shape<RequestField> = Either(
    &Present(RequestField::Grammar),
    &Object(None, &[("type", Scalar(RequestField::GrammarType)), SCHEMA_VALUE]),
);
const SCHEMA_VALUE: (&str, Shape<RequestField>) = ("value", Present(RequestField::Schema));

/// A format, with its schema next to it.
pub(super) const FORMAT: Shape<RequestField> = Object(None, &[("type", Scalar(RequestField::Format)), SCHEMA]);
const SCHEMA: (&str, Shape<RequestField>) = ("schema", Present(RequestField::Schema));

/// The same with a named schema; llama.cpp has the schema next to it.
const RESPONSE_FORMAT: Shape<RequestField> =
    Object(None, &[("type", Scalar(RequestField::Format)), ("json_schema", Object(None, &[SCHEMA])), SCHEMA]);

/// A request to either endpoint.
pub(in crate::wire) static REQUEST: Shape<RequestField> = Object(
    None,
    &[
        ("model", Scalar(RequestField::Model)),
        // Skipped like `temperature` and `stream_options`, which are in most requests: a key at its usual place is found faster.
        ("messages", Envelope),
        ("max_tokens", Scalar(RequestField::MaxTokens)),
        ("temperature", Envelope),
        ("stream", Scalar(RequestField::Stream)),
        ("stream_options", Envelope),
        ("max_completion_tokens", Scalar(RequestField::MaxCompletionTokens)),
        ("n", Scalar(RequestField::Choices)),
        ("tools", TOOLS),
        ("response_format", RESPONSE_FORMAT),
        // vLLM, SGLang, llama.cpp and mistral.rs.
        ("guided_json", Present(RequestField::JsonSchema)),
        ("guided_regex", Present(RequestField::Grammar)),
        ("guided_choice", Present(RequestField::Grammar)),
        ("guided_grammar", Present(RequestField::Grammar)),
        ("structured_outputs", Either(&Present(RequestField::Grammar), &Object(None, STRUCTURED_OUTPUTS))),
        ("grammar", GRAMMAR),
        ("regex", Present(RequestField::Grammar)),
        ("ebnf", Present(RequestField::Grammar)),
        ("json_schema", Present(RequestField::JsonSchema)),
        // Each server has its own switch for reasoning.
        ("enable_thinking", Scalar(RequestField::Thinking)),
        (
            "chat_template_kwargs",
            Object(
                None,
                &[("enable_thinking", Scalar(RequestField::Thinking)), ("thinking", Scalar(RequestField::Thinking))],
            ),
        ),
        ("thinking", Object(None, &[("type", Scalar(RequestField::ThinkingType))])),
        ("reasoning_effort", Scalar(RequestField::Effort)),
        (
            "reasoning",
            Object(None, &[("effort", Scalar(RequestField::Effort)), ("enabled", Scalar(RequestField::Thinking))]),
        ),
    ],
);
