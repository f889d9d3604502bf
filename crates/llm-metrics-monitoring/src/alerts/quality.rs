//! Output quality: cut, invalid, empty and endless answers. One entry each.

use llm_metrics::catalog::{self};

use super::{Alert, Severity, share::Share};
use crate::vocabulary::{FINISH_REASON, KIND, RESULT};
use crate::{counter, promql::Window, recording::Recording, slo::Slo};

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let choices = || counter!(catalog::FINISH_REASONS);
    let structured = || counter!(catalog::STRUCTURED_OUTPUTS);
    let calls = || counter!(catalog::TOOL_CALLS);
    let outputs = || counter!(catalog::OUTPUTS);
    let shares = [
        Share {
            name: "LlmAnswersCut",
            are: "of answers stop at the token limit",
            description: "Limits are too low, or the model does not stop.",
            settings: &["alerts.cut_ratio"],
            levels: &[(Severity::Warning, slo.alerts.cut_ratio)],
            window: Window::minutes(15),
            hold: 15,
            bad: choices().with(FINISH_REASON, "length"),
            good: Some(choices().with(FINISH_REASON, "stop")),
            all: choices(),
            neither: None,
            recorded: Some(&rules.cut_ratio),
        },
        Share {
            name: "LlmStructuredOutputInvalid",
            are: "of the requested JSON outputs are not valid",
            description: "Programs that asked for JSON cannot parse the answer: it is invalid, cut off, in a Markdown fence, or does not match the schema.",
            settings: &[],
            levels: &[(Severity::Critical, 0.1), (Severity::Warning, 0.05)],
            window: Window::minutes(5),
            hold: 5,
            bad: structured().with(RESULT, "invalid_json"),
            good: Some(structured().with(RESULT, "valid")),
            all: structured().without_any(RESULT, ["unchecked"]),
            neither: Some(structured().with(RESULT, "unchecked")),
            recorded: Some(&rules.structured_invalid_ratio),
        },
        Share {
            name: "LlmToolCallsInvalid",
            are: "of tool calls are invalid",
            description: "Their arguments are not JSON or are cut off, or no such tool was offered.",
            settings: &[],
            levels: &[(Severity::Critical, 0.2), (Severity::Warning, 0.05)],
            window: Window::minutes(15),
            hold: 5,
            bad: calls().with(RESULT, "invalid_json"),
            good: Some(calls().with(RESULT, "valid")),
            all: calls(),
            neither: None,
            recorded: Some(&rules.tool_call_invalid_ratio),
        },
        Share {
            name: "LlmOutputRepeats",
            are: "of answers repeat themselves",
            description: "The model repeats itself. This fills the context, and slows down other requests.",
            settings: &[],
            levels: &[(Severity::Critical, 0.1), (Severity::Warning, 0.02)],
            window: Window::minutes(15),
            hold: 5,
            bad: counter!(catalog::OUTPUT_REPETITION).with(KIND, "cycle"),
            good: None,
            all: outputs(),
            neither: None,
            recorded: Some(&rules.loop_ratio),
        },
        Share {
            name: "LlmOutputEmpty",
            are: "of answers are empty",
            description: "They count as a success, but are useless: no text, only white space, or only reasoning.",
            settings: &[],
            levels: &[(Severity::Critical, 0.1), (Severity::Warning, 0.02)],
            window: Window::minutes(15),
            hold: 5,
            bad: counter!(catalog::OUTPUT_EMPTY).with(KIND, "no_content"),
            good: None,
            all: outputs(),
            neither: None,
            recorded: Some(&rules.empty_ratio),
        },
        Share {
            name: "LlmSpecialTokensLeak",
            are: "of answers contain special tokens of the chat template",
            description: "The chat template, the stop tokens or the tool-call parser do not match the model.",
            settings: &[],
            levels: &[(Severity::Warning, 0.01)],
            window: Window::minutes(15),
            hold: 5,
            bad: counter!(catalog::OUTPUT_ANOMALIES).with(KIND, "special_token_leak"),
            good: None,
            all: outputs(),
            neither: Some(counter!(catalog::OUTPUT_ANOMALIES).with(KIND, "replacement_char")),
            recorded: None,
        },
    ];
    shares.into_iter().map(Share::alert).collect()
}
