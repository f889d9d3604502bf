//! The quality of the output.

use llm_metrics::catalog::{self};

use super::{
    model::{Dashboard, Panel, RATE, Row, units},
    parts::{SERVER, SERVER_VARIABLES},
};
use crate::vocabulary::{CAUSE, EVIDENCE, FORMAT, KIND, MODEL, OPERATION, RESULT};
use crate::{
    counter,
    promql::{Counter, Expr, Label},
    recording::Recording,
};

pub(super) fn dashboard(rules: &Recording) -> Dashboard {
    Dashboard {
        uid: "llm-quality",
        title: "LLM output quality",
        description: "The quality of answers, checked while they pass. docs/quality.md explains the limits of each check.",
        variables: SERVER_VARIABLES,
        scope: SERVER,
        rows: vec![
            Row::new(
                "Structured output and tools",
                "No structured output was requested, or the check is off",
                forms(rules),
            ),
            Row::new("Loops and empty answers", "None, or the check is off", failures(rules)),
            Row::new("Cut and refused", "None", ends()),
            Row::new("Anomalies", "None, or the check is off", anomalies()),
        ],
    }
}

/// The counts, by one label.
fn counted(of: Counter, label: &'static str) -> Expr {
    of.increase(RATE).sum_by([Label::Borrowed(label)]).gt(0.0)
}

fn outputs() -> Counter {
    counter!(catalog::OUTPUTS)
}

fn forms(rules: &Recording) -> Vec<Panel> {
    vec![
        Panel::lines(
            "Structured outputs that are valid",
            "Share of valid outputs among the structured outputs that could be checked. Recorded over five minutes.",
            units::RATIO,
        )
        .target(rules.structured_valid_ratio.now(), "{{model}}")
        .between(0.0, 1.0),
        Panel::bars(
            "Structured outputs",
            "The results of the check. `fenced` is JSON in a Markdown fence, `truncated` the beginning of JSON in an answer that was cut, `unchecked` a format that cannot be checked.",
            units::COUNT,
        )
        .target(counted(counter!(catalog::STRUCTURED_OUTPUTS), RESULT), "{{result}}")
        .colors(&[
            ("valid", "blue"),
            ("fenced", "yellow"),
            ("truncated", "orange"),
            ("invalid_json", "red"),
            ("schema_mismatch", "purple"),
            ("unchecked", "text"),
        ]),
        Panel::stacked("Requested formats", "Structured outputs per second, by requested format.", units::PER_SECOND)
            .target(counter!(catalog::STRUCTURED_OUTPUTS).rate(RATE).sum_by([FORMAT]), "{{format}}"),
        Panel::bars("Tool calls", "Each call once, at its end, by whether it can be executed.", units::COUNT)
            .target(counted(counter!(catalog::TOOL_CALLS), RESULT), "{{result}}")
            .colors(&[
                ("valid", "blue"),
                ("incomplete", "orange"),
                ("invalid_json", "red"),
                ("unknown_tool", "purple"),
            ]),
        Panel::lines(
            "Tool calls that cannot be executed",
            "Share of all tool calls. Recorded over a quarter of an hour.",
            units::RATIO,
        )
        .target(rules.tool_call_invalid_ratio.now(), "{{model}}")
        .reach(0.05)
        .size(24, 7),
    ]
}

fn failures(rules: &Recording) -> Vec<Panel> {
    vec![
        Panel::lines(
            "Answers that repeat themselves",
            "Share of all answers. Recorded over a quarter of an hour.",
            units::RATIO,
        )
        .target(rules.loop_ratio.now(), "{{model}}")
        .reach(0.02),
        Panel::bars("Loops", "By the repeated text: one character, a phrase, or more.", units::COUNT)
            .target(counted(counter!(catalog::OUTPUT_REPETITION), KIND), "{{kind}}"),
        Panel::lines("Empty answers", "Share of all answers. Recorded over a quarter of an hour.", units::RATIO)
            .target(rules.empty_ratio.now(), "{{model}}")
            .reach(0.02),
        Panel::bars("Empty answers by kind", "By what they contain instead of text.", units::COUNT)
            .target(counted(counter!(catalog::OUTPUT_EMPTY), KIND), "{{kind}}"),
    ]
}

fn ends() -> Vec<Panel> {
    vec![
        Panel::bars("Answers that were cut", "Number of answers, by the cause of the cut.", units::COUNT)
            .target(counted(counter!(catalog::OUTPUT_TRUNCATED), CAUSE), "{{cause}}")
            .colors(&[
                ("max_tokens", "orange"),
                ("context_window", "red"),
                ("stream_cut", "purple"),
                ("client_disconnect", "text"),
            ])
            .size(8, 8),
        Panel::bars(
            "Prompts that were cut",
            "Reported by the engine, or suspected from a count of tokens that is too small for the text.",
            units::COUNT,
        )
        .target(counted(counter!(catalog::INPUT_TRUNCATED), EVIDENCE), "{{evidence}}")
        .size(8, 8),
        Panel::bars("Refusals", "By the model, or by a filter.", units::COUNT)
            .target(counted(counter!(catalog::REFUSALS), KIND), "{{kind}}")
            .size(8, 8),
    ]
}

fn anomalies() -> Vec<Panel> {
    vec![
        Panel::bars(
            "Anomalies",
            "Replacement characters, special tokens of the chat template, reasoning that never ends.",
            units::COUNT,
        )
        .target(counted(counter!(catalog::OUTPUT_ANOMALIES), KIND), "{{kind}}"),
        Panel::lines("Answers with special tokens", "Share of all answers.", units::RATIO)
            .target(
                counter!(catalog::OUTPUT_ANOMALIES).with(KIND, "special_token_leak").rate(RATE).sum_by([MODEL])
                    / outputs().rate(RATE).sum_by([MODEL]),
                "{{model}}",
            )
            .reach(0.02),
        Panel::stacked(
            "Answers",
            "Answers that ended, per second. The shares above are relative to these.",
            units::PER_SECOND,
        )
        .target(outputs().rate(RATE).sum_by([OPERATION]), "{{operation}}")
        .empty("No answer ended in this time range")
        .size(24, 7),
    ]
}
