//! What comes out: answers that are cut, broken, empty or that never end. One entry each.

use llm_metrics::catalog::{
    self,
    labels::{FINISH_REASON, KIND, RESULT},
};

use super::{Alert, Severity, share::Share};
use crate::{counter, promql::Window, recording::Recording, slo::Slo};

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let choices = || counter!(catalog::FINISH_REASONS);
    let structured = || counter!(catalog::STRUCTURED_OUTPUTS);
    let calls = || counter!(catalog::TOOL_CALLS);
    let outputs = || counter!(catalog::OUTPUTS);
    let shares = [
        Share {
            name: "LlmAnswersCut",
            are: "of answers stop at the limit on tokens",
            description: "Limits are too tight, or the model does not come to an end.",
            settings: &["alerts.cut_ratio"],
            levels: &[(Severity::Warning, slo.alerts.cut_ratio)],
            window: Window::minutes(15),
            hold: 15,
            bad: choices().with(FINISH_REASON, "length"),
            good: Some(choices().with(FINISH_REASON, "stop")),
            all: choices(),
            beside: None,
            recorded: Some(&rules.cut_ratio),
        },
        Share {
            name: "LlmStructuredOutputInvalid",
            are: "of the outputs that were to be JSON are not",
            description: "Whoever asked for JSON cannot parse what they get: it is broken, cut, in a Markdown fence, or not what the schema allows.",
            settings: &[],
            levels: &[(Severity::Critical, 0.1), (Severity::Warning, 0.05)],
            window: Window::minutes(5),
            hold: 5,
            bad: structured().with(RESULT, "invalid_json"),
            good: Some(structured().with(RESULT, "valid")),
            all: structured().without_any(RESULT, ["unchecked"]),
            beside: Some(structured().with(RESULT, "unchecked")),
            recorded: Some(&rules.structured_invalid_ratio),
        },
        Share {
            name: "LlmToolCallsInvalid",
            are: "of tool calls cannot be made",
            description: "Their arguments are no JSON or break off, or no such tool was offered.",
            settings: &[],
            levels: &[(Severity::Critical, 0.2), (Severity::Warning, 0.05)],
            window: Window::minutes(15),
            hold: 5,
            bad: calls().with(RESULT, "invalid_json"),
            good: Some(calls().with(RESULT, "valid")),
            all: calls(),
            beside: None,
            recorded: Some(&rules.tool_call_invalid_ratio),
        },
        Share {
            name: "LlmOutputRepeats",
            are: "of answers go round in circles",
            description: "The model has fallen into loops: they fill the context, and take the time of everybody else.",
            settings: &[],
            levels: &[(Severity::Critical, 0.1), (Severity::Warning, 0.02)],
            window: Window::minutes(15),
            hold: 5,
            bad: counter!(catalog::OUTPUT_REPETITION).with(KIND, "cycle"),
            good: None,
            all: outputs(),
            beside: None,
            recorded: Some(&rules.loop_ratio),
        },
        Share {
            name: "LlmOutputEmpty",
            are: "of answers have nothing in them",
            description: "They count as a success, and nobody can do anything with them: no text, white space, or reasoning alone.",
            settings: &[],
            levels: &[(Severity::Critical, 0.1), (Severity::Warning, 0.02)],
            window: Window::minutes(15),
            hold: 5,
            bad: counter!(catalog::OUTPUT_EMPTY).with(KIND, "no_content"),
            good: None,
            all: outputs(),
            beside: None,
            recorded: Some(&rules.empty_ratio),
        },
        Share {
            name: "LlmSpecialTokensLeak",
            are: "of answers show tokens of the chat template",
            description: "The template, the stop tokens or the parser of tool calls do not fit the model.",
            settings: &[],
            levels: &[(Severity::Warning, 0.01)],
            window: Window::minutes(15),
            hold: 5,
            bad: counter!(catalog::OUTPUT_ANOMALIES).with(KIND, "special_token_leak"),
            good: None,
            all: outputs(),
            beside: Some(counter!(catalog::OUTPUT_ANOMALIES).with(KIND, "cycle")),
            recorded: None,
        },
    ];
    shares.into_iter().map(Share::alert).collect()
}
