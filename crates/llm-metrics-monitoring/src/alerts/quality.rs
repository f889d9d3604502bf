//! What comes out: answers that are cut, and whatever else the catalogue comes to count. One entry each.

use llm_metrics::catalog::{self, labels::FINISH_REASON};

use super::{Alert, Severity, share::Share};
use crate::{counter, promql::Window, recording::Recording, slo::Slo};

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let choices = || counter!(catalog::FINISH_REASONS);
    let shares = [Share {
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
        recorded: Some(&rules.cut_ratio),
    }];
    shares.into_iter().map(Share::alert).collect()
}
