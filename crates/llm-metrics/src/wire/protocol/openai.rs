//! OpenAI chat completions and completions, with what vLLM, SGLang, llama.cpp, mistral.rs and hosted APIs add.

use super::{ERROR, Keys};
use crate::wire::TextKind::{Answer, Media, Reasoning, Refusal, ToolArguments, ToolInput, ToolName};
use crate::wire::counts::Count;
use crate::wire::facts::{Fact, Time};
use crate::wire::json::Shape::{self, Array, Either, Envelope, Is, Object, Padding, Present, Scalar, Text};
use crate::wire::request::Asked;

/// One event of a chat stream.
pub(in crate::wire) static CHAT_CHUNK: Shape<Fact> = Object(None, &root(&CHAT_CHUNK_CHOICE));
/// A whole chat completion.
pub(in crate::wire) static CHAT: Shape<Fact> = Object(None, &root(&CHAT_CHOICE));
/// A whole completion, or one event of a stream of them.
pub(in crate::wire) static COMPLETION: Shape<Fact> = Object(None, &root(&COMPLETION_CHOICE));

const fn root(choice: &'static Shape<Fact>) -> [(&'static str, Shape<Fact>); 18] {
    [
        ("choices", Array(choice)),
        ("model", Scalar(Fact::Model)),
        ("usage", USAGE),
        ("error", ERROR),
        ("timings", TIMINGS),
        ("id", Envelope),
        // vLLM tells of an error like this in a stream.
        ("object", Is("error", Fact::Error)),
        ("created", Envelope),
        ("system_fingerprint", Envelope),
        ("service_tier", Envelope),
        ("provider", Envelope),
        // OpenAI's padding, of random letters.
        ("obfuscation", Padding),
        ("code", Scalar(Fact::LooseCode)),
        ("message", Scalar(Fact::LooseMessage)),
        ("type", Scalar(Fact::ErrorType)),
        ("error_type", Scalar(Fact::Error)),
        ("error_message", Scalar(Fact::Error)),
        // Groq's own envelope.
        ("x_groq", Object(None, &[("usage", USAGE), ("error", ERROR), ("id", Envelope)])),
    ]
}

static CHAT_CHUNK_CHOICE: Shape<Fact> =
    Object(Some(Fact::Choice), &[INDEX, ("delta", Object(None, MESSAGE)), FINISH_REASON, CHOICE_USAGE, CHOICE_ERROR]);
static CHAT_CHOICE: Shape<Fact> =
    Object(Some(Fact::Choice), &[INDEX, ("message", Object(None, MESSAGE)), FINISH_REASON, CHOICE_USAGE, CHOICE_ERROR]);
static COMPLETION_CHOICE: Shape<Fact> =
    Object(Some(Fact::Choice), &[INDEX, ("text", Text(Answer)), FINISH_REASON, CHOICE_USAGE, CHOICE_ERROR]);

pub(super) const INDEX: (&str, Shape<Fact>) = ("index", Scalar(Fact::ChoiceIndex));
pub(super) const FINISH_REASON: (&str, Shape<Fact>) = ("finish_reason", Scalar(Fact::FinishReason));
/// Moonshot has it here.
const CHOICE_USAGE: (&str, Shape<Fact>) = ("usage", USAGE);
/// OpenRouter has it here.
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
    // OpenRouter: what providers of reasoning models say, beside `reasoning` or alone.
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

/// Mistral's content is a list where the model thinks.
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

/// Usage in the names of OpenAI, and of those who name it otherwise.
pub(super) const USAGE: Shape<Fact> = Object(
    None,
    &[
        ("prompt_tokens", Scalar(Fact::Count(Count::Input))),
        ("completion_tokens", Scalar(Fact::Count(Count::Output))),
        ("total_tokens", Scalar(Fact::Count(Count::Total))),
        ("prompt_tokens_details", INPUT_DETAILS),
        ("completion_tokens_details", OUTPUT_DETAILS),
        // SGLang has it here.
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

/// llama.cpp's own measurements.
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

/// What a request offers: a tool's name stands in an object of its kind, or beside its kind.
pub(super) const TOOLS: Shape<Asked> = Array(&Either(
    &Present(Asked::Tool),
    &Object(
        Some(Asked::Tool),
        &[
            ("name", Scalar(Asked::ToolName)),
            ("function", Object(None, &[("name", Scalar(Asked::ToolName))])),
            ("custom", Object(None, &[("name", Scalar(Asked::ToolName))])),
        ],
    ),
));

/// vLLM's form of a form: one of these.
const STRUCTURED_OUTPUTS: &[(&str, Shape<Asked>)] = &[
    ("json", Present(Asked::JsonSchema)),
    ("json_object", Scalar(Asked::JsonObject)),
    ("regex", Present(Asked::Grammar)),
    ("choice", Present(Asked::Grammar)),
    ("grammar", Present(Asked::Grammar)),
    ("structural_tag", Present(Asked::Grammar)),
];

/// A grammar as text, or mistral.rs's, which may be a schema.
const GRAMMAR: Shape<Asked> =
    Either(&Present(Asked::Grammar), &Object(None, &[("type", Scalar(Asked::GrammarType)), SCHEMA_VALUE]));
const SCHEMA_VALUE: (&str, Shape<Asked>) = ("value", Present(Asked::Schema));

/// A form, with its schema beside it.
pub(super) const FORMAT: Shape<Asked> = Object(None, &[("type", Scalar(Asked::Format)), SCHEMA]);
const SCHEMA: (&str, Shape<Asked>) = ("schema", Present(Asked::Schema));

/// The same, where the schema has a name; llama.cpp has it beside.
const RESPONSE_FORMAT: Shape<Asked> =
    Object(None, &[("type", Scalar(Asked::Format)), ("json_schema", Object(None, &[SCHEMA])), SCHEMA]);

/// A request, to either endpoint.
pub(in crate::wire) static REQUEST: Shape<Asked> = Object(
    None,
    &[
        ("model", Scalar(Asked::Model)),
        ("stream", Scalar(Asked::Stream)),
        ("max_tokens", Scalar(Asked::MaxTokens)),
        ("max_completion_tokens", Scalar(Asked::MaxCompletionTokens)),
        ("n", Scalar(Asked::Choices)),
        ("tools", TOOLS),
        ("response_format", RESPONSE_FORMAT),
        // vLLM, SGLang, llama.cpp and mistral.rs.
        ("guided_json", Present(Asked::JsonSchema)),
        ("guided_regex", Present(Asked::Grammar)),
        ("guided_choice", Present(Asked::Grammar)),
        ("guided_grammar", Present(Asked::Grammar)),
        ("structured_outputs", Either(&Present(Asked::Grammar), &Object(None, STRUCTURED_OUTPUTS))),
        ("grammar", GRAMMAR),
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
