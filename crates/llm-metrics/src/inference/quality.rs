//! Checks the output of a model: a second sink in addition to the tracker, and the handling of its findings.

use super::tracker::RequestTracker;
use crate::{
    quality::{ChoiceEnd, Finding, Outputs, Part, Prompt, QualityChecks, RequestEnd, RequestedOutput, truncation},
    record::QualityFinding,
    vocabulary::{FinishReason, Outcome, Usage},
    wire::TextKind,
};

/// The state of the checks of one request.
pub(crate) struct OutputQuality {
    outputs: Outputs,
    request_id: Option<Box<str>>,
    prompt: Option<Box<Prompt>>,
    input_truncated: bool,
}

/// The facts about the request that its checks need, before there is an answer.
#[derive(Default)]
pub(super) struct QualityContext {
    pub(super) requested: RequestedOutput,
    /// The request id for findings.
    pub(super) request_id: Option<Box<str>>,
    /// The prompt's length, if the count of its tokens can show that it was cut.
    pub(super) prompt: Option<Box<Prompt>>,
}

/// The facts about the end of a request that its checks need.
pub(super) struct EndedRequest {
    pub(super) outcome: Outcome,
    pub(super) usage: Usage,
    pub(super) max_tokens: Option<u64>,
    pub(super) choices: u64,
    /// Whether the engine reported that it has cut the prompt.
    pub(super) input_truncated: bool,
}

impl RequestTracker {
    /// Starts the checks: the answer is about to be read.
    pub(super) fn watch_quality(&mut self) {
        self.watch_quality_by(self.shared.metrics.0.options.quality);
    }

    /// For a request without the layer whose text was not passed: only its end can be checked.
    pub(super) fn watch_end(&mut self, reason: FinishReason) {
        let QualityChecks { truncation, refusals, .. } = self.shared.metrics.0.options.quality;
        self.watch_quality_by(QualityChecks::none().truncation(truncation).refusals(refusals));
        self.check(|outputs, _| outputs.finish(0, reason));
    }

    fn watch_quality_by(&mut self, checks: QualityChecks) {
        if !checks.any() || self.quality.is_some() || !self.shared.route.operation.generates() {
            return;
        }
        let quality = self.shared.reports().engine.as_mut().map(|report| std::mem::take(&mut report.quality));
        let QualityContext { requested, request_id, prompt } = quality.unwrap_or_default();
        let named = self.shared.named_series(true);
        if let Some(counters) = named.and_then(|series| series.quality.as_ref()) {
            counters.register_requested(requested.format, requested.tools.is_some());
        }
        let outputs = Outputs::new(checks, requested);
        self.quality = Some(Box::new(OutputQuality { outputs, request_id, prompt, input_truncated: false }));
    }

    /// The length of the answer's body, which limits the length of its texts.
    pub(crate) fn answer_is_at_most(&mut self, bytes: u64) {
        if let Some(quality) = &mut self.quality {
            quality.outputs.at_most(bytes);
        }
    }

    /// Part of the answer was missed, so the rest cannot be checked.
    pub(super) fn forget_quality(&mut self) {
        self.quality = None;
    }

    /// Passes something to the checks.
    #[inline(always)]
    pub(super) fn check(&mut self, look: impl FnOnce(&mut Outputs, &mut dyn FnMut(Finding))) {
        if self.quality.is_some() {
            self.check_now(look);
        }
    }

    #[inline(never)]
    fn check_now(&mut self, look: impl FnOnce(&mut Outputs, &mut dyn FnMut(Finding))) {
        let Some(mut quality) = self.quality.take() else { return };
        let OutputQuality { outputs, request_id, .. } = &mut *quality;
        look(outputs, &mut |finding| self.found(finding, request_id.as_deref()));
        self.quality = Some(quality);
    }

    /// The same for text that the embedder passes.
    pub(super) fn show(&mut self, look: impl FnOnce(&mut Outputs, &mut dyn FnMut(Finding))) {
        self.watch_quality();
        self.check(look);
    }

    /// Reads a piece of an answer's text.
    #[inline(always)]
    pub(super) fn check_text(&mut self, choice: u32, kind: TextKind, text: &[u8]) {
        self.check(|outputs, mut emit| show_text(outputs, choice, kind, text, &mut emit));
    }

    /// The same for an event that consists of this text.
    #[inline(always)]
    pub(super) fn check_lone_text(&mut self, choice: u32, kind: TextKind, text: &[u8]) {
        self.check(|outputs, mut emit| {
            show_text(outputs, choice, kind, text, &mut emit);
            outputs.end_event();
        });
    }

    /// The engine reports that it has cut the prompt.
    pub(super) fn input_truncated(&mut self) {
        if let Some(quality) = &mut self.quality {
            quality.input_truncated = true;
        }
    }

    /// The request has ended: checks what can only be checked now.
    pub(super) fn judge_quality(&mut self, ended: &EndedRequest) {
        let on_limit = truncation::on_limit(ended.max_tokens, ended.usage.output, ended.choices);
        let open = match ended.outcome {
            Outcome::Success => ChoiceEnd::Finished { reason: FinishReason::Missing, on_limit },
            Outcome::Cancelled => ChoiceEnd::ClientGone,
            // Whatever the error was: an answer that had not begun cannot be checked.
            Outcome::Error | Outcome::Rejected => ChoiceEnd::StreamCut,
        };
        let end = RequestEnd { open, on_limit, complete: ended.outcome == Outcome::Success };
        let Some(quality) = &self.quality else { return };
        let reported = ended.input_truncated || quality.input_truncated;
        let evidence = truncation::of_input(reported, quality.prompt.as_deref().copied(), ended.usage.input);
        self.check(|outputs, mut emit| {
            if let Some(evidence) = evidence {
                outputs.input_truncated(evidence, &mut emit);
            }
            outputs.end(end, &mut emit);
        });
        self.forget_quality();
    }

    /// Handles a finding: counts it, and reports it to the span and the listener.
    fn found(&self, finding: Finding, request_id: Option<&str>) {
        let series = self.series();
        let Some(counter) = series.quality.as_ref().and_then(|counters| counters.of(finding)) else { return };
        counter.increment(1);
        if finding.is_good() {
            return;
        }
        let (row, kind) = finding.row();
        let finding = QualityFinding {
            request_id,
            model: series.recent.name(),
            operation: self.shared.route.operation,
            metric: row.name,
            kind,
        };
        self.span().finding(&finding);
        self.shared.metrics.0.on_finding.notify(&finding);
    }
}

#[inline(always)]
fn show_text(outputs: &mut Outputs, choice: u32, kind: TextKind, text: &[u8], emit: &mut impl FnMut(Finding)) {
    match kind {
        TextKind::Answer => outputs.text(choice, Part::Answer, text, emit),
        TextKind::Reasoning => outputs.text(choice, Part::Reasoning, text, emit),
        TextKind::Refusal => outputs.text(choice, Part::Refusal, text, emit),
        TextKind::ToolName(call) => outputs.tool_name(choice, call.into(), text, emit),
        TextKind::ToolArguments(call) => outputs.tool_arguments(choice, call.into(), text, emit),
        TextKind::ToolInput => outputs.text(choice, Part::ToolCall, text, emit),
        // The content is encoded, so it cannot be checked.
        TextKind::Media => outputs.text(choice, Part::Media, &[], emit),
    }
}
