//! The scripts: each shows one property of an answer.

use std::time::Duration;

use super::{Ends, ReadPrompt, Says, Script};

/// The script that outputs this and stops, like a model.
const fn script(name: &'static str, says: Says) -> Script {
    Script { name, says, ends: Ends::Stop, prompt: ReadPrompt::Whole, pause: Duration::ZERO }
}

const SENTENCE: &str = "Lima is the capital of Peru.";

/// Longer than a phrase.
const PARAGRAPH: &str =
    "Let me look at the file once more before I answer, since something in it may have changed since I read it last.\n";

pub(super) static SCRIPTS: &[Script] = &[
    // Structured output, if the request asks for it.
    script("valid_json", Says::Answer(r#"{"city": "Lima", "country": "Peru"}"#)),
    script("invalid_json", Says::Answer(r#"Sure! Here you are: {"city": "Lima"}"#)),
    script("fenced_json", Says::Answer("```json\n{\"city\": \"Lima\"}\n```")),
    script("schema_mismatch", Says::Answer(r#"{"city": 7}"#)),
    // Tool calls, if the request offers tools: `weather` should be among them, `telephone` should not.
    script(
        "tool_call",
        Says::Answer("<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Lima\"}}\n</tool_call>"),
    ),
    script(
        "tool_call_invalid_json",
        Says::Answer("<tool_call>\n{\"name\": \"weather\", \"arguments\": \"city=Lima\"}\n</tool_call>"),
    ),
    script(
        "tool_call_incomplete",
        Says::Answer("<tool_call>\n{\"name\": \"weather\", \"arguments\": \"{\\\"city\\\": \\\"Li\"}\n</tool_call>"),
    ),
    script(
        "unknown_tool",
        Says::Answer("<tool_call>\n{\"name\": \"telephone\", \"arguments\": {\"number\": \"11\"}}\n</tool_call>"),
    ),
    // Causes of a cut answer or prompt.
    script("babble", Says::Babble),
    Script { pause: Duration::from_millis(100), ..script("slow", Says::Babble) },
    Script { ends: Ends::Fails, ..script("stream_cut", Says::Answer("Lima is the")) },
    Script { prompt: ReadPrompt::Cut, ..script("input_truncated", Says::Answer(SENTENCE)) },
    Script { prompt: ReadPrompt::CutSilently, ..script("input_truncated_silently", Says::Answer(SENTENCE)) },
    // Nothing readable.
    Script { ends: Ends::NoChoice, ..script("no_choices", Says::Answer("")) },
    script("no_content", Says::Answer("")),
    script("whitespace", Says::Answer(" \n \n")),
    script("reasoning_only", Says::Reasoning("Let me think about it once more.")),
    // Loops.
    script("char_run", Says::Again("!!!!!!!!")),
    script("token_run", Says::Again("I will check again. ")),
    script("cycle", Says::Again(PARAGRAPH)),
    // Refusals.
    script("refusal", Says::Refusal("I cannot help with that.")),
    Script { ends: Ends::Filtered, ..script("content_filter", Says::Answer("Here is how")) },
    // Text that should not be in an answer.
    script("replacement_char", Says::Answer("The sign for the sol is \u{FFFD} here.")),
    script("special_token_leak", Says::Answer("Lima.<|im_end|>\n<|im_start|>user\nAnd Chile?")),
    script("unclosed_reasoning", Says::Answer("<think>\nThe user asks for a capital. Let me see.")),
];
