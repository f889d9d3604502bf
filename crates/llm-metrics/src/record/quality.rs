//! Output quality: the counters of one model, and the listener of the embedder.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use metrics::{Counter, Label};

use crate::{
    catalog::{self, MetricDef, Registrar, labels},
    catch::catch_panic,
    quality::{Finding, QualityChecks},
    vocabulary::{Operation, StructuredFormat, StructuredResult, ToolCallResult},
};

/// A finding of a check of an output, or of a prompt: the argument of the listener of [`Builder::on_finding`](crate::Builder::on_finding). It
/// contains no text of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QualityFinding<'a> {
    /// The request's `x-request-id`, or the id that was set on the handle.
    pub request_id: Option<&'a str>,
    /// The value of the label `model`.
    pub model: &'a str,
    /// The operation of the request.
    pub operation: Operation,
    /// The metric that counts the finding, by its name in the catalogue: `llm_structured_outputs_total`.
    pub metric: &'static str,
    /// The value of that metric's label `result`, `kind`, `cause` or `evidence`: `invalid_json`.
    pub kind: &'static str,
}

impl Finding {
    /// The metric that counts the finding, and the value of its last label.
    pub(crate) const fn row(self) -> (&'static MetricDef, &'static str) {
        match self {
            Self::StructuredOutput(_, result) => (&catalog::STRUCTURED_OUTPUTS, result.as_str()),
            Self::ToolCall(result) => (&catalog::TOOL_CALLS, result.as_str()),
            Self::OutputTruncated(cause) => (&catalog::OUTPUT_TRUNCATED, cause.as_str()),
            Self::InputTruncated(evidence) => (&catalog::INPUT_TRUNCATED, evidence.as_str()),
            Self::Empty(kind) => (&catalog::OUTPUT_EMPTY, kind.as_str()),
            Self::Repetition(kind) => (&catalog::OUTPUT_REPETITION, kind.as_str()),
            Self::Refusal(kind) => (&catalog::REFUSALS, kind.as_str()),
            Self::Anomaly(kind) => (&catalog::OUTPUT_ANOMALIES, kind.as_str()),
        }
    }

    /// Not a problem: valid, or not checked.
    pub(crate) const fn is_good(self) -> bool {
        matches!(
            self,
            Self::StructuredOutput(_, StructuredResult::Valid | StructuredResult::Unchecked)
                | Self::ToolCall(ToolCallResult::Valid)
        )
    }
}

type OnFinding = dyn Fn(&QualityFinding<'_>) + Send + Sync;

/// The embedder's listener for findings.
#[derive(Default)]
pub(crate) struct FindingListener(Option<Box<OnFinding>>);

impl FindingListener {
    pub(super) fn new(listener: impl Fn(&QualityFinding<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(listener)))
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Calls the listener, and catches its panic.
    pub(crate) fn notify(&self, finding: &QualityFinding<'_>) {
        if let Some(listener) = &self.0 {
            let _ = catch_panic(|| listener(finding));
        }
    }
}

impl fmt::Debug for FindingListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FindingListener").field(&self.0.is_some()).finish()
    }
}

/// The counters of one model. A check that is off has no counters.
///
/// All values of a label are registered together. For declared models this happens when the first of them is registered. For a model with a learnt
/// name, the counters that any request can use exist from the start, the counters for a feature exist from the first request that asks for it, and
/// the others from their first finding, because 64 models must fit into a scrape.
pub(crate) struct QualityCounters {
    registrar: Arc<Registrar>,
    /// The labels of all of them: the model, and the embedder's own.
    labels: Box<[Label]>,
    checks: QualityChecks,
    pub(crate) outputs: Counter,
    families: [Family; FAMILIES],
}

type Family = OnceLock<Box<[Counter]>>;

/// One per format, and one per other metric.
const FAMILIES: usize = StructuredFormat::ALL.len() + 7;
const TOOL_CALLS: usize = StructuredFormat::ALL.len();
const INPUT_TRUNCATED: usize = TOOL_CALLS + 1;
const OUTPUT_TRUNCATED: usize = TOOL_CALLS + 2;
const EMPTY: usize = TOOL_CALLS + 3;
const REPETITION: usize = TOOL_CALLS + 4;
const REFUSALS: usize = TOOL_CALLS + 5;
const ANOMALIES: usize = TOOL_CALLS + 6;

impl QualityCounters {
    pub(super) fn new(
        registrar: &Arc<Registrar>,
        checks: QualityChecks,
        model: &Label,
        operation: &Label,
        extra: &[Label],
    ) -> Self {
        let labels: Box<[Label]> = [model.clone()].into_iter().chain(extra.iter().cloned()).collect();
        let of_outputs = labels.iter().chain([operation]).cloned();
        let counters = Self {
            outputs: registrar.counter(&catalog::OUTPUTS, of_outputs),
            registrar: Arc::clone(registrar),
            labels,
            checks,
            families: Default::default(),
        };
        for family in [OUTPUT_TRUNCATED, REPETITION] {
            counters.family(family);
        }
        counters
    }

    /// Registers all series of a declared model.
    pub(super) fn register(&self) {
        for family in 0..FAMILIES {
            self.family(family);
        }
    }

    /// Registers the counters for the features that a request asks for.
    pub(crate) fn register_requested(&self, format: Option<StructuredFormat>, tools: bool) {
        if let Some(format) = format {
            self.family(format as usize);
        }
        if tools {
            self.family(TOOL_CALLS);
        }
    }

    /// The counter of a finding; `None` if its check is off.
    pub(crate) fn of(&self, finding: Finding) -> Option<&Counter> {
        let (family, value) = match finding {
            Finding::StructuredOutput(format, result) => (format as usize, result as usize),
            Finding::ToolCall(result) => (TOOL_CALLS, result as usize),
            Finding::InputTruncated(evidence) => (INPUT_TRUNCATED, evidence as usize),
            Finding::OutputTruncated(cause) => (OUTPUT_TRUNCATED, cause as usize),
            Finding::Empty(kind) => (EMPTY, kind as usize),
            Finding::Repetition(kind) => (REPETITION, kind as usize),
            Finding::Refusal(kind) => (REFUSALS, kind as usize),
            Finding::Anomaly(kind) => (ANOMALIES, kind as usize),
        };
        self.family(family).get(value)
    }

    fn family(&self, family: usize) -> &[Counter] {
        self.families[family].get_or_init(|| {
            let checks = self.checks;
            let (on, row, label) = match family {
                TOOL_CALLS => (checks.tool_calls, &catalog::TOOL_CALLS, labels::TOOL_CALL_RESULT),
                INPUT_TRUNCATED => (checks.truncation, &catalog::INPUT_TRUNCATED, labels::EVIDENCE),
                OUTPUT_TRUNCATED => (checks.truncation, &catalog::OUTPUT_TRUNCATED, labels::CAUSE),
                EMPTY => (checks.empty, &catalog::OUTPUT_EMPTY, labels::EMPTY_KIND),
                REPETITION => (checks.repetition, &catalog::OUTPUT_REPETITION, labels::REPETITION_KIND),
                REFUSALS => (checks.refusals, &catalog::REFUSALS, labels::REFUSAL_KIND),
                ANOMALIES => (checks.anomalies, &catalog::OUTPUT_ANOMALIES, labels::ANOMALY_KIND),
                _ => (checks.structured_output, &catalog::STRUCTURED_OUTPUTS, labels::STRUCTURED_RESULT),
            };
            let format = StructuredFormat::WORDS.get(family);
            let format = format.map(|format| labels::FORMAT.label(*format));
            let counter = |word: &&'static str| {
                let own = [label.label(*word)].into_iter().chain(format.clone());
                self.registrar.counter(row, self.labels.iter().cloned().chain(own))
            };
            label.values.iter().filter(|_| on).map(counter).collect()
        })
    }
}
